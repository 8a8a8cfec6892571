//! The only unsafe code, here and in the files below: system calls that nix 0.29 and std do not have. One operation per block.
//!
//! Every function is a thin, safe wrapper: arguments are typed and owned, results are `nix::Result`.
#![expect(
    unsafe_code,
    reason = "this crate is the fence: no other one of gabion's has unsafe code"
)]

mod file;
mod filter;
// Elsewhere `selfprotect::ensure` does all of it.
#[cfg(target_arch = "x86_64")]
mod first;
mod heap;
mod mount;
mod musl;
mod process;
mod terminal;

use std::ffi::{CStr, c_int, c_long, c_short, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::Result;
use nix::errno::Errno;

pub use file::{
    Identity, adopt, borrow, cloexec_from, dup_onto, fgetxattr, flistxattr, fsetxattr, identity, open, open_path,
    openat, openat2,
};
pub use filter::{
    Probe, bpf_attach_device, bpf_load_device, landlock_abi, probe, seccomp_knows_flags, seccomp_set_filter,
};
pub use heap::Heap;
pub use mount::*;
pub use musl::seal_constants;
pub use process::{
    Cloned, NodeMask, SchedAttr, clone3, default_signal, default_signals, execveat, exit_now, ioprio_set,
    new_session_keyring, pidfd_open, pidfd_send_signal, prctl, prctl_ambient_clear, random, sched_setattr,
    session_keyring, session_keyring_label, set_mempolicy,
};
pub use terminal::{pty_peer, pty_unlock, set_controlling_terminal, set_window_size, window_size};

const AT_RECURSIVE: c_uint = 0x8000;
const AT_EMPTY_PATH: c_uint = 0x1000;
const EMPTY: &CStr = c"";

fn owned(fd: c_long) -> Result<OwnedFd> {
    let fd = Errno::result(fd)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just returned this descriptor to us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: c_long) -> Result<()> {
    Errno::result(result).map(drop)
}

/// The kind of namespace behind a descriptor, as a CLONE_NEW* flag (ioctl_ns(2) NS_GET_NSTYPE).
pub fn ns_type(fd: BorrowedFd<'_>) -> Result<c_int> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the ioctl takes no argument.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) })
}

/// Sets the NIS domain name of this UTS namespace (setdomainname(2)).
pub fn set_domain_name(name: &[u8]) -> Result<()> {
    // SAFETY: name is readable for its length.
    done(c_long::from(unsafe {
        libc::setdomainname(name.as_ptr().cast(), name.len())
    }))
}

/// Sets an interface's flags to UP and RUNNING (netdevice(7) SIOCSIFFLAGS), in the caller's network namespace.
pub fn interface_up(socket: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let bytes = name.to_bytes_with_nul();
    let mut request = IfReq {
        name: [0; libc::IFNAMSIZ],
        flags: 0,
        rest: [0; 22],
    };
    request
        .name
        .get_mut(..bytes.len())
        .ok_or(Errno::ENAMETOOLONG)?
        .copy_from_slice(bytes);
    request.flags = c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the ioctl reads one ifreq, which request is, through a pointer that is valid for the call.
    done(c_long::from(unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            std::ptr::from_ref(&request),
        )
    }))
}

/// `struct ifreq` with its flags (netdevice(7)).
#[repr(C)]
struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    flags: c_short,
    rest: [u8; 22],
}
