//! What a process of the runtime shows in this container's /proc before it becomes the program that was asked for.

use super::Answer;
use crate::sys::{self, from_io};
use std::collections::BTreeSet;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// What is ours, to tell the host's from it.
struct Own {
    mounts: String,
    interfaces: BTreeSet<String>,
    root: (u64, u64),
    words: Vec<u8>,
}

/// Whether it lives and never came to execve (PF_FORKNOEXEC): then it still is the runtime's.
fn is_of_the_runtime(pid: usize) -> bool {
    const FORKED_ONLY: u64 = 0x40;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let Some((_, rest)) = stat.rsplit_once(')') else {
        return false;
    };
    let mut fields = rest.split_ascii_whitespace();
    let lives = fields.next().is_some_and(|state| !matches!(state, "Z" | "X"));
    let flags = fields.nth(5).and_then(|flags| flags.parse::<u64>().ok());
    lives && flags.is_some_and(|flags| flags & FORKED_ONLY != 0)
}

impl Own {
    fn look() -> Result<Self, std::io::Error> {
        let root = fs::metadata("/")?;
        let words = fs::read("/proc/self/cmdline")?;
        let program = words.split(|b| *b == 0).next().unwrap_or_default().to_vec();
        Ok(Self {
            mounts: fs::read_to_string("/proc/self/mountinfo")?,
            interfaces: interfaces("self").unwrap_or_default(),
            root: (root.dev(), root.ino()),
            words: program,
        })
    }

    /// All of the host's that it shows.
    fn foreign(&self, pid: usize) -> Vec<&'static str> {
        let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let mut found = Vec::new();
        let mut note = |so: bool, what| {
            if so {
                found.push(what);
            }
        };
        let mounts = read("mountinfo");
        note(!mounts.is_empty() && mounts != self.mounts.as_bytes(), "mountinfo");
        note(
            interfaces(&pid.to_string()).is_some_and(|i| i != self.interfaces),
            "net",
        );
        let cgroup = read("cgroup");
        // Read again each time: somebody may mount a hierarchy, which is a line more for everybody.
        let of_others =
            !cgroup.is_empty() && fs::read("/proc/self/cgroup").is_ok_and(|own| own != cgroup) && is_live(pid);
        note(of_others, "cgroup");

        let words = read("cmdline");
        note(
            words.iter().any(|b| *b != 0) && !words.starts_with(&self.words),
            "cmdline",
        );
        let secret = b"HOSTSECRET";
        note(read("environ").windows(secret.len()).any(|w| w == secret), "environ");
        // What the program itself shows is the container's: only where it is not that by now does it count.
        let mut opened = Vec::new();
        let memory = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(format!("/proc/{pid}/mem"));
        if memory.is_ok() {
            opened.push("mem");
        }
        // Their numbers alone are no secret.
        if (0..16).any(|fd| fs::read_link(format!("/proc/{pid}/fd/{fd}")).is_ok()) {
            opened.push("fd");
        }
        if fs::metadata(format!("/proc/{pid}/root/.")).is_ok_and(|root| (root.dev(), root.ino()) != self.root) {
            opened.push("root");
        }
        if !opened.is_empty() && is_of_the_runtime(pid) {
            found.extend(opened);
        }
        found
    }
}

/// Neither gone nor on its way out (PF_EXITING), when the kernel shows the root of each hierarchy.
fn is_live(pid: usize) -> bool {
    const EXITING: u64 = 0x4;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let flags = rest
        .split_ascii_whitespace()
        .nth(6)
        .and_then(|flags| flags.parse::<u64>().ok());
    flags.is_some_and(|flags| flags & EXITING == 0)
}

fn interfaces(who: &str) -> Option<BTreeSet<String>> {
    let text = fs::read_to_string(format!("/proc/{who}/net/dev")).ok()?;
    let names = text
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned()));
    Some(names.collect())
}

/// `newcomers=HOW,N,SECONDS`: looks at every process that comes, by its number, until there were N: as often as it can (`look`), with
/// SIGSTOP first (`stop`), or stops the first one for good (`hold`). Tells how many it saw, how many of them before they ran their
/// program, and what of the host's they showed.
pub(super) fn watch(arg: &str) -> Answer {
    let mut words = arg.split(',');
    let how = words.next().unwrap_or_default();
    let wanted: usize = words.next().and_then(|n| n.parse().ok()).unwrap_or(1);
    let seconds: u64 = words.next().and_then(|n| n.parse().ok()).unwrap_or(10);
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let own = Own::look().map_err(|e| from_io(&e, "look"))?;
    println!("watching");
    std::io::stdout().flush().map_err(|e| from_io(&e, "flush"))?;
    let (mut seen, mut early, mut caught) = (0, 0, BTreeSet::new());
    let mut showed = 0;
    let mut next = std::process::id() as usize + 1;
    while seen < wanted && Instant::now() < deadline {
        // A number may be skipped, by a process that came to nothing.
        let Some(pid) = (next..next + 4).find(|pid| fs::metadata(format!("/proc/{pid}")).is_ok()) else {
            continue;
        };
        next = pid + 1;
        seen += 1;
        if how == "hold" {
            sys::kill(pid as i32, libc::SIGSTOP)?;
            if !is_of_the_runtime(pid) {
                // Too late: it is a program already.
                sys::kill(pid as i32, libc::SIGKILL)?;
                continue;
            }
            println!("holds it");
            std::io::stdout().flush().map_err(|e| from_io(&e, "flush"))?;
            while fs::metadata(format!("/proc/{pid}")).is_ok() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(20));
            }
            continue;
        }
        let (before, found) = follow(&own, pid, how == "stop");
        early += usize::from(before);
        showed += usize::from(!found.is_empty());
        caught.extend(found);
    }
    let what = caught.into_iter().collect::<Vec<_>>().join("+");
    Ok(format!("seen={seen} early={early} showed={showed} what={what}"))
}

/// Looks at one until it runs its program: whether it was seen before that, and what it showed.
fn follow(own: &Own, pid: usize, stop: bool) -> (bool, BTreeSet<&'static str>) {
    let (mut early, mut found) = (false, BTreeSet::new());
    for turn in 0..10_000 {
        // Not for ever: it is to go on in the end.
        let stopped = stop && turn < 3 && sys::kill(pid as i32, libc::SIGSTOP).is_ok();
        let before = is_of_the_runtime(pid);
        early |= before;
        found.extend(own.foreign(pid));
        if stopped && let Err(fail) = sys::kill(pid as i32, libc::SIGCONT) {
            eprintln!("cannot let it go on: {}", fail.errno);
        }
        let gone = matches!(fs::metadata(format!("/proc/{pid}")), Err(e) if e.kind() == ErrorKind::NotFound);
        if !before || gone {
            break;
        }
    }
    (early, found)
}
