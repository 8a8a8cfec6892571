//! Fail closed: a control that silently does nothing is found before the workload runs; a step that fails leaves nothing.
//! Needs gabion with the cargo feature `faults`; a shipped binary has no such door.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

use integration::{Bundle, Container, Done, Policy, Runtime};

/// Controls whose enforcement the kernel can be asked about. `user` and `exec` decide and have nothing to apply;
/// `lsm` has nothing to apply where the kernel has neither `AppArmor` nor `SELinux`.
const CONTROLS: [&str; 15] = [
    "namespaces",
    "rootfs",
    "holes",
    "mounts",
    "masked_paths",
    "devices",
    "cgroup",
    "sysctl",
    "rlimits",
    "hooks",
    "capabilities",
    "no_new_privs",
    "landlock",
    "seccomp",
    "fds",
];

/// `Step::ALL` of runtime/src/error.rs, without those that this container has no use for: user-namespace, hooks,
/// console, label.
const STEPS: [&str; 22] = [
    "state-dir",
    "seccomp",
    "cgroup",
    "clone",
    "namespaces",
    "rlimits",
    "rootfs",
    "holes",
    "mounts",
    "devices",
    "pivot",
    "sysctl",
    "masked-paths",
    "keyring",
    "ids",
    "capabilities",
    "no-new-privs",
    "verify",
    "landlock",
    "ready",
    "start",
    "execve",
];

fn faulty(fault: &str) -> Container {
    let name = fault.replace([':', '_'], "-");
    let mut bundle = Bundle::new(&name);
    bundle
        .config
        .acts(&["exit=0"])
        .annotation("dev.gabion.holes", "/var/lib/app");
    let host = bundle.host_dir("data");
    std::fs::create_dir(bundle.rootfs().join("data")).unwrap();
    bundle.config.bind(host.to_str().unwrap(), "/data", &["rw"]);
    Container::of(Runtime::with_faults(), bundle)
        .policy(&Policy::hardened())
        .env("GABION_FAULT", fault)
}

/// create, and start where create succeeded: one of them fails.
fn create_or_start(container: &Container) -> Result<Done, String> {
    let create = container.create();
    if create.code != 0 {
        return Ok(create);
    }
    let start = container.start();
    if start.code != 0 {
        Ok(start)
    } else {
        Err(format!("the workload ran: {create} {start}"))
    }
}

/// All of them are tried: one that is not found must not hide the next.
#[track_caller]
fn each(faults: impl Iterator<Item = String>, good: fn(&str, &Done) -> bool) {
    let mut failed = Vec::new();
    for fault in faults {
        let container = faulty(&fault);
        match create_or_start(&container) {
            Ok(done) if good(&fault, &done) => {}
            Ok(done) => failed.push(format!("{fault}: does not say so: {done}")),
            Err(ran) => failed.push(format!("{fault}: {ran}")),
        }
        // A failed create has cleaned up; after a failed start the caller deletes, as runc's callers do.
        container.op(&["delete", "--force", container.id()]);
        container.nothing_left();
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

fn names(fault: &str, done: &Done) -> bool {
    let what = fault.split_once(':').map_or(fault, |(_, what)| what);
    done.err.contains(what)
}

#[test]
fn without_a_fault_it_runs() {
    let container = faulty("none");
    container.create().ok();
    container.start().ok();
}

#[test]
fn a_control_that_does_nothing_is_found_and_named() {
    // The container has no hooks, so that there is nothing of that control to leave out.
    let controls = CONTROLS.into_iter().filter(|id| *id != "hooks");
    each(controls.map(|id| format!("skip:{id}")), |fault, done| {
        names(fault, done) && done.err.contains("not-enforced")
    });
}

#[test]
fn a_step_that_fails_is_named() {
    each(STEPS.into_iter().map(|step| format!("fail:{step}")), names);
}

/// A failed create leaves nothing even where the caller never deletes.
#[test]
fn a_failed_create_cleans_up_after_itself() {
    for step in STEPS {
        let container = faulty(&format!("fail:{step}"));
        if container.create().code != 0 {
            container.nothing_left();
        }
    }
}

/// The runtime itself may be killed at any step: `delete --force` then removes what is there.
#[test]
fn a_runtime_killed_at_any_step_can_be_cleaned_up_after() {
    for step in STEPS {
        let container = faulty(&format!("kill:{step}"));
        drop(create_or_start(&container));
        container.op(&["delete", "--force", container.id()]);
        container.nothing_left();
    }
}

#[test]
fn the_same_holds_for_exec() {
    let mut failed = Vec::new();
    for control in ["capabilities", "no_new_privs", "landlock", "seccomp", "rlimits"] {
        let mut bundle = Bundle::new(&format!("exec-skip-{control}"));
        bundle.config.acts(&["sleep"]);
        let container = Container::of(Runtime::with_faults(), bundle).policy(&Policy::hardened());
        container.run_detached().ok();
        let container = container.env("GABION_FAULT", &format!("skip:{control}"));
        let done = container.exec(&["/usr/bin/probe", "caps"]);
        if done.code == 0 || !done.err.contains(control) {
            failed.push(done.to_string());
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
