//! The only unsafe code of the shim, one operation a block.
#![expect(unsafe_code, reason = "the one place of the crate where it is allowed")]

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::{Pid, dup2};

mod ioctls {
    nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);
}

/// Takes over a descriptor that a control message (`SCM_RIGHTS`) gave us.
pub fn own_received(fd: RawFd) -> OwnedFd {
    // SAFETY: the kernel made this descriptor for us when it delivered the message, and recvmsg's caller passes each on once.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Sets a terminal's size in characters.
pub fn set_window_size(terminal: BorrowedFd<'_>, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: height,
        ws_col: width,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open for the length of the borrow, and TIOCSWINSZ reads one winsize, which outlives the call.
    unsafe { ioctls::set_window_size(terminal.as_raw_fd(), &raw const size) }?;
    Ok(())
}

/// Unmaps the pages of a part of our own program that is exactly what its file holds; the next access maps them again.
pub fn unmap_pages(range: &Range<usize>) -> io::Result<()> {
    let start = std::ptr::without_provenance_mut(range.start);
    // SAFETY: the caller took the range from our own table of mappings, where it is private, read-only and of a file, and nothing
    // was written to it before: what the kernel reads again is what is there now.
    let result = unsafe { libc::madvise(start, range.len(), libc::MADV_DONTNEED) };
    Errno::result(result)?;
    Ok(())
}

/// Returns free memory of the heap to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim takes a number and touches free memory only; this thread, the only one, is in no allocation.
    unsafe { libc::malloc_trim(0) };
}

/// Sends any signal, also the real-time ones, for which nix has no names.
pub fn kill_any(pid: Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(pid.as_raw(), signal) };
    Errno::result(result)?;
    Ok(())
}

/// The descriptors that a log driver is given: container's stdout, its stderr, and where to say that it is ready.
pub const LOGGER_FDS: [RawFd; 3] = [3, 4, 5];

/// Gives the child `fds` as its descriptors 3, 4 and 5. The parent must hold these three itself (on anything, close-on-exec):
/// else the pipe by which `Command` reports a failed exec could be one of them.
pub fn pass_logger_fds(command: &mut Command, fds: [OwnedFd; 3]) {
    let place = move || {
        // First all of them out of the way, since a source may be another's target; the copies close on exec.
        let mut high = LOGGER_FDS;
        for (copy, fd) in high.iter_mut().zip(&fds) {
            *copy = fcntl(fd.as_raw_fd(), FcntlArg::F_DUPFD_CLOEXEC(64))?;
        }
        for (copy, target) in high.iter().zip(LOGGER_FDS) {
            dup2(*copy, target)?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it makes system calls only, allocates nothing and takes no lock.
    unsafe { command.pre_exec(place) };
}
