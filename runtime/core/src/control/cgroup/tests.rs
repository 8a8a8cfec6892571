#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::decision::{Decision, Verdict};
use crate::fact::Holds;
use crate::hardened::SwapPlan;
use crate::host::{CgroupDriver, SwapAccounting};
use crate::size::Size;
use crate::testing::{Case, check_about, codes, names, refusal};

const RESOURCES: &str = "/linux/resources";

fn resources(value: Value) -> Case {
    Case::new().with(RESOURCES, value)
}

/// pids, memory, memory and swap as decided; None is no limit.
fn limits(case: &Case) -> (Option<i64>, Option<i64>, Option<i64>, SwapPlan, Decision) {
    let (draft, decision) = case.decide(&Cgroup);
    let resources = draft.spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
    let memory = resources.memory();
    (
        resources.pids().map(|p| p.limit()),
        memory.and_then(|m| m.limit()),
        memory.and_then(|m| m.swap()),
        draft.plan.no_swap,
        decision,
    )
}

fn verdict_at<'a>(decision: &'a Decision, path: &str) -> Vec<&'a Verdict> {
    let at = decision.changes.iter().filter(|c| c.path.ends_with(path));
    at.map(|c| &c.verdict).collect()
}

#[test]
fn silence_and_unlimited_become_finite() {
    check_about(&Cgroup, ControlId::Cgroup);
    let half = 4_i64 << 30;
    for (asked, verdict) in [
        (json!({}), Verdict::Added),
        (
            json!({"pids": {"limit": -1}, "memory": {"limit": -1, "swap": -1}}),
            Verdict::Tightened,
        ),
        (
            json!({"pids": {"limit": 0}, "memory": {"limit": 0, "swap": 0}}),
            Verdict::Tightened,
        ),
        (json!(null), Verdict::Added),
    ] {
        let (pids, memory, swap, plan, decision) = limits(&resources(asked));
        assert_eq!((pids, memory, swap), (Some(4096), Some(half), Some(half)));
        assert_eq!((plan, decision.verdict), (SwapPlan::Closed, verdict));
    }
}

#[test]
fn a_spec_without_linux_gets_limits_and_nothing_else() {
    let (draft, _) = Case::new().with("/linux", json!(null)).decide(&Cgroup);
    let linux = draft.spec.linux().as_ref().unwrap();
    assert!(linux.namespaces().is_none() && linux.masked_paths().is_none());
    assert!(linux.resources().as_ref().unwrap().pids().is_some());
}

#[test]
fn explicit_limits_are_kept() {
    let asked = json!({"pids": {"limit": 7}, "memory": {"limit": 1 << 20, "swap": 1 << 20}});
    let (pids, memory, swap, _, decision) = limits(&resources(asked));
    assert_eq!((pids, memory, swap), (Some(7), Some(1 << 20), Some(1 << 20)));
    assert_eq!(verdict_at(&decision, "limit"), [&Verdict::Kept, &Verdict::Kept]);
    // docker and podman double it; the limit is what was meant.
    let doubled = json!({"memory": {"limit": 1 << 20, "swap": 2 << 20}});
    let (_, _, swap, _, decision) = limits(&resources(doubled));
    assert_eq!(swap, Some(1 << 20));
    assert_eq!(verdict_at(&decision, "swap"), [&Verdict::Tightened]);
}

#[test]
fn defaults_fit_the_parent_and_the_policy() {
    let mut case = Case::new();
    case.host.parent_memory = Some((1 << 30) + 5);
    case.host.parent_pids = Some(100);
    let (pids, memory, ..) = limits(&case);
    assert_eq!((pids, memory), (Some(100), Some(1 << 30)), "rounded to whole pages");
    case.policy.policy.cgroup.max_memory = Some(Size(64 << 20));
    assert_eq!(limits(&case).1, Some(64 << 20));
    case.policy.policy.cgroup.memory = Some(Size(32 << 20));
    assert_eq!(limits(&case).1, Some(32 << 20));
    let mut unknown = Case::new();
    unknown.host.memory_total = 0;
    let (_, memory, _, plan, decision) = limits(&unknown);
    assert_eq!(
        (memory, plan, decision.verdict),
        (None, SwapPlan::AsAsked, Verdict::Warned)
    );
}

#[test]
fn above_the_maximum_is_refused_not_cut() {
    let mut case = resources(json!({"pids": {"limit": 70000}, "memory": {"limit": 2 << 20}}));
    case.policy.policy.cgroup.max_memory = Some(Size(1 << 20));
    let (pids, memory, .., decision) = limits(&case);
    assert_eq!((pids, memory), (Some(70000), Some(2 << 20)));
    refusal(&decision, "cgroup.pids-above-max");
    refusal(&decision, "cgroup.memory-above-max");
}

#[test]
fn swap_needs_accounting() {
    let without = |asked: Value| {
        let mut case = resources(asked);
        case.host.swap_accounting = SwapAccounting::Absent;
        limits(&case)
    };
    let (.., swap, plan, decision) = without(json!({}));
    assert_eq!(
        (swap, plan, decision.verdict),
        (None, SwapPlan::AsAsked, Verdict::Warned)
    );
    let (.., decision) = without(json!({"memory": {"limit": 1 << 20, "swap": 1 << 20}}));
    refusal(&decision, "cgroup.swap-accounting-missing");
    let (.., decision) = limits(&resources(json!({"memory": {"limit": 2 << 20, "swap": 1 << 20}})));
    refusal(&decision, "cgroup.swap-below-memory");
}

#[test]
fn as_much_as_the_machine_has_is_no_limit() {
    for asked in [8_i64 << 30, 1 << 40, i64::MAX] {
        let (_, memory, swap, _, decision) = limits(&resources(json!({"memory": {"limit": asked}})));
        assert_eq!((memory, swap), (Some(4 << 30), Some(4 << 30)), "{asked}");
        assert_eq!(verdict_at(&decision, "memory.limit"), [&Verdict::Tightened]);
    }
    let below = (8_i64 << 30) - 4096;
    assert_eq!(limits(&resources(json!({"memory": {"limit": below}}))).1, Some(below));
    let mut case = resources(json!({"pids": {"limit": 30000}}));
    assert_eq!(limits(&case).0, Some(30000));
    case.host.tasks_total = 30000;
    assert_eq!(limits(&case).0, Some(4096));
}

fn pod(score: i32) -> Case {
    let annotations = json!({
        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-name": "db-0", "io.kubernetes.cri.sandbox-uid": "11-22",
        "io.kubernetes.cri.sandbox-id": "5a",
    });
    Case::new()
        .called_by(crate::policy::Cri::Containerd)
        .with("/annotations", annotations)
        .with("/linux/cgroupsPath", json!("/kubepods/burstable/pod11-22/web1"))
        .with("/process/oomScoreAdj", json!(score))
}

#[test]
fn a_limit_that_is_added_is_not_below_what_a_pod_was_promised() {
    let total = 8_u64 << 30;
    // The kubelet's own sum: requests.memory of 6, 4.5 and 1 GiB, none, and one with limits.
    for (request, floor) in [(6_u64 << 30, true), ((9 << 30) / 2, true), (1 << 30, false)] {
        let score = i32::try_from(1000 - 1000 * request / total).unwrap();
        let memory = limits(&pod(score)).1.and_then(|l| u64::try_from(l).ok()).unwrap();
        assert!(memory >= request && memory < total, "{request}: {memory}");
        assert_eq!(memory > total / 2, floor, "{request}: {memory}");
    }
    for score in [1000, 999, -997, 0, 2] {
        assert_eq!(limits(&pod(score)).1, Some(4 << 30), "{score}");
    }
    // Whoever is no pod's says nothing by it.
    assert_eq!(
        limits(&Case::new().with("/process/oomScoreAdj", json!(100))).1,
        Some(4 << 30)
    );
    // The policy's and the parent's word stand above it.
    let mut case = pod(250);
    case.policy.policy.cgroup.memory = Some(Size(1 << 30));
    assert!(limits(&case).1 > Some(6 << 30));
    case.policy.policy.cgroup.max_memory = Some(Size(2 << 30));
    assert_eq!(limits(&case).1, Some(2 << 30));
    case.host.parent_memory = Some(1 << 30);
    assert_eq!(limits(&case).1, Some(1 << 30));
}

#[test]
fn unified_takes_nothing_from_the_neighbours() {
    let v2 = |mut case: Case, key: &str| {
        case.host.cgroup = CgroupVersion::V2;
        case.host.controllers.extend(["io".to_owned(), "dmem".to_owned()]);
        limits(&case.with("/linux/resources/unified", json!({(key): "1"}))).4
    };
    for key in [
        "cpuset.cpus.partition",
        "cpuset.cpus.exclusive",
        "io.prio.class",
        "io.latency",
        "cpu.uclamp.min",
        "memory.reclaim",
        "memory.new",
    ] {
        refusal(&v2(Case::new(), key), "cgroup.unified-takes");
        refusal(&v2(pod(900), key), "cgroup.unified-takes");
    }
    for key in ["memory.min", "memory.low", "dmem.min", "dmem.low"] {
        refusal(&v2(Case::new(), key), "cgroup.unified-takes");
        assert!(codes(&v2(pod(900), key)).is_empty(), "{key}");
        // Not below its pod's cgroup: another pod's, or beside it.
        for path in [
            "/kubepods/burstable/pod11-23/web1",
            "/pod11-22",
            "/kubepods/pod11-22/x/web1",
        ] {
            let elsewhere = pod(900).with("/linux/cgroupsPath", json!(path));
            refusal(&v2(elsewhere, key), "cgroup.unified-takes");
        }
        // The same words from somebody who is no CRI.
        let mut forged = pod(900);
        forged.channel = crate::request::Channel::Direct;
        refusal(&v2(forged, key), "cgroup.unified-takes");
        let mut systemd = pod(900).with(
            "/linux/cgroupsPath",
            json!("kubepods-pod11_22.slice:cri-containerd:web1"),
        );
        systemd.host.cgroup_driver = CgroupDriver::Systemd;
        assert!(codes(&v2(systemd, key)).is_empty(), "{key}");
    }
    for key in ["memory.high", "cpu.weight", "io.max", "cpuset.cpus"] {
        assert!(codes(&v2(Case::new(), key)).is_empty(), "{key}");
    }
}

#[test]
fn the_oom_killer_stays() {
    let case = resources(json!({"memory": {"limit": 1 << 20, "disableOOMKiller": true}}));
    let (draft, decision) = case.decide(&Cgroup);
    assert_eq!(verdict_at(&decision, "disableOOMKiller"), [&Verdict::Tightened]);
    let resources = draft.spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
    assert_eq!(resources.memory().unwrap().disable_oom_killer(), Some(false));
}

#[test]
fn absent_controllers() {
    let mut case = Case::new();
    case.host.controllers = names(&[]);
    let (pids, memory, swap, plan, decision) = limits(&case);
    assert_eq!((pids, memory, swap, plan), (None, None, None, SwapPlan::AsAsked));
    assert_eq!((decision.verdict, codes(&decision).len()), (Verdict::Warned, 0));
    for asked in [
        json!({"pids": {"limit": 5}}),
        json!({"memory": {"limit": 5_000_000}}),
        json!({"cpu": {"shares": 2}}),
        json!({"cpu": {"quota": 1000}}),
        json!({"cpu": {"cpus": "0"}}),
        json!({"blockIO": {"weight": 10}}),
        json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 5}]}),
    ] {
        let mut case = resources(asked.clone());
        case.host.controllers = names(&[]);
        let (.., decision) = limits(&case);
        assert_eq!(codes(&decision), ["cgroup.controller-missing"], "{asked}");
        refusal(&decision, "cgroup.controller-missing");
    }
    let mut nothing = resources(json!({"cpu": {"shares": 0, "quota": -1}, "blockIO": {"weight": 0}}));
    nothing.host.controllers = names(&[]);
    assert!(
        codes(&limits(&nothing).4).is_empty(),
        "engines' empty words ask for nothing"
    );
}

#[test]
fn cpu_only_if_somebody_says_so() {
    let quota = |case: &Case| {
        let (draft, decision) = case.decide(&Cgroup);
        let resources = draft.spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
        (
            resources.cpu().as_ref().and_then(oci_spec::runtime::LinuxCpu::quota),
            decision,
        )
    };
    assert_eq!(quota(&Case::new()).0, None);
    for (cpu, want) in [
        (json!({}), 50_000),
        (json!({"quota": -1}), 50_000),
        (json!({"quota": 7000}), 7000),
        (json!({"period": 10_000}), 5000),
    ] {
        let mut case = resources(json!({"cpu": cpu}));
        case.policy.policy.cgroup.cpu_percent = Some(50);
        assert_eq!(quota(&case).0, Some(want));
        case.host.controllers.remove("cpu");
        if want != 7000 {
            assert_eq!(quota(&case).1.verdict, Verdict::Warned);
        }
    }
}

#[test]
fn of_two_words_for_one_limit_the_smaller_holds() {
    for (memory, pids, unified) in [
        (
            json!(1 << 30),
            json!(33),
            json!({"memory.max": "512M", "pids.max": "55"}),
        ),
        (
            json!(512 << 20),
            json!(55),
            json!({"memory.max": "1g", "pids.max": "33"}),
        ),
        (
            json!(null),
            json!(-1),
            json!({"memory.max": "524288K", "pids.max": " 33 "}),
        ),
        (
            json!(512 << 20),
            json!(33),
            json!({"memory.max": "max", "pids.max": "max"}),
        ),
    ] {
        let asked = json!({"memory": {"limit": memory}, "pids": {"limit": pids}, "unified": unified});
        let (draft, _) = resources(asked.clone()).decide(&Cgroup);
        let resources = draft.spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
        assert_eq!(resources.memory().unwrap().limit(), Some(512 << 20), "{asked}");
        assert_eq!(resources.pids().unwrap().limit(), 33, "{asked}");
    }
    for value in ["", "many", "-5", "+5", "5x", "99999999999T", "M"] {
        refusal(
            &limits(&resources(json!({"unified": {"pids.max": value}}))).4,
            "cgroup.unified-value",
        );
    }
}

#[test]
fn unified_cannot_undo_or_write_elsewhere() {
    for key in ["/etc/passwd", "../x/memory.max", "cgroup.procs", "memory", "a/b.c", ""] {
        let mut case = resources(json!({"unified": {(key): "1"}}));
        case.host.cgroup = CgroupVersion::V2;
        refusal(&limits(&case).4, "cgroup.unified-key");
    }
    let asked =
        json!({"unified": {"memory.max": "max", "pids.max": "50", "memory.swap.max": "max", "memory.high": "9"}});
    let mut case = resources(asked);
    case.host.cgroup = CgroupVersion::V2;
    let (draft, decision) = case.decide(&Cgroup);
    let resources = draft.spec.linux().as_ref().unwrap().resources().as_ref().unwrap();
    assert_eq!(resources.pids().unwrap().limit(), 50);
    assert_eq!(resources.memory().unwrap().limit(), Some(4 << 30));
    assert_eq!(resources.memory().unwrap().swap(), Some(4 << 30));
    let left: Vec<&String> = resources.unified().as_ref().unwrap().keys().collect();
    assert_eq!(left, ["memory.high"]);
    assert_eq!(decision.verdict, Verdict::Tightened);
    case.host.controllers.remove("memory");
    refusal(&limits(&case).4, "cgroup.controller-missing");
    case.host.cgroup = CgroupVersion::V1;
    refusal(&limits(&case).4, "cgroup.unified-on-v1");
}

#[test]
fn places() {
    let path = |case: &Case| {
        let (draft, decision) = case.decide(&Cgroup);
        let path = draft.spec.linux().as_ref().unwrap().cgroups_path().clone();
        (path.unwrap().display().to_string(), decision)
    };
    assert_eq!(path(&Case::new()).0, "/gabion/web1");
    let mut systemd = Case::new();
    systemd.host.cgroup_driver = CgroupDriver::Systemd;
    assert_eq!(path(&systemd).0, "system.slice:gabion:web1");
    systemd.host.euid = 1000;
    assert_eq!(path(&systemd).0, "user.slice:gabion:web1");
    for (driver, at, good) in [
        (CgroupDriver::Cgroupfs, "/k8s.io/abc", true),
        (CgroupDriver::Cgroupfs, "libpod/abc", true),
        (CgroupDriver::Cgroupfs, "/", false),
        (CgroupDriver::Cgroupfs, ".", false),
        (CgroupDriver::Cgroupfs, "/a/../b", false),
        (CgroupDriver::Cgroupfs, "/a\0b", false),
        (CgroupDriver::Cgroupfs, "/gabion", false),
        (CgroupDriver::Cgroupfs, "gabion/.", false),
        (CgroupDriver::Cgroupfs, "//gabion//", false),
        (CgroupDriver::Cgroupfs, "/kubepods/burstable", false),
        (CgroupDriver::Cgroupfs, "/system.slice", false),
        (CgroupDriver::Cgroupfs, "/gabion/gabion", true),
        (CgroupDriver::Systemd, "machine.slice:libpod:abc", true),
        (CgroupDriver::Systemd, ":crio:abc", true),
        (CgroupDriver::Systemd, "/k8s.io/abc", false),
        (CgroupDriver::Systemd, "machine:libpod:abc", false),
        (CgroupDriver::Systemd, "../x.slice:a:b", false),
        (CgroupDriver::Systemd, "x.slice:a:", false),
    ] {
        let mut case = Case::new().with("/linux/cgroupsPath", json!(at));
        case.host.cgroup_driver = driver;
        let (_, decision) = path(&case);
        assert_eq!(codes(&decision).is_empty(), good, "{at:?}");
        if !good {
            refusal(&decision, "cgroup.path");
        }
    }
}

#[test]
fn the_mount_is_for_looking() {
    for (options, want) in [
        (json!(["rw", "nosuid"]), json!(["nosuid", "ro"])),
        (json!(null), json!(["ro"])),
        (json!(["ro"]), json!(["ro"])),
        (json!(["ro", "rw"]), json!(["ro"])),
    ] {
        for typ in ["cgroup", "cgroup2"] {
            let mount = json!([{"destination": "/sys/fs/cgroup", "type": typ, "source": "cgroup", "options": options}]);
            let (draft, _) = Case::new().with("/mounts", mount).decide(&Cgroup);
            let options = draft.spec.mounts().as_ref().unwrap()[0].options().clone();
            assert_eq!(json!(options), want);
        }
    }
}

#[test]
fn deciding_twice_changes_nothing() {
    for asked in [
        json!({}),
        json!({"pids": {"limit": -1}, "memory": {"swap": 1_i64 << 40, "disableOOMKiller": true}}),
        json!({"unified": {"pids.max": "9"}}),
    ] {
        let case = resources(asked);
        let (first, _) = case.decide(&Cgroup);
        let mut again = case.clone();
        again.json = serde_json::to_value(&first.spec).unwrap();
        assert_eq!(again.decide(&Cgroup).0.spec, first.spec);
    }
}

#[test]
fn facts_on_both_versions() {
    let hardened = resources(json!({"pids": {"limit": 7}, "memory": {"limit": 1_000_001}})).harden(&Cgroup);
    let seen = |files: &[(&str, &str)], mount: Option<&str>| -> Observed {
        let mut seen = Observed::default();
        for (file, value) in files {
            seen.cgroup.insert((*file).into(), format!("{value}\n"));
        }
        seen.mounts.extend(mount.map(|option| crate::observed::MountPoint {
            id: 1,
            parent: 0,
            dev: (0, 1),
            target: "/sys/fs/cgroup/pids".into(),
            root: "/".into(),
            fstype: "cgroup".into(),
            options: names(&[option]),
            super_options: names(&[]),
            propagation: Vec::new(),
        }));
        seen
    };
    let holds = |seen: &Observed| -> Vec<Holds> { Cgroup.facts(&hardened, seen).iter().map(|f| f.holds).collect() };
    let (yes, no, unknown) = (Holds::Yes, Holds::No, Holds::Unknown);
    assert_eq!(holds(&seen(&[], None)), [unknown; 4]);
    let v2 = [("pids.max", "7"), ("memory.max", "999424"), ("memory.swap.max", "0")];
    assert_eq!(holds(&seen(&v2, Some("ro"))), [yes; 4]);
    let v1 = [
        ("pids.max", "7"),
        ("memory.limit_in_bytes", "999424"),
        ("memory.memsw.limit_in_bytes", "999424"),
    ];
    assert_eq!(holds(&seen(&v1, Some("ro"))), [yes; 4]);
    let open = [
        ("pids.max", "max"),
        ("memory.max", "1000002"),
        ("memory.swap.max", "max"),
    ];
    assert_eq!(holds(&seen(&open, Some("rw"))), [no; 4]);
}
