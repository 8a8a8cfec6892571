//! Holes: tmpfs in a read-only root, with what the image has there copied up.
//!
//! The copy trusts nothing: no symlink is followed, devices are skipped, setuid bits dropped, and what does not fit is an
//! error that names the size. It runs in the container's own memory cgroup.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::dir::Type;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, SFlag};
use nix::unistd::{Gid, Uid};

use crate::build::fsmount;
use crate::build::target::{self, Point};
use crate::contract::setup::{Create, Setup};
use crate::faults;
use gabion_core::hardened::Hole;
use gabion_core::size::Size;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID};

/// How deep an image's directories may nest under a hole.
const MAX_DEPTH: u32 = 64;
/// setuid and setgid: a hole is nosuid, and its files may be bound elsewhere.
const SPECIAL: u32 = 0o6000;

/// Makes every hole of the plan.
pub(crate) fn dig(setup: &Setup<'_>, create: &Create<'_>, root: BorrowedFd<'_>) -> Result<()> {
    if !setup.hardened.plan().holes.is_empty() {
        faults::at(Step::Holes)?;
    }
    for hole in &setup.hardened.plan().holes {
        dig_one(root, hole, create.mount_label.as_deref())?;
    }
    Ok(())
}

fn cannot(doing: &'static str, path: &Path) -> impl Fn(Errno) -> Error {
    let path = path.display().to_string();
    move |e| Error::step(Step::Holes, format!("{doing} {path}"), e)
}

fn dig_one(root: BorrowedFd<'_>, hole: &Hole, label: Option<&str>) -> Result<()> {
    let existed = target::resolve_vetted(root, &hole.target).is_ok();
    let place = target::open_vetted(Step::Holes, root, &hole.path, &hole.target, Point::Directory)?;
    let mut options = vec![format!("size={}", hole.size), format!("mode={:o}", hole.mode)];
    options.extend(fsmount::context(label));
    let attributes = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let made =
        fsmount::create("tmpfs", "hole", &options, attributes).map_err(cannot("make a tmpfs for", &hole.path))?;
    if existed {
        copy_up(place.as_fd(), made.as_fd(), &hole.path).map_err(|e| no_room(e, hole))?;
        if hole.mode_asked {
            let bits = Mode::from_bits_truncate(hole.mode);
            // By its name: what fsmount gives is no descriptor to change things by.
            nix::sys::stat::fchmodat(Some(made.as_raw_fd()), ".", bits, FchmodatFlags::FollowSymlink)
                .map_err(cannot("set the mode of", &hole.path))?;
        }
    }
    gabion_sys::move_mount(made.as_fd(), place.as_fd()).map_err(cannot("attach the hole at", &hole.path))
}

/// What does not fit says so, with the size and the remedy.
fn no_room(error: Error, hole: &Hole) -> Error {
    match error {
        Error::Step {
            errno: Errno::ENOSPC, ..
        } => {
            let (path, size) = (hole.path.display(), Size(hole.size));
            Error::RefusedCall {
                code: "holes.image-content-too-large",
                what: format!("the image's content at {path} does not fit into its hole of {size}"),
                remedy: format!(
                    "give it more with the annotation dev.gabion.holes=\"{path}:size=…\", or mount a volume there"
                ),
            }
        }
        other => other,
    }
}

/// Copies owner, mode, times, xattrs and content of the directory `from` into the directory `to`.
pub(crate) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>, path: &Path) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let open = |fd: BorrowedFd<'_>| gabion_sys::openat(fd.as_fd(), ".", flags, Mode::empty());
    let from = open(from).map_err(cannot("read", path))?;
    let to = open(to).map_err(cannot("write", path))?;
    copy_directory(&from, &to, 0).map_err(cannot("copy what the image has at", path))
}

/// Gives the top of a tmpfs the owner and mode that its own options name: copying gave it the image's.
pub(crate) fn as_asked(top: BorrowedFd<'_>, options: &[String]) -> nix::Result<()> {
    let value = |key: &str| {
        options
            .iter()
            .rev()
            .find_map(|o| o.strip_prefix(key)?.strip_prefix('='))
    };
    let number = |text: &str, radix| u32::from_str_radix(text, radix).map_err(|_| Errno::EINVAL);
    let uid = value("uid").map(|text| number(text, 10)).transpose()?;
    let gid = value("gid").map(|text| number(text, 10)).transpose()?;
    // By its name: what fsmount gives is no descriptor to change things by.
    let raw = Some(top.as_raw_fd());
    if uid.is_some() || gid.is_some() {
        let (uid, gid) = (uid.map(Uid::from_raw), gid.map(Gid::from_raw));
        nix::unistd::fchownat(raw, ".", uid, gid, AtFlags::empty())?;
    }
    match value("mode").map(|text| number(text, 8)).transpose()? {
        Some(mode) => {
            let mode = Mode::from_bits_truncate(mode);
            nix::sys::stat::fchmodat(raw, ".", mode, FchmodatFlags::FollowSymlink)
        }
        None => Ok(()),
    }
}

fn copy_directory(from: &OwnedFd, to: &OwnedFd, depth: u32) -> nix::Result<()> {
    if depth > MAX_DEPTH {
        return Err(Errno::ELOOP);
    }
    let mut listing = gabion_sys::directory(from.try_clone().map_err(io_errno)?)?;
    for entry in listing.iter() {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        copy_entry(from, to, name, entry.file_type(), depth)?;
    }
    // Last: making entries changed the times.
    let stat = nix::sys::stat::fstat(from.as_raw_fd())?;
    copy_xattrs(from, to)?;
    set_meta(to, &stat)
}

fn io_errno(e: std::io::Error) -> Errno {
    Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))
}

fn copy_entry(from: &OwnedFd, to: &OwnedFd, name: &CStr, kind: Option<Type>, depth: u32) -> nix::Result<()> {
    let (from_raw, to_raw) = (Some(from.as_raw_fd()), Some(to.as_raw_fd()));
    let kind = match kind {
        Some(kind) => kind,
        // A file system that does not tell.
        None => kind_of(&nix::sys::stat::fstatat(from_raw, name, AtFlags::AT_SYMLINK_NOFOLLOW)?),
    };
    let read = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    match kind {
        Type::Directory => {
            let source = gabion_sys::openat(from.as_fd(), name, read | OFlag::O_DIRECTORY, Mode::empty())?;
            nix::sys::stat::mkdirat(to_raw, name, Mode::S_IRWXU)?;
            let copy = gabion_sys::openat(to.as_fd(), name, read | OFlag::O_DIRECTORY, Mode::empty())?;
            copy_directory(&source, &copy, depth + 1)
        }
        Type::File => copy_file(from.as_fd(), to.as_fd(), name, read),
        Type::Symlink => {
            let link = nix::fcntl::readlinkat(from_raw, name)?;
            let stat = nix::sys::stat::fstatat(from_raw, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            nix::unistd::symlinkat(link.as_os_str(), to_raw, name)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            nix::unistd::fchownat(to_raw, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        }
        Type::Fifo => {
            let stat = nix::sys::stat::fstatat(from_raw, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
            let mode = Mode::from_bits_truncate(stat.st_mode & 0o777);
            nix::sys::stat::mknodat(to_raw, name, SFlag::S_IFIFO, mode, 0)?;
            // The umask took its part.
            nix::sys::stat::fchmodat(to_raw, name, mode, FchmodatFlags::FollowSymlink)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            nix::unistd::fchownat(to_raw, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
        }
        // Devices are never copied; a socket without its listener is nothing.
        Type::CharacterDevice | Type::BlockDevice | Type::Socket => Ok(()),
    }
}

fn kind_of(stat: &FileStat) -> Type {
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFDIR => Type::Directory,
        libc::S_IFREG => Type::File,
        libc::S_IFLNK => Type::Symlink,
        libc::S_IFIFO => Type::Fifo,
        libc::S_IFBLK => Type::BlockDevice,
        libc::S_IFCHR => Type::CharacterDevice,
        _ => Type::Socket,
    }
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, read: OFlag) -> nix::Result<()> {
    let source = gabion_sys::openat(from, name, read, Mode::empty())?;
    let stat = nix::sys::stat::fstat(source.as_raw_fd())?;
    // It may have been swapped since it was listed.
    if kind_of(&stat) != Type::File {
        return Ok(());
    }
    let write = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let copy = gabion_sys::openat(to, name, write, Mode::S_IRUSR | Mode::S_IWUSR)?;
    let (mut source, mut copy) = (File::from(source), File::from(copy));
    std::io::copy(&mut source, &mut copy).map_err(io_errno)?;
    let (source, copy) = (OwnedFd::from(source), OwnedFd::from(copy));
    copy_xattrs(&source, &copy)?;
    set_meta(&copy, &stat)
}

/// Owner first: chown(2) clears bits that chmod sets.
fn set_meta(fd: &OwnedFd, stat: &FileStat) -> nix::Result<()> {
    let raw = fd.as_raw_fd();
    nix::unistd::fchown(raw, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    let mode = if kind_of(stat) == Type::Directory {
        stat.st_mode & 0o7777
    } else {
        stat.st_mode & 0o7777 & !SPECIAL
    };
    nix::sys::stat::fchmod(raw, Mode::from_bits_truncate(mode))?;
    let time = |s, n| nix::sys::time::TimeSpec::new(s, n);
    let (access, change) = (
        time(stat.st_atime, stat.st_atime_nsec),
        time(stat.st_mtime, stat.st_mtime_nsec),
    );
    nix::sys::stat::futimens(raw, &access, &change)
}

/// The kernel's bound of a list of names (xattr(7), XATTR_LIST_MAX): an image decides how long its files' lists are.
const MOST_NAMES: usize = 64 << 10;

/// The user's extended attributes and ACLs. Nothing of security.* and trusted.*: file capabilities would do nothing here and
/// something elsewhere, labels are the mount's, the rest speaks of the file system that it came from.
fn copy_xattrs(from: &OwnedFd, to: &OwnedFd) -> nix::Result<()> {
    let mut names = vec![0_u8; MOST_NAMES];
    let length = match gabion_sys::flistxattr(from, &mut names) {
        Ok(length) => length,
        Err(Errno::EOPNOTSUPP) => return Ok(()),
        Err(e) => return Err(e),
    };
    for name in names[..length].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        if !name.starts_with(b"user.") && !name.starts_with(b"system.posix_acl_") {
            continue;
        }
        let name = CString::new(name).map_err(|_| Errno::EINVAL)?;
        let mut value = vec![0_u8; 64 << 10];
        let length = gabion_sys::fgetxattr(from, &name, &mut value)?;
        match gabion_sys::fsetxattr(to, &name, &value[..length]) {
            // A tmpfs that does not know this kind (user.* before 6.6).
            Ok(()) | Err(Errno::EOPNOTSUPP) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::sys::memfd::{MemFdCreateFlag, memfd_create};

    use super::*;

    /// An image decides how many attributes its files have: their names alone may be longer than a page.
    #[test]
    fn a_long_list_of_attributes_is_copied() {
        let file = || memfd_create(c"gabion-xattrs", MemFdCreateFlag::MFD_CLOEXEC).unwrap();
        let (from, to) = (file(), file());
        let names: Vec<CString> = (0..40)
            .map(|n| CString::new(format!("user.{n:03}{}", "x".repeat(200))).unwrap())
            .collect();
        for name in &names {
            match gabion_sys::fsetxattr(&from, name, b"v") {
                // A tmpfs before 6.6.
                Err(Errno::EOPNOTSUPP) => return,
                set => set.unwrap(),
            }
        }
        copy_xattrs(&from, &to).unwrap();
        for name in &names {
            assert_eq!(gabion_sys::fgetxattr(&to, name, &mut [0; 8]), Ok(1));
        }
    }
}
