//! Mount points, and what is mounted on them, by descriptor: a path is looked up once, and below its root only.

use std::fs::{self, File, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::ResolveFlag;
use nix::libc;
use nix::mount::{MntFlags, umount2};

use crate::error::{Error, Result};
use crate::files;
use crate::sys;

/// A place in the file system, held open.
pub(super) struct MountPoint {
    fd: OwnedFd,
    /// The kernel's number of the mount that it lies in.
    pub(super) mount: u64,
}

impl MountPoint {
    /// Finds `target` below `root` as the container itself will: links lead where they lead inside of `root`, and never out of it. An
    /// image may hold a link to any directory of the host.
    pub(super) fn find(root: &Path, target: &str) -> Result<Self> {
        let flags = libc::O_PATH | libc::O_NOFOLLOW | libc::O_DIRECTORY;
        let directory = OpenOptions::new().read(true).custom_flags(flags).open(root);
        let directory = directory.map_err(|error| Error::at("opening", root, error))?;
        let target = target.trim_start_matches('/');
        if target.is_empty() {
            return Self::of(directory.into());
        }
        let relative = Path::new(target);
        if !relative.components().all(|part| matches!(part, Component::Normal(_))) {
            return Err(Error::BadPath {
                path: relative.to_owned(),
                why: "a mount's target lies below the root file system",
            });
        }
        let place = sys::open_below(directory.as_fd(), relative, ResolveFlag::RESOLVE_IN_ROOT);
        Self::of(place.map_err(|error| Error::at("finding a mount point at", &root.join(relative), error))?)
    }

    /// Finds what lies at a path of the kernel's own table, in which there are no links.
    fn at(path: &Path) -> Result<Self> {
        let failed = |error| Error::at("opening", path, error);
        let here = File::open("/").map_err(failed)?;
        let resolve = ResolveFlag::RESOLVE_NO_SYMLINKS;
        Self::of(sys::open_below(here.as_fd(), path, resolve).map_err(failed)?)
    }

    fn of(fd: OwnedFd) -> Result<Self> {
        let path = PathBuf::from(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()));
        let text = fs::read_to_string(&path).map_err(|error| Error::at("reading", &path, error))?;
        let number = text
            .lines()
            .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok());
        let mount = number.ok_or(Error::Content {
            path,
            expected: "the number of a mount",
        })?;
        Ok(Self { fd, mount })
    }

    /// A path that leads to this very place, whatever happens to its name.
    pub(super) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()))
    }

    /// Unmounts the mount whose root this is, and what lies on it. Detached it is gone from here at once, and from the kernel when nobody
    /// looks at it any more. One that is gone already is no error.
    pub(super) fn detach(&self) -> nix::Result<()> {
        match umount2(&self.path(), MntFlags::MNT_DETACH) {
            Err(Errno::EINVAL) => Ok(()),
            result => result,
        }
    }
}

/// The mounts of this mount namespace: their numbers and where they lie, in their order.
fn table() -> Result<Vec<(u64, PathBuf)>> {
    let path = Path::new("/proc/thread-self/mountinfo");
    let text = fs::read_to_string(path).map_err(|error| Error::at("reading", path, error))?;
    let entry = |line: &str| {
        let mut fields = line.split(' ');
        let number = fields.next()?.parse().ok()?;
        Some((number, unescape(fields.nth(3)?)))
    };
    Ok(text.lines().filter_map(entry).collect())
}

/// Undoes the table's `\040`: blanks, tabs, line ends and backslashes come as three octal digits.
fn unescape(field: &str) -> PathBuf {
    let (mut bytes, mut rest) = (Vec::with_capacity(field.len()), field.as_bytes());
    while let [first, tail @ ..] = rest {
        let digits = tail.get(..3).and_then(|digits| std::str::from_utf8(digits).ok());
        let code = digits.and_then(|digits| u8::from_str_radix(digits, 8).ok());
        rest = if let Some(code) = code.filter(|_| *first == b'\\') {
            bytes.push(code);
            tail.get(3..).unwrap_or_default()
        } else {
            bytes.push(*first);
            tail
        };
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Unmounts the mount with this number, if it lies at or below `root`, and whatever was mounted over it since: that cannot stay.
pub(super) fn detach_number(number: u64, root: &Path) -> Result<()> {
    let root = files::real(root);
    for _ in 0..super::DEPTH_LIMIT {
        let table = table()?;
        let Some((_, point)) = table.iter().find(|(mount, _)| *mount == number) else {
            return Ok(());
        };
        let top = MountPoint::at(point)?;
        let on_top = table.iter().any(|(mount, at)| *mount == top.mount && at == point);
        if !point.starts_with(&root) {
            // Ours is gone, and the number is another mount's by now.
            return Ok(());
        }
        if !on_top {
            return Err(Error::BadPath {
                path: point.clone(),
                why: "another mount hides this one",
            });
        }
        top.detach().map_err(|errno| Error::at("unmounting", point, errno))?;
    }
    Err(super::too_deep(&root))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_s_paths_are_read_as_they_are() {
        assert_eq!(unescape(r"/a\040b\134c"), Path::new("/a b\\c"));
        assert_eq!(unescape(r"/a\04"), Path::new(r"/a\04"));
        assert!(table().unwrap().iter().any(|(_, point)| point == Path::new("/")));
    }
}
