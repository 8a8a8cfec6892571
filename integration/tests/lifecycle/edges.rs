//! Numbers at their edges: none turns into «no limit» or into root, whichever way it comes.

use crate::gabion;
use integration::{Bundle, Container, Policy};
use serde_json::{Value, json};

fn levels() -> [Policy; 2] {
    [Policy::hardened(), Policy::permissive()]
}

/// A flag of `update`, a limit for it, and where the kernel shows that limit.
const FLAGS: [(&str, &str, &str, &str); 5] = [
    ("--memory", "67108864", "memory", "memory.limit_in_bytes"),
    (
        "--memory-reservation",
        "33554432",
        "memory",
        "memory.soft_limit_in_bytes",
    ),
    ("--pids-limit", "50", "pids", "pids.max"),
    ("--cpu-quota", "50000", "cpu", "cpu.cfs_quota_us"),
    ("--cpu-period", "50000", "cpu", "cpu.cfs_period_us"),
];

#[test]
fn update_takes_no_number_for_no_limit_but_minus_one() {
    if !gabion() {
        return;
    }
    for policy in levels() {
        let container = Container::new(Bundle::with_busybox("edges-update")).policy(&policy);
        container.create().ok();
        for (flag, limit, controller, file) in FLAGS {
            container.op(&["update", flag, limit, container.id()]).ok();
            let before = container.cgroup(controller, file);
            assert!(before.is_some(), "{file} is not there");
            for bad in ["-2", "-9223372036854775808", "1.5", "max", "9223372036854775808", "0x"] {
                let done = container.op(&["update", &format!("{flag}={bad}"), container.id()]);
                assert_ne!(done.code, 0, "{flag} {bad}: {}", done.err);
                assert_eq!(container.cgroup(controller, file), before, "{flag} {bad}");
            }
            // As a script has it whose variable is empty: the other flag counts.
            let other = if flag == "--pids-limit" {
                ["--cpu-share", "300"]
            } else {
                ["--pids-limit", "60"]
            };
            container
                .op(&["update", flag, "", other[0], other[1], container.id()])
                .ok();
            assert_eq!(container.cgroup(controller, file), before, "{flag} with nothing");
        }
        container.delete().ok();
        container.nothing_left();
    }
}

/// Where the spec has a limit. Above permissive gabion's own stands in for one that is none.
fn unlimited() -> Vec<(&'static str, Value)> {
    vec![
        ("/linux/resources/memory", json!({"limit": -2})),
        ("/linux/resources/memory", json!({"limit": 67_108_864, "swap": -2})),
        ("/linux/resources/pids", json!({"limit": -2})),
    ]
}

/// Where the spec has a number, and what none of the levels takes there.
fn never() -> Vec<(&'static str, Value)> {
    let device = |major: i64| json!({"allow": true, "type": "c", "major": major, "minor": 3, "access": "r"});
    vec![
        ("/linux/resources/cpu", json!({"quota": -2})),
        ("/linux/resources/cpu", json!({"realtimeRuntime": -2})),
        ("/linux/resources/devices/-", device(-2)),
        ("/linux/resources/devices/-", device(1 << 32)),
        ("/process/user/uid", json!(-1)),
        ("/process/user/uid", json!(4_294_967_295_u32)),
        ("/process/user/gid", json!(4_294_967_296_u64)),
        ("/process/user/additionalGids", json!([4_294_967_295_u32])),
        (
            "/process/rlimits",
            json!([{"type": "RLIMIT_NOFILE", "soft": -1, "hard": -1}]),
        ),
    ]
}

#[test]
fn the_spec_takes_no_number_for_no_limit_but_minus_one_and_none_for_root() {
    if !gabion() {
        return;
    }
    let both = never()
        .into_iter()
        .flat_map(|row| levels().map(|policy| (policy, row.clone())));
    let rows = unlimited().into_iter().map(|row| (Policy::permissive(), row));
    for (policy, (pointer, value)) in both.chain(rows) {
        let mut bundle = Bundle::new("edges-spec");
        match pointer.strip_suffix("/-") {
            Some(list) => bundle.config.push(list, value.clone()),
            None => bundle.config.set(pointer, value.clone()),
        };
        let container = Container::new(bundle).policy(&policy);
        let checked = container.op(&["check", &container.path()]);
        assert!(
            [1, 3].contains(&checked.code) && !checked.err.contains("--help"),
            "check takes {pointer} {value}"
        );
        let created = container.create();
        assert_ne!(created.code, 0, "create takes {pointer} {value}");
        container.nothing_left();
    }
}

/// As Go has it: runc's own answer, and no silence.
#[test]
fn null_is_zero_with_a_warning_at_permissive_and_an_error_above() {
    if !gabion() {
        return;
    }
    for (policy, runs) in [(Policy::permissive(), true), (Policy::hardened(), false)] {
        let mut bundle = Bundle::with_busybox("edges-null");
        bundle
            .config
            .set("/process/user", json!({"uid": 1, "gid": null}))
            .args(&["/bin/id", "-g"]);
        let done = Container::new(bundle).policy(&policy).run();
        assert_eq!(done.code == 0, runs, "{}", done.err);
        assert!(done.err.contains("process.user.gid"), "{}", done.err);
        if runs {
            assert_eq!(done.out.trim(), "0");
        }
    }
}
