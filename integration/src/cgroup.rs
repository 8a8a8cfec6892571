//! The files of a cgroup: the tests call them by v1's names, which the runtime spec's words come from.

use crate::unified;

/// v1's name and the file of v2 that shows it. What is not here and has no controller of v1's alone is called the same on both.
const ON_V2: [(&str, &str); 14] = [
    ("memory.limit_in_bytes", "memory.max"),
    // On v1 memory and swap together, on v2 swap alone.
    ("memory.memsw.limit_in_bytes", "memory.swap.max"),
    ("memory.soft_limit_in_bytes", "memory.low"),
    ("memory.usage_in_bytes", "memory.current"),
    ("cpu.shares", "cpu.weight"),
    // Both are in one file.
    ("cpu.cfs_quota_us", "cpu.max"),
    ("cpu.cfs_period_us", "cpu.max"),
    ("cpu.cfs_burst_us", "cpu.max.burst"),
    ("blkio.throttle.read_bps_device", "io.max"),
    ("blkio.throttle.write_bps_device", "io.max"),
    ("blkio.throttle.read_iops_device", "io.max"),
    ("blkio.throttle.write_iops_device", "io.max"),
    ("hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max"),
    ("freezer.state", "cgroup.freeze"),
];

/// The file of this machine's cgroups that shows what `v1` shows.
pub fn file(v1: &str) -> &str {
    let there = || ON_V2.iter().find(|(name, _)| *name == v1);
    match unified().then(there).flatten() {
        Some((_, v2)) => v2,
        None => v1,
    }
}

/// What is expected on cgroup v1, or on v2.
pub fn on<T>(v1: T, v2: T) -> T {
    if unified() { v2 } else { v1 }
}

/// Whether systemd makes the containers' cgroups, as `GABION_IT_CGROUPS` says.
pub fn by_systemd() -> bool {
    match std::env::var("GABION_IT_CGROUPS").as_deref() {
        Ok("systemd") => true,
        Ok(other) => panic!("GABION_IT_CGROUPS is «systemd» or not set, not «{other}»"),
        Err(_) => false,
    }
}
