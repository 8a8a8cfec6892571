//! What the cgroup's files must show: after create by what was decided, after update by what was written.

use oci_spec::runtime::{LinuxMemory, LinuxPids, LinuxResources};

use crate::control::ControlId;
use crate::hardened::Hardened;

/// A controller that something was decided for, and the files that one of must show it.
pub(super) struct Decided {
    pub(super) control: ControlId,
    pub(super) controller: &'static str,
    pub(super) files: &'static [&'static str],
}

pub(super) fn decided(hardened: &Hardened) -> Vec<Decided> {
    let Some(resources) = hardened.spec().linux().as_ref().and_then(|l| l.resources().as_ref()) else { return Vec::new() };
    let limited = |limit: Option<i64>| limit.is_some_and(|l| l > 0);
    let mut all = Vec::new();
    let mut add = |control, controller, files| all.push(Decided { control, controller, files });
    if limited(resources.pids().as_ref().map(LinuxPids::limit)) {
        add(ControlId::Cgroup, "pids", &["pids.max"] as &[_]);
    }
    if limited(resources.memory().as_ref().and_then(LinuxMemory::limit)) {
        add(ControlId::Cgroup, "memory", &["memory.max", "memory.limit_in_bytes"]);
    }
    if resources.devices().as_ref().is_some_and(|d| !d.is_empty()) {
        // v2 has no file for it.
        add(ControlId::Devices, "devices", &[]);
    }
    all.retain(|d| hardened.enforces(d.control));
    all
}

/// The files in which these limits show as plain numbers.
pub(super) fn expected(written: &LinuxResources) -> Vec<(&'static [&'static str], i64)> {
    let memory = written.memory().unwrap_or_default();
    let cpu = written.cpu().clone().unwrap_or_default();
    let whole = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
    let all: [(&'static [&'static str], Option<i64>); 6] = [
        (&["pids.max"], written.pids().map(|p| p.limit())),
        (&["memory.limit_in_bytes", "memory.max"], memory.limit()),
        (&["memory.soft_limit_in_bytes", "memory.low"], memory.reservation()),
        (&["cpu.shares"], whole(cpu.shares()).map(|n| n.clamp(2, 262_144))),
        (&["cpu.cfs_quota_us"], cpu.quota()),
        (&["cpu.cfs_period_us"], whole(cpu.period())),
    ];
    all.into_iter().filter_map(|(files, wanted)| Some((files, wanted?))).collect()
}

/// A limit as the kernel shows it: rounded to pages, and «unlimited» in its own words.
pub(super) fn same(shown: &str, wanted: i64) -> bool {
    const LARGEST_PAGE: i64 = 64 << 10;
    match shown.parse::<i64>() {
        Ok(shown) if wanted < 0 => shown == wanted || shown > i64::MAX / 2,
        Ok(shown) => shown <= wanted && wanted - shown < LARGEST_PAGE,
        Err(_) => wanted < 0 && shown == "max",
    }
}
