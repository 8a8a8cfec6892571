//! What tests ask of the host, and how they wait for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::Pid;

/// Long: it only ends what hangs, and the machine that runs the tests may be busy.
pub const SOON: Duration = Duration::from_mins(1);

/// `limit` on this machine: `GABION_IT_SLOW` is a whole number that every one is multiplied with (emulated machines).
pub fn patient(limit: Duration) -> Duration {
    let factor = std::env::var("GABION_IT_SLOW").ok().and_then(|text| text.parse().ok());
    limit * factor.unwrap_or(1)
}

/// Whether this machine has cgroup v2 and nothing else.
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

static COUNT: AtomicU32 = AtomicU32::new(0);

/// A number that no other part of this process has.
pub fn number() -> u32 {
    COUNT.fetch_add(1, Ordering::Relaxed)
}

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }
}

/// What a command reads, and when that ends.
pub struct Input<'a> {
    pub text: &'a str,
    /// Stdin stays open until this holds; it sees what the command has written so far.
    pub until: &'a dyn Fn(&str) -> bool,
}

/// Waits until `attempt` gives something.
#[track_caller]
pub fn until<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + patient(limit);
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command to its end, or kills it at the limit.
pub fn run(mut command: Command, dir: &Path, input: Option<Input<'_>>, limit: Duration) -> Ran {
    let number = number();
    let (out, err) = (dir.join(format!("out-{number}")), dir.join(format!("err-{number}")));
    command
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(&err).unwrap());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + patient(limit);
    if let (Some(mut stdin), Some(input)) = (child.stdin.take(), input) {
        std::io::Write::write_all(&mut stdin, input.text.as_bytes()).unwrap();
        while Instant::now() < end && child.try_wait().unwrap().is_none() && !(input.until)(&read(&out)) {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} did not end in time: {}", fs::read_to_string(&err).unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let ran = Ran {
        status,
        out: read(&out),
        err: read(&err),
    };
    fs::remove_file(out).unwrap();
    fs::remove_file(err).unwrap();
    ran
}

/// Every process that is not a zombie, with its command line.
pub fn processes() -> Vec<(Pid, Vec<String>)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline"))
            .ok()
            .filter(|line| !line.is_empty())?;
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some((
            Pid::from_raw(pid),
            words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        ))
    })
    .collect()
}

/// Whether the process exists and is no zombie.
pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

pub fn children_of(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .collect()
}

pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

pub fn cgroups_with(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(path.clone());
                }
                todo.push(path);
            }
        }
    }
    found
}

/// What is in a directory.
pub fn entries(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect()
}

pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
