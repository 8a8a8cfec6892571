//! The first process, told apart from any other that has its number later.

use std::time::{Duration, Instant};

use crate::error::{Error, Result, Step};

/// A process that cannot be mistaken for another one with its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Init {
    pub pid: i32,
    /// Clock ticks after boot, from /proc/PID/stat.
    pub start: u64,
}

impl Init {
    /// The process that has this pid now.
    pub fn now(pid: i32) -> Result<Self> {
        match stat(pid) {
            Some(Stat { start, .. }) => Ok(Self { pid, start }),
            None => Err(Error::failed(
                Step::Clone,
                format!("process {pid} is gone before it was set up"),
            )),
        }
    }

    /// Whether it still lives. A zombie does not: its parent may never reap it. But one whose first thread alone has ended looks like a
    /// zombie, and its other threads run on.
    pub fn lives(self) -> bool {
        stat(self.pid).is_some_and(|s| s.start == self.start && (!s.is_zombie() || s.threads > 1))
    }

    /// Whether it ends within so long. One whose threads are all on their way out has: the kernel ends everybody in its pid namespace before it
    /// becomes a zombie.
    pub fn has_ended_within(self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        loop {
            if !self.lives() || self.is_on_its_way_out() {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    fn is_on_its_way_out(self) -> bool {
        /// PF_EXITING (linux/sched.h).
        const EXITING: u64 = 0x4;
        let Ok(tasks) = std::fs::read_dir(format!("/proc/{}/task", self.pid)) else {
            return !self.lives();
        };
        let stats = tasks.filter_map(|entry| {
            let task = entry.ok()?.file_name();
            stat(format!("{}/task/{}", self.pid, task.to_str()?))
        });
        stats.into_iter().all(|s| s.flags & EXITING != 0)
    }

    /// The directory in /proc of a thread of it that lives: its own, where the first one does. One that has ended has neither namespaces
    /// nor mounts.
    pub fn living_task(self) -> Option<String> {
        let leader = stat(self.pid).filter(|s| s.start == self.start)?;
        if !leader.is_zombie() {
            return Some(self.pid.to_string());
        }
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.pid)).ok()?;
        let lives = |task: &String| stat(task).is_some_and(|s| !s.is_zombie());
        tasks
            .filter_map(|entry| Some(format!("{}/task/{}", self.pid, entry.ok()?.file_name().to_str()?)))
            .find(lives)
    }

    /// Whether it certainly never came to execve: dead or alive, the kernel shows it as forked from us. One that is reaped
    /// shows nothing.
    pub fn never_executed(self) -> bool {
        /// PF_FORKNOEXEC (linux/sched.h).
        const FORKED_ONLY: u64 = 0x40;
        stat(self.pid).is_some_and(|s| s.start == self.start && s.flags & FORKED_ONLY != 0)
    }
}

/// What /proc/PID/stat says of a process (proc_pid_stat(5), fields 3, 9, 20 and 22).
struct Stat {
    state: u8,
    flags: u64,
    threads: u64,
    start: u64,
}

impl Stat {
    const fn is_zombie(&self) -> bool {
        matches!(self.state, b'Z' | b'X')
    }
}

fn stat(who: impl std::fmt::Display) -> Option<Stat> {
    let text = crate::small::read(format!("/proc/{who}/stat")).ok()?;
    // The command name is in parentheses and may hold anything: what counts comes after the last one.
    let rest = text.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let flags = fields.nth(5)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    Some(Stat {
        state,
        flags,
        threads,
        start: fields.nth(1)?.parse().ok()?,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_seen_within_its_time() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let init = Init::now(i32::try_from(child.id()).unwrap()).unwrap();
        assert!(!init.has_ended_within(Duration::from_millis(5)));
        child.kill().unwrap();
        // Not reaped yet: a zombie is enough.
        assert!(init.has_ended_within(Duration::from_secs(10)));
        child.wait().unwrap();
        assert!(init.has_ended_within(Duration::ZERO));
    }
}
