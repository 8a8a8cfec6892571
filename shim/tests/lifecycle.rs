//! A container's life by `ctr` on a real containerd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;
use std::process::Command;

use common::host::{run, unified};
use common::{Node, SOON, until};

#[test]
fn output_and_exit_codes() {
    let node = Node::start("code");
    let ran = node
        .run(&["--rm"], &node.id("echo"), &["sh", "-c", "echo out; echo err >&2"])
        .ok();
    assert_eq!((ran.out.as_str(), ran.err.as_str()), ("out\n", "err\n"));
    for code in [1, 7, 255] {
        let ran = node.run(
            &["--rm"],
            &node.id(&format!("c{code}")),
            &["sh", "-c", &format!("exit {code}")],
        );
        assert_eq!(ran.code(), Some(code), "{ran:?}");
    }
    let id = node.sleeper("killed");
    node.ctr(&["task", "kill", "-s", "KILL", &id]).ok();
    until(SOON, "stopped", || {
        (node.status(&id).as_deref() == Some("STOPPED")).then_some(())
    });
    assert_eq!(
        node.ctr(&["task", "rm", &id])
            .err
            .lines()
            .filter(|line| line.contains("137"))
            .count(),
        1
    );
    node.ctr(&["container", "rm", &id]).ok();
    node.assert_clean();
}

#[test]
fn much_output_and_input_pass_unharmed() {
    let node = Node::start("flow");
    let ran = node.run(&["--rm"], &node.id("out"), &["sh", "-c", "seq 1 200000"]).ok();
    assert_eq!(ran.out.lines().count(), 200_000);
    assert_eq!(ran.out.lines().last(), Some("200000"));
    let input = "0123456789abcde\n".repeat(20_000);
    let arguments = node.run_arguments(&["--rm"], &node.id("in"), &["wc", "-c"]);
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let runs = |_: &str| node.status(&node.id("in")).as_deref() == Some("RUNNING");
    let ran = node.ctr_with_input(&arguments, &input, &runs).ok();
    assert_eq!(ran.out.trim(), "320000");
    node.assert_clean();
}

#[test]
fn exec_has_its_own_stdio_and_code() {
    let node = Node::start("exec");
    let id = node.sleeper("s");
    let exec = |name: &str, program: &[&str]| {
        let all = [&["task", "exec", "--exec-id", name, id.as_str()], program].concat();
        node.ctr(&all)
    };
    let ran = exec("a", &["sh", "-c", "echo out; echo err >&2; exit 5"]);
    assert_eq!((ran.code(), ran.out.as_str()), (Some(5), "out\n"));
    assert!(ran.err.starts_with("err\n"), "{ran:?}");
    assert_eq!(exec("b", &["true"]).code(), Some(0));
    // A process that is not there is an error, and the container goes on.
    assert_ne!(exec("c", &["/nonexistent"]).code(), Some(0));
    let through = |out: &str| out == "through\n";
    let ran = node
        .ctr_with_input(&["task", "exec", "--exec-id", "d", &id, "cat"], "through\n", &through)
        .ok();
    assert_eq!(ran.out, "through\n");
    for number in 0..20 {
        assert_eq!(
            exec(&format!("q{number}"), &["sh", "-c", &format!("exit {number}")]).code(),
            Some(number)
        );
    }
    assert_eq!(node.status(&id).as_deref(), Some("RUNNING"));
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn pause_resume_ps_metrics_update() {
    let node = Node::start("pause");
    let id = node.sleeper("s");
    node.ctr(&["task", "pause", &id]).ok();
    assert_eq!(node.status(&id).as_deref(), Some("PAUSED"));
    node.ctr(&["task", "resume", &id]).ok();
    assert_eq!(node.status(&id).as_deref(), Some("RUNNING"));
    assert_ne!(node.ctr(&["task", "resume", &id]).code(), Some(0));
    let pids = node.ctr(&["task", "ps", &id]).ok().out;
    assert!(pids.contains(&node.pid(&id).to_string()), "{pids}");
    let metrics = node.ctr(&["task", "metrics", &id]).ok().out;
    let names = if unified() {
        ["memory.usage", "cpu.usage_usec", "pids.current"]
    } else {
        ["memory.usage_in_bytes", "cpuacct.usage", "pids.current"]
    };
    for name in names {
        let line = metrics
            .lines()
            .find(|line| line.split_whitespace().next() == Some(name))
            .unwrap_or_else(|| panic!("{name}: {metrics}"));
        assert_ne!(line.split_whitespace().nth(1), Some("0"), "{metrics}");
    }
    let refused = node.ctr(&["task", "checkpoint", &id]);
    assert_ne!(refused.code(), Some(0));
    assert!(refused.err.contains("gabion makes no checkpoints"), "{refused:?}");
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn a_terminal_is_one() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("LEFT OUT: no `script` here to give ctr a terminal");
        return;
    }
    let node = Node::start("tty");
    for round in 0..10 {
        let arguments = node.run_arguments(
            &["-t", "--rm"],
            &node.id(&format!("t{round}")),
            &["sh", "-c", "tty; exit 4"],
        );
        let mut command = Command::new("script");
        let line = format!("ctr --address {} {}", node.socket().display(), shell_words(&arguments));
        command.args(["-qec", &line, "/dev/null"]);
        let ran = run(command, &node.dir, None, SOON);
        assert!(ran.out.contains("/dev/pts/0"), "{ran:?}");
        assert_eq!(ran.code(), Some(4));
    }
    node.assert_clean();
}

fn shell_words(words: &[String]) -> String {
    words
        .iter()
        .map(|word| format!("'{word}'"))
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn what_the_runtime_refuses_reaches_the_user_in_one_line() {
    let node = Node::start("refuse");
    let ran = node.run(&["--rm"], &node.id("no"), &["/nonexistent"]);
    assert_eq!(ran.code(), Some(1));
    let lines: Vec<_> = ran
        .err
        .lines()
        .filter(|line| line.contains("OCI runtime create failed"))
        .collect();
    assert_eq!(lines.len(), 1, "{ran:?}");
    assert!(lines[0].contains("/nonexistent"), "{ran:?}");
    // What the policy refuses: the reason, the remedy, and nothing else.
    let ran = node.run(&["--rm", "--net-host"], &node.id("host"), &["true"]);
    assert_eq!((ran.code(), ran.out.as_str()), (Some(1), ""), "{ran:?}");
    let lines: Vec<_> = ran.err.lines().filter(|line| line.starts_with("ctr: ")).collect();
    assert_eq!(lines.len(), 1, "{ran:?}");
    // The only other one is the runtime's own, which has the container's stderr, as runc has.
    assert!(
        ran.err
            .lines()
            .all(|line| line.starts_with("ctr: ") || lines[0].contains(line)),
        "{ran:?}"
    );
    for part in ["gabion: refused [namespaces.host-network]: ", "; remedy: "] {
        assert!(lines[0].contains(part), "{part}: {ran:?}");
    }
    // Options that cannot be used are said, too.
    fs::write(node.dir.join("options.toml"), "levle = 1\n").unwrap();
    let ran = node.run(&["--rm"], &node.id("opt"), &["true"]);
    assert!(ran.err.contains("levle"), "{ran:?}");
    node.assert_clean();
}

#[test]
fn log_drivers_get_everything() {
    let node = Node::start("logs");
    let file = node.dir.join("file.log");
    let id = node.id("file");
    node.run(
        &["-d", "--log-uri", &format!("file://{}", file.display())],
        &id,
        &["sh", "-c", "echo a; echo b >&2"],
    )
    .ok();
    until(SOON, "the file is written", || {
        (text(&file).lines().count() == 2).then_some(())
    });
    node.remove(&id);
    let driver = node.dir.join("driver");
    let script =
        "#!/bin/sh\nexec 5>&-\n(cat <&3; cat <&4) > \"$2\"\necho \"$CONTAINER_NAMESPACE $CONTAINER_ID\" >> \"$2\"\n";
    fs::write(&driver, script).unwrap();
    fs::set_permissions(&driver, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (id, file) = (node.id("bin"), node.dir.join("binary.log"));
    let uri = format!("binary://{}?to={}", driver.display(), file.display());
    node.run(&["-d", "--log-uri", &uri], &id, &["sh", "-c", "echo a; echo b >&2"])
        .ok();
    until(SOON, "the driver has ended", || {
        (text(&file) == format!("a\nb\ndefault {id}\n")).then_some(())
    });
    node.remove(&id);
    let ran = node.run(&["-d", "--log-uri", "binary:///bin/false"], &node.id("bad"), &["true"]);
    assert_ne!(ran.code(), Some(0), "a driver that dies is an error");
    node.assert_clean();
}

fn text(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_default()
}

#[test]
fn a_signal_for_all_reaches_execs() {
    let node = Node::start("all");
    let id = node.id("s");
    // Deaf to the signal itself.
    node.run(
        &["-d"],
        &id,
        &["sh", "-c", "trap '' TERM; while :; do sleep 1000; done"],
    )
    .ok();
    let mut command = node.ctr_command(&["task", "exec", "--exec-id", "e", &id, "sh", "-c", "sleep 999 & wait"]);
    let mut exec = command.spawn().unwrap();
    let count = || node.ctr(&["task", "ps", &id]).out.lines().count();
    until(SOON, "all run", || (count() == 5).then_some(()));
    node.ctr(&["task", "kill", "-a", "-s", "TERM", &id]).ok();
    let status = until(SOON, "the exec ends", || exec.try_wait().unwrap());
    assert_eq!(status.code(), Some(143));
    assert_eq!(node.status(&id).as_deref(), Some("RUNNING"));
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn other_snapshotters_mounts_are_made_and_unmade() {
    let node = Node::start("native");
    let flags = ["--rm", "--snapshotter", "native"];
    let ran = node.run(&flags, &node.id("a"), &["sh", "-c", "echo here"]).ok();
    assert_eq!(ran.out, "here\n");
    node.assert_clean();
}
