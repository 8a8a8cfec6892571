//! Copying between two descriptors, without memory where the kernel can.

use std::io;
use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};

use crate::sync::{Either, race};
use crate::watched::Watched;

/// How much one `splice` moves: a pipe's size.
const CHUNK: usize = 64 * 1024;
/// What is read of a terminal at once.
const TERMINAL_CHUNK: usize = 4096;

/// Copies until the source ends or the destination is gone.
pub async fn copy(from: &Watched, to: &Watched) {
    loop {
        let (seen_from, seen_to) = (from.edges(), to.edges());
        let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
        match splice(from, None, to, None, CHUNK, flags) {
            Ok(0) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            // Nothing to read or no room to write: an edge on either side is reason to look again.
            Err(Errno::EAGAIN) => match race(from.edge_after(seen_from), to.edge_after(seen_to)).await {
                Either::Left(()) | Either::Right(()) => {}
            },
            // No pipe among the two (a terminal), or a file opened for appending.
            Err(Errno::EINVAL) => return copy_through_memory(from, to).await,
            Err(errno) => return crate::log::debug!("copying ends: {errno}"),
        }
    }
}

async fn copy_through_memory(from: &Watched, to: &Watched) {
    loop {
        let Some(text) = read_some(from).await else { return };
        let mut rest = text.as_slice();
        while !rest.is_empty() {
            match to.ready(|fd| Ok(nix::unistd::write(fd, rest)?)).await {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(_) => return,
            }
        }
    }
}

/// Reads to the end, for nobody.
pub async fn drain(from: &Watched) {
    while read_some(from).await.is_some() {}
}

/// `None` at the end. A terminal whose other side is closed says EIO, and that is its end.
pub async fn read_some(from: &Watched) -> Option<Vec<u8>> {
    let read = |fd: std::os::fd::BorrowedFd<'_>| -> io::Result<Vec<u8>> {
        let mut buffer = [0; TERMINAL_CHUNK];
        let count = nix::unistd::read(fd.as_raw_fd(), &mut buffer)?;
        Ok(buffer.get(..count).unwrap_or_default().to_vec())
    };
    from.ready(read).await.ok().filter(|text| !text.is_empty())
}
