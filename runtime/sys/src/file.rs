//! Descriptors and extended attributes.

use std::ffi::{CStr, c_int, c_long, c_uint};
use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockFlag, accept4, recvmsg};
use nix::sys::stat::Mode;
use nix::{NixPath, Result};

use super::{done, owned};

/// `struct open_how` (openat2(2)).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` below `dir` (openat2(2)) with RESOLVE_* bits, close-on-exec.
pub fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: c_int, resolve: u64) -> Result<OwnedFd> {
    let flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    let how = OpenHow {
        flags,
        mode: 0,
        resolve,
    };
    let size = size_of::<OpenHow>();
    // SAFETY: how points to an open_how of the size given; path is a valid C string.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir.as_raw_fd(),
            path.as_ptr(),
            std::ptr::from_ref(&how),
            size,
        )
    };
    // SAFETY: openat2 returns a descriptor that it made.
    unsafe { owned(fd) }
}

/// What a file is, by identity (statx(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    pub dev: u64,
    pub ino: u64,
    /// The mount that it was reached by, as mountinfo numbers it.
    pub mount: u64,
    pub links: u64,
    pub directory: bool,
}

/// Looks at what `path` below `dir` leads to, or at `dir` itself where the path is empty. Nothing is mounted by it.
///
/// # Errors
/// The call's own.
pub fn identity(dir: BorrowedFd<'_>, path: &CStr) -> Result<Identity> {
    const STATX_MNT_ID: c_uint = 0x1000;
    let mask = libc::STATX_TYPE | libc::STATX_INO | libc::STATX_NLINK | STATX_MNT_ID;
    let flags = libc::AT_EMPTY_PATH | libc::AT_NO_AUTOMOUNT;
    let mut found = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: path is a C string; found is writable and as large as the kernel's structure.
    done(c_long::from(unsafe {
        libc::statx(dir.as_raw_fd(), path.as_ptr(), flags, mask, found.as_mut_ptr())
    }))?;
    // SAFETY: all bytes are set, to zero at the least, and every value of them is one of the integers in it.
    let found = unsafe { found.assume_init() };
    Ok(Identity {
        dev: libc::makedev(found.stx_dev_major, found.stx_dev_minor),
        ino: found.stx_ino,
        mount: found.stx_mnt_id,
        links: found.stx_nlink.into(),
        directory: u32::from(found.stx_mode) & libc::S_IFMT == libc::S_IFDIR,
    })
}

/// Marks every descriptor from `first` on close-on-exec (close_range(2)).
pub fn cloexec_from(first: c_uint) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_uint = 4;
    // SAFETY: takes integers; descriptors stay open, only their flag changes.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, CLOSE_RANGE_CLOEXEC) })
}

/// Puts `fd` in the place of stdin, stdout and stderr (dup2(2)). To no other number: that would close a descriptor which somebody owns.
/// Stdio has no owner in Rust; std lends it out for the life of the process, and it stays open throughout.
pub fn become_stdio(fd: BorrowedFd<'_>) -> Result<()> {
    (0..=2).try_for_each(|number| nix::unistd::dup2(fd.as_raw_fd(), number).map(drop))
}

/// Duplicates what is open at a number that the caller of gabion chose (stdio, preserved descriptors), close-on-exec. A copy, not a loan:
/// nothing can promise that a bare number stays open.
///
/// # Errors
/// EBADF where nothing is open there; else the call's own (fcntl(2), F_DUPFD_CLOEXEC).
pub fn duplicate_number(number: RawFd) -> Result<OwnedFd> {
    duplicate_from(number, 0)
}

/// Duplicates `fd` to the lowest free number from `least` on, close-on-exec (fcntl(2), F_DUPFD_CLOEXEC).
pub fn duplicate_above(fd: BorrowedFd<'_>, least: RawFd) -> Result<OwnedFd> {
    duplicate_from(fd.as_raw_fd(), least)
}

fn duplicate_from(number: RawFd, least: RawFd) -> Result<OwnedFd> {
    let copy = fcntl(number, FcntlArg::F_DUPFD_CLOEXEC(least))?;
    // SAFETY: F_DUPFD_CLOEXEC returns a descriptor that it made.
    unsafe { owned(c_long::from(copy)) }
}

/// Accepts a connection, close-on-exec (accept4(2)).
pub fn accept(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    let fd = accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC)?;
    // SAFETY: accept4 returns a descriptor that it made.
    unsafe { owned(c_long::from(fd)) }
}

/// Receives a message into `buffer`: its length, and an owner for each descriptor that came with it (recvmsg(2), SCM_RIGHTS).
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<(usize, Vec<OwnedFd>)> {
    /// The kernel's SCM_MAX_FD: with room for all of them none is cut off.
    const MOST: usize = 253;
    let mut space = nix::cmsg_space!([RawFd; MOST]);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = loop {
        match recvmsg::<()>(
            socket.as_raw_fd(),
            &mut parts,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        ) {
            Err(Errno::EINTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for control in message.cmsgs()? {
        let ControlMessageOwned::ScmRights(numbers) = control else {
            continue;
        };
        for number in numbers {
            // SAFETY: the kernel opened it for us when it delivered this message, which is read once.
            fds.push(unsafe { owned(c_long::from(number)) }?);
        }
    }
    Ok((message.bytes, fds))
}

/// Makes a directory's descriptor into a reader of its entries (fdopendir(3)).
pub fn directory(fd: OwnedFd) -> Result<Dir> {
    Dir::from_fd(fd.into_raw_fd())
}

/// Sets an extended attribute on an open file (fsetxattr(2)).
pub fn fsetxattr(fd: &impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    set_attribute(fd, name, value, 0)
}

/// Sets one that is not there: the kernel lets one of two do that.
///
/// # Errors
/// EEXIST where it is there.
pub fn fsetxattr_new(fd: &impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    set_attribute(fd, name, value, libc::XATTR_CREATE)
}

fn set_attribute(fd: &impl AsFd, name: &CStr, value: &[u8], flags: i32) -> Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: name is a C string; value is readable for its length.
    done(c_long::from(unsafe {
        libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), flags)
    }))
}

/// The names of an open file's extended attributes, NUL-separated (flistxattr(2)).
pub fn flistxattr(fd: &impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: buffer is writable for its length.
    let length = unsafe { libc::flistxattr(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    Errno::result(length).map(isize::cast_unsigned)
}

/// The value of an open file's extended attribute (fgetxattr(2)).
pub fn fgetxattr(fd: &impl AsFd, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: name is a C string; buffer is writable for its length.
    let length = unsafe { libc::fgetxattr(fd, name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    Errno::result(length).map(isize::cast_unsigned)
}

/// What lies at a path, without touching it (open(2) O_PATH, and with `more`). Not by std's `custom_flags`: it keeps the access mode to
/// itself, and musl counts O_PATH's bit as one of that.
///
/// # Errors
/// The call's own.
pub fn open_path<P: NixPath + ?Sized>(path: &P, more: OFlag) -> Result<OwnedFd> {
    open(path, OFlag::O_PATH | OFlag::O_CLOEXEC | more, Mode::empty())
}

/// open(2) with an owner for what it opens.
///
/// # Errors
/// The call's own.
pub fn open<P: NixPath + ?Sized>(path: &P, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    let fd = nix::fcntl::open(path, flags, mode)?;
    // SAFETY: open returns a descriptor that it made.
    unsafe { owned(c_long::from(fd)) }
}

/// openat(2) with an owner for what it opens, which nix 0.29 does not give.
///
/// # Errors
/// The call's own.
pub fn openat<P: NixPath + ?Sized>(dir: BorrowedFd<'_>, path: &P, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    let fd = nix::fcntl::openat(Some(dir.as_raw_fd()), path, flags, mode)?;
    // SAFETY: openat returns a descriptor that it made.
    unsafe { owned(c_long::from(fd)) }
}
