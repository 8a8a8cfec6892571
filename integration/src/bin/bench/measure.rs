//! One round of one runtime. CPU is what the kernel accounts to every process of an operation: the command, what it
//! forks and waits for, orphans (this program is their reaper), and the container's first process by its own clock.

use integration::Bundle;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

pub(crate) const OPS: [&str; 4] = ["run", "create", "start", "delete"];

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub cpu: f64,
    pub wall: f64,
}

/// In the order of `OPS`.
pub(crate) type Round = [Cost; 4];

pub(crate) fn round(runtime: &Path, bundle: &Bundle) -> Round {
    let run = run(runtime, bundle);
    let [create, start, delete] = create_start_delete(runtime, bundle);
    [run, create, start, delete]
}

pub(crate) fn command(runtime: &Path, bundle: &Bundle, words: &[&str]) -> Command {
    let mut command = Command::new(runtime);
    command
        .arg("--root")
        .arg(bundle.state())
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::null());
    command
}

pub(crate) fn with_acts(bundle: &Bundle, acts: &[&str]) -> String {
    let mut config = bundle.config.clone();
    config.acts(acts);
    let dir = bundle.bundle();
    std::fs::write(dir.join("config.json"), config.0.to_string()).expect("config.json");
    dir.display().to_string()
}

fn run(runtime: &Path, bundle: &Bundle) -> Cost {
    let path = with_acts(bundle, &["exit=0"]);
    timed(
        &mut command(runtime, bundle, &["run", "--bundle", &path, &bundle.name]),
        true,
    )
}

/// The workload says when it runs; only then is `start` complete.
fn create_start_delete(runtime: &Path, bundle: &Bundle) -> [Cost; 3] {
    let path = with_acts(bundle, &["sleep"]);
    let (said, says) = std::io::pipe().expect("pipe");
    let pid_file = bundle.dir.join("pid");
    let pid_text = pid_file.display().to_string();
    let words = ["create", "--bundle", &path, "--pid-file", &pid_text, &bundle.name];
    let mut create_command = command(runtime, bundle, &words);
    let mut create = timed(create_command.stdout(says), false);
    // The command still holds the writing end.
    drop(create_command);
    let init: i32 = std::fs::read_to_string(&pid_file)
        .expect("pid file")
        .trim()
        .parse()
        .expect("pid");
    let init = Pid::from_raw(init);
    let at_create = clock_of(init);
    create.cpu += at_create;
    let mut start = timed(&mut command(runtime, bundle, &["start", &bundle.name]), false);
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).expect("the workload's line");
    assert_eq!(line, "sleeping\n", "{}", runtime.display());
    start.cpu += clock_of(init) - at_create;
    timed(&mut command(runtime, bundle, &["kill", &bundle.name, "KILL"]), false);
    reap_all();
    let delete = timed(&mut command(runtime, bundle, &["delete", &bundle.name]), true);
    [create, start, delete]
}

/// Runs a command to its end; with `all`, also waits for the orphans that it leaves.
fn timed(command: &mut Command, all: bool) -> Cost {
    let (cpu, begin) = (children(), Instant::now());
    let status = command.status().expect("the runtime");
    let wall = begin.elapsed().as_secs_f64() * 1e3;
    assert!(status.success(), "{command:?} ended with {status}");
    if all {
        reap_all();
    } else {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive) {}
    }
    Cost {
        cpu: children() - cpu,
        wall,
    }
}

/// Until there is no child any more: the container is dead and its orphans end by themselves.
fn reap_all() {
    while waitpid(None, None).is_ok() {}
}

fn children() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    milliseconds(
        usage.user_time().num_microseconds() + usage.system_time().num_microseconds(),
        1e3,
    )
}

/// CPU time of a whole living process, dead threads included, to the nanosecond.
fn clock_of(pid: Pid) -> f64 {
    let now = clock_getcpuclockid(pid)
        .and_then(nix::time::ClockId::now)
        .expect("the process's clock");
    milliseconds(now.num_nanoseconds(), 1e6)
}

#[allow(clippy::cast_precision_loss, reason = "durations far below 2^52")]
fn milliseconds(count: i64, per: f64) -> f64 {
    count as f64 / per
}
