//! `sysctl`: only what is the container's own; anonymous memory is not executed.

use crate::{check, errno, hardens, refused};
use integration::{Bundle, Case, Container, Policy};
use serde_json::json;

pub(crate) const CASES: &[Case] = &[
    Case {
        control: "sysctl",
        name: "memfd",
        prepare: |_| {},
        act: "exec-memfd",
        expect: errno("EACCES"),
        covered_by: &[],
    },
    Case {
        control: "sysctl",
        name: "unsafe-name",
        prepare: |b| {
            b.config.set("/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" }));
        },
        act: "cwd",
        expect: refused("sysctl."),
        covered_by: &[],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

#[test]
fn a_safe_one_is_set_and_a_jit_keeps_working() {
    let mut bundle = Bundle::new("sysctl-safe");
    bundle
        .config
        .set("/linux/sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "80" }));
    let outcome = Container::new(bundle)
        .policy(&Policy::hardened())
        .acts(&["mmap-exec", "bind-port=80"]);
    outcome.ok("mmap-exec");
    outcome.ok("bind-port=80");
}

#[test]
fn exec_is_held_by_it_too() {
    if !hardens() {
        return;
    }
    let container = Container::new(Bundle::new("sysctl-exec")).policy(&Policy::permissive().enforce("sysctl"));
    container.run_detached().ok();
    assert!(container.exec_acts(&["exec-memfd"])["exec-memfd"].starts_with("EACCES"));
}
