//! The only unsafe code of gabion: system calls that nix does not have, one operation per block, each with its SAFETY reason.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::libc;
use nix::sys::stat::Mode;

// ---- seccomp

/// seccomp(2) `SECCOMP_SET_MODE_FILTER`.
///
/// `program` is a sequence of `struct sock_filter` in native order, `flags` are `SECCOMP_FILTER_FLAG_*`. Returns the listener where
/// the flags ask for one.
///
/// # Errors
/// EINVAL for bytes that are no whole instructions or more than 65535 of them; ESRCH where TSYNC met a thread that could not
/// follow (nothing is installed then); else the call's own (seccomp(2)).
pub fn seccomp_set_filter(program: &[u8], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    const INSN: usize = size_of::<libc::sock_filter>();
    const NEW_LISTENER: u32 = 1 << 3;
    if program.is_empty() || !program.len().is_multiple_of(INSN) {
        return Err(Errno::EINVAL);
    }
    let len = u16::try_from(program.len() / INSN).map_err(|_| Errno::EINVAL)?;
    // The kernel copies from any address: `program` need not be aligned for sock_filter, and is only read.
    let fprog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `fprog` and the `len` instructions it points to outlive the call, which copies them and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const fprog,
        )
    };
    let result = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    if flags & NEW_LISTENER != 0 {
        // SAFETY: with NEW_LISTENER a successful call returns a descriptor that it made, and nobody else knows it yet.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(result) }));
    }
    if result == 0 { Ok(None) } else { Err(Errno::ESRCH) }
}

/// openat(2) with an owner for what it opens, which nix 0.29 does not give.
///
/// # Errors
/// The call's own.
pub fn openat<P: NixPath + ?Sized>(dir: BorrowedFd<'_>, path: &P, flags: OFlag, mode: Mode) -> Result<OwnedFd, Errno> {
    let raw = nix::fcntl::openat(Some(dir.as_raw_fd()), path, flags, mode)?;
    // SAFETY: openat succeeded, so `raw` is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Calls that fail, root or not, before they look at memory or change anything, in a kernel that answers them itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A number that no kernel knows, from 2^22 on (below lie all tables, and ARM's private calls): ENOSYS.
    Unknown(u32),
    /// setns on no descriptor: EBADF (`kernel/nsproxy.c`).
    Setns,
    /// `PTRACE_ATTACH` to no process: ESRCH (`kernel/ptrace.c`).
    Attach,
    /// umount2 of nothing with a flag that it does not take: EINVAL (`fs/namespace.c`).
    Umount,
    /// unshare of a user name space with a bit that it does not take: EINVAL (`kernel/fork.c`).
    Unshare,
}

/// Make the call and give its errno; `None` is success.
pub fn probe(call: Probe) -> Option<Errno> {
    let (number, a, b): (libc::c_long, libc::c_long, libc::c_long) = match call {
        Probe::Unknown(number) if number >= 1 << 22 => (number.into(), 0, 0),
        Probe::Unknown(_) => return Some(Errno::EINVAL),
        Probe::Setns => (libc::SYS_setns, -1, 0),
        Probe::Attach => (libc::SYS_ptrace, 0x10, -1),
        Probe::Umount => (libc::SYS_umount2, 0, 0x4000_0000),
        Probe::Unshare => (libc::SYS_unshare, libc::c_long::from(libc::CLONE_NEWUSER) | 1, 0),
    };
    // SAFETY: the five calls above take numbers and a null pointer; none of them touches memory of this process.
    let result = unsafe { libc::syscall(number, a, b, 0, 0) };
    Errno::result(result).err()
}
