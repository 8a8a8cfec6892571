//! Signals by number, all 64 of them. A C library keeps some real-time signals to itself (glibc 32 and 33, musl 32 to 34), and its calls leave
//! them out in silence; in a program with one thread they mean nothing to it, and somebody may send them to the workload.

use std::ffi::c_int;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::Result;
use nix::errno::Errno;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

use super::{done, owned};

/// The size of the kernel's set of signals.
const SET: usize = size_of::<u64>();

/// The kernel's `struct sigaction` with a mask of 64 signals.
type Action = [u64; 4];

/// A signal back to its default (rt_sigaction(2)). By the system call: a C library lets nobody touch those that are its own.
pub fn default_signal(number: c_int) -> Result<()> {
    /// SIG_DFL, no flag, nothing masked: all of it is null.
    const DEFAULT: Action = [0; 4];
    let old = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel reads DEFAULT and writes nothing; SIG_DFL runs no code of ours.
    done(unsafe { libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), old, SET) })
}

/// Has the kernel reap our children, from now on to the next execve(2), which ends that (SA_NOCLDWAIT, sigaction(2)). wait(2) then fails with
/// ECHILD, once there is none left.
pub fn unseen_children() -> Result<()> {
    const SA_NOCLDWAIT: u64 = 2;
    const UNSEEN: Action = [0, SA_NOCLDWAIT, 0, 0];
    let old = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel reads UNSEEN and writes nothing; SIG_DFL runs no code of ours.
    done(unsafe { libc::syscall(libc::SYS_rt_sigaction, libc::SIGCHLD, UNSEEN.as_ptr(), old, SET) })
}

/// Every one of them: ignored ones would stay ignored in the next program. std ignores SIGPIPE.
pub fn default_signals() -> Result<()> {
    let ours = |n: &c_int| !matches!(*n, libc::SIGKILL | libc::SIGSTOP);
    (1..=64).filter(ours).try_for_each(default_signal)
}

/// Whether this process ignores a signal (rt_sigaction(2)).
pub fn is_ignored(number: c_int) -> Result<bool> {
    let mut now: Action = [0; 4];
    let new = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel writes one sigaction, which `now` has room for, and reads nothing.
    done(unsafe { libc::syscall(libc::SYS_rt_sigaction, number, new, now.as_mut_ptr(), SET) })?;
    Ok(now.first() == Some(&(libc::SIG_IGN as u64)))
}

/// Has a signal end this process, with 128 and its number as the exit code, up to the next execve(2), which takes handlers away.
pub fn exit_on(signal: Signal) -> Result<()> {
    extern "C" fn end(number: c_int) {
        // SAFETY: _exit(2) may be called in a handler (signal-safety(7)), takes a number and does not return.
        unsafe { libc::_exit(128 + number) }
    }
    let action = SigAction::new(SigHandler::Handler(end), SaFlags::empty(), SigSet::empty());
    // SAFETY: the handler reads and writes no memory, so whatever it interrupts stays as it is.
    unsafe { sigaction(signal, &action) }.map(drop)
}

/// Holds back all signals that can be held (rt_sigprocmask(2)): they stay pending until somebody reads them.
pub fn hold_all_signals() -> Result<()> {
    let all = u64::MAX;
    let old = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel reads one set and writes nothing. Blocked signals run no code.
    done(unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, &raw const all, old, SET) })
}

/// A signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Came {
    pub number: c_int,
    /// Who sent it; 0 for the kernel.
    pub sender: u32,
}

/// Reads signals that are held back (signalfd4(2)). Close-on-exec, and it never waits.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// All of them.
    pub fn all() -> Result<Self> {
        Self::of(u64::MAX)
    }

    fn of(set: u64) -> Result<Self> {
        let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
        // SAFETY: the kernel reads one set of the size given.
        let fd = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const set, SET, flags) };
        // SAFETY: with -1 signalfd4 returns a descriptor that it made.
        unsafe { owned(fd) }.map(Self)
    }

    /// The next one; None where none has come.
    pub fn next(&self) -> Result<Option<Came>> {
        use std::os::fd::AsRawFd;
        // `struct signalfd_siginfo`: the number comes first, the code third, the sender fourth.
        let mut info = [0_u8; 128];
        let length = loop {
            match nix::unistd::read(self.0.as_raw_fd(), &mut info) {
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(None),
                other => break other?,
            }
        };
        let (words, _) = info.as_chunks::<4>();
        let word = |at: usize| words.get(at).map(|bytes| u32::from_ne_bytes(*bytes));
        let (Some(number), Some(sender), true) = (word(0), word(3), length == info.len()) else {
            return Err(Errno::EIO);
        };
        let number = c_int::try_from(number).map_err(|_| Errno::EIO)?;
        Ok(Some(Came { number, sender }))
    }
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Signals that are held back while this lives, and read by it. What was held before stays so.
#[derive(Debug)]
pub struct Held {
    signals: Signals,
    before: u64,
}

impl Held {
    /// Holds back these numbers.
    pub fn new(numbers: &[c_int]) -> Result<Self> {
        let bit = |n: &c_int| u32::try_from(n - 1).ok().and_then(|shift| 1_u64.checked_shl(shift));
        let set = numbers.iter().filter_map(bit).fold(0, |set, bit| set | bit);
        let signals = Signals::of(set)?;
        let mut before = 0_u64;
        // SAFETY: the kernel reads one set and writes one.
        done(unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_BLOCK,
                &raw const set,
                &raw mut before,
                SET,
            )
        })?;
        Ok(Self { signals, before })
    }

    /// The next one of them; None where none has come.
    pub fn next(&self) -> Result<Option<Came>> {
        self.signals.next()
    }
}

impl AsFd for Held {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.signals.as_fd()
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let old = std::ptr::null::<libc::c_void>();
        let before = &raw const self.before;
        // SAFETY: the kernel reads one set and writes nothing. gabion has no handler that could run by this. It cannot fail: both
        // sizes are the kernel's own.
        unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, before, old, SET) };
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;
    use crate::{Cloned, exit_now, fork};

    fn in_child(act: fn() -> Result<bool>) -> bool {
        match fork().unwrap() {
            Cloned::Child => exit_now(i32::from(act() != Ok(true))),
            Cloned::Parent(pid) => waitpid(pid, None).unwrap() == WaitStatus::Exited(pid, 0),
        }
    }

    fn send(number: c_int) -> Result<()> {
        let own = crate::pidfd_open(nix::unistd::getpid())?;
        crate::pidfd_send_signal(own.as_fd(), number)
    }

    /// Those that a C library keeps to itself, too: with its own calls 32 to 34 end the process here.
    #[test]
    fn every_signal_is_held_and_read() {
        assert!(in_child(|| {
            hold_all_signals()?;
            let signals = Signals::all()?;
            let own = nix::unistd::getpid().as_raw().cast_unsigned();
            for number in (1..=64).filter(|n| !matches!(*n, libc::SIGKILL | libc::SIGSTOP)) {
                send(number)?;
                if signals.next()? != Some(Came { number, sender: own }) {
                    return Ok(false);
                }
            }
            Ok(signals.next()?.is_none())
        }));
    }

    #[test]
    fn children_that_nobody_waits_for_leave_nothing() {
        assert!(in_child(|| {
            unseen_children()?;
            match fork()? {
                Cloned::Child => exit_now(0),
                Cloned::Parent(pid) => Ok(waitpid(pid, None) == Err(Errno::ECHILD)),
            }
        }));
    }

    #[test]
    fn what_is_held_is_let_go_again() {
        assert!(in_child(|| {
            default_signal(libc::SIGTERM)?;
            let held = Held::new(&[libc::SIGTERM])?;
            send(libc::SIGTERM)?;
            let came = held.next()?.map(|came| came.number);
            drop(held);
            let mask = nix::sys::signal::SigSet::thread_get_mask()?;
            Ok(came == Some(libc::SIGTERM) && !mask.contains(nix::sys::signal::Signal::SIGTERM))
        }));
    }

    #[test]
    fn ignored_signals_are_known() {
        // std ignores it.
        assert_eq!(is_ignored(libc::SIGPIPE), Ok(true));
        assert_eq!(is_ignored(libc::SIGUSR2), Ok(false));
        assert_eq!(is_ignored(0), Err(Errno::EINVAL));
    }
}
