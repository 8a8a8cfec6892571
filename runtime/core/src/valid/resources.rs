//! Limits that no cgroup takes, whatever the host has. What one version of cgroups has no file for is told when it is written.

use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxResources};

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

/// A field, a number that it may not have, and why.
type Number = (&'static str, i128, &'static str);

const NEGATIVE: &str = "-1 is no limit, and no other negative number is";
const UNCOUNTED: &str = "more microseconds than a kernel counts";

/// A kernel keeps these in nanoseconds (kernel/sched/core.c, kernel/sched/rt.c).
const MICROSECONDS: u64 = u64::MAX / 1_000;

/// Gives numbers that no kernel takes. Zero says nothing, and -1 is no limit: no other negative number may become one. What hangs on the machine
/// is told by the kernel.
fn numbers(resources: &LinuxResources) -> Vec<Number> {
    let tasks = resources.pids().map(|pids| pids.limit());
    let memory = resources.memory().unwrap_or_default();
    let swappiness = memory.swappiness().filter(|n| *n > 200).map(i128::from);
    let mut found: Vec<Number> = [
        ("pids.limit", tasks),
        ("memory.limit", memory.limit()),
        ("memory.reservation", memory.reservation()),
        ("memory.swap", memory.swap()),
        ("memory.kernelTCP", memory.kernel_tcp()),
    ]
    .into_iter()
    .filter_map(|(field, number)| Some((field, i128::from(number.filter(|n| *n < -1)?), NEGATIVE)))
    .collect();
    let many = tasks.filter(|n| *n > MOST_TASKS).map(i128::from);
    found.extend(many.map(|n| ("pids.limit", n, "more tasks than a kernel has numbers for")));
    found.extend(swappiness.map(|n| ("memory.swappiness", n, "it is from 0 to 100, on some kernels 200")));
    found.extend(resources.cpu().iter().flat_map(cpu_numbers));
    found
}

fn cpu_numbers(cpu: &LinuxCpu) -> Vec<Number> {
    let signed = |number: Option<i64>, bad: &dyn Fn(i64) -> bool| number.filter(|n| bad(*n)).map(i128::from);
    let unsigned = |number: Option<u64>, bad: &dyn Fn(u64) -> bool| number.filter(|n| bad(*n)).map(i128::from);
    // Without one, the period is a new group's.
    let whole = cpu.realtime_period().filter(|n| *n != 0).unwrap_or(1_000_000);
    let longer = |n: i64| u64::try_from(n).is_ok_and(|n| n > whole);
    let (runtime, quota) = (cpu.realtime_runtime(), cpu.quota());
    [
        (
            "cpu.quota",
            signed(quota, &|n| n < -1 || (1..1_000).contains(&n)),
            "a quota is at least 1000 microseconds, and -1 is none",
        ),
        (
            "cpu.period",
            unsigned(cpu.period(), &|n| n != 0 && !PERIODS.contains(&n)),
            "a period is from 1000 to 1000000 microseconds",
        ),
        ("cpu.burst", unsigned(cpu.burst(), &|n| n > MICROSECONDS), UNCOUNTED),
        (
            "cpu.idle",
            signed(cpu.idle(), &|n| ![0, 1].contains(&n)),
            "it is 0 or 1",
        ),
        ("cpu.realtimeRuntime", signed(runtime, &|n| n < -1), NEGATIVE),
        (
            "cpu.realtimeRuntime",
            signed(runtime, &longer),
            "a runtime is not longer than its period, which is 1000000 microseconds where none is given",
        ),
        (
            "cpu.realtimePeriod",
            unsigned(cpu.realtime_period(), &|n| n > MICROSECONDS),
            UNCOUNTED,
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
    } else if numbers
        .into_iter()
        .flatten()
        .any(|n| !(-1..=i64::from(i32::MAX)).contains(&n))
    {
        // -1 stands for all of them: no other number may.
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

    /// What the kernel takes of a limit in bytes.
    const LIMITS: &[i128] = &[-1, 0, 1, u32::MAX as i128, 1 << 32, i64::MAX as i128];

    /// Each field at the edges of what it can hold: refused by name, or a number that kernels take.
    #[test]
    fn numbers_at_their_edges() {
        let edges = [
            i128::from(i64::MIN),
            -2,
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
            ("memory.limit", LIMITS),
            ("memory.reservation", LIMITS),
            ("memory.swap", LIMITS),
            ("memory.kernelTCP", LIMITS),
            ("memory.swappiness", &[0, 1]),
            (
                "cpu.quota",
                &[-1, 0, i128::from(u32::MAX), 1 << 32, i128::from(i64::MAX)],
            ),
            ("cpu.period", &[0]),
            ("cpu.burst", &[0, 1, i128::from(u32::MAX), 1 << 32]),
            ("cpu.idle", &[0, 1]),
            ("cpu.realtimeRuntime", &[-1, 0, 1]),
            ("cpu.realtimePeriod", &[0, 1, i128::from(u32::MAX), 1 << 32]),
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
        for number in [i64::MIN, -2, 1 << 31, 1 << 32, i64::MAX] {
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
