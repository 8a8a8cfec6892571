//! The only unsafe code of the shim, one operation a block. Every function here is sound: no safe code can misuse it.
#![expect(unsafe_code, reason = "the one place of the crate where it is allowed")]

mod descriptors;
mod pages;

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;
use nix::unistd::Pid;

pub use descriptors::{LOGGER_FDS, close_inherited_on_exec, open_below, pass_logger_fds, receive_fd};
pub use pages::Unchanging;

mod ioctls {
    nix::ioctl_write_ptr_bad!(set_window_size, nix::libc::TIOCSWINSZ, nix::libc::winsize);
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

/// Returns free memory of the heap to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim takes a number, touches free memory only, and holds the allocator's own locks meanwhile.
    unsafe { libc::malloc_trim(0) };
}

/// Sends any signal to one process, also the real-time ones, for which nix has no names.
///
/// Numbers below 1 mean groups, or everybody: they are refused.
pub fn kill_any(pid: Pid, signal: i32) -> io::Result<()> {
    if pid.as_raw() < 1 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: kill takes two numbers and touches no memory of ours.
    let result = unsafe { libc::kill(pid.as_raw(), signal) };
    Errno::result(result)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_process_is_signalled() {
        let own = nix::unistd::getpid();
        assert!(kill_any(own, 0).is_ok());
        // 0 is the own group, a negative number another one. Signal 0 sends nothing, should the check be missing.
        for group in [0, -own.as_raw(), -1] {
            let error = kill_any(Pid::from_raw(group), 0).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{group}");
        }
    }
}
