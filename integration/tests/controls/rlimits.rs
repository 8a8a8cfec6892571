//! `rlimits`: no core dumps, bounded descriptors.

use crate::{check, errno, hardens, refused};
use integration::{Bundle, Case, Container, Policy};
use serde_json::json;

pub(crate) const CASES: &[Case] = &[
    Case {
        control: "rlimits",
        name: "core",
        prepare: |b| {
            b.config.set(
                "/process/rlimits",
                json!([{ "type": "RLIMIT_CORE", "soft": 8192, "hard": 8192 }]),
            );
        },
        act: "raise-core",
        expect: errno("EPERM"),
        covered_by: &[],
    },
    Case {
        control: "rlimits",
        name: "nice",
        prepare: |b| {
            b.config
                .set("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": -20 }));
        },
        act: "cwd",
        expect: refused("rlimits.rank"),
        covered_by: &[],
    },
    Case {
        control: "rlimits",
        name: "real-time-io",
        prepare: |b| {
            let class = json!({ "class": "IOPRIO_CLASS_RT", "priority": 0 });
            b.config.set("/process/ioPriority", class);
        },
        act: "cwd",
        expect: refused("rlimits.rank"),
        covered_by: &[],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

#[test]
fn core_is_zero_for_exec_too() {
    if !hardens() {
        return;
    }
    let container = Container::new(Bundle::new("rlimits-exec")).policy(&Policy::hardened());
    container.run_detached().ok();
    let limits = &container.exec_acts(&["limits"])["limits"];
    assert!(limits.contains("core=0:0"), "{limits}");
    assert!(!limits.contains("unlimited nproc"), "{limits}");
}
