//! Reading what gabion keeps of a container, in its own root-only directory, and what it can say of it.
//!
//! `state.json` is written before anything of the container exists, so that a crash at any later point leaves enough to clean up by; again
//! only by `update`. The first process's pid follows in its own small file, with the cgroup once more: either file is enough to clear up by.
//! Status is never stored: it is read off the kernel (`status`).

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use gabion_core::request::ContainerId;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, FlockArg, OFlag};
use nix::sys::stat::{Mode, fstatat};
use serde::de::DeserializeOwned;

use crate::cgroup::CgroupRecord;
use crate::error::{Error, Result, Step};
use crate::vetted::{self, Fault};
pub use crate::vetted::{DIRECTORY, FILES};

mod init;
mod record;
mod root;

pub use init::Init;
pub use record::{Brief, Record, Status};
use record::{BriefFile, Form};
pub use root::{ids, judge_root, lock, not_ours, open_root};

/// The format of `state.json`. Another number is not read.
pub const VERSION: u32 = 1;
/// What create decided, and where everything is.
pub const STATE: &str = "state.json";
/// The first process's pid and start time, and the cgroup.
pub const PID: &str = "pid";
/// The cgroup that a container is being given, until `state.json` has it: a runtime that dies between leaves the directory, and `delete` finds
/// it by this.
pub const TAKING: &str = "cgroup";
/// The socket on which the created process waits for `start`; its absence means that it was started.
pub const START_SOCKET: &str = "start.sock";
/// The same while the container is being made: a runtime that dies then leaves none that could be taken for created.
pub const UNREADY_SOCKET: &str = "start.sock.unready";

/// A container's directory below the root, open: whatever is read or written there goes through this descriptor, so that a directory
/// which takes the place of this one is never touched in its stead.
#[derive(Debug)]
pub struct StateView {
    path: PathBuf,
    dir: File,
    /// What was read of `state.json`, or written there: a command goes by one record from its beginning to its end.
    record: OnceCell<Record>,
    /// What was read of the pid file, once there was one: nobody writes it a second time.
    pid: OnceCell<(Init, String)>,
}

impl AsFd for StateView {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}

impl StateView {
    /// Takes a directory that was just made, or judged.
    pub const fn at(path: PathBuf, dir: File) -> Self {
        Self {
            path,
            dir,
            record: OnceCell::new(),
            pid: OnceCell::new(),
        }
    }

    /// Opens the directory of an existing container. Nothing in it is read before its owner and mode are judged.
    ///
    /// # Errors
    /// «does not exist»; a directory that others own or may write to.
    pub fn open(root: &Path, id: &ContainerId) -> Result<Self> {
        let path = root.join(id.as_str());
        let opened = match root::open_root(root) {
            Ok(root) => vetted::open_with(Some(root.as_fd()), Path::new(id.as_str()), OFlag::O_RDONLY, &DIRECTORY),
            Err(Fault::Missing | Fault::NotADirectory) => Err(Fault::Missing),
            Err(fault) => return Err(root::not_ours(root, fault)),
        };
        match opened {
            Ok(dir) => Ok(Self::at(path, dir)),
            Err(Fault::Missing | Fault::NotADirectory) => Err(Error::NotFound { id: id.to_string() }),
            Err(fault) => Err(root::not_ours(&path, fault)),
        }
    }

    /// Gives the directory's path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Gives the directory itself.
    pub const fn dir(&self) -> &File {
        &self.dir
    }

    /// Gives what `state.json` says; it is read once.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn record(&self) -> Result<&Record> {
        if let Some(record) = self.record.get() {
            return Ok(record);
        }
        let record = self.read_state(|record: &Record| (record.version, &record.id))?;
        Ok(self.record.get_or_init(|| record))
    }

    /// Leaves what was just made to the command that goes on with it.
    pub fn keep(&mut self, record: Record) {
        self.record = OnceCell::from(record);
    }

    /// Gives what `start` and `delete` need of `state.json`.
    ///
    /// # Errors
    /// It is missing or damaged.
    pub fn brief(&self) -> Result<Brief> {
        if let Some(record) = self.record.get() {
            return Ok(record.into());
        }
        let file: BriefFile = self.read_state(|file: &BriefFile| (file.version, &file.id))?;
        Ok(file.into())
    }

    /// Gives the place of its processes: by what is read already, else by the smaller file that says so.
    ///
    /// # Errors
    /// Neither file can be read.
    pub fn cgroup(&self) -> Result<Cow<'_, CgroupRecord>> {
        if self.record.get().is_none()
            && let Ok(Some((_, cgroup))) = self.traces()
        {
            return Ok(Cow::Owned(cgroup));
        }
        self.record().map(|record| Cow::Borrowed(&record.cgroup))
    }

    /// `head` gives the format's number and whose state it is.
    fn read_state<T: DeserializeOwned>(&self, head: impl Fn(&T) -> (u32, &ContainerId)) -> Result<T> {
        let text = self.read(STATE)?;
        let state: T = serde_json::from_slice(&text).map_err(|e| self.damaged(STATE, e.to_string()))?;
        let (version, id) = head(&state);
        if version != VERSION {
            let why = format!("written by another version of gabion (format {version}, ours is {VERSION})");
            return Err(self.damaged(STATE, why));
        }
        if !self.is_of(id.as_str()) {
            return Err(self.damaged(STATE, format!("it is of another container, {id}")));
        }
        Ok(state)
    }

    /// Gives the first process, if one was made.
    ///
    /// # Errors
    /// The pid file is damaged.
    pub fn init(&self) -> Result<Option<Init>> {
        Ok(self.pid_file()?.map(|(init, _)| *init))
    }

    /// Gives what of a container can be found without `state.json`: None where no process was made.
    ///
    /// # Errors
    /// The pid file is damaged.
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

    /// Gives the cgroup that was being taken when the runtime died, if it died then.
    ///
    /// # Errors
    /// The file is damaged.
    pub fn taking(&self) -> Result<Option<CgroupRecord>> {
        let text = match self.read(TAKING) {
            Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            other => other?,
        };
        let cgroup: CgroupRecord = serde_json::from_slice(&text).map_err(|e| self.damaged(TAKING, e.to_string()))?;
        if !self.is_of(&cgroup.name) {
            return Err(self.damaged(TAKING, format!("it is of another container, {}", cgroup.name)));
        }
        Ok(Some(cgroup))
    }

    fn pid_file(&self) -> Result<Option<&(Init, String)>> {
        if let Some(read) = self.pid.get() {
            return Ok(Some(read));
        }
        let text = match self.read(PID) {
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

    /// Tells whether one of its two files has the form that gabion gives it, of whatever version and container.
    pub fn is_in_our_form(&self) -> bool {
        let state = || serde_json::from_slice::<Form>(&self.read(STATE).ok()?).ok();
        let pid = || serde_json::from_str::<CgroupRecord>(&self.pid_file().ok()??.1).ok();
        state().is_some() || pid().is_some()
    }

    /// A copy of a directory under another name would end the container that it was copied from.
    fn is_of(&self, id: &str) -> bool {
        self.path.file_name().is_some_and(|name| name == id)
    }

    /// Reads a file of the directory: regular, ours, in bounds. Whatever else lies there is not what was written.
    ///
    /// # Errors
    /// It is missing (`Error::File` with NotFound), or not such a file.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        vetted::read_at(&self.dir, name, &FILES).map_err(|fault| match fault {
            Fault::Missing | Fault::Open(_) => Error::file("read", self.path.join(name))(fault.into()),
            other => self.damaged(name, other.to_string()),
        })
    }

    /// Makes the error for a file that is not what was written.
    pub fn damaged(&self, name: &str, why: String) -> Error {
        Error::State {
            path: self.path.join(name),
            why,
        }
    }

    /// Tells whether somebody is making this container right now.
    ///
    /// # Errors
    /// The directory's lock cannot be looked at.
    pub fn being_created(&self) -> Result<bool> {
        let failed = |e| Error::step(Step::StateDir, "look at the lock of the state directory", e);
        // A second open file description: locks belong to those (flock(2)).
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let again = gabion_sys::openat(self.dir.as_fd(), ".", flags, Mode::empty()).map_err(failed)?;
        match lock(&again.into(), FlockArg::LockSharedNonblock) {
            Ok(_unlocks_when_dropped) => Ok(false),
            Err(Errno::EWOULDBLOCK) => Ok(true),
            Err(e) => Err(failed(e)),
        }
    }

    /// Tells whether the path still leads to this very directory.
    pub fn is_current(&self) -> bool {
        let id = |meta: std::io::Result<std::fs::Metadata>| meta.map(|m| (m.dev(), m.ino()));
        matches!((id(self.dir.metadata()), id(std::fs::symlink_metadata(&self.path))), (Ok(a), Ok(b)) if a == b)
    }

    /// Gives a path of this directory that is short enough for a socket's name (sun_path holds 107 bytes).
    pub fn socket_path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }

    fn has(&self, name: &str) -> bool {
        fstatat(Some(self.dir.as_raw_fd()), name, AtFlags::AT_SYMLINK_NOFOLLOW).is_ok()
    }

    /// Tells whether `start` is still to come.
    pub fn awaits_start(&self) -> bool {
        self.has(START_SOCKET)
    }

    /// Tells whether the first process is not ready yet, and never will be if its maker has died.
    pub fn is_unready(&self) -> bool {
        self.has(UNREADY_SOCKET)
    }
}
