//! One round of one runtime. CPU is what the kernel accounts to every process of an operation: the command, what it
//! forks and waits for, orphans (this program is their reaper), and the container's first process by its own clock.

use crate::cases::Cache;
use integration::Bundle;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

pub(crate) const OPS: [&str; 5] = ["run", "create", "start", "exec", "delete"];

/// Milliseconds.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cost {
    pub cpu: f64,
    pub wall: f64,
}

/// In the order of `OPS`; the kernel's floor has a `run` only.
pub(crate) type Round = [Option<Cost>; 5];

/// A container's life. Caches lie below the root directory that a runtime is given: a new one is a cold one.
pub(crate) fn round(subject: &Subject, bundle: &Bundle, cache: Cache) -> Round {
    let Subject::Runtime(runtime) = subject else {
        return [Some(timed(&mut subject.floor(bundle), true)), None, None, None, None];
    };
    let root = |op: &str| match cache {
        Cache::Warm => bundle.state(),
        Cache::Cold => bundle.state().join(format!("cold-{op}")),
    };
    let run = run(runtime, bundle, &root("run"));
    let [create, start, exec, delete] = life(runtime, bundle, &root("life"));
    if cache == Cache::Cold {
        for op in ["run", "life"] {
            std::fs::remove_dir_all(root(op)).expect("a runtime's root directory");
        }
    }
    [run, create, start, exec, delete].map(Some)
}

/// What is timed.
#[derive(Debug)]
pub(crate) enum Subject {
    Runtime(PathBuf),
    /// The program that does the same kernel work and nothing else.
    Floor(PathBuf),
}

impl Subject {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Runtime(path) | Self::Floor(path) => path,
        }
    }

    fn floor(&self, bundle: &Bundle) -> Command {
        let mut command = Command::new(self.path());
        command
            .arg(bundle.rootfs())
            .arg(&bundle.name)
            .args(["/usr/bin/probe", "exit=0"]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command
    }
}

pub(crate) fn command(runtime: &Path, root: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(runtime);
    command
        .arg("--root")
        .arg(root)
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

fn run(runtime: &Path, bundle: &Bundle, root: &Path) -> Cost {
    let path = with_acts(bundle, &["exit=0"]);
    timed(
        &mut command(runtime, root, &["run", "--bundle", &path, &bundle.name]),
        true,
    )
}

/// The workload says when it runs; only then is `start` complete.
fn life(runtime: &Path, bundle: &Bundle, root: &Path) -> [Cost; 4] {
    let path = with_acts(bundle, &["sleep"]);
    let (said, says) = std::io::pipe().expect("pipe");
    let pid_file = bundle.dir.join("pid");
    let pid_text = pid_file.display().to_string();
    let words = ["create", "--bundle", &path, "--pid-file", &pid_text, &bundle.name];
    let mut create_command = command(runtime, root, &words);
    let mut create = timed(create_command.stdout(says), false);
    // The command still holds the writing end.
    drop(create_command);
    let init = pid_of(&pid_file);
    // An engine names a new file each time: ext4 has one that is written over on the disk at once.
    std::fs::remove_file(&pid_file).expect("the pid file");
    let at_create = clock_of(init);
    create.cpu += at_create;
    let mut start = timed(&mut command(runtime, root, &["start", &bundle.name]), false);
    let mut line = String::new();
    BufReader::new(said).read_line(&mut line).expect("the workload's line");
    assert_eq!(line, "sleeping\n", "{}", runtime.display());
    start.cpu += clock_of(init) - at_create;
    let words = ["exec", &bundle.name, "/usr/bin/probe", "exit=0"];
    let exec = timed(&mut command(runtime, root, &words), false);
    timed(&mut command(runtime, root, &["kill", &bundle.name, "KILL"]), false);
    reap_all();
    let delete = timed(&mut command(runtime, root, &["delete", &bundle.name]), true);
    [create, start, exec, delete]
}

pub(crate) fn pid_of(pid_file: &Path) -> Pid {
    let text = std::fs::read_to_string(pid_file).expect("pid file");
    Pid::from_raw(text.trim().parse().expect("pid"))
}

/// Runs a command to its end; with `all`, also waits for the orphans that it leaves.
pub(crate) fn timed(command: &mut Command, all: bool) -> Cost {
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
pub(crate) fn reap_all() {
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
