//! A process of ours that does one look, tells what it saw, and ends: what it enters or holds ends with it, however it ends.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use gabion_sys::{Cloned, ParentsEnd, Readable};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;

/// More than any look has to tell.
const MOST: usize = 8 << 20;

/// Where a helper tells.
#[derive(Debug)]
pub(super) struct Teller(File);

impl Teller {
    /// Tells, once.
    pub(super) fn tell(mut self, text: &str) -> Result<(), Errno> {
        self.0.write_all(text.as_bytes()).map_err(errno)
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

/// Has a process do `look`, and gives what it told. Nobody may attach to it, it dies with us, and it is waited for not longer than `patience`.
///
/// # Errors
/// Its own, or it does not end in time and is killed.
pub(super) fn run(patience: Duration, look: impl FnOnce(Teller) -> Result<(), Errno>) -> Result<String, Errno> {
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    match gabion_sys::fork()? {
        Cloned::Child => {
            drop(ours);
            let seen = alone().and_then(|()| look(Teller(theirs.into())));
            gabion_sys::exit_now(seen.map_or_else(|errno| errno as i32, |()| 0))
        }
        Cloned::Parent(pid) => {
            drop(theirs);
            let text = until_closed(ours, patience);
            if text.is_err() {
                kill(pid, Signal::SIGKILL)?;
            }
            match (waitpid(pid, None)?, text) {
                (_, Err(errno)) => Err(errno),
                (nix::sys::wait::WaitStatus::Exited(_, 0), Ok(text)) => Ok(text),
                (nix::sys::wait::WaitStatus::Exited(_, code), Ok(_)) => Err(Errno::from_raw(code)),
                (_, Ok(_)) => Err(Errno::ECHILD),
            }
        }
    }
}

/// What each process of a look does first.
pub(super) fn alone() -> Result<(), Errno> {
    gabion_sys::at_parents_end(ParentsEnd::Kills)?;
    gabion_sys::set_readable(Readable::No)
}

/// What comes until the other end is closed.
fn until_closed(from: OwnedFd, patience: Duration) -> Result<String, Errno> {
    let deadline = Instant::now() + patience;
    let mut from = File::from(from);
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).map_err(|_| Errno::EOVERFLOW)?;
        let mut watched = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut watched, left) {
            Err(Errno::EINTR) => continue,
            Ok(0) => return Err(Errno::ETIMEDOUT),
            other => other?,
        };
        match from.read(&mut part).map_err(errno)? {
            0 => return String::from_utf8(text).map_err(|_| Errno::EILSEQ),
            read if text.len() + read > MOST => return Err(Errno::EFBIG),
            read => text.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
}
