//! The root below which containers have their directories, and its locks.

use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::STATE;
use crate::error::{Error, Result};
use crate::request::ContainerId;

pub(super) fn lock(dir: &File, how: FlockArg) -> std::result::Result<Flock<File>, Errno> {
    let dir = dir
        .try_clone()
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    Flock::lock(dir, how).map_err(|(_, errno)| errno)
}

pub(super) fn open_dir(path: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
        .open(path)
        .map_err(Error::file("open", path))
}

/// The root holds what governs exec and update: it must be ours alone.
pub(super) fn make_root(root: &Path) -> Result<()> {
    if let Some(parent) = root.parent().filter(|p| !p.as_os_str().is_empty()) {
        fs::create_dir_all(parent).map_err(|source| no_parent(root, parent, source))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(root) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => check_owner(&open_root(root)?, root),
        Err(e) => Err(Error::File {
            doing: "make",
            path: root.to_path_buf(),
            source: e,
        }),
    }
}

/// A user's directory below /run/user is made by a login session, by nobody else.
fn no_parent(root: &Path, parent: &Path, source: std::io::Error) -> Error {
    if parent.starts_with("/run/user") {
        return Error::State {
            path: root.to_path_buf(),
            why: format!(
                "there is no {}; set XDG_RUNTIME_DIR to a directory of the user's own, or give --root",
                parent.display()
            ),
        };
    }
    Error::file("make", parent)(source)
}

/// An engine may give a root that is a symlink (/var/run); what counts is what it leads to.
fn open_root(root: &Path) -> Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_DIRECTORY)
        .open(root)
        .map_err(Error::file("open", root))
}

pub(super) fn check_owner(dir: &File, path: &Path) -> Result<()> {
    let meta = dir.metadata().map_err(Error::file("look at", path))?;
    let euid = nix::unistd::geteuid().as_raw();
    if (meta.uid() != euid && meta.uid() != 0) || meta.mode() & 0o022 != 0 {
        let why = format!(
            "owner {} and mode {:o}: gabion's state must be the caller's alone; remove it, or give another --root",
            meta.uid(),
            meta.mode() & 0o7777
        );
        return Err(Error::State {
            path: path.to_path_buf(),
            why,
        });
    }
    Ok(())
}

/// Every id below a root.
pub fn ids(root: &Path) -> Result<Vec<ContainerId>> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => {
            return Err(Error::File {
                doing: "list",
                path: root.to_path_buf(),
                source: e,
            });
        }
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.map_err(Error::file("list", root))?;
        let is_dir = entry.file_type().map_err(Error::file("list", root))?.is_dir();
        // Anything else (a seccomp cache, a stray file) is not a container.
        if let (true, Ok(name)) = (
            is_dir && entry.path().join(STATE).exists(),
            entry.file_name().into_string(),
        ) && let Ok(id) = ContainerId::try_from(name)
        {
            ids.push(id);
        }
    }
    ids.sort_by(|a, b| a.as_str().cmp(b.as_str()));
    Ok(ids)
}
