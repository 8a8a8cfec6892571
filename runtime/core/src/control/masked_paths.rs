//! `masked_paths`: what /proc and /sys tell and take that is not the container's.
//!
//! A caller's list is never replaced: ours is added to it. So an «unmasked» /proc is masked again, and an engine that masks
//! more keeps what it masks.

use std::path::{Component, Path};

use oci_spec::runtime::Linux;

use super::mounts::options::{Flag, Options};
use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::decision::Mode;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::observed::{Masked, Observed};
use crate::request::normalize;

pub struct MaskedPaths;

static ABOUT: About = About {
    threat: "kernel files that no namespace covers leak keys, memory, timings and the host's devices, or change the host when written",
    rule: "the union of the spec's masked and read-only paths and ours; an unmasked /proc is masked again; /sys is read-only",
    enforced_by: "move_mount(2) of a verified null device (1:3) or an empty read-only tmpfs over each path, mount_setattr(2) on a \
                  clone over each read-only one; looked at from inside",
    kernel_floor: "5.12 (mount_setattr)",
    refs: &["PSS Baseline: /proc Mount Type", "NIST SP 800-190 4.4.3"],
};

/// Docker's list of today (interrupts and powercap count what neighbours do: CVE-2020-8694 and keystroke timing), and what the kernel has for
/// root alone and root in a container is no owner of: pages and whose they are (kpage*, pagetypeinfo), the kernel's own memory (vmallocinfo,
/// slabinfo and its directory in /sys, allocinfo), its symbols, its profile, a crashed kernel's memory, counters of the host's serial lines,
/// and the switches of its debug messages. Not here: what the kernel itself keeps from whoever lacks `CAP_SYSLOG` or `CAP_SYS_ADMIN` (kmsg, addresses
/// in iomem, ioports and modules), and what ordinary programs read.
pub const MASKED: [&str; 25] = [
    "/proc/acpi",
    "/proc/allocinfo",
    "/proc/asound",
    "/proc/dynamic_debug",
    "/proc/interrupts",
    "/proc/kallsyms",
    "/proc/kcore",
    "/proc/keys",
    "/proc/kpagecgroup",
    "/proc/kpagecount",
    "/proc/kpageflags",
    "/proc/latency_stats",
    "/proc/pagetypeinfo",
    "/proc/profile",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/slabinfo",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/tty/driver",
    "/proc/vmallocinfo",
    "/proc/vmcore",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/kernel/slab",
];

/// runc's list.
const READONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

impl Control for MaskedPaths {
    fn id(&self) -> ControlId {
        ControlId::MaskedPaths
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let linux = draft.linux();
        let thermal = cx
            .host
            .thermal_throttle
            .iter()
            .map(|p| p.to_string_lossy().into_owned());
        // Where no label is enforced the file is asked for all the same: create then says that it cannot be masked.
        let label = cx.policy.mode(ControlId::Lsm) == Mode::Enforce;
        let kept = |path: &str| label && cx.host.kept_by_selinux.contains(Path::new(path));
        for path in MASKED.into_iter().filter(|path| kept(path)) {
            findings.kept(
                "linux.maskedPaths",
                format!("SELinux keeps {path} from gabion itself, which cannot mask it"),
            );
        }
        let ours = MASKED.into_iter().filter(|path| !kept(path)).map(str::to_owned);
        let masked = ours.chain(thermal);
        let list = union("linux.maskedPaths", linux.masked_paths().as_ref(), masked, findings);
        linux.set_masked_paths(Some(list));
        let readonly = READONLY.map(str::to_owned).into_iter();
        let list = union(
            "linux.readonlyPaths",
            linux.readonly_paths().as_ref(),
            readonly,
            findings,
        );
        linux.set_readonly_paths(Some(list));
        refuse_root(cx, findings);
        sys_readonly(draft, findings);
        findings.kept("linux.maskedPaths", "all that we mask is masked");
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let linux = hardened.spec().linux().as_ref();
        let list =
            |of: fn(&Linux) -> &Option<Vec<String>>| linux.and_then(|l| of(l).clone()).unwrap_or_default().into_iter();
        let masked = list(Linux::masked_paths).map(|p| masked_fact(&p, seen));
        let readonly = list(Linux::readonly_paths).map(|p| readonly_fact(&p, seen));
        masked.chain(readonly).collect()
    }
}

/// An entry that comes to the root covers the whole container: what stands there then is not what anybody judged. A path that climbs may come
/// to it by a link of the image.
fn refuse_root(cx: &Context<'_>, findings: &mut Findings) {
    let Some(linux) = cx.request.spec.linux() else { return };
    for (place, list) in [
        ("linux.maskedPaths", linux.masked_paths()),
        ("linux.readonlyPaths", linux.readonly_paths()),
    ] {
        for path in list.iter().flatten() {
            let climbs = Path::new(path).components().any(|c| c == Component::ParentDir);
            if !climbs && Path::new(path).is_absolute() && normalize(Path::new(path)) != Path::new("/") {
                continue;
            }
            let what = format!("{place} names {path:?}, which is not a path below / or comes to it");
            let remedy = "name files and directories below / by absolute paths without `..`; `root.readonly` makes the root read-only";
            findings.refused("root", place, what, remedy);
        }
    }
}

/// The spec's list with ours at its end.
fn union(
    place: &str,
    asked: Option<&Vec<String>>,
    ours: impl Iterator<Item = String>,
    findings: &mut Findings,
) -> Vec<String> {
    let mut list = asked.cloned().unwrap_or_default();
    let more: Vec<String> = ours.filter(|path| !list.contains(path)).collect();
    if !more.is_empty() {
        let why = if asked.is_none_or(Vec::is_empty) {
            "the spec protects nothing of /proc and /sys"
        } else {
            "leaks or controls what is the host's"
        };
        findings.added(place, more.join(" "), why);
        list.extend(more);
    }
    list
}

/// What is written to /sys configures the host's devices.
fn sys_readonly(draft: &mut Draft, findings: &mut Findings) {
    for mount in draft.spec.mounts_mut().iter_mut().flatten() {
        let mut options = Options::of(mount);
        if mount.typ().as_deref() != Some("sysfs") || options.is(Flag::Ro) {
            continue;
        }
        let place = format!("mounts.{}", mount.destination().display());
        options.set(Flag::Ro);
        findings.tightened(
            place,
            "rw",
            "ro",
            "what is written to /sys configures the host's devices",
        );
        mount.set_options(Some(options.into_vec()));
    }
}

fn masked_fact(path: &str, seen: &Observed) -> Fact {
    let expected = format!("{path} masked");
    let (shown, holds) = match seen.masked.get(Path::new(path)) {
        Some(Masked::NullDevice) => ("the null device", Holds::Yes),
        Some(Masked::EmptyTmpfs) => ("an empty read-only tmpfs", Holds::Yes),
        Some(Masked::Absent) => ("absent", Holds::Yes),
        Some(Masked::Open) => ("open", Holds::No),
        // EACCES hides a path from us, not from the workload.
        Some(Masked::Unreadable(_)) => ("not readable from here", Holds::Unknown),
        None => ("not looked at", Holds::Unknown),
    };
    Fact::judged(ControlId::MaskedPaths, expected, format!("{path} {shown}"), holds)
}

fn readonly_fact(path: &str, seen: &Observed) -> Fact {
    let expected = format!("{path} ro");
    let at = Path::new(path);
    let (shown, holds) = if seen.mount_of(at).is_some_and(|m| m.has("ro")) {
        ("ro", Holds::Yes)
    } else {
        match seen.masked.get(at) {
            Some(Masked::NullDevice | Masked::EmptyTmpfs | Masked::Absent) => ("masked or absent", Holds::Yes),
            Some(Masked::Open) => ("rw", Holds::No),
            // On a writable mount; whether the path is there at all was not looked at.
            Some(Masked::Unreadable(_)) | None => ("not on a read-only mount", Holds::Unknown),
        }
    };
    Fact::judged(ControlId::MaskedPaths, expected, format!("{path} {shown}"), holds)
}
