//! Pipes to and from the programs that the shim runs.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::pipe2;

use crate::error::{Error, Result};
use crate::watched::Watched;

/// The most that is read of a runtime's output.
pub const OUTPUT_LIMIT: usize = 1 << 20;

/// A pipe that no child inherits by accident: its read end and its write end.
pub fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    pipe2(OFlag::O_CLOEXEC).map_err(|errno| Error::system("making a pipe", errno))
}

/// Reads to the end, at most `OUTPUT_LIMIT`.
pub async fn read_all(fd: OwnedFd) -> Result<Vec<u8>> {
    let failed = |error: io::Error| Error::system("reading the runtime's output", error);
    let watched = Watched::new(fd).map_err(failed)?;
    let (mut text, mut buffer) = (Vec::new(), vec![0; 4096]);
    loop {
        let read = watched
            .ready(|fd| Ok(nix::unistd::read(fd.as_raw_fd(), &mut buffer)?))
            .await
            .map_err(failed)?;
        text.extend_from_slice(buffer.get(..read).unwrap_or_default());
        if read == 0 || text.len() > OUTPUT_LIMIT {
            return Ok(text);
        }
    }
}

/// Reads to the end, at most `limit` bytes and at most until `end`. For the commands that have no reactor.
pub fn read_in_time(fd: BorrowedFd<'_>, limit: usize, end: Instant) -> io::Result<Vec<u8>> {
    let (mut bytes, mut buffer) = (Vec::new(), [0; 4096]);
    while bytes.len() < limit {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) => return Err(io::ErrorKind::TimedOut.into()),
            Ok(_) => {}
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(errno.into()),
        }
        match nix::unistd::read(fd.as_raw_fd(), &mut buffer)? {
            0 => break,
            count => bytes.extend_from_slice(buffer.get(..count).unwrap_or_default()),
        }
    }
    bytes.truncate(limit);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn what_never_ends_is_given_up() {
        let (read, write) = pipe().unwrap();
        nix::unistd::write(&write, b"words").unwrap();
        let soon = || Instant::now() + Duration::from_millis(50);
        let error = read_in_time(read.as_fd(), 10, soon()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        nix::unistd::write(&write, b"words").unwrap();
        assert_eq!(read_in_time(read.as_fd(), 4, soon()).unwrap(), b"word");
        drop(write);
        assert_eq!(read_in_time(read.as_fd(), 10, soon()).unwrap(), b"");
    }
}
