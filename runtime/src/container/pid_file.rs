//! The file that tells a caller the pid: whole or not at all, engines read it as soon as it is there.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{Pid, UnlinkatFlags, unlinkat};

use gabion_common::whole;
use gabion_see::error::{Error, Result};

/// A file that was written.
#[derive(Debug)]
pub(crate) struct PidFile {
    dir: OwnedFd,
    path: PathBuf,
}

impl PidFile {
    /// Writes it for everybody to read, whatever our umask. A link that lies there is replaced, never followed.
    ///
    /// # Errors
    /// It cannot be written; nothing is left of the try.
    pub(crate) fn write(path: &Path, pid: Pid) -> Result<Self> {
        let failed = |e: nix::errno::Errno| Error::file("write", path)(e.into());
        let name = path.file_name().ok_or(nix::errno::Errno::EINVAL).map_err(failed)?;
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let dir = gabion_sys::open_path(parent.unwrap_or(Path::new(".")), OFlag::O_DIRECTORY).map_err(failed)?;
        let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IROTH;
        whole::write_at(dir.as_fd(), Path::new(name), mode, pid.to_string().as_bytes()).map_err(failed)?;
        let path = path.to_path_buf();
        Ok(Self { dir, path })
    }

    /// Removes it: the process that it names came to nothing.
    pub(crate) fn remove(self) {
        let name = self.path.file_name().unwrap_or(OsStr::new(""));
        if let Err(error) = unlinkat(Some(self.dir.as_raw_fd()), name, UnlinkatFlags::NoRemoveDir) {
            tracing::debug!(%error, path = %self.path.display(), "removing the pid file");
        }
    }
}
