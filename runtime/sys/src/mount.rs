//! Mounts by descriptor: the mount API of kernel 5.2 and later.

use std::ffi::{CStr, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::Result;

use super::{AT_EMPTY_PATH, AT_RECURSIVE, EMPTY, done, owned};

// linux/mount.h; not in libc for every target.
pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub const MOUNT_ATTR_ATIME: u64 = 0x70;
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// What is to change of a mount (mount_setattr(2)). Ids are mapped by `map_ids`, which takes a descriptor and no number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
}

/// `struct mount_attr` (mount_setattr(2)), first published size.
#[repr(C)]
pub(super) struct RawMountAttr {
    pub(super) set: u64,
    pub(super) clear: u64,
    pub(super) propagation: u64,
    pub(super) userns_fd: u64,
}

/// How far a mount operation reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    One,
    /// The mounts below it too.
    Tree,
}

impl Reach {
    const fn flag(self) -> c_uint {
        match self {
            Self::One => 0,
            Self::Tree => AT_RECURSIVE,
        }
    }
}

/// A detached copy of the mount at `fd` (open_tree(2) OPEN_TREE_CLONE), close-on-exec.
pub fn open_tree_clone(fd: BorrowedFd<'_>, reach: Reach) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: c_uint = 1;
    const OPEN_TREE_CLOEXEC: c_uint = 0o2_000_000;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | reach.flag();
    // SAFETY: fd is open for the call; the path is a valid, empty C string.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), EMPTY.as_ptr(), flags) };
    // SAFETY: open_tree returns a descriptor that it made.
    unsafe { owned(tree) }
}

/// Changes a mount's attributes (mount_setattr(2)).
pub fn mount_setattr(fd: BorrowedFd<'_>, reach: Reach, attr: &MountAttr) -> Result<()> {
    let raw = RawMountAttr {
        set: attr.set,
        clear: attr.clear,
        propagation: attr.propagation,
        userns_fd: 0,
    };
    set_raw(fd, reach, &raw)
}

/// Maps the ids of a detached mount by a user namespace (mount_setattr(2), MOUNT_ATTR_IDMAP).
pub fn map_ids(fd: BorrowedFd<'_>, reach: Reach, user_ns: BorrowedFd<'_>) -> Result<()> {
    let raw = RawMountAttr {
        set: MOUNT_ATTR_IDMAP,
        clear: 0,
        propagation: 0,
        userns_fd: u64::from(user_ns.as_raw_fd().cast_unsigned()),
    };
    set_raw(fd, reach, &raw)
}

fn set_raw(fd: BorrowedFd<'_>, reach: Reach, attr: &RawMountAttr) -> Result<()> {
    let flags = AT_EMPTY_PATH | reach.flag();
    let size = size_of::<RawMountAttr>();
    // SAFETY: attr points to a mount_attr of the size given, alive for the call and only read.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            EMPTY.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size,
        )
    })
}

/// Attaches the mount at `from` on top of `to` (move_mount(2)).
pub fn move_mount(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    const F_EMPTY_PATH: c_uint = 0x4;
    const T_EMPTY_PATH: c_uint = 0x40;
    let (from, to, flags) = (from.as_raw_fd(), to.as_raw_fd(), F_EMPTY_PATH | T_EMPTY_PATH);
    // SAFETY: both descriptors are open for the call; both paths are valid, empty C strings.
    done(unsafe { libc::syscall(libc::SYS_move_mount, from, EMPTY.as_ptr(), to, EMPTY.as_ptr(), flags) })
}

/// A new file system context (fsopen(2)), close-on-exec.
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: c_uint = 1;
    // SAFETY: fstype is a valid C string.
    let fs = unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) };
    // SAFETY: fsopen returns a descriptor that it made.
    unsafe { owned(fs) }
}

fn fsconfig(fs: BorrowedFd<'_>, command: c_uint, key: Option<&CStr>, value: Option<&CStr>) -> Result<()> {
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    let (key, value) = (pointer(key), pointer(value));
    // SAFETY: key and value are null or C strings that outlive the call, and only read.
    done(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) })
}

/// Sets `key=value` of a file system context (fsconfig(2)).
pub fn fsconfig_string(fs: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<()> {
    fsconfig(fs, 1, Some(key), Some(value))
}

/// Sets a flag of a file system context.
pub fn fsconfig_flag(fs: BorrowedFd<'_>, key: &CStr) -> Result<()> {
    fsconfig(fs, 0, Some(key), None)
}

/// Makes the superblock of a file system context.
pub fn fsconfig_create(fs: BorrowedFd<'_>) -> Result<()> {
    fsconfig(fs, 6, None, None)
}

/// A detached mount of a file system context (fsmount(2)), close-on-exec.
pub fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    const FSMOUNT_CLOEXEC: c_uint = 1;
    // SAFETY: fs is open for the call.
    let mount = unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) };
    // SAFETY: fsmount returns a descriptor that it made.
    unsafe { owned(mount) }
}
