//! Kernels that have less: what docs/KERNEL-FEATURES.md says of them, with calls taken away that this one has.

use crate::hardens;
use integration::{Bundle, Container, Done, Policy, binaries};
use std::process::Command;

/// gabion on a kernel that seems not to have these calls.
fn without(calls: &str, container: &Container, args: &[&str]) -> Done {
    let mut command = Command::new(binaries::probe());
    let gabion = container.command(args);
    command
        .args(["--without", calls])
        .arg(gabion.get_program())
        .args(gabion.get_args());
    integration::command::run(command, &container.bundle.dir)
}

fn create_without(calls: &str, container: &Container) -> Done {
    without(
        calls,
        container,
        &["create", "--bundle", &container.path(), container.id()],
    )
}

/// There is no weaker second way to make a container: create fails, says of what, and leaves nothing.
#[test]
fn a_call_that_is_missing_starts_nothing() {
    if !hardens() {
        return;
    }
    for calls in [
        "openat2",
        "mount_setattr",
        "open_tree",
        "move_mount",
        "fsopen",
        "fsmount",
        "clone3",
        "close_range",
    ] {
        let container = Container::new(Bundle::new("kernel-less")).policy(&Policy::hardened());
        let done = create_without(calls, &container).fails_with(1);
        assert!(
            done.err.contains("ENOSYS") || done.err.contains("not implemented"),
            "without {calls}: {done}"
        );
        container.nothing_left();
        // The same with them: it was their absence.
        create_without("keyctl", &container).ok();
    }
}

#[test]
fn without_landlock_the_other_layers_stand_alone() {
    if !hardens() {
        return;
    }
    let mut container = Container::new(Bundle::new("kernel-no-landlock")).policy(&Policy::hardened());
    container
        .bundle
        .config
        .acts(&["create-file=/usr/dropped", "exec-file=/tmp/dropped"]);
    container.bundle.write_config();
    let words = ["run", "--bundle", &container.path(), container.id()].map(str::to_owned);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = integration::Outcome::of(&without("landlock_create_ruleset", &container, &words));
    outcome.denied("create-file=/usr/dropped", "EROFS");
    outcome.denied("exec-file=/tmp/dropped", "EACCES at exec");
    let audit = std::fs::read_to_string(container.bundle.dir.join("audit.jsonl")).unwrap();
    assert!(audit.contains("this kernel has no Landlock"), "{audit}");

    container = container.policy_text("level = \"hardened\"\n[landlock]\nneed = \"required\"\n");
    create_without("landlock_create_ruleset", &container)
        .fails_with(1)
        .says(&["refused [landlock.kernel]"]);
    container.nothing_left();
}

#[test]
fn without_pidfds_kill_fails() {
    if !hardens() {
        return;
    }
    let container = Container::new(Bundle::new("kernel-no-pidfd")).policy(&Policy::hardened());
    container.run_detached().ok();
    for call in ["pidfd_open", "pidfd_send_signal"] {
        without(call, &container, &["kill", container.id(), "TERM"]).fails_with(1);
        assert_eq!(container.status(), "running", "without {call}");
    }
    container.kill("KILL").ok();
    container.wait_status("stopped");
}
