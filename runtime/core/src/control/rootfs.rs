//! `rootfs`: the image is read, not written.
//!
//! What a service must write goes to volumes and holes (`holes`). The root stays without nosuid: a SELinux domain
//! transition on execve needs it, and no_new_privs already takes setuid's effect away.

use std::path::{Path, PathBuf};

use super::hooks::runs_on_host;
use super::mounts::facts::KERNEL;
use super::mounts::paths::{ENGINES, SENSITIVE, SYSTEM};
use super::mounts::source::below_any;
use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::observed::Observed;
use crate::request::{Leave, normalize};

pub struct Rootfs;

static ABOUT: About = About {
    threat: "an intruder changes programs or configuration of the image and stays, or mounts of the container spread to the host",
    rule: "the root file system is read-only, always; its mount propagation is private; it is not the host's own",
    enforced_by: "mount_setattr(2) MOUNT_ATTR_RDONLY on the root, MS_PRIVATE; read back from /proc/PID/mountinfo",
    kernel_floor: "5.12 (mount_setattr)",
    refs: &["CIS Docker 5.13", "CIS Docker 5.20", "NIST SP 800-190 4.4.4"],
};

/// Trees of the host that are never a container's root, nor is anything above or below them.
const NEVER_BELOW: [&str; 5] = ["/proc", "/sys", "/dev", "/boot", "/etc"];

/// Directories of the host that are themselves never a container's root.
const NEVER: [&str; 12] = [
    "/", "/bin", "/home", "/lib", "/lib64", "/opt", "/root", "/run", "/sbin", "/usr", "/var", "/var/lib",
];

impl Control for Rootfs {
    fn id(&self) -> ControlId {
        ControlId::Rootfs
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        refuse_host(cx, findings);
        refuse_move(cx, findings);
        let Some(root) = draft.spec.root_mut() else { return };
        if root.readonly() == Some(true) {
            findings.kept("root.readonly", "read-only as asked");
        } else if cx.request.is_build_step() {
            // It would even succeed where it only writes to a hole, and the image would lack it.
            findings.refused(
                "build",
                "root.readonly",
                "this is a step of an image build, which writes to its root; the root is read-only here, and what is written to \
                 /tmp, /var/tmp or /run would be missing in the image",
                "build with another runtime: `podman build --runtime runc`",
            );
        } else {
            findings.tightened(
                "root.readonly",
                "false",
                "true",
                "what a service writes goes to volumes and holes",
            );
            root.set_readonly(Some(true));
        }
        propagation(draft, cx, findings);
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        if hardened
            .spec()
            .root()
            .as_ref()
            .and_then(oci_spec::runtime::Root::readonly)
            != Some(true)
        {
            return Vec::new();
        }
        let Some(root) = seen.mount_at(Path::new("/")) else {
            return vec![Fact::unknown(
                ControlId::Rootfs,
                "/ ro, private",
                "/ is not in mountinfo",
            )];
        };
        let shown = if root.has("ro") { "/ ro" } else { "/ rw" };
        let holds = if root.has("ro") { Holds::Yes } else { Holds::No };
        // `shared:N` lets mounts out; `master:N` lets the host's mounts in. `unbindable` is private and more.
        let spreads: Vec<&str> = root
            .propagation
            .iter()
            .map(String::as_str)
            .filter(|p| *p != "unbindable")
            .collect();
        let spread = if spreads.is_empty() {
            "private".to_owned()
        } else {
            spreads.join(" ")
        };
        let mut facts = vec![
            Fact::judged(ControlId::Rootfs, "/ ro", shown, holds),
            Fact::same(ControlId::Rootfs, "propagation of /", &"private".to_owned(), &spread),
        ];
        facts.extend(brought_along(hardened, seen));
        facts
    }
}

/// What was mounted below the root already, as in a chroot of the host: it comes along, and nobody judged it.
fn brought_along(hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
    // Those that run in the container's mount namespace may mount there, and the policy named them.
    let hooked = hardened.spec().hooks().as_ref().is_some_and(runs_on_host);
    if hooked {
        return Vec::new();
    }
    let mounts = hardened.spec().mounts().iter().flatten().enumerate();
    let targets = mounts.map(|(i, m)| match hardened.plan().targets.get(&i) {
        Some(target) => target.clone(),
        None => normalize(m.destination()),
    });
    let holes = hardened.plan().holes.iter().map(|hole| hole.target.clone());
    let linux = hardened.spec().linux().as_ref();
    let covers = linux.into_iter().flat_map(|l| {
        let lists = [l.masked_paths(), l.readonly_paths()].into_iter();
        lists.flat_map(|list| list.iter().flatten().map(|p| normalize(Path::new(p))))
    });
    let known: Vec<PathBuf> = targets.chain(holes).chain(covers).collect();
    // Nodes are bound where they cannot be made, and the terminal is.
    let node = |path: &Path| path.parent() == Some(Path::new("/dev"));
    seen.mounts
        .iter()
        .filter(|m| m.target != Path::new("/") && !node(&m.target) && !known.iter().any(|k| m.target.starts_with(k)))
        .map(|m| {
            let kernel = KERNEL.contains(&m.fstype.as_str());
            let holds = if m.has("ro") && !kernel { Holds::Yes } else { Holds::No };
            let (path, how) = (m.target.display(), if m.has("ro") { "ro" } else { "rw" });
            let expected = format!("{path}, mounted below root.path by the host: ro, no kernel file system");
            Fact::judged(
                ControlId::Rootfs,
                expected,
                format!("{path}: {how}, {}", m.fstype),
                holds,
            )
        })
        .collect()
}

/// Moved over and not pivoted, the host's root stays mounted below the container's, for whoever gets a chroot(2) or a mount
/// namespace's privileges.
fn refuse_move(cx: &Context<'_>, findings: &mut Findings) {
    if cx.request.leave == Leave::MoveRoot {
        findings.refused(
            "no-pivot",
            "--no-pivot",
            "without pivot_root the host's root stays mounted below the container's",
            "leave --no-pivot out (containerd: no `NoPivotRoot`, podman: no `no_pivot_root`); where the host's root is a ramdisk, \
             [controls] rootfs = \"observe\" in /etc/gabion/policy.toml",
        );
    }
}

fn refuse_host(cx: &Context<'_>, findings: &mut Findings) {
    let remedy = cx.request.caller().word(
        "name an image",
        "name an image, or give `--rootfs` a directory of its own",
        "set `root.path` to a directory that holds an image",
    );
    let Some(written) = cx.request.rootfs() else {
        let what = "the spec names no root file system";
        findings.refused("missing", "root.path", what, remedy);
        return;
    };
    // Where it leads: a symlink on the way may be the spec's author's.
    let path = cx.host.rootfs.clone().unwrap_or_else(|| normalize(&written));
    let Some(why) = hosts_own(&path, cx) else { return };
    let shown = path.display();
    let what = format!("the root file system is to be the host's own {shown}{why}");
    findings.refused("host", "root.path", what, remedy);
}

/// Why a directory is no image. One of the bundle is: which bundle it is, the caller said.
fn hosts_own(path: &Path, cx: &Context<'_>) -> Option<String> {
    if NEVER.iter().any(|never| path == Path::new(never)) || below_any(path, &NEVER_BELOW) {
        return Some(String::new());
    }
    let settings = &cx.policy.policy.mounts;
    let engines = [&settings.containerd_root, &settings.containerd_state].map(PathBuf::as_path);
    let name = path.to_string_lossy();
    let of_user = ["/.local/share/containers/", "/.local/share/docker/"]
        .iter()
        .any(|dir| name.contains(dir));
    let image = path.starts_with(&cx.request.bundle)
        || below_any(path, &ENGINES)
        || below_any(path, &engines)
        || below_any(path, &settings.allow)
        || of_user;
    let sensitive = SENSITIVE.iter().chain(&SYSTEM).map(Path::new);
    let own = sensitive.chain(cx.host.state_dirs.iter().map(PathBuf::as_path));
    own.filter(|tree| tree.is_absolute()).find_map(|tree| {
        if tree.starts_with(path) {
            Some(format!(", which holds {}", tree.display()))
        } else if path.starts_with(tree) && !image {
            Some(format!(", which lies in {}", tree.display()))
        } else {
            None
        }
    })
}

/// Mounts made in the container stay there, and what the host mounts later does not come in unvetted.
fn propagation(draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    const PLACE: &str = "linux.rootfsPropagation";
    let asked = draft.linux().rootfs_propagation().clone();
    match asked.as_deref() {
        Some("private") => {}
        Some("shared" | "rshared") => findings.refused(
            "shared",
            PLACE,
            "mounts made in the container would appear on the host (propagation shared)",
            cx.request.caller().word(
                "remove `mountPropagation: Bidirectional`",
                "remove `:shared` or `:rshared` from `--volume`",
                "set `linux.rootfsPropagation` to `private`",
            ),
        ),
        Some(other) => {
            let to = if other == "rprivate" {
                "the same in the runtime's word"
            } else {
                "mounts of the host stay outside"
            };
            findings.tightened(PLACE, other, "private", to);
        }
        None => findings.added(PLACE, "private", "mounts of the host stay outside"),
    }
    draft.linux().set_rootfs_propagation(Some("private".to_owned()));
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decision::Verdict;
    use crate::observed::MountPoint;
    use crate::testing::{Case, codes, refusal};

    fn point(target: &str, fstype: &str, option: &str) -> MountPoint {
        MountPoint {
            id: 2,
            parent: 1,
            target: target.into(),
            root: "/".into(),
            fstype: fstype.to_owned(),
            options: [option.to_owned()].into(),
            super_options: [].into(),
            propagation: Vec::new(),
        }
    }

    #[test]
    fn where_it_leads_counts() {
        let refused = |real: &str, bundle_path: &str| {
            let mut case = Case::new().with("/root/path", json!(bundle_path));
            case.host.rootfs = Some(real.into());
            codes(&case.decide(&Rootfs).1) == ["rootfs.host"]
        };
        for real in [
            "/etc",
            "/root/.ssh",
            "/var/log",
            "/usr/bin",
            "/var/lib/kubelet/pods",
            "/var/lib",
        ] {
            assert!(refused(real, "x/y"), "{real}");
        }
        let merged = "/var/lib/containers/storage/overlay/1/merged";
        for real in [
            "/bundle/rootfs",
            merged,
            "/srv/image",
            "/root/.local/share/containers/storage/vfs/dir/1",
        ] {
            assert!(!refused(real, "rootfs"), "{real}");
        }
    }

    #[test]
    fn what_the_host_mounted_below_it_is_looked_at() {
        let case = Case::new().with("/mounts", json!([{"destination": "/proc", "type": "proc"}]));
        let worst = |mount: MountPoint| {
            let seen = Observed {
                mounts: vec![point("/", "ext4", "ro"), mount],
                ..Observed::default()
            };
            let facts = Rootfs.facts(&case.harden(&Rootfs), &seen);
            facts.iter().any(|f| f.holds == Holds::No)
        };
        for bad in [
            point("/srv/proc", "proc", "ro"),
            point("/srv", "ext4", "rw"),
            point("/dev", "devtmpfs", "rw"),
        ] {
            assert!(worst(bad.clone()), "{bad:?}");
        }
        for good in [
            point("/srv", "ext4", "ro"),
            point("/proc", "proc", "rw"),
            point("/dev/null", "devtmpfs", "rw"),
        ] {
            assert!(!worst(good.clone()), "{good:?}");
        }
    }

    /// Decides for a container of this name in a bundle of that one.
    fn decide(case: &Case, id: &str, bundle: &str) -> crate::decision::Decision {
        let mut request = case.request();
        request.id = id.parse().unwrap();
        request.bundle = bundle.into();
        let cx = Context {
            request: &request,
            policy: &case.policy,
            host: &case.host,
        };
        let mut draft = Draft {
            spec: request.spec.clone(),
            plan: crate::hardened::Plan::default(),
        };
        crate::control::decide(&Rootfs, &mut draft, &cx)
    }

    #[test]
    fn a_step_of_a_build_is_known_by_buildah_s_names() {
        let writes = Case::new().with("/root/readonly", json!(false));
        refusal(
            &decide(&writes, "buildah-buildah77", "/var/tmp/buildah77"),
            "rootfs.build",
        );
        for (id, bundle) in [
            ("buildah-buildah77", "/var/tmp/buildah78"),
            ("buildah77", "/var/tmp/buildah77"),
            ("buildah-web", "/bundles/web"),
            ("web", "/var/tmp/buildah77"),
        ] {
            assert_eq!(decide(&writes, id, bundle).verdict, Verdict::Tightened, "{id} {bundle}");
        }
        let reads = Case::new().with("/root/readonly", json!(true));
        let decision = decide(&reads, "buildah-buildah77", "/var/tmp/buildah77");
        assert_ne!(decision.verdict, Verdict::Refused);
    }
}
