//! Pipes to and from the programs that the shim runs.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::unistd::pipe2;

use crate::error::{Error, Result};
use crate::watched::Watched;

/// The most that is read of a runtime's output or log.
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
