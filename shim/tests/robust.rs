//! What must hold when something breaks: containerd, the shim, the clients.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::host::{alive, patient, processes};
use common::{Node, SOON, runtime, until};
use nix::sys::signal::{Signal, kill};

#[test]
fn containers_outlive_containerd() {
    let mut node = Node::start("restart");
    let sleeper = node.sleeper("s");
    let quick = node.id("q");
    let ends = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let log = node.dir.join("ready");
    node.run(
        &["-d", "--log-uri", &format!("file://{}", log.display())],
        &quick,
        &["sh", "-c", ends],
    )
    .ok();
    until(SOON, "it waits for its signal", || {
        fs::read_to_string(&log)
            .is_ok_and(|text| text == "ready\n")
            .then_some(())
    });
    // Nobody reads this one's output from the moment ctr has gone.
    let loud = node.id("loud");
    node.run(&["-d"], &loud, &["yes"]).ok();
    let (sleeping, ending) = (node.pid(&sleeper), node.pid(&quick));
    node.kill_containerd();
    kill(ending, Signal::SIGTERM).unwrap();
    until(SOON, "the quick one ends", || (!alive(ending)).then_some(()));
    node.up();
    assert!(alive(sleeping));
    assert_eq!(node.status(&sleeper).as_deref(), Some("RUNNING"));
    assert_eq!(node.status(&loud).as_deref(), Some("RUNNING"));
    until(SOON, "its end is known", || {
        (node.status(&quick).as_deref() == Some("STOPPED")).then_some(())
    });
    let removed = node.ctr(&["task", "rm", &quick]);
    assert!(removed.err.contains("exit code 9"), "{removed:?}");
    node.ctr(&["container", "rm", &quick]).ok();
    let ran = node.ctr(&["task", "exec", "--exec-id", "e", &sleeper, "sh", "-c", "exit 3"]);
    assert_eq!(ran.code(), Some(3), "{ran:?}");
    node.remove(&sleeper);
    node.remove(&loud);
    node.assert_clean();
}

#[test]
fn a_killed_shim_leaves_nothing() {
    let node = Node::start("kill9");
    let id = node.sleeper("s");
    let init = node.pid(&id);
    let shims = node.shims();
    assert_eq!(shims.len(), 1);
    let socket = node.shim_socket(&id);
    kill(shims[0], Signal::SIGKILL).unwrap();
    until(SOON, "containerd forgets the task", || {
        node.status(&id).is_none().then_some(())
    });
    until(SOON, "the process is dead", || (!alive(init)).then_some(()));
    until(SOON, "the socket is removed", || (!socket.exists()).then_some(()));
    node.ctr(&["container", "rm", &id]).ok();
    node.assert_clean();
}

/// The longest that a hundred containers at once may take, from the first command until nothing is left.
const HUNDRED: Duration = Duration::from_mins(2);

#[test]
fn a_hundred_at_once() {
    let node = Node::start("hundred");
    let start = Instant::now();
    let mut children = Vec::new();
    for number in 0..100 {
        let program = format!("echo {number}; exit {number}");
        let arguments = node.run_arguments(&["--rm"], &node.id(&format!("n{number}")), &["sh", "-c", &program]);
        let out = node.dir.join(format!("hundred-{number}"));
        let mut command = node.ctr_command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
        command
            .stdin(Stdio::null())
            .stdout(fs::File::create(&out).unwrap())
            .stderr(Stdio::null());
        children.push((number, out, command.spawn().unwrap()));
    }
    for (number, out, mut child) in children {
        let status = until(HUNDRED, "a container", || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(number));
        assert_eq!(fs::read_to_string(out).unwrap().trim(), number.to_string());
    }
    node.assert_clean();
    let took = start.elapsed();
    assert!(took <= patient(HUNDRED), "{took:?}");
}

#[test]
fn a_pod_has_one_small_shim_that_ends_with_its_last_container() {
    let node = Node::start("pod");
    let annotation = format!("io.kubernetes.cri.sandbox-id={}", node.id("a"));
    let ids = ["a", "b", "c"].map(|suffix| node.id(suffix));
    for id in &ids {
        node.run(&["-d", "--annotation", &annotation], id, &["sleep", "1000"])
            .ok();
    }
    let shims = node.shims();
    assert_eq!(shims.len(), 1);
    let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", shims[0])).unwrap();
    let number = |text: &str, key: &str| -> u64 {
        let line = text.lines().find(|line| line.starts_with(key)).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    assert_eq!(number(&read("status"), "Threads:"), 1);
    // It gives memory back after a moment without work; on a busy machine containerd's last words come late.
    until(SOON, "PSS with three containers is at most 2 MiB", || {
        (number(&read("smaps_rollup"), "Pss:") <= 2048).then_some(())
    });
    let files = || fs::read_dir(format!("/proc/{}/fd", shims[0])).unwrap().count();
    let before = files();
    for round in 0..50 {
        node.ctr(&["task", "exec", "--exec-id", &format!("e{round}"), &ids[1], "true"])
            .ok();
    }
    until(SOON, "no descriptor is left of the execs", || {
        (files() == before).then_some(())
    });
    for id in &ids[..2] {
        node.remove(id);
        assert_eq!(node.shims(), shims);
    }
    node.remove(&ids[2]);
    node.assert_clean();
}

#[test]
fn a_shim_killed_while_containerd_is_away_leaves_nothing() {
    let mut node = Node::start("both");
    let id = node.sleeper("s");
    let init = node.pid(&id);
    let socket = node.shim_socket(&id);
    let shims = node.shims();
    node.kill_containerd();
    kill(shims[0], Signal::SIGKILL).unwrap();
    until(SOON, "the shim is dead", || (!alive(shims[0])).then_some(()));
    assert!(alive(init), "a container does not die with its shim");
    node.up();
    until(SOON, "containerd finds it out", || (!alive(init)).then_some(()));
    until(SOON, "the socket is removed", || (!socket.exists()).then_some(()));
    node.ctr(&["container", "rm", &id]).ok();
    node.assert_clean();
}

#[test]
fn a_signal_ends_an_idle_shim_only() {
    let node = Node::start("term");
    let id = node.sleeper("s");
    let shims = node.shims();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        kill(shims[0], signal).unwrap();
    }
    // An answer after the signals: they were taken, and the shim stayed.
    assert_eq!(
        node.ctr(&["task", "exec", "--exec-id", "e", &id, "sh", "-c", "exit 3"])
            .code(),
        Some(3)
    );
    assert_eq!((node.status(&id).as_deref(), node.shims()), (Some("RUNNING"), shims));
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn a_client_that_never_reads_holds_up_nobody() {
    let node = Node::start("unread");
    let id = node.id("loud");
    let arguments = node.run_arguments(&[], &id, &["yes"]);
    let mut command = node.ctr_command(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let mut client = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    until(SOON, "it runs", || {
        (node.status(&id).as_deref() == Some("RUNNING")).then_some(())
    });
    // Everything between the process and us is full once it waits to write.
    let wchan = format!("/proc/{}/wchan", node.pid(&id));
    let waits = || fs::read_to_string(&wchan).is_ok_and(|text| text.contains("pipe_write"));
    until(SOON, "its output is full", || waits().then_some(()));
    let ran = node.ctr(&["task", "exec", "--exec-id", "e", &id, "sh", "-c", "echo other; exit 3"]);
    assert_eq!((ran.code(), ran.out.as_str()), (Some(3), "other\n"));
    node.run(&["--rm"], &node.id("quick"), &["true"]).ok();
    node.ctr(&["task", "kill", "-s", "KILL", &id]).ok();
    until(SOON, "it stops", || {
        (node.status(&id).as_deref() != Some("RUNNING")).then_some(())
    });
    drop(client.stdout.take());
    until(SOON, "ctr ends", || client.try_wait().unwrap());
    node.ctr(&["task", "rm", "-f", &id]);
    node.ctr(&["container", "rm", &id]).ok();
    // ctr had closed its end before it asked for the deletion: there was nobody to wait for.
    assert!(!node.containerd_log().contains("output was not read in time"));
    node.assert_clean();
}

#[test]
fn a_runtime_that_hangs_holds_up_one_container() {
    let node = Node::start("hang");
    let pod = format!("io.kubernetes.cri.sandbox-id={}", node.id("slow"));
    let mark = node.dir.join("hangs");
    let wait = format!(
        "case \" $* \" in *\" pause \"*) while [ -e {} ]; do sleep 0.1; done;; esac",
        mark.display()
    );
    let slow = node.wrap_runtime("slow-runtime", &wait);
    node.write_options_for("options.toml", &slow, "");
    let flags = ["-d", "--annotation", pod.as_str()];
    let [hung, other] = ["slow", "other"].map(|suffix| node.id(suffix));
    node.run(&flags, &hung, &["sleep", "1000"]).ok();
    node.write_options("options.toml", "");
    node.run(&flags, &other, &["sleep", "1000"]).ok();
    assert_eq!(node.shims().len(), 1);
    fs::write(&mark, "").unwrap();
    let mut pausing = node
        .ctr_command(&["task", "pause", &hung])
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let runs = |what: &std::path::Path| {
        let what = what.to_string_lossy();
        processes()
            .iter()
            .any(|(_, words)| words.iter().any(|word| *word == what))
    };
    until(SOON, "the runtime hangs", || runs(&slow).then_some(()));
    // The other container of the same shim takes every action; the hung one's state is told, and it can be killed.
    node.ctr(&["task", "pause", &other]).ok();
    node.ctr(&["task", "resume", &other]).ok();
    assert_eq!(
        node.ctr(&["task", "exec", "--exec-id", "e", &other, "sh", "-c", "exit 3"])
            .code(),
        Some(3)
    );
    assert_eq!(node.status(&hung).as_deref(), Some("RUNNING"));
    assert!(pausing.try_wait().unwrap().is_none());
    let init = node.pid(&hung);
    node.ctr(&["task", "kill", "-s", "KILL", &hung]).ok();
    until(SOON, "it dies of the signal", || (!alive(init)).then_some(()));
    fs::remove_file(&mark).unwrap();
    until(SOON, "the action ends", || pausing.try_wait().unwrap());
    node.remove(&hung);
    node.remove(&other);
    node.assert_clean();
}

#[test]
fn a_signal_is_answered_before_its_container_is_gone() {
    let node = Node::start("slowkill");
    let mark = node.dir.join("lingers");
    let linger = format!(
        "case \" $* \" in *\" kill \"*) {} \"$@\"; code=$?; while [ -e {} ]; do sleep 0.1; done; exit $code;; esac",
        runtime().display(),
        mark.display()
    );
    node.write_options_for("options.toml", &node.wrap_runtime("lingering-runtime", &linger), "");
    let id = node.sleeper("s");
    fs::write(&mark, "").unwrap();
    let start = |arguments: &[&str]| node.ctr_command(arguments).stderr(Stdio::null()).spawn().unwrap();
    let mut killing = start(&["task", "kill", "-s", "KILL", &id]);
    until(SOON, "it stops", || {
        (node.status(&id).as_deref() == Some("STOPPED")).then_some(())
    });
    let mut removing = start(&["task", "rm", &id]);
    // Time to go wrong in; where all is well nothing happens in it.
    std::thread::sleep(Duration::from_secs(1));
    fs::remove_file(&mark).unwrap();
    assert_eq!(
        until(SOON, "the signal is answered", || killing.try_wait().unwrap()).code(),
        Some(0)
    );
    assert_eq!(
        until(SOON, "the task is gone", || removing.try_wait().unwrap()).code(),
        Some(0)
    );
    node.ctr(&["container", "rm", &id]).ok();
    node.assert_clean();
}

#[test]
fn what_the_shim_has_to_say_is_in_containerd_s_log_also_after_a_restart() {
    let mut node = Node::start("log");
    let id = node.sleeper("s");
    let shims = node.shims();
    // With a container it says so and stays: containerd could not tell a shim that left from one that died.
    let said = |node: &Node| {
        let log = node.containerd_log();
        let lines = log
            .lines()
            .filter(|line| line.contains("runtime=io.containerd.gabion.v2"));
        lines
            .filter(|line| line.contains("level=info") && line.contains("signal 15 ignored"))
            .count()
    };
    kill(shims[0], Signal::SIGTERM).unwrap();
    until(SOON, "the shim's line", || (said(&node) == 1).then_some(()));
    node.kill_containerd();
    // Nobody reads the FIFO now: what is written meanwhile is not lost.
    kill(shims[0], Signal::SIGTERM).unwrap();
    node.up();
    until(SOON, "the line of meanwhile", || (said(&node) == 2).then_some(()));
    assert_eq!(node.shims(), shims);
    node.remove(&id);
    node.assert_clean();
}
