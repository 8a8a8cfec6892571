//! `rlimits`: no core dumps, bounded descriptors.

use crate::{check, errno, hardens};
use integration::{Bundle, Case, Container, Policy};
use serde_json::json;

pub(crate) const CASES: &[Case] = &[Case {
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
}];

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
