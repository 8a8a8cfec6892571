//! The only unsafe code of gabion: system calls that nix does not have, one operation per block, each with its SAFETY reason.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;

// ---- the host's facts

/// The kind of namespace that an open nsfs file is: its `CLONE_NEW*` flag (ioctl_ns(2), NS_GET_NSTYPE).
///
/// # Errors
/// ENOTTY for a file that is no namespace.
pub fn ns_type(fd: BorrowedFd<'_>) -> Result<libc::c_int, Errno> {
    /// `_IO(0xb7, 0x3)` (linux/nsfs.h).
    const NS_GET_NSTYPE: libc::Ioctl = 0xb703;
    // SAFETY: NS_GET_NSTYPE takes no argument and touches no memory of this process; `fd` is open for the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE) };
    Errno::result(result)
}

/// The Landlock ABI that the running kernel offers; 0 where it has none or it is switched off (landlock_create_ruleset(2)).
pub fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_long = 1;
    // SAFETY: with the VERSION flag, a null attribute and size 0 the call only returns a number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(result).unwrap_or(0)
}

/// How many columns the terminal behind `fd` has (ioctl_tty(2), TIOCGWINSZ). None: no terminal, or it does not say.
pub fn terminal_columns(fd: BorrowedFd<'_>) -> Option<u16> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `struct winsize`, which `size` is, and nothing else.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    (result == 0 && size.ws_col > 0).then_some(size.ws_col)
}
