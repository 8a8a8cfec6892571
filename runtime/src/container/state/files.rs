//! The files of a container's directory: written whole, and read as what may have been damaged since.

use std::fs::{self, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;

use super::{Init, LARGEST, PID, StateDir};
use crate::container::cgroup::CgroupRecord;
use crate::error::{Error, Result};

impl StateDir {
    /// Writes the first process's pid, and on a second line where it will be.
    pub fn write_init(&self, init: Init, cgroup: &CgroupRecord) -> Result<()> {
        let cgroup = serde_json::to_string(cgroup).map_err(|e| self.damaged(PID, e.to_string()))?;
        self.write_file(PID, format!("{} {}\n{cgroup}\n", init.pid, init.start).as_bytes())
    }

    /// The first process, if one was made.
    pub fn init(&self) -> Result<Option<Init>> {
        Ok(self.pid_file()?.map(|(init, _)| *init))
    }

    /// What of a container can be found without `state.json`: None where no process was made.
    pub fn traces(&self) -> Result<Option<(Init, CgroupRecord)>> {
        let Some((init, rest)) = self.pid_file()? else {
            return Ok(None);
        };
        let cgroup: CgroupRecord = serde_json::from_str(rest).map_err(|e| self.damaged(PID, e.to_string()))?;
        if !self.is_of(&cgroup.name) {
            return Err(self.damaged(PID, format!("it is of another container, {}", cgroup.name)));
        }
        Ok(Some((*init, cgroup)))
    }

    fn pid_file(&self) -> Result<Option<&(Init, String)>> {
        if let Some(read) = self.pid.get() {
            return Ok(Some(read));
        }
        let text = match self.read_file(PID) {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let parsed = || {
            let text = String::from_utf8(text).ok()?;
            let (first, rest) = text.split_once('\n')?;
            let (pid, start) = first.split_once(' ')?;
            let init = Init {
                pid: pid.parse().ok().filter(|pid| *pid > 0)?,
                start: start.parse().ok()?,
            };
            Some((init, rest.to_owned()))
        };
        let read = parsed().ok_or_else(|| self.damaged(PID, "not a pid and a start time".to_owned()))?;
        Ok(Some(self.pid.get_or_init(|| read)))
    }

    /// A copy of a directory under another name would end the container that it was copied from.
    pub(super) fn is_of(&self, id: &str) -> bool {
        self.path.file_name().is_some_and(|name| name == id)
    }

    /// A regular file, in bounds: whatever else lies there is not what was written.
    pub(super) fn read_file(&self, name: &str) -> Result<Vec<u8>> {
        let path = self.path.join(name);
        let failed = |e| Error::file("read", &path)(e);
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(&path)
            .map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() || meta.len() > LARGEST {
            let why = format!("not a file of at most {} MiB", LARGEST >> 20);
            return Err(self.damaged(name, why));
        }
        let mut content = Vec::with_capacity(usize::try_from(meta.len()).unwrap_or(0));
        file.take(LARGEST).read_to_end(&mut content).map_err(failed)?;
        Ok(content)
    }

    pub(super) fn damaged(&self, name: &str, why: String) -> Error {
        Error::State {
            path: self.path.join(name),
            why,
        }
    }

    /// Whole or not at all: a temporary file, then rename(2).
    pub(super) fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let path = self.path.join(name);
        let temporary = self.path.join(format!(".{name}.new"));
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&temporary)
            .map_err(Error::file("write", &temporary))?;
        file.write_all(content).map_err(Error::file("write", &temporary))?;
        fs::rename(&temporary, &path).map_err(Error::file("write", path))
    }
}
