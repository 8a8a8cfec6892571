//! Our own binary cannot be overwritten from inside a container (CVE-2019-5736).
//!
//! A process of ours that is, or becomes, visible in a container shows this binary as /proc/PID/exe. Before anything else we
//! run again from a read-only, detached clone of the mount that holds it. The descriptor is close-on-exec: once execveat is
//! through it is gone, with it the mount is dissolved, and nobody can make it writable again (mount_setattr on it: EINVAL).
//! A copy would do too, at 7 ms of CPU a command. On x86_64 the first instructions of the binary do it (gabion-sys, `first.rs`); what is here
//! looks at what holds, and does what they could not.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use gabion_see::error::{Error, Result};
use gabion_sys::{MOUNT_ATTR_RDONLY, MountAttr, Reach};

/// Runs this program again from a read-only clone, unless it already runs from something read-only.
///
/// Returns when nothing is left to do: the binary lies on a read-only mount, or the caller is an ordinary user who could not
/// write it anyway.
///
/// # Errors
/// The binary cannot be looked at, or the clone cannot be made or run.
pub(crate) fn ensure() -> Result<()> {
    let exe = open_self()?;
    let stat = fstatvfs(&exe).map_err(|e| cannot("look at the mount of our own binary", e))?;
    if stat.flags().contains(FsFlags::ST_RDONLY) {
        return Ok(());
    }
    match clone_read_only(&exe) {
        Ok(clone) => run_again(&clone),
        // An ordinary user: open_tree needs CAP_SYS_ADMIN. The kernel's own file permissions protect a binary that is not
        // the caller's to write.
        Err(Errno::EPERM) if !writable_by_us(&exe)? => Ok(()),
        // A sealed copy is its own proof on the second run: it is the only file we run from that nobody can write.
        Err(Errno::EPERM) if is_sealed_self()? => Ok(()),
        Err(Errno::EPERM) => run_again(&sealed_copy(&exe)?),
        Err(errno) => Err(cannot("clone the mount of our own binary", errno)),
    }
}

fn cannot(doing: &'static str, errno: Errno) -> Error {
    Error::File {
        doing,
        path: "/proc/self/exe".into(),
        source: errno.into(),
    }
}

fn open_self() -> Result<OwnedFd> {
    gabion_sys::open_path("/proc/self/exe", OFlag::empty()).map_err(|e| cannot("open our own binary", e))
}

fn clone_read_only(exe: &OwnedFd) -> nix::Result<OwnedFd> {
    let clone = gabion_sys::open_tree_clone(exe.as_fd(), Reach::One)?;
    let read_only = MountAttr {
        set: MOUNT_ATTR_RDONLY,
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(clone.as_fd(), Reach::One, &read_only)?;
    Ok(clone)
}

fn writable_by_us(exe: &OwnedFd) -> Result<bool> {
    use std::os::fd::AsRawFd;
    let stat = nix::sys::stat::fstat(exe.as_raw_fd()).map_err(|e| cannot("look at our own binary", e))?;
    let euid = nix::unistd::geteuid();
    // The owner can always make it writable; others only if it already is.
    Ok(stat.st_uid == euid.as_raw() || stat.st_mode & 0o022 != 0 || euid.is_root())
}

/// A copy in memory that nobody can change (memfd_create(2), F_ADD_SEALS).
fn sealed_copy(exe: &OwnedFd) -> Result<OwnedFd> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use nix::sys::memfd::{MemFdCreateFlag, memfd_create};
    use std::os::fd::AsRawFd;

    // Named so that a process list says what it is.
    let flags = MemFdCreateFlag::MFD_CLOEXEC | MemFdCreateFlag::MFD_ALLOW_SEALING;
    let memfd = memfd_create(c"gabion", flags).map_err(|e| cannot("make a copy of our own binary", e))?;
    let path = format!("/proc/self/fd/{}", exe.as_raw_fd());
    let mut from = std::fs::File::open(&path).map_err(Error::file("open", &path))?;
    let mut to = std::fs::File::from(memfd);
    std::io::copy(&mut from, &mut to).map_err(Error::file("copy", &path))?;
    let seals = SealFlag::F_SEAL_SEAL | SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_WRITE;
    fcntl(to.as_raw_fd(), FcntlArg::F_ADD_SEALS(seals)).map_err(|e| cannot("seal the copy of our own binary", e))?;
    Ok(to.into())
}

fn run_again(program: &OwnedFd) -> Result<()> {
    tracing::debug!("our own binary runs again from where it cannot be written");
    let args: Vec<CString> = std::env::args_os()
        .filter_map(|a| CString::new(a.as_bytes()).ok())
        .collect();
    let env: Vec<CString> = std::env::vars_os()
        .filter_map(|(key, value)| {
            let mut pair = key.as_bytes().to_vec();
            pair.push(b'=');
            pair.extend_from_slice(value.as_bytes());
            CString::new(pair).ok()
        })
        .collect();
    let args: Vec<&CStr> = args.iter().map(CString::as_c_str).collect();
    let env: Vec<&CStr> = env.iter().map(CString::as_c_str).collect();
    Err(cannot(
        "run our own binary from its read-only clone",
        gabion_sys::execveat(program.as_fd(), &args, &env),
    ))
}

/// Whether we already run from a sealed copy.
fn is_sealed_self() -> Result<bool> {
    use nix::fcntl::{FcntlArg, SealFlag, fcntl};
    use std::os::fd::AsRawFd;
    let exe = std::fs::File::open("/proc/self/exe").map_err(Error::file("open", "/proc/self/exe"))?;
    match fcntl(exe.as_raw_fd(), FcntlArg::F_GET_SEALS) {
        Ok(seals) => Ok(seals & SealFlag::F_SEAL_WRITE.bits() != 0),
        // No memfd: an ordinary file system does not know seals.
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(cannot("look at the seals of our own binary", errno)),
    }
}
