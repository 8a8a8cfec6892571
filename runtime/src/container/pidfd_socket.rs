//! `--pidfd-socket`: who called gets a descriptor of the process, which never means another one.

use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;

use crate::wait;
use gabion_see::error::{Error, Result, Step};

/// Whose descriptor it is: the message that it comes with (runc's words).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// A container's first process.
    First,
    /// One that joins a container.
    Joining,
}

impl Of {
    const fn word(self) -> &'static str {
        match self {
            Self::First => "standard",
            Self::Joining => "setns",
        }
    }
}

/// A connection to the caller's socket.
#[derive(Debug)]
pub(crate) struct PidfdSocket {
    socket: OwnedFd,
    path: PathBuf,
}

impl PidfdSocket {
    /// Connects, where one is asked for. Before anything is made: who does not listen finds nothing begun.
    ///
    /// # Errors
    /// Nobody listens there, or nobody accepts in time.
    pub(crate) fn connect(path: Option<&Path>) -> Result<Option<Self>> {
        let Some(path) = path else { return Ok(None) };
        let socket = wait::connect("connect to the pidfd socket", path)?;
        let path = path.to_path_buf();
        Ok(Some(Self { socket, path }))
    }

    /// Sends the descriptor, before the process may run its program.
    ///
    /// # Errors
    /// The process has ended; the other side is gone.
    pub(crate) fn send(&self, of: Of, pid: Pid) -> Result<()> {
        let pidfd = gabion_sys::pidfd_open(pid).map_err(Step::Ready.failing("open a pidfd of the process"))?;
        let fds = [pidfd.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        let word = [IoSlice::new(of.word().as_bytes())];
        // An empty queue takes a word at once: nothing else was ever sent on this connection.
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        sendmsg::<()>(self.socket.as_raw_fd(), &word, &rights, flags, None)
            .map(drop)
            .map_err(|e| Error::file("send a pidfd to", &self.path)(e.into()))
    }
}
