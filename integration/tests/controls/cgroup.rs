//! `cgroup`: nothing of the machine can be used up.

use crate::{check, errno, hardens};
use integration::{Bundle, Case, Container, Policy};
use serde_json::json;

pub(crate) const CASES: &[Case] = &[Case {
    control: "cgroup",
    name: "fork-bomb",
    // Else systemd bounds its scopes by itself (DefaultTasksMax).
    prepare: |bundle| {
        bundle.config.set("/linux/resources/pids", json!({ "limit": -1 }));
    },
    act: "fork-bomb=4200",
    expect: errno("EAGAIN"),
    covered_by: &[],
}];

#[test]
fn each_alone() {
    check(CASES);
}

#[test]
fn memory_is_finite_where_the_spec_is_silent() {
    if !hardens() {
        return;
    }
    let container = Container::new(Bundle::new("cgroup-memory")).policy(&Policy::hardened());
    container.run_detached().ok();
    let limit = container.cgroup("memory", "memory.limit_in_bytes");
    let limit: u64 = limit.expect("a memory cgroup").parse().expect("a number, not max");
    assert!(limit < 1 << 48, "{limit}");
}

#[test]
fn an_explicit_limit_is_kept_and_bites() {
    let mut bundle = Bundle::new("cgroup-explicit");
    bundle
        .config
        .set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    bundle.config.set("/linux/resources/pids", json!({ "limit": 20 }));
    let acts = ["fork-bomb=30", "alloc-memory=16", "alloc-memory=100"];
    let outcome = Container::new(bundle).policy(&Policy::hardened()).acts(&acts);
    outcome.denied("fork-bomb=30", "EAGAIN");
    outcome.ok("alloc-memory=16");
    outcome.denied("alloc-memory=100", "ENOMEM");
}

#[test]
fn unlimited_is_not_an_explicit_limit() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("cgroup-unlimited");
    bundle.config.set("/linux/resources/memory", json!({ "limit": -1 }));
    bundle.config.set("/linux/resources/pids", json!({ "limit": -1 }));
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run_detached().ok();
    assert_eq!(container.cgroup("pids", "pids.max").as_deref(), Some("4096"));
}

#[test]
fn the_cgroup_mount_cannot_be_written() {
    if !hardens() {
        return;
    }
    let v1 = std::path::Path::new("/sys/fs/cgroup/pids").exists();
    let below = if v1 { "pids/" } else { "" };
    // Its own limit: with a cgroup namespace, its cgroup is the root that it sees.
    let act = format!("open-write=/sys/fs/cgroup/{below}pids.max");
    let tried = |policy: &Policy| {
        let mut bundle = Bundle::new("cgroup-mount");
        bundle
            .config
            .push("/linux/namespaces", serde_json::json!({ "type": "cgroup" }))
            .mount_options("/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "rw"]);
        Container::new(bundle).policy(policy).acts(&[&act])
    };
    tried(&Policy::permissive()).ok(&act);
    let answer = tried(&Policy::permissive().enforce("cgroup"));
    assert!(answer.answer(&act).starts_with("EROFS"), "{answer:?}");
}
