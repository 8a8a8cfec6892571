//! The first process, told apart from any other that has its number later.

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

    /// Whether it still lives. A zombie does not: its parent may never reap it.
    pub fn lives(self) -> bool {
        stat(self.pid).is_some_and(|s| s.start == self.start && !matches!(s.state, b'Z' | b'X'))
    }

    /// Whether it certainly never came to execve: dead or alive, the kernel shows it as forked from us. One that is reaped
    /// shows nothing.
    pub fn never_executed(self) -> bool {
        /// PF_FORKNOEXEC (linux/sched.h).
        const FORKED_ONLY: u64 = 0x40;
        stat(self.pid).is_some_and(|s| s.start == self.start && s.flags & FORKED_ONLY != 0)
    }
}

/// What /proc/PID/stat says of a process (proc_pid_stat(5), fields 3, 9 and 22).
struct Stat {
    state: u8,
    flags: u64,
    start: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let text = crate::small::read(format!("/proc/{pid}/stat")).ok()?;
    // The command name is in parentheses and may hold anything: what counts comes after the last one.
    let rest = text.rsplit_once(')')?.1;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let flags = fields.nth(5)?.parse().ok()?;
    Some(Stat {
        state,
        flags,
        start: fields.nth(12)?.parse().ok()?,
    })
}
