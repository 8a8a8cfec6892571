//! Pseudo-terminals.

use std::ffi::{c_int, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::Result;

use super::{done, owned};

/// The peer end of the pseudo-terminal master `fd`, opened without any path (ioctl_tty(2) TIOCGPTPEER, kernel 4.13).
pub fn pty_peer(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the ioctl takes an integer.
    let peer = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    // SAFETY: TIOCGPTPEER returns a descriptor that it made.
    unsafe { owned(c_long::from(peer)) }
}

/// Unlocks the peer of a pseudo-terminal master (TIOCSPTLCK).
pub fn pty_unlock(fd: BorrowedFd<'_>) -> Result<()> {
    let unlock: c_int = 0;
    // SAFETY: the ioctl reads one int through a pointer that is valid for the call.
    done(c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TIOCSPTLCK, std::ptr::from_ref(&unlock))
    }))
}

/// Makes the terminal `fd` the controlling one of this session (TIOCSCTTY).
pub fn set_controlling_terminal(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the ioctl takes an integer.
    done(c_long::from(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY, 0) }))
}

/// Sets a terminal's size (TIOCSWINSZ).
pub fn set_window_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl reads one winsize through a pointer that is valid for the call.
    done(c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size))
    }))
}

/// A terminal's size (TIOCGWINSZ), rows and columns.
pub fn window_size(fd: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl writes one winsize through a pointer that is valid for the call.
    done(c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, std::ptr::from_mut(&mut size))
    }))?;
    Ok((size.ws_row, size.ws_col))
}
