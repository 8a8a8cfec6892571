//! `rootfs`: the image is read, not written.
//!
//! What a service must write goes to volumes and holes (`holes`). The root stays without nosuid: a SELinux domain
//! transition on execve needs it, and no_new_privs already takes setuid's effect away.

use std::path::Path;

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::observed::Observed;
use crate::request::normalize;

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
        let Some(root) = draft.spec.root_mut() else { return };
        if root.readonly() == Some(true) {
            findings.kept("root.readonly", "read-only as asked");
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
            .spec
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
        vec![
            Fact::judged(ControlId::Rootfs, "/ ro", shown, holds),
            Fact::same(ControlId::Rootfs, "propagation of /", &"private".to_owned(), &spread),
        ]
    }
}

fn refuse_host(cx: &Context<'_>, findings: &mut Findings) {
    let remedy = cx.request.caller().word(
        "name an image",
        "name an image, or give `--rootfs` a directory of its own",
        "set `root.path` to a directory that holds an image",
    );
    let Some(path) = cx.request.rootfs().map(|p| normalize(&p)) else {
        let what = "the spec names no root file system";
        findings.refused("missing", "root.path", what, remedy);
        return;
    };
    let host =
        NEVER.iter().any(|never| path == Path::new(never)) || NEVER_BELOW.iter().any(|tree| path.starts_with(tree));
    if host {
        let what = format!("the root file system is to be the host's own {}", path.display());
        findings.refused("host", "root.path", what, remedy);
    }
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
