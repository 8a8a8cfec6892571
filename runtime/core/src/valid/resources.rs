//! Limits that no cgroup takes, whatever the host has. What one version of cgroups has no file for is told when it is written.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxResources};

/// The most tasks that a kernel has numbers for, and one more (PID_MAX_LIMIT, kernel/cgroup/pids.c).
const MOST_TASKS: i64 = 4 << 20;

/// What a period of the CPU quota may be, in microseconds; the shortest is the least quota, too (kernel/sched/core.c).
const PERIODS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000;

use super::Invalid;
use crate::id::ControlId;

pub(super) fn judge(resources: &LinuxResources, found: &mut Vec<Invalid>) {
    for (i, rule) in resources.devices().iter().flatten().enumerate() {
        if let Some(why) = device(rule) {
            let bad = Invalid::malformed(format!("linux.resources.devices[{i}]"), why);
            found.push(bad.told_by(ControlId::Devices));
        }
    }
    for (field, number, why) in numbers(resources) {
        let bad = Invalid::malformed(format!("linux.resources.{field}"), format!("{number}: {why}"));
        found.push(bad.told_by(ControlId::Cgroup));
    }
    let mut bad = |field: &str, name: &str, why: &str| {
        let bad = Invalid::malformed(format!("linux.resources.{field} {name:?}"), why);
        found.push(bad.told_by(ControlId::Cgroup));
    };
    // Joined to the cgroup's path as they are: with a slash they would name any file of the host.
    for key in resources.unified().iter().flatten().map(|(key, _)| key) {
        if key.is_empty() || key.contains('/') || key.contains("..") {
            bad("unified", key, "it is not the name of a cgroup's file");
        }
    }
    for size in resources
        .hugepage_limits()
        .iter()
        .flatten()
        .map(LinuxHugepageLimit::page_size)
    {
        if size.is_empty() || !size.bytes().all(|b| b.is_ascii_alphanumeric()) {
            bad("hugepageLimits", size, "it is not a page size");
        }
    }
    for device in resources.rdma().iter().flatten().map(|(device, _)| device) {
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            bad("rdma", device, "it is not the name of a device");
        }
    }
}

/// Gives numbers that no kernel takes. Zero says nothing, and a negative limit is none; what hangs on the machine is told by the kernel.
fn numbers(resources: &LinuxResources) -> Vec<(&'static str, i128, &'static str)> {
    let memory = resources.memory().unwrap_or_default();
    let cpu = resources.cpu().clone().unwrap_or_default();
    let tasks = resources.pids().map(|pids| pids.limit());
    let swappiness = memory.swappiness().filter(|n| *n > 200);
    let quota = cpu.quota().filter(|n| (1..1_000).contains(n));
    let period = cpu.period().filter(|n| *n != 0 && !PERIODS.contains(n));
    let idle = cpu.idle().filter(|n| ![0, 1].contains(n));
    let runtime = cpu.realtime_runtime().filter(|n| *n > i64::from(i32::MAX));
    let rt_period = cpu
        .realtime_period()
        .filter(|n| *n > u64::from(i32::MAX.unsigned_abs()));
    let burst = cpu.burst().filter(|n| *n > u64::MAX / 1_000);
    [
        (
            "pids.limit",
            tasks.filter(|n| *n > MOST_TASKS).map(i128::from),
            "more tasks than a kernel has numbers for",
        ),
        (
            "memory.swappiness",
            swappiness.map(i128::from),
            "it is from 0 to 100, on some kernels 200",
        ),
        (
            "cpu.quota",
            quota.map(i128::from),
            "a quota is at least 1000 microseconds",
        ),
        (
            "cpu.period",
            period.map(i128::from),
            "a period is from 1000 to 1000000 microseconds",
        ),
        (
            "cpu.burst",
            burst.map(i128::from),
            "more microseconds than a kernel counts",
        ),
        ("cpu.idle", idle.map(i128::from), "it is 0 or 1"),
        (
            "cpu.realtimeRuntime",
            runtime.map(i128::from),
            "a runtime fits into its period, which has 31 bits",
        ),
        (
            "cpu.realtimePeriod",
            rt_period.map(i128::from),
            "a period of real-time scheduling has 31 bits",
        ),
    ]
    .into_iter()
    .filter_map(|(field, number, why)| Some((field, number?, why)))
    .collect()
}

fn device(rule: &LinuxDeviceCgroup) -> Option<&'static str> {
    // `a` is no letter of the spec's, and some write it for «all»: it adds nothing (runc).
    let access = rule.access().as_deref().unwrap_or_default();
    let known = access.replace('a', "");
    let numbers = [rule.major(), rule.minor()];
    if rule.typ() == Some(LinuxDeviceType::P) {
        Some("a FIFO has no device rule")
    } else if known.contains(|c: char| !"rwm".contains(c)) || known.is_empty() && !access.is_empty() {
        Some("its access is not of r, w and m")
    } else if numbers.into_iter().flatten().any(|n| n > i64::from(i32::MAX)) {
        Some("a device number out of range")
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fields(resources: &Value) -> Vec<String> {
        let mut found = Vec::new();
        judge(&serde_json::from_value(resources.clone()).unwrap(), &mut found);
        found.into_iter().map(|bad| bad.field).collect()
    }

    /// Each field at the edges of what it can hold: refused by name, or a number that kernels take.
    #[test]
    fn numbers_at_their_edges() {
        let edges = [
            -1,
            0,
            1,
            i128::from(u32::MAX),
            1 << 32,
            i128::from(i64::MAX),
            i128::from(u64::MAX),
        ];
        for (field, good) in [
            ("pids.limit", &[-1_i128, 0, 1] as &[_]),
            ("memory.swappiness", &[0, 1]),
            (
                "cpu.quota",
                &[-1, 0, i128::from(u32::MAX), 1 << 32, i128::from(i64::MAX)],
            ),
            ("cpu.period", &[0]),
            ("cpu.burst", &[0, 1, i128::from(u32::MAX), 1 << 32]),
            ("cpu.idle", &[0, 1]),
            ("cpu.realtimeRuntime", &[-1, 0, 1]),
            ("cpu.realtimePeriod", &[0, 1]),
        ] {
            for edge in edges {
                let (section, key) = field.split_once('.').unwrap();
                let text = format!("{{\"{section}\": {{\"{key}\": {edge}}}}}");
                let Ok(resources) = serde_json::from_str::<LinuxResources>(&text) else {
                    // The type holds no such number, and the parser says so.
                    assert!(!good.contains(&edge), "{field} {edge}");
                    continue;
                };
                let mut found = Vec::new();
                judge(&resources, &mut found);
                assert_eq!(found.is_empty(), good.contains(&edge), "{field} {edge}: {found:?}");
            }
        }
        for number in [1 << 31, 1 << 32, i64::MAX] {
            let rule = json!({"devices": [{"allow": true, "type": "c", "major": number, "minor": 3, "access": "r"}]});
            assert_eq!(fields(&rule), ["linux.resources.devices[0]"], "{number}");
        }
    }

    #[test]
    fn names_are_of_one_file() {
        for good in [
            json!({"unified": {"memory.high": "max"}}),
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 9}]}),
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}),
        ] {
            assert_eq!(fields(&good), [] as [&str; 0], "{good}");
        }
        for (bad, field) in [
            (json!({"unified": {"../x": "1"}}), "linux.resources.unified \"../x\""),
            (json!({"unified": {"a/b": "1"}}), "linux.resources.unified \"a/b\""),
            (
                json!({"hugepageLimits": [{"pageSize": "2/MB", "limit": 9}]}),
                "linux.resources.hugepageLimits \"2/MB\"",
            ),
            (
                json!({"rdma": {"a b": {"hcaHandles": 3}}}),
                "linux.resources.rdma \"a b\"",
            ),
        ] {
            if serde_json::from_value::<LinuxResources>(bad.clone()).is_err() {
                // oci-spec has a pattern of its own for page sizes.
                assert!(bad.get("hugepageLimits").is_some(), "{bad}");
                continue;
            }
            assert_eq!(fields(&bad), [field], "{bad}");
        }
    }
}
