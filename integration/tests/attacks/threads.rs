//! A process is its threads, not its first one: that can end, or be another's, and the others run on.

use integration::command::{limit, run};
use integration::{Bundle, Container, Policy, Runtime};
use std::process::Command;

/// PID 1 whose first thread has ended looks like a zombie, and what is in there runs on: nobody may take it for stopped.
#[test]
fn a_container_whose_first_thread_has_ended_runs_and_can_be_stopped() {
    let mut bundle = Bundle::new("threads-init");
    bundle.config.acts(&["leave-threads"]);
    let container = Container::new(bundle).policy(&Policy::permissive());
    let running = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    running.wait_for("threads left");
    let pid = container.pid();
    let is_zombie = || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        status.contains("State:\tZ") && status.contains("Threads:\t2")
    };
    assert!(
        integration::command::until(limit(10), is_zombie),
        "the first thread did not end"
    );
    assert_eq!(container.status(), "running");
    let done = container.delete();
    assert!(done.code != 0 && done.err.contains("running"), "{done}");
    assert!(container.exec_acts(&["cwd"])["cwd"].starts_with("ok"));
    if Runtime::under_test().hardens {
        // At permissive: what is only observed, and nothing that differs.
        container.op(&["attest", container.id()]).fails_with(4);
    }
    container.kill("KILL").ok();
    assert_eq!(running.wait(limit(20)).code, 137);
}

/// Whoever comes in past gabion and leaves a thread behind is seen: seccomp, capabilities and label are each thread's own.
#[test]
fn attest_judges_threads_whose_first_one_has_ended() {
    if !Runtime::under_test().hardens {
        return;
    }
    let mut bundle = Bundle::new("threads-attest");
    bundle.config.acts(&["sleep"]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run_detached().ok();
    container.op(&["attest", container.id()]).ok();
    let mut enter = Command::new("nsenter");
    enter.args([
        "--target",
        &container.pid().to_string(),
        "--mount",
        "--pid",
        "--net",
        "--ipc",
        "--uts",
    ]);
    enter.args(["/usr/bin/probe", "leave-threads"]);
    let entered = integration::command::Running::start(enter, &container.bundle.dir);
    entered.wait_for("threads left");
    std::thread::sleep(std::time::Duration::from_millis(200));
    let done = container.op(&["attest", "--format", "json", container.id()]);
    let table = container.op(&["attest", container.id()]);
    container.kill("KILL").ok();
    entered.wait(limit(20));
    assert_eq!(done.code, 3, "{done}");
    let report: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let differs = |control: &str| {
        let facts = report["facts"].as_array().unwrap().iter();
        facts
            .filter(|f| f["control"] == control && f["holds"] == false)
            .any(|f| f["threads"].as_array().is_some_and(|t| t.len() == 1))
    };
    for control in ["seccomp", "no_new_privs"] {
        assert!(differs(control), "{control}: {done}");
    }
    assert!(table.out.contains(", thread "), "{table}");
}

/// The same of one whose first thread lives, by what the kernel shows of the other alone.
#[test]
fn a_process_that_ended_whole_is_none() {
    let mut bundle = Bundle::new("threads-ended");
    bundle.config.acts(&["sleep"]);
    let container = Container::new(bundle).policy(&Policy::permissive());
    container.run_detached().ok();
    let pid = container.pid();
    container.kill("KILL").ok();
    container.wait_status("stopped");
    assert!(container.exec(&["/usr/bin/probe", "cwd"]).code != 0);
    let mut look = Command::new("cat");
    look.arg(format!("/proc/{pid}/status"));
    let status = run(look, &container.bundle.dir).out;
    assert!(status.is_empty() || status.contains("State:\tZ"), "{status}");
    container.delete().ok();
}
