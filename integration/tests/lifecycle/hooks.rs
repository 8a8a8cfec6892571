//! How hooks are waited for, and what is said of one that fails. That they run, and when, is in the compat suite.

use std::time::{Duration, Instant};

use integration::command::limit;
use integration::{Bundle, Container, Policy};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::gabion;

fn with(test: &str, kind: &str, hook: Value) -> Container {
    let mut bundle = Bundle::with_busybox(test);
    bundle
        .config
        .args(&["/bin/sleep", "60"])
        .set("/hooks", json!({kind: [hook]}));
    Container::new(bundle).policy(&Policy::permissive())
}

fn shell(script: &str) -> Value {
    json!({"path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"]})
}

/// A state that no pipe holds, and a hook that does not read it.
#[test]
fn a_timeout_holds_where_the_state_is_large() {
    for kind in ["createRuntime", "createContainer"] {
        let mut bundle = Bundle::with_busybox("hook-large");
        bundle
            .config
            .set("/annotations", json!({"k": "v".repeat(100 << 10)}))
            .set(
                "/hooks",
                json!({kind: [{"path": "/bin/sleep", "args": ["sleep", "8"], "timeout": 1}]}),
            );
        let container = Container::new(bundle).policy(&Policy::permissive());
        let started = Instant::now();
        let done = container.create();
        assert!(started.elapsed() < Duration::from_secs(5), "{kind}: {done}");
        let done = done.fails_with(1);
        if gabion() {
            done.says(&[kind, "hook #0", "/bin/sleep", "timeout of 1 s"]);
        }
        container.nothing_left();
    }
}

#[test]
fn a_hook_that_does_not_read_a_large_state_is_no_failure() {
    let mut bundle = Bundle::with_busybox("hook-unread");
    bundle
        .config
        .args(&["/bin/sleep", "60"])
        .set("/annotations", json!({"k": "v".repeat(100 << 10)}))
        .set("/hooks", json!({"createRuntime": [{"path": "/bin/true"}]}));
    let container = Container::new(bundle).policy(&Policy::permissive());
    container.create().ok();
}

#[test]
fn a_failure_names_kind_place_path_and_last_line() {
    if !gabion() {
        return;
    }
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let container = with(
            "hook-named",
            kind,
            shell("echo one >&2; echo 'no device 7' >&2; exit 3"),
        );
        let done = container.create().fails_with(1);
        let words = format!("error running {kind} hook #0: error running hook: /bin/sh");
        done.says(&[&words, "exit code 3", "no device 7"]);
    }
}

/// What a hook said is in the error, wherever the container's own stderr is.
#[test]
fn a_start_hook_that_fails_is_named_with_a_terminal_too() {
    if !gabion() {
        return;
    }
    for terminal in [false, true] {
        let mut bundle = Bundle::with_busybox("hook-start-named");
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", "echo one >&2; echo 'no cache' >&2; exit 3"]});
        bundle
            .config
            .args(&["/bin/sleep", "60"])
            .set("/process/terminal", terminal.into())
            .set("/hooks", json!({"startContainer": [{"path": "/bin/true"}, hook]}));
        let container = Container::new(bundle).policy(&Policy::hardened());
        let done = container.run().fails_with(1);
        done.says(&[
            "startContainer hook #1: error running hook: /bin/sh",
            "exit code 3",
            "one; no cache",
        ]);
        container.nothing_left();
    }
}

/// It fails no delete, and is told of where a caller looks: on stderr and in the log.
#[test]
fn a_poststop_hook_that_fails_is_told_of() {
    if !gabion() {
        return;
    }
    let container = with("hook-poststop", "poststop", shell("echo 'still there' >&2; exit 5"));
    let log = container.bundle.dir.join("log");
    let container = container.global(&["--log", log.to_str().unwrap(), "--log-format", "json"]);
    container.create().ok();
    let done = container.op(&["delete", "--force", container.id()]).ok();
    let words = [
        "poststop hook #0: error running hook: /bin/sh",
        "exit code 5",
        "still there",
    ];
    let told = std::fs::read_to_string(log).unwrap();
    for word in words {
        assert!(done.err.contains(word) && told.contains(word), "{done}\n{told}");
    }
    assert_eq!(told.lines().count(), 1, "{told}");
    container.nothing_left();
}

/// A timeout that is none is an error before anything runs, of every kind.
#[test]
fn a_timeout_of_nothing_is_an_error() {
    if !gabion() {
        return;
    }
    for (kind, timeout) in [("createRuntime", 0), ("startContainer", -1), ("poststop", 0)] {
        let container = with(
            "hook-timeout-none",
            kind,
            json!({"path": "/bin/true", "timeout": timeout}),
        );
        let field = format!("hooks.{kind}[0].timeout");
        container.create().fails_with(1).says(&[&field, "bundle.invalid"]);
        container.nothing_left();
    }
}

/// The largest number of seconds is more than the clock counts to, and two of them more than a sum holds.
#[test]
fn a_timeout_of_for_ever_is_long() {
    for kind in [
        "createRuntime",
        "createContainer",
        "startContainer",
        "poststart",
        "poststop",
    ] {
        let hook = json!({"path": "/bin/true", "timeout": i64::MAX});
        let mut bundle = Bundle::with_busybox("hook-timeout-long");
        bundle
            .config
            .args(&["/bin/sleep", "60"])
            .set("/hooks", json!({kind: [hook.clone(), hook]}));
        let container = Container::new(bundle).policy(&Policy::permissive());
        container.create().ok();
        container.start().ok();
        container.op(&["delete", "--force", container.id()]).ok();
        container.nothing_left();
    }
}

/// A service that a hook leaves behind may keep the hook's stderr for as long as it likes.
#[test]
fn a_child_that_keeps_stderr_keeps_nobody() {
    let container = with("hook-child", "createRuntime", shell("sleep 10 & exit 0"));
    let started = Instant::now();
    container.create().ok();
    assert!(started.elapsed() < Duration::from_secs(5));
}

/// Without a timeout a hook may take its time; who asks gabion to end ends both, and what was made goes.
#[test]
fn term_ends_a_create_whose_hook_hangs() {
    let mark = std::env::temp_dir().join(format!("gabion-hook-term-{}", std::process::id()));
    let script = format!("touch {}; exec sleep 20", mark.display());
    let container = with("hook-term", "createRuntime", shell(&script));
    for command in ["create", "run"] {
        drop(std::fs::remove_file(&mark));
        let running = container.spawn(&[command, "--bundle", &container.path(), container.id()]);
        assert!(integration::command::until(limit(10), || mark.exists()));
        kill(Pid::from_raw(running.pid()), Signal::SIGTERM).unwrap();
        let done = running.wait(limit(5));
        if gabion() {
            done.fails_with(1).says(&["createRuntime hook #0", "SIGTERM"]);
        }
        container.nothing_left();
    }
    drop(std::fs::remove_file(&mark));
}

/// The same of `run`, which holds every signal for the workload, and of hooks that it does not run itself.
#[test]
fn term_ends_a_run_whose_hook_hangs_of_whatever_kind() {
    if !gabion() {
        return;
    }
    for kind in ["prestart", "createContainer", "startContainer", "poststart"] {
        let mut bundle = Bundle::with_busybox("hook-term-kind");
        let mark = bundle.rootfs().join("opt/mark");
        let path = if kind == "startContainer" {
            "/opt/mark".into()
        } else {
            mark.clone()
        };
        let script = format!("touch {}; exec sleep 20", path.display());
        bundle
            .config
            .args(&["/bin/sleep", "60"])
            .set("/hooks", json!({kind: [shell(&script)]}));
        let container = Container::new(bundle).policy(&Policy::permissive());
        let running = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
        assert!(integration::command::until(limit(10), || mark.exists()), "{kind}");
        kill(Pid::from_raw(running.pid()), Signal::SIGTERM).unwrap();
        running.wait(limit(5)).fails_with(1).says(&["SIGTERM"]);
        container.nothing_left();
    }
}

/// createContainer hooks find the host by path and stand in the container's root, as with runc.
#[test]
fn a_create_container_hook_stands_in_the_root() {
    let mut bundle = Bundle::with_busybox("hook-cwd");
    let log = bundle.dir.join("cwd");
    let script = format!("pwd > {}", log.display());
    bundle
        .config
        .args(&["/bin/sleep", "60"])
        .set("/hooks", json!({"createContainer": [shell(&script)]}));
    let root = bundle.rootfs();
    let container = Container::new(bundle).policy(&Policy::permissive());
    container.create().ok();
    let said = std::fs::read_to_string(log).unwrap();
    assert_eq!(said.trim(), root.to_str().unwrap());
}
