//! `holes`: where a service may write although its root is read-only.
//!
//! An image that was written for a writable root needs a few places. Where gabion itself closed the root, the usual ones
//! are opened as small tmpfs; others are declared by an annotation. They lie below the spec's own mounts, so volumes,
//! tokens and secrets stay what they are. The crate gabion copies what the image has there into them (`build/holes.rs`).

use std::path::{Path, PathBuf};

use oci_spec::runtime::Root;

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened, Hole};
use crate::host::HoleTarget;
use crate::observed::Observed;
use crate::request::{Caller, normalize};
use crate::size::Size;

mod annotation;

use annotation::Asked;

pub struct Holes;

static ABOUT: About = About {
    threat: "a read-only root that services cannot live with is switched off as a whole; a writable place without bounds \
             fills the host's memory or carries programs",
    rule: "where gabion closed the root: tmpfs on /tmp, /var/tmp and /run; others as dev.gabion.holes declares, within the \
           policy's bounds; all nosuid, nodev, noexec, of a fixed size, charged to the container's memory",
    enforced_by: "fsopen(2), fsmount(2) and move_mount(2) of tmpfs below the spec's mounts; read back from /proc/PID/mountinfo",
    kernel_floor: "5.2 (fsmount)",
    refs: &["CIS Docker 5.13", "NIST SP 800-190 4.4.4"],
};

pub const ANNOTATION: &str = "dev.gabion.holes";

/// Path, bytes, mode of what an ordinary image expects to be able to write.
pub(crate) const DEFAULTS: [(&str, u64, u32); 3] = [
    ("/tmp", 256 << 20, 0o1777),
    ("/var/tmp", 256 << 20, 0o1777),
    ("/run", 16 << 20, 0o755),
];

/// A hole here would replace the image, not open a place in it.
const NEVER: [&str; 10] = [
    "/", "/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/boot",
];

/// Nothing at or below these is the image's.
const NEVER_BELOW: [&str; 3] = ["/proc", "/sys", "/dev"];

impl Control for Holes {
    fn id(&self) -> ControlId {
        ControlId::Holes
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let mut holes: Vec<Hole> = declared(cx, findings);
        let was = |root: &Option<Root>| root.as_ref().and_then(Root::readonly) == Some(true);
        let closed = was(draft.spec.root()) && !was(cx.request.spec.root());
        for (path, size, mode) in DEFAULTS {
            let path = PathBuf::from(path);
            let (target, known) = target(&path, cx);
            let taken = holes.iter().any(|h| h.target == target);
            if !closed || taken {
                continue;
            }
            match mounted(cx, &target) {
                // What may be written there is up to that mount.
                Some(Covers::Exactly) => continue,
                Some(Covers::Below(_)) if target == path => continue,
                Some(Covers::Below(_)) => {
                    let why = "a link of the image leads it into a mount of the spec: no hole";
                    findings.warned(path.to_string_lossy(), why);
                    continue;
                }
                None => {}
            }
            if target != path && (forbidden(&target) || in_system(&target)) {
                let why = format!(
                    "a link of the image leads it to {}, where no hole may be: no hole",
                    target.display()
                );
                findings.warned(path.to_string_lossy(), why);
                continue;
            }
            if known == Known::NotADirectory {
                findings.warned(
                    path.to_string_lossy(),
                    "the image has something there that is not a directory: no hole",
                );
                continue;
            }
            let size = size.min(cx.policy.policy.holes.max_size.0);
            holes.push(Hole {
                path,
                target,
                size,
                mode,
                mode_asked: false,
            });
        }
        // A hole within another has to be mounted after it.
        holes.sort_by(|a, b| a.target.cmp(&b.target));
        for hole in &holes {
            let to = format!("tmpfs of {}, mode {:o}", Size(hole.size), hole.mode);
            let why = match cx.request.caller() {
                Caller::Docker => {
                    "writable, not executable, gone with the container; `docker cp` into it ends well and shows nothing: it writes below"
                }
                _ => "writable, not executable, gone with the container",
            };
            findings.added(hole.path.to_string_lossy(), to, why);
        }
        findings.kept("root", "no holes are needed or asked for");
        draft.plan.holes = holes;
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        hardened.plan().holes.iter().map(|hole| fact(hole, seen)).collect()
    }
}

/// What the annotation asks for and may have.
fn declared(cx: &Context<'_>, findings: &mut Findings) -> Vec<Hole> {
    let Some(text) = cx.request.asked(ANNOTATION) else {
        return Vec::new();
    };
    let bounds = &cx.policy.policy.holes;
    let entries = annotation::parse(text);
    if entries.len() > bounds.max_count as usize {
        let what = format!(
            "{ANNOTATION} asks for {} holes; the policy allows {}",
            entries.len(),
            bounds.max_count
        );
        findings.refused(
            "too-many",
            ANNOTATION,
            what,
            "ask for fewer, or raise [holes] max_count in /etc/gabion/policy.toml",
        );
        return Vec::new();
    }
    let mut holes: Vec<Hole> = Vec::new();
    for entry in entries {
        match entry {
            Err(why) => findings.refused(
                "annotation",
                ANNOTATION,
                format!("{ANNOTATION}: {why}"),
                "write PATH, PATH:size=16m or PATH:size=16m:mode=0755, parted by commas or blanks",
            ),
            Ok(asked) => {
                if let Some(hole) = vet(asked, cx, findings).filter(|h| holes.iter().all(|o| o.target != h.target)) {
                    holes.push(hole);
                }
            }
        }
    }
    holes
}

/// One declared hole, if it may be.
fn vet(asked: Asked, cx: &Context<'_>, findings: &mut Findings) -> Option<Hole> {
    let shown = asked.path.display().to_string();
    let (target, known) = target(&asked.path, cx);
    let size = asked.size.unwrap_or(cx.policy.policy.holes.default_size);
    let max = cx.policy.policy.holes.max_size;
    if [&asked.path, &target].into_iter().any(|p| forbidden(p)) {
        let what = format!("a hole at {shown} would hide the image's programs or the kernel's interfaces");
        findings.refused(
            "forbidden",
            shown,
            what,
            "declare the directory that the service writes to",
        );
        return None;
    }
    if size > max {
        let what = format!("the hole at {shown} asks for {size}; the policy's largest is {max}");
        let remedy =
            format!("ask for at most {max}, use a volume, or raise [holes] max_size in /etc/gabion/policy.toml");
        findings.refused("too-large", shown, what, remedy);
        return None;
    }
    if known == Known::NotADirectory {
        let what = format!("{shown} is not a directory in the image: a tmpfs cannot be mounted there");
        findings.refused("not-a-directory", shown, what, "declare a directory");
        return None;
    }
    match mounted(cx, &target) {
        Some(Covers::Exactly) => None,
        Some(Covers::Below(mount)) => {
            let what = format!(
                "the hole at {shown} lies inside the mount at {} and would be hidden by it",
                mount.display()
            );
            findings.refused(
                "hidden",
                shown,
                what,
                "leave it out: what may be written there is up to that mount",
            );
            None
        }
        None => Some(Hole {
            mode: asked.mode.unwrap_or_else(|| usual_mode(&target)),
            path: asked.path,
            target,
            size: size.0,
            mode_asked: asked.mode.is_some(),
        }),
    }
}

/// A default hole that is declared for its size is still everybody's.
fn usual_mode(target: &Path) -> u32 {
    let default = DEFAULTS.iter().find(|(path, ..)| target == Path::new(path));
    default.map_or(0o755, |(_, _, mode)| *mode)
}

pub(crate) fn forbidden(path: &Path) -> bool {
    NEVER.iter().any(|never| path == Path::new(never)) || NEVER_BELOW.iter().any(|tree| path.starts_with(tree))
}

/// Gives the places of the default holes, as the image has them: where a root that stays writable is written.
pub(super) fn usual(cx: &Context<'_>) -> Vec<PathBuf> {
    let places = DEFAULTS.iter().map(|(path, ..)| target(Path::new(path), cx));
    places
        .filter(|(target, known)| *known == Known::Usable && !forbidden(target) && !in_system(target))
        .map(|(target, _)| target)
        .collect()
}

/// Programs, libraries and configuration of the image: nobody asked for a hole there, only a link of the image says so.
fn in_system(path: &Path) -> bool {
    NEVER.iter().any(|never| *never != "/" && path.starts_with(never))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Usable,
    NotADirectory,
}

/// Where a hole's path leads in the image; the path itself where nobody could look.
fn target(path: &Path, cx: &Context<'_>) -> (PathBuf, Known) {
    match cx.host.holes.get(path) {
        Some(HoleTarget::Directory(real) | HoleTarget::Missing(real)) => (normalize(real), Known::Usable),
        Some(HoleTarget::NotADirectory(real)) => (normalize(real), Known::NotADirectory),
        None => (path.to_owned(), Known::Usable),
    }
}

/// How a mount of the spec covers a path.
enum Covers {
    Exactly,
    Below(PathBuf),
}

fn mounted(cx: &Context<'_>, path: &Path) -> Option<Covers> {
    let mounts = cx.request.spec.mounts().iter().flatten().enumerate();
    let targets = mounts.map(|(i, m)| {
        cx.host
            .targets
            .get(&i)
            .map_or_else(|| normalize(m.destination()), |t| normalize(t))
    });
    let mut below = None;
    for target in targets {
        if target == path {
            return Some(Covers::Exactly);
        }
        if path.starts_with(&target) {
            below = Some(Covers::Below(target));
        }
    }
    below
}

fn fact(hole: &Hole, seen: &Observed) -> Fact {
    let path = hole.target.display();
    let size = format!("size={}k", hole.size.div_ceil(1024));
    let expected = format!("{path} tmpfs {size} nosuid nodev noexec");
    let Some(mount) = seen.mount_at(&hole.target) else {
        return Fact::judged(
            ControlId::Holes,
            expected,
            format!("{path} is not a mount point"),
            Holds::No,
        );
    };
    let sized = mount.super_options.iter().find(|o| o.starts_with("size="));
    let mut shown = vec![
        mount.fstype.clone(),
        sized.cloned().unwrap_or_else(|| "without size".to_owned()),
    ];
    shown.extend(
        ["nosuid", "nodev", "noexec"]
            .into_iter()
            .filter(|o| mount.has(o))
            .map(str::to_owned),
    );
    // tmpfs rounds a size up to whole pages, whatever their size.
    let fits = sized
        .and_then(|s| kib(s))
        .is_some_and(|k| k.div_ceil(64) <= hole.size.div_ceil(65536));
    let good = mount.fstype == "tmpfs" && fits && shown.len() == 5;
    let holds = if good { Holds::Yes } else { Holds::No };
    Fact::judged(ControlId::Holes, expected, format!("{path} {}", shown.join(" ")), holds)
}

/// `size=262144k` as the kernel writes it.
fn kib(option: &str) -> Option<u64> {
    option.strip_prefix("size=")?.strip_suffix('k')?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::testing::Case;

    #[test]
    fn docker_is_told_what_docker_cp_does() {
        let case = Case::new().with("/root/readonly", serde_json::json!(false));
        let said = |bundle: &str| {
            let mut request = case.request();
            (request.id, request.bundle) = ("a".parse().unwrap(), bundle.into());
            let cx = Context {
                request: &request,
                policy: &case.policy,
                host: &case.host,
            };
            let mut draft = Draft {
                spec: request.spec.clone(),
                plan: crate::hardened::Plan::default(),
            };
            // What `rootfs` does before.
            draft.spec.root_mut().as_mut().unwrap().set_readonly(Some(true));
            let decision = crate::control::decide(&Holes, &mut draft, &cx);
            assert!(
                decision.changes.iter().any(|change| change.path == "/tmp"),
                "{decision:?}"
            );
            decision
                .changes
                .iter()
                .any(|change| change.reason.contains("docker cp"))
        };
        assert!(said("/run/containerd/io.containerd.runtime.v2.task/moby/a"));
        assert!(!said("/srv/a"));
    }
}
