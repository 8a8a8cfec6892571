//! The only unsafe code, here and in the files below: system calls that nix 0.29 and std do not have. One operation per block.
//!
//! Every public function is a thin, safe wrapper, whatever it is called with: arguments are typed and owned, results are `nix::Result`.
//! What could break memory, close somebody's descriptor or make a process that shares our memory cannot be asked for; what only we may
//! call is an `unsafe fn` and private.
#![expect(
    unsafe_code,
    reason = "this crate is the fence: no other one of gabion's has unsafe code"
)]

mod clone;
mod file;
mod filter;
// Elsewhere `selfprotect::ensure` does all of it.
#[cfg(target_arch = "x86_64")]
mod first;
mod heap;
mod inspect;
mod mount;
mod musl;
mod process;
mod signals;
mod terminal;
mod watch;

use std::ffi::{CStr, c_int, c_long, c_short, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::Result;
use nix::errno::Errno;

pub use clone::{ChildOf, Cloned, NewNamespaces, Words, clone3, fork, send_when_open};
pub use file::{
    Identity, accept, become_stdio, cloexec_from, directory, duplicate_above, duplicate_number, fgetxattr, flistxattr,
    fsetxattr, fsetxattr_new, identity, open, open_path, openat, openat2, receive,
};
pub use filter::{
    BpfProgram, Probe, bpf_attach_device, bpf_device_programs, bpf_load_device, bpf_program, bpf_program_info,
    landlock_abi, landlock_errata, probe, seccomp_knows_flags, seccomp_set_filter,
};
pub use heap::Heap;
pub use inspect::seccomp_filters;
pub use mount::*;
pub use musl::{Sealed, seal_constants};
pub use process::{
    Capabilities, IoClass, NodeMask, ParentsEnd, Readable, Reaped, SchedAttr, at_parents_end, blank_words, exec_gain,
    execveat, exit_now, ioprio_set, new_session_keyring, over_change_of_user, pidfd_open, pidfd_send_signal,
    prctl_ambient_clear, random, reap_any, refuse_exec_gain, sched_setattr, session_keyring, session_keyring_label,
    set_mempolicy, set_readable,
};
pub use signals::{
    Came, Held, Signals, default_signal, default_signals, exit_on, hold_all_signals, is_ignored, unseen_children,
};
pub use terminal::{pty_peer, pty_unlock, set_controlling_terminal, set_window_size, window_size};
pub use watch::{Call, CallsMade, call_goes_on, call_received, calls_at_once};

const AT_RECURSIVE: c_uint = 0x8000;
const AT_EMPTY_PATH: c_uint = 0x1000;
const EMPTY: &CStr = c"";

/// Takes over what a call has returned: a descriptor, or -1 and errno.
///
/// # Safety
/// A number that is not -1 is a descriptor that the call made, and nobody else owns it.
unsafe fn owned(fd: c_long) -> Result<OwnedFd> {
    let fd = Errno::result(fd)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: our caller's promise.
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
