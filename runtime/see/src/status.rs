//! A container's status, read off the kernel.

use std::path::Path;

use crate::cgroup::CgroupRecord;
use crate::error::{Error, Result};
use crate::state::{StateView, Status};

/// The status, read off the kernel.
pub fn status(dir: &StateView) -> Result<Status> {
    let Some(init) = dir.init()? else {
        return Ok(if dir.being_created()? {
            Status::Creating
        } else {
            Status::Stopped
        });
    };
    if !init.lives() {
        return Ok(Status::Stopped);
    }
    // In this order: what is unready becomes what waits, never the other way round.
    let unready = dir.is_unready();
    let waits = dir.awaits_start();
    if unready || (waits && dir.being_created()?) {
        return Ok(Status::Creating);
    }
    // Before «created»: one that waits for `start` can be frozen, too, and would not hear it.
    if frozen(dir.cgroup()?.as_ref())? {
        return Ok(Status::Paused);
    }
    Ok(if waits { Status::Created } else { Status::Running })
}

/// Whether the freezer holds the container's processes.
pub fn frozen(cgroup: &CgroupRecord) -> Result<bool> {
    let read = |path: &Path| match crate::small::read(path) {
        Ok(text) => Ok(Some(text)),
        // ENODEV: removed between open and read, as systemd does with a scope whose last process has ended.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(e) => Err(Error::File {
            doing: "read",
            path: path.to_path_buf(),
            source: e,
        }),
    };
    for file in cgroup.freezer_files() {
        // v1 shows a word (freezer-subsystem.rst), v2 a digit.
        if let Some(state) = read(&file)? {
            return Ok(!matches!(state.trim(), "THAWED" | "0"));
        }
    }
    Ok(false)
}
