//! Ending what is in a cgroup, and removing it.

use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::Cgroup;
use gabion_see::error::{Error, Result};

impl Cgroup {
    /// Kills what is left in it and removes it. A cgroup that is not there is removed.
    pub(crate) fn remove(&self) -> Result<()> {
        // The root of a hierarchy, or a path that climbs, is never ours to clear.
        let ours = |c: std::path::Component<'_>| !matches!(c, std::path::Component::ParentDir);
        if self
            .record
            .path
            .components()
            .all(|c| c == std::path::Component::RootDir)
            || !self.record.path.components().all(ours)
        {
            return Ok(());
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        let directories = self.directories()?;
        loop {
            let mut busy = None;
            for directory in &directories {
                if let Err(errno) = remove_tree(directory) {
                    busy = Some((directory.clone(), errno));
                }
            }
            let Some((path, errno)) = busy else {
                return self.remove_scope();
            };
            if errno != Errno::EBUSY || Instant::now() > deadline {
                return Err(Error::File {
                    doing: "remove cgroup",
                    path,
                    source: errno.into(),
                });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Under systemd the scope must go too; elsewhere there is nothing more. Its directory is gone, and a scope without one ends by
    /// itself (systemd.scope(5)): a systemd that cannot be asked keeps nothing alive, and must not keep a failed create's state.
    fn remove_scope(&self) -> Result<()> {
        match self.scope() {
            Ok(Some(mut scope)) => scope.stop(),
            Ok(None) => Ok(()),
            Err(error) => {
                tracing::debug!(%error, "systemd cannot be asked to end the scope");
                Ok(())
            }
        }
    }
}

/// Removes a cgroup directory and those below it, killing their processes.
fn remove_tree(directory: &Path) -> std::result::Result<(), Errno> {
    let errno = |e: &std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    // Most often it is empty and without children: one call.
    match std::fs::remove_dir(directory) {
        Ok(()) => return Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) if errno(&e) != Errno::EBUSY && errno(&e) != Errno::ENOTEMPTY => return Err(errno(&e)),
        Err(_) => {}
    }
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        // systemd was quicker.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(errno(&e)),
    };
    for entry in entries {
        let entry = entry.map_err(|e| errno(&e))?;
        if entry.file_type().map_err(|e| errno(&e))?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    // A frozen process cannot die (v1 freezer).
    let freezer = directory.join("freezer.state");
    if freezer.exists() {
        std::fs::write(freezer, "THAWED").map_err(|e| errno(&e))?;
    }
    super::signal::signal(directory, libc::SIGKILL)?;
    match std::fs::remove_dir(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(errno(&e)),
        _ => Ok(()),
    }
}
