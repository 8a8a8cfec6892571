//! run: exit codes, signals, --detach, --keep, the log file.

use crate::{container, gabion, script};
use integration::command::limit;
use integration::{Bundle, Container, Policy};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

#[test]
fn the_workloads_exit_code_is_runs() {
    for code in [0, 1, 42, 255] {
        script("run-code", &format!("exit {code}")).run().fails_with(code);
    }
}

#[test]
fn a_signal_is_128_and_its_number() {
    let container = container("run-signal");
    let run = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    container_runs(&container);
    container.kill("KILL").ok();
    assert_eq!(run.wait(limit(20)).code, 137);
}

fn container_runs(container: &Container) {
    let up = integration::command::until(limit(10), || {
        let done = container.op(&["state", container.id()]);
        done.code == 0 && done.out.contains("\"running\"")
    });
    assert!(up, "it never ran");
}

#[test]
fn run_leaves_nothing() {
    let container = script("run-nothing", "echo hello");
    assert_eq!(container.run().ok().out, "hello\n");
    container.nothing_left();
}

#[test]
fn keep_keeps_the_state() {
    let container = script("run-keep", "exit 3");
    container
        .op(&["run", "--keep", "--bundle", &container.path(), container.id()])
        .fails_with(3);
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
}

#[test]
fn signals_to_run_reach_the_workload() {
    let mut bundle = Bundle::new("run-forward");
    bundle.config.acts(&["wait-term=7"]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    let run = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    run.wait_for("waiting");
    kill(Pid::from_raw(run.pid()), Signal::SIGTERM).unwrap();
    assert_eq!(run.wait(limit(20)).code, 7);
}

#[test]
fn detach_returns_while_it_runs() {
    let container = container("run-detach");
    container.run_detached().ok();
    assert_eq!(container.status(), "running");
}

#[test]
fn stdio_is_the_callers() {
    let done = script("run-stdio", "echo out; echo err >&2").run().ok();
    assert_eq!((done.out.as_str(), done.err.as_str()), ("out\n", "err\n"));
}

#[test]
fn a_missing_program_is_an_error_that_names_it() {
    let mut bundle = Bundle::new("run-missing");
    bundle.config.args(&["/usr/bin/no-such-program"]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    let done = container.run();
    assert!(done.code != 0 && done.err.contains("no-such-program"), "{done}");
    container.nothing_left();
}

/// A program that is there and cannot be run is found at the latest by `start`.
#[test]
fn a_file_that_is_no_program_is_an_error() {
    let mut bundle = Bundle::new("run-not-program");
    bundle.config.args(&["/etc/hostname"]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    assert!(container.run().code != 0);
    container.nothing_left();
}

#[test]
fn the_log_holds_one_object_for_a_failure_and_stderr_one_line() {
    let container = container("run-log");
    let log = container.bundle.dir.join("log.json");
    let log_text = log.display().to_string();
    container
        .op(&["--log", &log_text, "--log-format", "json", "start", "absent"])
        .fails_with(1);
    let text = std::fs::read_to_string(&log).unwrap();
    let last: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["level"], "error");
    assert!(last["msg"].as_str().unwrap().contains("does not exist"), "{last}");
    assert!(last["time"].is_string());
    if gabion() {
        assert_eq!(text.lines().count(), 1, "{text}");
        let done = container.op(&["start", "absent"]);
        assert_eq!(done.err.lines().count(), 1, "{done}");
        assert!(done.err.starts_with("gabion: "), "{done}");
    }
}

#[test]
fn the_log_of_a_success_is_empty() {
    if !gabion() {
        return;
    }
    let container = container("run-log-empty");
    let log = container.bundle.dir.join("log.json");
    let log_text = log.display().to_string();
    let path = container.path();
    container
        .op(&[
            "--log",
            &log_text,
            "--log-format",
            "json",
            "create",
            "--bundle",
            &path,
            container.id(),
        ])
        .ok();
    assert_eq!(std::fs::read_to_string(&log).unwrap_or_default(), "");
}

/// execve(2) keeps what is ignored and what is blocked: a caller that shields itself would shield the workload.
#[test]
fn what_the_caller_ignores_and_blocks_the_workload_does_not() {
    let container = script("run-signals", "exec cat /proc/self/status");
    let plain = container.command(&["run", "--bundle", &container.path(), container.id()]);
    let mut command = std::process::Command::new("env");
    command
        .args(["--ignore-signal", "--block-signal"])
        .arg(plain.get_program())
        .args(plain.get_args())
        .envs(plain.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let status = integration::command::run(command, &container.bundle.dir).ok().out;
    for set in ["SigIgn", "SigBlk"] {
        assert!(status.contains(&format!("{set}:\t0000000000000000\n")), "{status}");
    }
}
