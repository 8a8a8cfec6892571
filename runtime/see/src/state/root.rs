//! The root below which containers have their directories, and its locks.

use std::fs::{self, File};
use std::path::Path;

use gabion_core::request::ContainerId;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::{DIRECTORY, STATE};
use crate::error::{Error, Result};
use crate::vetted::{self, Fault, Links, Rules};

/// Locks an open directory (flock(2)).
///
/// # Errors
/// EWOULDBLOCK where somebody else holds it.
pub fn lock(dir: &File, how: FlockArg) -> std::result::Result<Flock<File>, Errno> {
    let dir = dir
        .try_clone()
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    Flock::lock(dir, how).map_err(|(_, errno)| errno)
}

/// Judges the root: it holds what governs exec and update, so it must be the caller's alone. An engine may give a root that is a symlink
/// (/var/run); what counts is what it leads to.
///
/// # Errors
/// Others own it or may write to it.
pub fn judge_root(root: &Path) -> Result<()> {
    open_root(root).map(drop).map_err(|fault| not_ours(root, fault))
}

/// Opens the root, judged.
///
/// # Errors
/// It cannot be opened; others own it or may write to it.
pub fn open_root(root: &Path) -> std::result::Result<File, Fault> {
    let rules = Rules {
        links: Links::Follow,
        ..DIRECTORY
    };
    vetted::open(root, &rules)
}

/// Makes the error for a directory that is not the caller's alone.
pub fn not_ours(path: &Path, fault: Fault) -> Error {
    let why = match fault {
        Fault::Owner(_) | Fault::Mode(_) | Fault::Symlink => {
            format!("{fault}: gabion's state must be the caller's alone; remove it, or give another --root")
        }
        other => return Error::file("open", path)(other.into()),
    };
    Error::State {
        path: path.to_path_buf(),
        why,
    }
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
