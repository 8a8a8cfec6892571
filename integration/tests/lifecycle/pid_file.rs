//! The pid file, and hooks that do not read what is written to them.

use integration::command::run;
use integration::{Bundle, Container, Policy};
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

fn container(test: &str) -> Container {
    let mut bundle = Bundle::new(test);
    bundle.config.acts(&["sleep"]);
    Container::new(bundle).policy(&Policy::permissive())
}

/// What runs and cannot be told of would be nobody's: it does not run.
#[test]
fn an_exec_whose_pid_cannot_be_told_leaves_no_process() {
    let container = container("pid-file-nowhere");
    container.run_detached().ok();
    let words = [
        "exec",
        "--detach",
        "--pid-file",
        "/nonexistent/x",
        container.id(),
        "/usr/bin/probe",
        "sleep",
    ];
    let done = container.op(&words);
    assert!(done.code != 0 && done.err.contains("/nonexistent/x"), "{done}");
    let ps = container.op(&["ps", "--format", "json", container.id()]).ok();
    assert_eq!(serde_json::from_str::<Vec<i32>>(&ps.out).unwrap().len(), 1, "{ps}");
}

/// One that came to nothing leaves no file that names it.
#[test]
fn an_exec_that_fails_leaves_no_pid_file() {
    let container = container("pid-file-failed");
    container.run_detached().ok();
    let file = container.bundle.dir.join("pid");
    let done = container.op(&[
        "exec",
        "--pid-file",
        file.to_str().unwrap(),
        container.id(),
        "/nonexistent",
    ]);
    assert!(done.code != 0 && !file.exists(), "{done}");
}

/// Where others can write: nothing of theirs is followed or written to, whatever it is called, and the mode is no umask's.
#[test]
fn a_link_at_the_pid_file_is_replaced() {
    let container = container("pid-file-link");
    let (file, victim) = (container.bundle.dir.join("pid"), container.bundle.dir.join("victim"));
    fs::write(&victim, "theirs").unwrap();
    for name in ["pid", "pid.gabion-new"] {
        symlink(&victim, container.bundle.dir.join(name)).unwrap();
    }
    let path = container.path();
    let create = container.command(&[
        "create",
        "--bundle",
        &path,
        "--pid-file",
        file.to_str().unwrap(),
        container.id(),
    ]);
    let mut open = Command::new("sh");
    open.args(["-c", "umask 0; exec \"$0\" \"$@\""])
        .arg(create.get_program())
        .args(create.get_args());
    run(open, &container.bundle.dir).ok();
    assert_eq!(fs::read_to_string(&victim).unwrap(), "theirs");
    let meta = fs::symlink_metadata(&file).unwrap();
    assert!(
        meta.is_file() && meta.permissions().mode() & 0o7777 == 0o644,
        "{meta:?}"
    );
    assert_eq!(fs::read_to_string(&file).unwrap(), container.pid().to_string());
}

/// The end of a pipe that nobody reads is no end of the start: small states fit into it or not, by who is faster; a large one never does.
#[test]
fn a_start_hook_need_not_read_the_state() {
    for turn in 0..50 {
        let mut bundle = Bundle::new("hook-deaf");
        bundle.config.acts(&["sleep"]).push(
            "/hooks/startContainer",
            json!({ "path": "/usr/bin/probe", "args": ["probe", "exit"] }),
        );
        if turn % 2 == 1 {
            bundle.config.annotation("large", &"x".repeat(100 << 10));
        }
        let container = Container::new(bundle).policy(&Policy::permissive());
        container.create().ok();
        container.start().ok();
        assert_eq!(container.status(), "running", "{turn}");
    }
}
