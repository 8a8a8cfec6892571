//! `rootfs`: the image is read, not written.
//!
//! What a service must write goes to volumes and holes (`holes`). The root stays without nosuid: a SELinux domain
//! transition on execve needs it, and no_new_privs already takes setuid's effect away.

use std::path::{Component, Path, PathBuf};

use super::mounts::paths::{SENSITIVE, SYSTEM};
use super::mounts::source::below_any;
use super::reached::{Model, is_kernel_type};
use super::{About, Context, Control, ControlId, remedy};
use crate::decision::Findings;
use crate::docker::Build;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::observed::Observed;
use crate::policy::exception::glob;
use crate::reach::{Along, Guard};
use crate::request::{Leave, PodType, Request, normalize};

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

/// Refuses an image that is none of those that the policy names. Only containerd's word tells of which name it is.
fn refuse_image(cx: &Context<'_>, findings: &mut Findings) {
    let allow = &cx.policy.policy.images.allow;
    let of_pod = cx.request.pod(cx.policy.cri);
    if allow.is_empty() || of_pod.is_none_or(|pod| pod.typ == PodType::Sandbox) {
        return;
    }
    let image = cx.request.image_name(cx.policy.cri);
    let what = match image {
        Some(name) if allow.iter().any(|known| glob(known, name)) => return,
        Some(name) => format!("the image {name} is none of those that the policy names"),
        None => {
            "nobody vouches for the name of this container's image, and the policy names those that may run".to_owned()
        }
    };
    findings.refused(
        "image",
        "root.path",
        what,
        image.map_or_else(
            || "let containerd's CRI plugin make the container: its word for an image's name counts".to_owned(),
            |name| {
                format!(
                    "take an image of a known registry, or {}",
                    remedy::allow(cx, "images.allow", name)
                )
            },
        ),
    );
}

impl Control for Rootfs {
    fn id(&self) -> ControlId {
        ControlId::Rootfs
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        refuse_image(cx, findings);
        refuse_host(cx, findings);
        refuse_brought(cx, findings);
        refuse_move(cx, findings);
        let Some(root) = draft.spec.root_mut() else { return };
        if root.readonly() == Some(true) {
            findings.kept("root.readonly", "read-only as asked");
        } else if cx.request.is_build_step() || cx.host.build == Build::Step {
            // It would even succeed where it only writes to a hole, and the image would lack it.
            findings.refused(
                "build",
                "root.readonly",
                "this is a step of an image build, which writes to its root; the root is read-only here, and what is written to \
                 /tmp, /var/tmp or /run would be missing in the image",
                match cx.host.build {
                    Build::Step => "build with BuildKit, which runs its steps by runc: `DOCKER_BUILDKIT=1 docker build`",
                    Build::No => "build with another runtime: `podman build --runtime runc`",
                },
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
        facts.extend(Model::new(hardened, seen).brought_by_root());
        facts
    }
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

/// Refuses a root below which the host mounted a file system of the kernel, unless a mount of the spec covers it: hooks may mount in the
/// container, so that what is there later tells nothing of who brought it.
fn refuse_brought(cx: &Context<'_>, findings: &mut Findings) {
    let mounts = cx.request.spec.mounts().iter().flatten().enumerate();
    let targets: Vec<PathBuf> = mounts
        .map(|(i, m)| normalize(cx.host.targets.get(&i).unwrap_or(m.destination())))
        .collect();
    let open = |along: &&Along| is_kernel_type(&along.fstype) && !targets.iter().any(|t| along.path.starts_with(t));
    let Some(along) = cx.host.root_along.iter().find(open) else {
        return;
    };
    let what = format!(
        "{} in the root file system is a {} that the host mounted there",
        along.path.display(),
        along.fstype
    );
    let remedy = "unmount it, or name an image's root file system";
    findings.refused("host", "root.path", what, remedy);
}

/// Tells why a directory is no image, by any of its names.
fn hosts_own(path: &Path, cx: &Context<'_>) -> Option<String> {
    if let Some(why) = hosts_own_by_name(path, cx) {
        return Some(why);
    }
    let trees = cx.host.guarded.iter().filter(|g| g.guard == Guard::Tree);
    trees
        .filter_map(|g| g.spot.name_of(&g.path, &cx.host.root, path))
        .filter(|name| name != path)
        .find_map(|name| {
            let why = hosts_own_by_name(&name, cx)?;
            Some(format!(", which is {} under another name{why}", name.display()))
        })
}

/// Judges a name as that of a bind's source, but for the places where this container's own root is: in its bundle, or in the shape that
/// its engine gives a root. Which bundle it is, the caller said; nothing that holds the bundle becomes an image by that.
fn hosts_own_by_name(path: &Path, cx: &Context<'_>) -> Option<String> {
    if NEVER.iter().any(|never| path == Path::new(never)) || below_any(path, &NEVER_BELOW) {
        return Some(String::new());
    }
    let settings = &cx.policy.policy.mounts;
    let bundle = &cx.request.bundle;
    let in_bundle = |tree: &Path| path.starts_with(bundle) && bundle.starts_with(tree) && bundle != tree;
    let image = below_any(path, &settings.allow) || is_engines_shape(path, cx.request);
    let roots = [&settings.containerd_root, &settings.containerd_state];
    let fixed = SENSITIVE.iter().chain(&SYSTEM).map(Path::new);
    let own = cx.host.state_dirs.iter().chain(roots).map(PathBuf::as_path);
    fixed.chain(own).filter(|tree| tree.is_absolute()).find_map(|tree| {
        if tree.starts_with(path) {
            Some(format!(", which holds {}", tree.display()))
        } else if path.starts_with(tree) && !image && !in_bundle(tree) {
            Some(format!(", which lies in {}", tree.display()))
        } else {
            None
        }
    })
}

/// Tells whether a path has the shape that an engine gives the root of this container, and no other of what it keeps: `…/<id>/rootfs` of the
/// shim, the storage's `overlay/<layer>/merged` (vfs, btrfs) where the bundle is this container's in an engine's storage, too.
pub fn is_engines_shape(path: &Path, request: &Request) -> bool {
    let parts: Vec<&str> = names(path);
    let id = request.id.as_str();
    let of_this = match parts.as_slice() {
        [.., "io.containerd.runtime.v2.task", _, own, "rootfs"] => *own == id,
        [.., driver, own, "merged" | "rootfs"] if *own == id => driver.starts_with("overlay"),
        // Docker on containerd's snapshots.
        [.., "docker", "rootfs", _, own] => *own == id,
        _ => false,
    };
    // Docker's root is where its operator chose, by any name; who chooses it is dockerd, and no user of Docker's.
    let any_home = |name: &str| is_storage(name) || request.is_dockers();
    of_this || (is_layer(&parts, any_home) && engines_bundle(request))
}

/// The name of a directory that podman, CRI-O or Docker has its layers in.
fn is_storage(name: &str) -> bool {
    name == "storage" || name == "docker" || name.contains('.')
}

/// A layer that is mounted, in the storage of podman, CRI-O or Docker.
fn is_layer(parts: &[&str], storage: impl Fn(&str) -> bool) -> bool {
    let layer = |name: &str| name.len() >= 8 && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
    match parts {
        [.., home, driver, name, "merged"] => storage(home) && driver.contains("overlay") && layer(name),
        [.., home, "vfs", "dir", name] | [.., home, "btrfs", "subvolumes", name] => storage(home) && layer(name),
        _ => false,
    }
}

/// The bundle is one that an engine made for this container, or for this step of a build.
fn engines_bundle(request: &Request) -> bool {
    let id = request.id.as_str();
    match names(&request.bundle).as_slice() {
        [.., containers, own, "userdata"] => containers.ends_with("-containers") && *own == id,
        [.., "io.containerd.runtime.v2.task", _, own] => *own == id,
        _ => request.is_build_step(),
    }
}

/// Gives the bundle of which a config.json that is judged elsewhere is a copy: the engine's own for this id, by the root that it names. Only
/// for what is judged and not run.
pub fn bundle_of_a_copy(request: &Request) -> Option<PathBuf> {
    let root = request.rootfs()?;
    let (layer, id) = (is_layer(&names(&root), is_storage), request.id.as_str());
    let storage = root.ancestors().find(|dir| dir.ends_with("storage"))?;
    let driver = root.strip_prefix(storage).ok()?.components().next()?;
    let containers = format!("{}-containers", driver.as_os_str().to_str()?);
    layer.then(|| storage.join(containers).join(id).join("userdata"))
}

fn names(path: &Path) -> Vec<&str> {
    let parts = path.components().filter_map(|c| match c {
        Component::Normal(name) => Some(name.to_str().unwrap_or_default()),
        _ => None,
    });
    parts.collect()
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
            dev: (0, 1),
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
        for real in ["/bundle/rootfs", "/srv/image"] {
            assert!(!refused(real, "rootfs"), "{real}");
        }
    }

    #[test]
    fn a_root_in_an_engine_s_tree_is_this_container_s() {
        const LAYER: &str = "b3c7115824c69c026955b1f1e8ecf979cd0b0d2318486531a2848b6c40913737";
        let judged = |bundle: &str, real: &str| {
            let mut case = Case::new();
            case.host.rootfs = Some(real.replace("LAYER", LAYER).into());
            codes(&decide(&case, "web1", bundle)) != ["rootfs.host"]
        };
        let podman = "/var/lib/containers/storage/overlay-containers/web1/userdata";
        let crio = "/run/containers/storage/overlay-containers/web1/userdata";
        let task = "/run/containerd/io.containerd.runtime.v2.task/k8s.io/web1";
        for (bundle, real) in [
            (podman, "/var/lib/containers/storage/overlay/LAYER/merged"),
            (crio, "/var/lib/containers/storage/overlay/LAYER/merged"),
            (podman, "/root/.local/share/containers/storage/vfs/dir/LAYER"),
            (task, "/run/containerd/io.containerd.runtime.v2.task/k8s.io/web1/rootfs"),
            (task, "/var/lib/docker/overlay2/LAYER/merged"),
            (task, "/var/lib/docker/rootfs/overlayfs/web1"),
            ("/srv/b", "/srv/b/rootfs"),
            ("/run/user/1000/b", "/run/user/1000/b/rootfs"),
        ] {
            assert!(judged(bundle, real), "{bundle} {real}");
        }
        for (bundle, real) in [
            ("/srv/b", "/var/lib/containers/storage/overlay/LAYER/merged"),
            (
                "/var/lib/containers/storage/overlay-containers/other/userdata",
                "/var/lib/containers/storage/overlay/LAYER/merged",
            ),
            (podman, "/run/user/0"),
            (podman, "/var/lib/containers/storage/overlay/LAYER"),
            (podman, "/var/lib/containers/storage/volumes/v/_data"),
            (task, "/run/containerd/s"),
            (
                task,
                "/run/containerd/io.containerd.runtime.v2.task/k8s.io/other/rootfs",
            ),
            (task, "/run/docker/containerd"),
            (task, "/run/k3s/containerd"),
            (task, "/var/lib/docker/containers"),
            ("/", "/run/containerd/s"),
            ("/run/containerd", "/run/containerd/s"),
        ] {
            assert!(!judged(bundle, real), "{bundle} {real}");
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
            MountPoint {
                root: "/null".into(),
                ..point("/dev/null", "devtmpfs", "rw")
            },
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
    fn images_of_pods_are_those_that_the_policy_names() {
        let of = |kind: &str, image: Option<&str>| {
            let mut case = Case::new()
                .with(
                    "/annotations",
                    json!({
                        "io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-id": "web1",
                        "io.kubernetes.cri.sandbox-namespace": "n", "io.kubernetes.cri.sandbox-name": "p",
                        "io.kubernetes.cri.sandbox-uid": "u"}),
                )
                .called_by(crate::policy::Cri::Containerd);
            if let Some(image) = image {
                case = case.with("/annotations/io.kubernetes.cri.image-name", json!(image));
            }
            let mut policy =
                crate::policy::parse("cri = \"containerd\"\n[images]\nallow = [\"registry.example/*\"]").unwrap();
            policy = policy.effective(&case.request(), &case.host, "d").policy;
            case.policy = case_policy(&case, &policy);
            case
        };
        let (known, other) = (
            Some("registry.example/db:1"),
            Some("evil.example/registry.example/db:1"),
        );
        let (draft, decision) = of("container", known).decide(&Rootfs);
        assert!(crate::testing::codes(&decision).is_empty(), "{draft:?}");
        for image in [other, None] {
            refusal(&of("container", image).decide(&Rootfs).1, "rootfs.image");
        }
        let (_, sandbox) = of("sandbox", None).decide(&Rootfs);
        assert!(crate::testing::codes(&sandbox).is_empty());
        // Nobody vouches for it.
        let mut podman = of("container", other);
        podman.policy.cri = crate::policy::Vouched::default();
        podman.channel = crate::request::Channel::Direct;
        assert!(crate::testing::codes(&podman.decide(&Rootfs).1).is_empty());
    }

    fn case_policy(case: &Case, policy: &crate::policy::Policy) -> crate::policy::Effective {
        policy.effective(&case.request(), &case.host, "d")
    }

    #[test]
    fn a_step_of_dockers_builder_of_old_is_refused_with_buildkit_as_the_remedy() {
        let mut case = Case::new().with("/root/readonly", json!(false));
        case.host.build = Build::Step;
        let (_, decision) = case.decide(&Rootfs);
        refusal(&decision, "rootfs.build");
        assert!(format!("{decision:?}").contains("DOCKER_BUILDKIT=1 docker build"));
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
