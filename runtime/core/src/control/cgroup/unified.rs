//! `linux.resources.unified`: files of the cgroup, by name, written after all other limits.
//!
//! So it must not undo them, and a key is the name of a controller's file: with a slash it would be any file of the host.

use oci_spec::runtime::{LinuxPids, LinuxResources};

use super::{finite, has, signed};
use crate::control::Context;
use crate::decision::Findings;
use crate::hardened::BoundedBy;
use crate::host::CgroupVersion;

/// Files that bound the container, or share out among its siblings. What is not here is not passed on: a kernel to come may have
/// files that take from others.
const LIMITS: [&str; 22] = [
    "cpu.idle",
    "cpu.max",
    "cpu.max.burst",
    "cpu.uclamp.max",
    "cpu.weight",
    "cpu.weight.nice",
    "cpuset.cpus",
    "cpuset.mems",
    "dmem.max",
    "io.bfq.weight",
    "io.max",
    "io.weight",
    "memory.high",
    "memory.max",
    "memory.oom.group",
    "memory.swap.high",
    "memory.swap.max",
    "memory.zswap.max",
    "memory.zswap.writeback",
    "misc.max",
    "pids.max",
    "rdma.max",
];

/// Files by which a cgroup keeps for itself what its neighbours then do not get, within what the cgroups above it have.
const KEPT_BACK: [&str; 4] = ["dmem.low", "dmem.min", "memory.low", "memory.min"];

/// What a key of `unified` does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Does {
    /// Bounds the container.
    Limits,
    /// Keeps memory back.
    KeepsBack,
    /// Takes processors, memory or rank from the host or the neighbours, or acts, or is not known.
    Other,
    /// Is not the name of a controller's file.
    NoFile,
}

fn does(key: &str) -> Does {
    let huge = key.strip_prefix("hugetlb.").and_then(|rest| rest.split_once('.'));
    let huge = huge.is_some_and(|(size, file)| {
        size.bytes().all(|b| b.is_ascii_alphanumeric()) && matches!(file, "max" | "rsvd.max")
    });
    if huge || LIMITS.contains(&key) {
        Does::Limits
    } else if KEPT_BACK.contains(&key) {
        Does::KeepsBack
    } else if is_file(key) {
        Does::Other
    } else {
        Does::NoFile
    }
}

/// Takes the limits that this control governs out of `unified` and into their own fields, and refuses what is no limit.
pub(super) fn fold(resources: &mut LinuxResources, by: BoundedBy, cx: &Context<'_>, findings: &mut Findings) {
    let Some(mut unified) = resources.unified().clone().filter(|u| !u.is_empty()) else {
        return;
    };
    let mut keys: Vec<String> = unified.keys().cloned().collect();
    keys.sort();
    for key in &keys {
        refuse(key, by, cx, findings);
    }
    if let Some(value) = unified.remove("pids.max") {
        let asked = limit("pids.max", &value, cx, findings);
        let mut pids = LinuxPids::default();
        pids.set_limit(smaller(resources.pids().map(|p| p.limit()), asked));
        resources.set_pids(Some(pids));
        moved("pids.max", &value, "pids.limit", findings);
    }
    let mut memory = resources.memory().unwrap_or_default();
    if let Some(value) = unified.remove("memory.max") {
        let asked = limit("memory.max", &value, cx, findings);
        memory.set_limit(Some(smaller(memory.limit(), asked)));
        moved("memory.max", &value, "memory.limit", findings);
    }
    if let Some(value) = unified.remove("memory.swap.max") {
        moved("memory.swap.max", &value, "memory.swap", findings);
    }
    if memory != oci_spec::runtime::LinuxMemory::default() {
        resources.set_memory(Some(memory));
    }
    refuse_unheard(unified.keys().filter(|k| is_file(k)), cx, findings);
    resources.set_unified(Some(unified).filter(|u| !u.is_empty()));
}

/// Refuses a key that is no limit of the container's.
fn refuse(key: &str, by: BoundedBy, cx: &Context<'_>, findings: &mut Findings) {
    let (code, what) = match (does(key), by) {
        (Does::Limits, _) | (Does::KeepsBack, BoundedBy::Pod) => return,
        (Does::NoFile, _) => ("unified-key", format!("{key:?} is not the name of a controller's file")),
        (Does::KeepsBack, BoundedBy::Nobody) => (
            "unified-takes",
            format!("{key} keeps memory back from the host and the neighbours: no pod's cgroup bounds it here"),
        ),
        (Does::Other, _) => (
            "unified-takes",
            format!("{key} is none of the files that bound a container: it may take processors or rank from the host"),
        ),
    };
    let remedy = cx.request.caller().word(
        "remove it from the CRI's unified resources",
        "remove it from `--cgroup-conf`",
        "remove it from `linux.resources.unified`",
    );
    findings.refused(code, format!("linux.resources.unified.{key}"), what, remedy);
}

/// A limit that no controller here will hear of.
fn refuse_unheard<'k>(keys: impl Iterator<Item = &'k String>, cx: &Context<'_>, findings: &mut Findings) {
    let mut keys: Vec<&String> = keys.collect();
    keys.sort();
    for key in keys {
        let controller = key.split('.').next().unwrap_or_default();
        if cx.host.cgroup == CgroupVersion::V1 {
            findings.refused(
                "unified-on-v1",
                format!("linux.resources.unified.{key}"),
                format!("{key} is a file of cgroup v2 and this host has v1: it would be left out in silence"),
                "use the limit's own field in linux.resources, or boot with cgroup v2",
            );
        } else if !has(controller, cx) {
            super::controller_missing(controller, &format!("unified.{key}"), cx, findings);
        }
    }
}

fn moved(key: &str, value: &str, to: &str, findings: &mut Findings) {
    findings.tightened(
        format!("linux.resources.unified.{key}"),
        value,
        format!("linux.resources.{to}"),
        "judged with the other limits",
    );
}

/// `controller.file`, and not the cgroup's own switches (`cgroup.procs`, `cgroup.freeze`).
fn is_file(key: &str) -> bool {
    let plain = key
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || c == '.' || c == '_' || c == '-');
    let named = key.split_once('.').is_some_and(|(c, f)| !c.is_empty() && !f.is_empty());
    plain && named && !key.contains("..") && !key.starts_with("cgroup.")
}

/// What is said in both places holds in both.
fn smaller(said: Option<i64>, asked: i64) -> i64 {
    finite(said)
        .into_iter()
        .chain(finite(Some(asked)))
        .min()
        .map_or(-1, signed)
}

/// As the field that means the same has it, where -1 is none. What is no number is refused: the kernel would not have taken it.
fn limit(key: &str, value: &str, cx: &Context<'_>, findings: &mut Findings) -> i64 {
    match number(value) {
        Some(Limit::Of(n)) => signed(n),
        Some(Limit::Max) => -1,
        None => {
            findings.refused(
                "unified-value",
                format!("linux.resources.unified.{key}"),
                format!("{value:?} is neither a number nor `max`"),
                cx.request.caller().word(
                    "mend it in the CRI's unified resources",
                    "mend it in `--cgroup-conf`",
                    "mend it in `linux.resources.unified`",
                ),
            );
            -1
        }
    }
}

/// What a file of a limit says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// None.
    Max,
    /// That many.
    Of(u64),
}

/// As the kernel reads it (memparse): `max`, or a number that may end in K, M, G or T.
#[must_use]
pub fn number(value: &str) -> Option<Limit> {
    let value = value.trim();
    if value == "max" {
        return Some(Limit::Max);
    }
    let units = [('k', 10), ('m', 20), ('g', 30), ('t', 40)];
    let last = value.chars().last()?.to_ascii_lowercase();
    let shift = units
        .into_iter()
        .find_map(|(unit, shift)| (unit == last).then_some(shift));
    let digits = if shift.is_none() {
        value
    } else {
        &value[..value.len() - 1]
    };
    let plain = digits.bytes().all(|b| b.is_ascii_digit());
    let said = digits.parse::<u64>().ok().filter(|_| plain);
    said?.checked_mul(1 << shift.unwrap_or(0)).map(Limit::Of)
}
