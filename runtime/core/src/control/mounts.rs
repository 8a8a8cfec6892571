//! `mounts`: what comes in from outside, and with which flags.
//!
//! Each mount is judged by where it comes from (`mounts/source.rs`), by where it goes (`mounts/target.rs`) and by its
//! options. Mounts keep their place in the list: the descriptors that were opened for their sources are known by index.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::Fact;
use crate::hardened::{Draft, Hardened, Plan};
use crate::host::{FileKind, SourcePath};
use crate::observed::Observed;
use crate::policy::Level;
use crate::request::mount_options::{Meaning, Propagation, is_bind};
use crate::request::normalize;

mod entrypoint;
pub(super) mod facts;
mod idmapped;
pub(super) mod options;
mod own;
pub(super) mod paths;
pub(super) mod source;
mod target;
mod twins;

use options::{Flag, Options};
use source::Judgement;

pub struct Mounts;

static ABOUT: About = About {
    threat: "a mount brings in the host's files, sockets or devices, setuid programs, or a place to write a program and run it",
    rule: "nosuid and nodev everywhere but on /dev; what is writable is not executable; no sensitive path of the host, under \
           CRI nothing but the pod's own files; no file system of a block device; nothing over /proc and /sys",
    enforced_by: "open_tree(2) and move_mount(2) from descriptors that were opened once, mount_setattr(2) AT_RECURSIVE for \
                  submounts; read back from /proc/PID/mountinfo",
    kernel_floor: "5.12 (mount_setattr)",
    refs: &[
        "PSS Baseline: HostPath Volumes",
        "PSS Restricted: Volume Types",
        "CIS Docker 5.6",
        "CIS Docker 5.20",
        "CIS Docker 5.32",
        "CIS Kubernetes 5.2.11",
        "NIST SP 800-190 4.4.4",
        "NIST SP 800-190 4.5.5",
    ],
};

/// File systems that hold no data of the host. All others need a device or name paths of the host in their options.
const FILESYSTEMS: [&str; 7] = ["proc", "sysfs", "cgroup", "cgroup2", "devpts", "mqueue", "tmpfs"];

/// How many terminals a container may have, and how many its mount of devpts may ask for by `max=`.
const TERMINALS: u64 = 256;
const MOST_TERMINALS: u64 = 1024;

impl Control for Mounts {
    fn id(&self) -> ControlId {
        ControlId::Mounts
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        for (index, target) in &cx.host.targets {
            draft.plan.targets.insert(*index, normalize(target));
        }
        let count = draft.spec.mounts().as_ref().map_or(0, Vec::len);
        for index in 0..count {
            let target = target_of(&draft.spec, index, cx);
            if let Some(mount) = draft.spec.mounts_mut().as_mut().and_then(|m| m.get_mut(index)) {
                one(index, mount, &target, cx, &mut draft.plan, findings);
            }
        }
        draft.plan.read_only_late = own::mounted_into(&draft.spec, cx);
        twins::check(draft, cx, findings);
        entrypoint::check(draft, cx, findings);
        findings.kept(
            "mounts",
            "each mount is nosuid, nodev and either writable or executable, as it should be",
        );
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        facts::facts(hardened, seen)
    }
}

/// Gives the places of the host that no mount hands out, or only to be read.
pub fn guarded(policy: &crate::policy::Policy) -> impl Iterator<Item = &Path> {
    let settings = &policy.mounts;
    let own = [
        &settings.kubelet_root,
        &settings.containerd_root,
        &settings.containerd_state,
    ];
    let fixed = paths::SENSITIVE.iter().chain(&paths::SYSTEM).map(Path::new);
    let own = own.into_iter().map(PathBuf::as_path).filter(|p| p.is_absolute());
    std::iter::once(Path::new("/")).chain(fixed).chain(own)
}

/// Tells whether an engine made a file for this container or its pod, by its place.
pub fn is_engines_own(real: &Path, request: &crate::request::Request, policy: &crate::policy::Policy) -> bool {
    own::is_engines(real, request, policy)
}

/// Gives the directory of the pod whose subPath a path is.
pub fn pod_of_sub_path<'a>(real: &'a Path, policy: &crate::policy::Policy) -> Option<&'a Path> {
    own::pod_of_sub_path(real, policy)
}

/// Gives the directory in which an engine keeps its containers' files, and the id of the one that this file is of.
pub fn engines_file<'a>(real: &'a Path, request: &crate::request::Request) -> Option<(&'a Path, &'a str)> {
    own::file_of(real, request)
}

/// Gives Docker's data-root, of a file that dockerd made in it for this container.
pub fn dockers_root<'a>(real: &'a Path, request: &crate::request::Request) -> Option<&'a Path> {
    own::dockers_root(real, request)
}

/// Where a mount's destination leads: as it was looked up in the image, or as it is written.
fn target_of(spec: &Spec, index: usize, cx: &Context<'_>) -> PathBuf {
    match cx.host.targets.get(&index) {
        Some(target) => normalize(target),
        None => spec
            .mounts()
            .as_ref()
            .and_then(|m| m.get(index))
            .map_or_else(PathBuf::new, |m| normalize(m.destination())),
    }
}

/// Decides one mount.
fn one(index: usize, mount: &mut Mount, target: &Path, cx: &Context<'_>, plan: &mut Plan, findings: &mut Findings) {
    let place = format!("mounts.{}", mount.destination().display());
    if !target::check(index, mount, target, cx, findings) {
        return;
    }
    let mut options = Options::of(mount);
    let spreads = |m| matches!(m, Meaning::Remount | Meaning::Propagation(Propagation::Shared));
    if let Some(bad) = options.any(spreads) {
        let what = format!(
            "the mount at {} asks for `{bad}`: it would change or spread mounts of others",
            target.display()
        );
        let remedy = cx.request.caller().word(
            "remove `mountPropagation: Bidirectional`",
            "remove it from `--volume`",
            "remove it from the mount's `options`",
        );
        findings.refused("propagation", place, what, remedy);
        return;
    }
    let before = options.clone();
    let mut nodev = target != Path::new("/dev") && mount.typ().as_deref() != Some("devpts");
    if is_bind(mount) {
        match source::judge(index, target, !options.is(Flag::Ro), cx) {
            Judgement::Refused { code, what, remedy } => {
                findings.refused(code, place, what, remedy);
                return;
            }
            Judgement::ByPolicy => {
                plan.sensitive.insert(index);
                findings.warned(&place, "a sensitive path of the host, allowed by the policy");
                let by = format!(
                    "{}: a sensitive path of the host, by the policy's mounts.allow",
                    target.display()
                );
                plan.lets_off(ControlId::Mounts, by);
            }
            Judgement::ByCdi(by) => {
                plan.sensitive.insert(index);
                findings.kept(&place, format!("it is what {by} has"));
            }
            Judgement::ReadOnly => options.set(Flag::Ro),
            Judgement::Fine => {}
        }
        nodev = !is_device(index, cx);
        if !idmapped::check(index, mount, &place, cx, findings) {
            return;
        }
    } else if !mount.typ().as_deref().is_some_and(|t| FILESYSTEMS.contains(&t)) {
        refuse_filesystem(mount, &place, cx, findings);
        return;
    }
    if mount.typ().as_deref() == Some("devpts") && !is_bind(mount) {
        bound_terminals(&mut options);
    }
    if let Some(by) = harden(&mut options, nodev, target, &place, cx, findings) {
        let by = format!("{}: writable and executable, by {by}", target.display());
        plan.lets_off(ControlId::Mounts, by);
    }
    if options != before {
        let (from, to) = options.added_to(&before);
        findings.tightened(
            place,
            from,
            to,
            "no setuid programs, no devices, nothing both writable and executable, no more terminals than it may have",
        );
        mount.set_options(Some(options.into_vec()));
    }
}

/// The flags that every mount gets. Gives whose word keeps it writable and executable, if anybody's.
fn harden(
    options: &mut Options,
    nodev: bool,
    target: &Path,
    place: &str,
    cx: &Context<'_>,
    findings: &mut Findings,
) -> Option<&'static str> {
    options.set(Flag::Nosuid);
    if nodev {
        options.set(Flag::Nodev);
    }
    // A slave would take in what the host mounts later, with flags that nobody vetted.
    options.close_propagation();
    if options.is(Flag::Ro) {
        // Read-only has to reach submounts too: nobody else looks at them.
        options.set(Flag::Ro);
        if options.is(Flag::Noexec) {
            options.set(Flag::Noexec);
        }
        return None;
    }
    let restricted = cx.policy.level == Level::Restricted;
    let asked = options.asks_against(Flag::Noexec);
    let excepted = !restricted && source::below_any(target, &cx.policy.policy.mounts.exec_paths);
    if restricted && asked {
        let what = format!(
            "the mount at {} is to be writable and executable; this level has no exception",
            target.display()
        );
        let remedy = "mount it read-only or noexec, or run it at the level `hardened`";
        findings.refused("exec", place, what, remedy);
    } else if excepted {
        findings.warned(place, "writable and executable, as the policy's exec_paths say");
        return Some("the policy's mounts.exec_paths");
    } else if asked {
        findings.warned(place, "writable and executable, as its option `exec` asks");
        return Some("its option `exec`");
    } else {
        options.set(Flag::Noexec);
    }
    None
}

/// Bounds how many terminals the container may have open: all containers share what kernel.pty.max leaves them, 3072.
fn bound_terminals(options: &mut Options) {
    match options.number("max") {
        Some(asked) if asked <= MOST_TERMINALS => {}
        Some(_) => options.set_number("max", MOST_TERMINALS),
        None => options.set_number("max", TERMINALS),
    }
}

/// Whether a bind brings in a single device, or a directory of /dev that the policy names: they must stay usable.
fn is_device(index: usize, cx: &Context<'_>) -> bool {
    let Some(SourcePath::Open(source)) = cx.host.sources.get(&index) else {
        return false;
    };
    matches!(source.kind, FileKind::CharDevice(..) | FileKind::BlockDevice(..))
        || (source.real.starts_with("/dev") && source.kind == FileKind::Directory)
}

fn refuse_filesystem(mount: &Mount, place: &str, cx: &Context<'_>, findings: &mut Findings) {
    let typ = mount.typ().as_deref().unwrap_or("none");
    let what = format!(
        "{} is to be a file system of type {typ}: only {} and binds are mounted",
        mount.destination().display(),
        FILESYSTEMS.join(", ")
    );
    let remedy = cx.request.caller().word(
        "use a volume of another kind",
        "use a plain `--volume` (without `:O`) or `--tmpfs`",
        "mount it on the host and bind that directory",
    );
    findings.refused("filesystem", place, what, remedy);
}
