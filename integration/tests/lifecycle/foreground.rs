//! `run` and `exec` in the foreground: every signal reaches the workload, and all of its output arrives, whatever stands at the other ends.

use std::io::Write;
use std::os::fd::AsRawFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use integration::command::{limit, until};
use integration::{Bundle, Container, Policy};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::{container, gabion, script};

fn with_terminal(test: &str, commands: &str) -> Container {
    let mut bundle = Bundle::with_busybox(test);
    bundle
        .config
        .set("/process/terminal", true.into())
        .args(&["/bin/sh", "-c", commands]);
    Container::new(bundle).policy(&Policy::hardened())
}

fn run(container: &Container) -> Command {
    container.command(&["run", "--bundle", &container.path(), container.id()])
}

/// Real-time signals have no names in nix, and a C library keeps some to itself.
fn send(number: i32, pid: u32) {
    let sent = Command::new("sh")
        .args(["-c", &format!("kill -{number} {pid}")])
        .status();
    assert!(sent.unwrap().success());
}

/// The exit code; killed when it takes longer.
fn end(mut child: Child, within: Duration) -> i32 {
    let ended = until(within, || matches!(child.try_wait(), Ok(Some(_))));
    if !ended {
        drop(child.kill());
    }
    let status = child.wait().unwrap();
    assert!(ended, "it did not end within {within:?}");
    status.code().unwrap_or(-1)
}

#[test]
fn real_time_signals_reach_the_workload() {
    for number in [34, 50, 64] {
        let workload = format!("trap 'exit 9' {number}; echo up; while :; do sleep 0.05; done");
        let container = script("fore-rt", &workload);
        let running = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
        running.wait_for("up");
        send(number, u32::try_from(running.pid()).unwrap());
        assert_eq!(running.wait(limit(10)).code, 9, "{number}");
        container.nothing_left();
    }
}

/// All but those that no process can have for itself (KILL, STOP), that tell of our own children (CHLD), that runc keeps from workloads, too
/// (URG), and that a C library keeps to itself (32, 33). Of `exec` as of `run`.
#[test]
fn every_signal_reaches_the_workload_without_a_terminal() {
    // runc 1.1 hands on none above 23 here.
    if !gabion() {
        return;
    }
    let numbers: Vec<i32> = (1..=64).filter(|n| ![9, 17, 19, 23, 32, 33].contains(n)).collect();
    let traps: String = numbers.iter().map(|n| format!("trap 'echo got {n}.' {n}; ")).collect();
    let workload = format!("{traps} echo up; while :; do sleep 0.05; done");
    let container = script("fore-all", &workload);
    let path = container.path();
    let run = ["run", "--bundle", &path, container.id()];
    let exec = ["exec", container.id(), "/bin/sh", "-c", &workload];
    let first = container.spawn(&run);
    first.wait_for("up");
    let second = container.spawn(&exec);
    second.wait_for("up");
    for running in [&first, &second] {
        for number in &numbers {
            send(*number, u32::try_from(running.pid()).unwrap());
        }
    }
    for running in [&first, &second] {
        let missing = || -> Vec<i32> {
            let out = running.out();
            numbers
                .iter()
                .copied()
                .filter(|n| !out.contains(&format!("got {n}.\n")))
                .collect()
        };
        until(limit(10), || missing().is_empty());
        assert_eq!(missing(), Vec::<i32>::new());
    }
    container.kill("KILL").ok();
    assert_eq!(first.wait(limit(10)).code, 137);
    second.wait(limit(10));
}

/// What ends a workload has a number, also where it has no name.
#[test]
fn a_real_time_signal_is_128_and_its_number() {
    let container = container("fore-rt-code");
    container.create().ok();
    container.start().ok();
    let exec = container.command(&["exec", container.id(), "/usr/bin/probe", "wait-term=7"]);
    let exec = integration::command::Running::start(exec, &container.bundle.dir);
    exec.wait_for("waiting");
    send(40, u32::try_from(exec.pid()).unwrap());
    assert_eq!(exec.wait(limit(10)).code, 168);
}

/// A paste at a program that does not read fills the terminal; the way of signals is another one.
#[test]
fn a_full_terminal_does_not_hold_signals_up() {
    let container = with_terminal(
        "fore-full",
        "stty raw -echo; trap 'exit 7' TERM; echo up > /dev/shm/up; while :; do sleep 0.05; done",
    );
    let mut child = run(&container)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut paste = child.stdin.take().unwrap();
    // On a slow machine it is still being made: SIGTERM would end that, and the terminal be full for nobody.
    container.wait_status("running");
    let up = format!("/proc/{}/root/dev/shm/up", container.pid());
    assert!(until(limit(10), || std::path::Path::new(&up).exists()));
    fcntl(paste.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    // Until nothing more goes in for a while: the terminal and all before it are full.
    let mut last = Instant::now();
    let deadline = Instant::now() + limit(10);
    while last.elapsed() < Duration::from_secs(1) && Instant::now() < deadline {
        #[allow(clippy::unused_io_amount, reason = "how much fits is not what is asked")]
        match paste.write(&[b'x'; 4096]) {
            Ok(_) => last = Instant::now(),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    send(15, child.id());
    assert_eq!(end(child, limit(5)), 7);
    container.nothing_left();
}

/// EAGAIN on our stdout is no end of the output: its owner may have it so, and read later.
#[test]
fn no_output_is_lost_where_stdout_does_not_wait() {
    let container = with_terminal("fore-eagain", "head -c 150000 /dev/zero | tr '\\0' x; echo; echo end");
    let (reader, writer) = nix::unistd::pipe().unwrap();
    fcntl(writer.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let child = run(&container).stdin(Stdio::null()).stdout(writer).spawn().unwrap();
    // The pipe is full long before anybody reads.
    std::thread::sleep(Duration::from_secs(1));
    let mut text = String::new();
    std::io::Read::read_to_string(&mut std::fs::File::from(reader), &mut text).unwrap();
    assert_eq!(end(child, limit(5)), 0);
    assert_eq!(text.matches('x').count(), 150_000);
    assert!(text.ends_with("end\n"), "{:?}", text.get(text.len() - 10..));
}

/// In a pipe or a file a line ends as the program ended it (runc, the same).
#[test]
fn newlines_are_the_programs() {
    let container = with_terminal("fore-newline", "test -t 1 && echo hi");
    assert_eq!(container.run().ok().out, "hi\n");
}
