//! Every child's end, in order, exactly once: also of those that nobody asked about yet.
//!
//! The shim is the subreaper of its containers. A process may end before the runtime has even told us its number, so while a
//! runtime is at work the ends of unknown children are kept until it is done.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::time::SystemTime;

use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use crate::sync::Once;

/// The most ends of unknown children that are kept; then the oldest go. In a container without a pid namespace of its own every process that
/// loses its parent becomes the shim's child, and nobody but its program says how many these are.
const EARLY: usize = 16 << 10;

/// How and when a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The exit code, or 128 + the signal that killed it.
    pub status: u32,
    /// When it was reaped.
    pub at: SystemTime,
}

/// The table of children.
#[derive(Default)]
pub struct Exits {
    known: RefCell<HashMap<i32, Once<Exit>>>,
    /// In the order in which they ended.
    early: RefCell<VecDeque<(i32, Exit)>>,
    expecting: Cell<usize>,
}

/// While one of these lives, the ends of unknown children are kept.
pub struct Expectation(Rc<Exits>);

impl Exits {
    /// Reaps every child that has ended.
    pub fn reap(&self) {
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, u32::try_from(code).unwrap_or(255)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + u32::try_from(signal as i32).unwrap_or(0)),
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            self.ended(
                pid,
                Exit {
                    status,
                    at: SystemTime::now(),
                },
            );
        }
    }

    fn ended(&self, pid: Pid, exit: Exit) {
        if let Some(waiting) = self.known.borrow_mut().remove(&pid.as_raw()) {
            waiting.set(exit);
        } else if self.expecting.get() > 0 {
            let mut early = self.early.borrow_mut();
            if early.len() == EARLY {
                early.pop_front();
            }
            early.push_back((pid.as_raw(), exit));
        }
    }

    /// Takes what is kept of a number: its last use, and all before.
    fn take_early(&self, pid: Pid) -> Option<Exit> {
        let mut early = self.early.borrow_mut();
        let last = early.iter().rev().find(|(number, _)| *number == pid.as_raw())?.1;
        early.retain(|(number, _)| *number != pid.as_raw());
        Some(last)
    }

    /// Waits for a child that this shim has just spawned.
    pub fn child(&self, pid: Pid) -> Once<Exit> {
        let once = Once::default();
        self.known.borrow_mut().insert(pid.as_raw(), once.clone());
        once
    }

    /// From now on a child may appear whose number comes later.
    pub fn expect(self: &Rc<Self>) -> Expectation {
        self.expecting.set(self.expecting.get() + 1);
        Expectation(Rc::clone(self))
    }
}

impl Expectation {
    /// The end of the child `pid`, be it in the past or to come. `None` if there is and was no such child.
    ///
    /// A number may have been used twice while we waited, so what is kept counts only if no such child is there now.
    pub fn claim(&self, pid: Pid) -> Option<Once<Exit>> {
        let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        if waitid(Id::Pid(pid), peek).is_ok() {
            self.0.take_early(pid);
            return Some(self.0.child(pid));
        }
        let once = Once::default();
        once.set(self.0.take_early(pid)?);
        Some(once)
    }
}

impl Drop for Expectation {
    fn drop(&mut self) {
        self.0.expecting.set(self.0.expecting.get() - 1);
        if self.0.expecting.get() == 0 {
            self.0.early.take();
        }
    }
}

/// `reap` takes every child of the process, so tests that have children take turns.
#[cfg(test)]
pub(crate) static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;
    use std::time::Duration;

    #[expect(clippy::zombie_processes, reason = "reaping them is what is tested")]
    fn spawn(script: &str) -> Pid {
        let child = Command::new("/bin/sh").args(["-c", script]).spawn().unwrap();
        Pid::from_raw(child.id().try_into().unwrap())
    }

    #[test]
    fn ends_that_nobody_asks_about_are_counted_and_the_newest_kept() {
        let exits = Rc::new(Exits::default());
        let expected = exits.expect();
        let end = |pid: i32, status: u32| {
            let at = SystemTime::now();
            exits.ended(Pid::from_raw(pid), Exit { status, at });
        };
        // Numbers that no child of this process has.
        let first = 1 << 28;
        (0..40_000).for_each(|number| end(first + number, 1));
        end(first + 39_990, 2);
        assert_eq!(exits.early.borrow().len(), EARLY);
        let claimed = |number: i32| {
            let end = expected.claim(Pid::from_raw(first + number));
            end.and_then(|end| end.get()).map(|exit| exit.status)
        };
        assert_eq!((claimed(0), claimed(39_999), claimed(39_990)), (None, Some(1), Some(2)));
        assert_eq!(claimed(39_990), None, "an end is told once");
        drop(expected);
        assert!(exits.early.borrow().is_empty());
    }

    fn reap_until(exits: &Exits, done: impl Fn() -> bool) {
        for _ in 0..500 {
            exits.reap();
            if done() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("no exit in time");
    }

    #[test]
    fn an_exit_before_its_number_is_known_is_kept() {
        let _turn = TURN.lock();
        let exits = Rc::new(Exits::default());
        let expectation = exits.expect();
        let pid = spawn("exit 7");
        reap_until(&exits, || !exits.early.borrow().is_empty());
        assert_eq!(
            expectation
                .claim(pid)
                .and_then(|once| once.get())
                .map(|exit| exit.status),
            Some(7)
        );
        assert!(expectation.claim(pid).is_none());
        drop(expectation);
        assert!(exits.early.borrow().is_empty());
    }

    #[test]
    fn a_number_used_again_is_the_living_one() {
        let _turn = TURN.lock();
        let exits = Rc::new(Exits::default());
        let expectation = exits.expect();
        let pid = spawn("exec sleep 0.2; exit 1");
        exits.ended(
            pid,
            Exit {
                status: 99,
                at: SystemTime::now(),
            },
        );
        let once = expectation.claim(pid).unwrap();
        assert_eq!(once.get(), None);
        reap_until(&exits, || once.get().is_some());
        assert_eq!(once.get().map(|exit| exit.status), Some(0));
    }

    #[test]
    fn signals_are_128_and_more_and_strangers_are_forgotten() {
        let _turn = TURN.lock();
        let exits = Rc::new(Exits::default());
        let once = exits.child(spawn("kill -TERM $$"));
        spawn("exit 3");
        reap_until(&exits, || once.get().is_some());
        assert_eq!(once.get().map(|exit| exit.status), Some(143));
        assert!(exits.early.borrow().is_empty());
    }
}
