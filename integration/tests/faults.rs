//! Fail closed: a control that silently does nothing is found before the workload runs; a step that fails leaves nothing.
//! Needs gabion with the cargo feature `faults`; a shipped binary has no such door.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

use integration::command::{limit, until};
use integration::{Bundle, Container, Done, Policy, Runtime};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::os::unix::net::UnixListener;

/// Controls whose enforcement the kernel can be asked about. `user` and `exec` decide and have nothing to apply;
/// `lsm` has nothing to apply where the kernel has neither `AppArmor` nor `SELinux`.
const CONTROLS: [&str; 16] = [
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
    "memory",
    "landlock",
    "seccomp",
    "fds",
];

/// The steps of runtime/see/src/error.rs at which a fault can be injected, without `label`: it has nothing to do where the kernel has
/// neither `AppArmor` nor `SELinux`.
const STEPS: [&str; 26] = [
    "state-dir",
    "seccomp",
    "cgroup",
    "clone",
    "user-namespace",
    "namespaces",
    "rlimits",
    "rootfs",
    "holes",
    "mounts",
    "devices",
    "hooks",
    "pivot",
    "sysctl",
    "masked-paths",
    "console",
    "keyring",
    "ids",
    "capabilities",
    "no-new-privs",
    "memory",
    "verify",
    "landlock",
    "ready",
    "start",
    "execve",
];

/// Every control has something to apply.
fn policy() -> Policy {
    let memory = ["mdwe", "memfd", "shm_exec", "ptrace", "proc"];
    let enforce = |policy: Policy, rule| policy.line(&format!("memory.{rule} = \"enforce\""));
    memory.into_iter().fold(Policy::hardened(), enforce)
}

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
    // What only some containers have, for the step that is concerned.
    match fault.split_once(':').map(|(_, what)| what) {
        Some("user-namespace") => {
            bundle.config.user_namespace(65536);
            bundle.give_to(100_000, 200_000);
        }
        Some("hooks") => {
            bundle.config.set(
                "/hooks",
                serde_json::json!({ "createRuntime": [{ "path": "/usr/bin/true" }] }),
            );
        }
        Some("console") => {
            bundle.config.set("/process/terminal", serde_json::json!(true));
        }
        _ => {}
    }
    Container::of(Runtime::with_faults(), bundle)
        .policy(&policy().line("hooks.allow = [\"/usr/bin/true\"]"))
        .env("GABION_FAULT", fault)
}

/// The words of create, with a place for the terminal where there is one.
fn words(container: &Container) -> (Option<UnixListener>, Vec<String>) {
    let mut words = vec!["create".to_owned(), "--bundle".to_owned(), container.path()];
    let terminal = container.bundle.config.0["process"]["terminal"] == true;
    let listener = terminal.then(|| {
        let path = container.bundle.dir.join("tty.sock");
        words.extend(["--console-socket".to_owned(), path.display().to_string()]);
        UnixListener::bind(path).unwrap()
    });
    words.push(container.id().to_owned());
    (listener, words)
}

fn create(container: &Container) -> Done {
    // Nobody takes the terminal out of the queue: it is enough that it can be sent.
    let (_listener, words) = words(container);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    container.op(&words)
}

/// create, and start where create succeeded: one of them fails.
fn create_or_start(container: &Container) -> Result<Done, String> {
    let create = create(container);
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
        if create(&container).code != 0 {
            container.nothing_left();
        }
    }
}

/// The runtime is killed while it, or the container's first process, is at a step: `state` says nothing that is not so, and
/// `delete --force` removes what is there.
#[test]
fn a_runtime_killed_during_any_step_leaves_nothing_that_delete_does_not_remove() {
    // After `create` has returned there is no runtime to be killed.
    let of_create = STEPS
        .into_iter()
        .filter(|s| !["landlock", "start", "execve"].contains(s));
    for step in of_create {
        let container = faulty(&format!("hang:{step}"));
        let (_listener, words) = words(&container);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let running = container.spawn(&words);
        running.wait_for_error(&format!("hangs at {step}"));
        kill(Pid::from_raw(running.pid()), Signal::SIGKILL).unwrap();
        running.wait(limit(10));
        let told = container.op(&["state", container.id()]);
        let truth = told.err.contains("does not exist")
            || (told.out.contains("\"pid\": 0") && (told.out.contains("creating") || told.out.contains("stopped")));
        assert!(truth, "{step}: {told}");
        container.op(&["delete", "--force", container.id()]).ok();
        container.nothing_left();
    }
}

/// Sends a signal to a command that hangs at a step, and gives what became of it: it ends well before the hanging does.
fn told_to_end(container: &Container, words: &[&str], step: &str, signal: Signal) -> Done {
    let running = container.spawn(words);
    running.wait_for_error(&format!("hangs at {step}"));
    kill(Pid::from_raw(running.pid()), signal).unwrap();
    let done = running.wait(limit(10));
    assert_ne!(done.code, 0, "{words:?} at {step} by {signal}: {done}");
    done
}

/// Nobody deletes, and nothing is left: no process, mount, cgroup, state.
#[test]
fn create_and_run_that_are_told_to_end_at_any_step_leave_nothing() {
    let signals = [Signal::SIGTERM, Signal::SIGINT];
    for (number, step) in STEPS.into_iter().enumerate() {
        let container = faulty(&format!("hang:{step}"));
        let (_listener, words) = words(&container);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        // What comes after `create` has returned is `run`'s and `start`'s.
        let of_create = !["landlock", "start", "execve"].contains(&step);
        if of_create {
            told_to_end(&container, &words, step, signals[number % 2]);
            container.nothing_left();
        }
        let rest = words.get(1..).unwrap();
        let run = match number % 3 {
            0 => [&["run", "--detach"], rest].concat(),
            _ => [&["run"], rest].concat(),
        };
        // Its terminal would be the test's.
        if step != "console" {
            told_to_end(&container, &run, step, signals[(number + 1) % 2]);
            container.nothing_left();
        }
    }
}

/// `start` ends nobody's container but its own: what it could not start is kept for `delete`, without a process or a cgroup.
#[test]
fn start_that_is_told_to_end_leaves_what_delete_removes() {
    for (step, signal) in [
        ("start", Signal::SIGTERM),
        ("landlock", Signal::SIGTERM),
        ("execve", Signal::SIGINT),
    ] {
        let container = faulty(&format!("hang:{step}"));
        // What the container's process says comes to where `create` was called.
        let create = container.spawn(&["create", "--bundle", &container.path(), container.id()]);
        container.wait_status("created");
        let running = container.spawn(&["start", container.id()]);
        create.wait_for_error(&format!("hangs at {step}"));
        kill(Pid::from_raw(running.pid()), signal).unwrap();
        let done = running.wait(limit(10));
        assert_ne!(done.code, 0, "{step}: {done}");
        container.op(&["delete", "--force", container.id()]).ok();
        container.nothing_left();
    }
}

/// The container goes on, and nothing of the process that was to join it is left.
#[test]
fn exec_that_is_told_to_end_at_any_step_leaves_the_container_as_it_was() {
    let mut bundle = Bundle::new("hang-exec");
    bundle.config.acts(&["sleep"]);
    let container = Container::of(Runtime::with_faults(), bundle).policy(&Policy::hardened());
    container.run_detached().ok();
    let processes = || integration::leaks::processes(&container.bundle);
    let before = processes();
    let steps = [
        "clone",
        "namespaces",
        "rlimits",
        "keyring",
        "ids",
        "capabilities",
        "no-new-privs",
        "verify",
        "landlock",
        "seccomp",
        "ready",
        "execve",
    ];
    for (number, step) in steps.into_iter().enumerate() {
        let signal = [Signal::SIGTERM, Signal::SIGINT][number % 2];
        let detach: &[&str] = if number % 3 == 0 { &["--detach"] } else { &[] };
        let words = [&["exec"], detach, &[container.id(), "/usr/bin/probe", "sleep"]].concat();
        let mut command = container.command(&words);
        command.env("GABION_FAULT", format!("hang:{step}"));
        let running = integration::command::Running::start(command, &container.bundle.dir);
        running.wait_for_error(&format!("hangs at {step}"));
        kill(Pid::from_raw(running.pid()), signal).unwrap();
        let done = running.wait(limit(10));
        assert_ne!(done.code, 0, "{step}: {done}");
        until(limit(5), || processes() == before);
        assert_eq!(processes(), before, "{step}");
    }
    assert_eq!(container.status(), "running");
}

/// Nobody deletes: a first process whose runtime died does not wait for it for ever, with all its privileges.
#[test]
fn a_first_process_whose_runtime_died_ends_by_itself() {
    let container = faulty("hang:cgroup");
    let (_listener, words) = words(&container);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let running = container.spawn(&words);
    running.wait_for_error("hangs at cgroup");
    let pid: u32 = {
        let file = container.bundle.state().join(container.id()).join("pid");
        std::fs::read_to_string(file)
            .unwrap()
            .split_once(' ')
            .unwrap()
            .0
            .parse()
            .unwrap()
    };
    assert!(integration::leaks::is_alive(pid));
    kill(Pid::from_raw(running.pid()), Signal::SIGKILL).unwrap();
    running.wait(limit(10));
    assert!(
        until(limit(20), || !integration::leaks::is_alive(pid)),
        "it is still there"
    );
    container.op(&["delete", "--force", container.id()]).ok();
}

/// Any process may be killed at any step: `delete --force` then removes what is there.
#[test]
fn whoever_is_killed_at_a_step_can_be_cleaned_up_after() {
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
    for control in [
        "capabilities",
        "no_new_privs",
        "memory",
        "landlock",
        "seccomp",
        "rlimits",
    ] {
        let mut bundle = Bundle::new(&format!("exec-skip-{control}"));
        bundle.config.acts(&["sleep"]);
        let container = Container::of(Runtime::with_faults(), bundle).policy(&policy());
        container.run_detached().ok();
        let container = container.env("GABION_FAULT", &format!("skip:{control}"));
        let done = container.exec(&["/usr/bin/probe", "caps"]);
        if done.code == 0 || !done.err.contains(control) {
            failed.push(done.to_string());
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}
