//! Meets needs in a round's image before the program starts: it fails at the next thing then, or not at all.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use gabion_core::learn::Denied;
use gabion_see::error::{Error, Result};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, mkdirat};

const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_BENEATH: u64 = 0x08;

/// Everybody's, as /tmp is.
const OPEN: u32 = 0o1777;

pub(super) fn grant(root: &Path, needed: &BTreeSet<Denied>) -> Result<()> {
    for denied in needed {
        let granted = match denied {
            Denied::Missing { dir, uid } => {
                directory(root, dir).and_then(|fd| if *uid == 0 { Ok(()) } else { open_up(&fd) })
            }
            Denied::Foreign { dir, .. } => directory(root, dir).and_then(|fd| open_up(&fd)),
            Denied::ForeignFile { file, .. } => {
                let dir = file.parent().unwrap_or(file);
                directory(root, dir).and_then(|fd| empty(&fd).and_then(|()| open_up(&fd)))
            }
            Denied::ReadOnly { .. } | Denied::NoExec { .. } | Denied::Port(_) | Denied::Capability { .. } => Ok(()),
        };
        granted
            .map_err(|errno| Error::file("make writable, in a copy, what the program needs in", root)(errno.into()))?;
    }
    Ok(())
}

/// Opens a directory below the root, and makes what is missing of the way. Through no symbolic link: the path was told without any.
fn directory(root: &Path, path: &Path) -> nix::Result<OwnedFd> {
    let mut at = gabion_sys::open(
        root,
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    for part in path.components() {
        let Component::Normal(name) = part else { continue };
        let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
        match mkdirat(Some(at.as_raw_fd()), name.as_c_str(), Mode::from_bits_truncate(0o755)) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(errno),
        }
        at = gabion_sys::openat2(
            at.as_fd(),
            &name,
            libc::O_RDONLY | libc::O_DIRECTORY,
            RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH,
        )?;
    }
    Ok(at)
}

fn open_up(dir: &OwnedFd) -> nix::Result<()> {
    fchmod(dir.as_raw_fd(), Mode::from_bits_truncate(OPEN))
}

/// Removes what the image has there.
fn empty(dir: &OwnedFd) -> nix::Result<()> {
    let errno = |error: std::io::Error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
    for entry in fs::read_dir(format!("/proc/self/fd/{}", dir.as_raw_fd())).map_err(errno)? {
        let entry = entry.map_err(errno)?;
        let is_dir = entry.file_type().map_err(errno)?.is_dir();
        let gone = if is_dir {
            fs::remove_dir_all(entry.path())
        } else {
            fs::remove_file(entry.path())
        };
        gone.map_err(errno)?;
    }
    Ok(())
}
