//! What gabion keeps of a container, in its own root-only directory, and what it can say of it.
//!
//! `state.json` is written once, before anything of the container exists, so that a crash at any later point leaves enough to
//! clean up by. The first process's pid follows in its own small file, with the cgroup once more: either file is enough to clear
//! up by. Status is never stored: it is read off the kernel.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::de::DeserializeOwned;

use crate::container::cgroup::CgroupRecord;
use crate::error::{Error, Result, Step};
use crate::faults;
use crate::json;
use crate::request::ContainerId;

mod files;
mod init;
mod record;
mod root;

pub use init::Init;
use record::BriefFile;
pub use record::{Brief, Record, Status};
pub use root::ids;
use root::{check_owner, lock, make_root, open_dir};

/// How long one update waits for another.
const PATIENCE: Duration = Duration::from_secs(10);
/// The format of `state.json`. Another number is not read.
const VERSION: u32 = 1;
/// About what it is with an engine's seccomp profile in it.
const USUAL: usize = 32 << 10;
const STATE: &str = "state.json";
const PID: &str = "pid";
/// The largest file that is read. A config.json has at most 8 MiB, and the state has it once.
const LARGEST: u64 = 64 << 20;
/// Locked by whoever changes `state.json` of a container that is there.
const TURN: &str = "update.lock";
/// The socket on which the created process waits for `start`; its absence means that it was started.
pub const START_SOCKET: &str = "start.sock";
/// The same while the container is being made: a runtime that dies then leaves none that could be taken for created.
pub const UNREADY_SOCKET: &str = "start.sock.unready";

/// A container's directory below the root.
#[derive(Debug)]
pub struct StateDir {
    pub path: PathBuf,
    /// Open directory: sockets are named through it, since sun_path holds 107 bytes and roots are long.
    pub dir: File,
    /// What was read of `state.json`, or written there: a command goes by one record from its beginning to its end.
    record: OnceCell<Record>,
    /// What was read of the pid file, once there was one: nobody writes it a second time.
    pid: OnceCell<(Init, String)>,
}

/// Held while a container is being made: its absence tells a dead creator from a slow one.
#[derive(Debug)]
pub struct CreateLock {
    _lock: Flock<File>,
}

/// Held while `state.json` is read, changed and written back.
#[derive(Debug)]
pub struct Turn {
    _lock: Flock<File>,
}

impl StateDir {
    const fn at(path: PathBuf, dir: File) -> Self {
        Self {
            path,
            dir,
            record: OnceCell::new(),
            pid: OnceCell::new(),
        }
    }

    /// Takes the id: makes its directory, which must not be there.
    pub fn claim(root: &Path, id: &ContainerId) -> Result<(Self, CreateLock)> {
        faults::at(Step::StateDir)?;
        Self::root(root)?;
        let path = root.join(id.as_str());
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { id: id.to_string() });
            }
            Err(e) => {
                return Err(Error::File {
                    doing: "make",
                    path,
                    source: e,
                });
            }
        }
        let dir = open_dir(&path)?;
        let lock = lock(&dir, FlockArg::LockExclusiveNonblock)
            .map_err(|e| Error::step(Step::StateDir, "lock the new state directory", e))?;
        Ok((Self::at(path, dir), CreateLock { _lock: lock }))
    }

    /// Makes the root, or checks that it is ours.
    pub fn root(root: &Path) -> Result<()> {
        make_root(root)
    }

    /// The directory of an existing container.
    pub fn open(root: &Path, id: &ContainerId) -> Result<Self> {
        let path = root.join(id.as_str());
        match open_dir(&path) {
            Ok(dir) => {
                check_owner(&dir, &path)?;
                Ok(Self::at(path, dir))
            }
            Err(Error::File { source, .. })
                if matches!(
                    source.kind(),
                    std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                ) =>
            {
                Err(Error::NotFound { id: id.to_string() })
            }
            Err(e) => Err(e),
        }
    }

    /// Writes `state.json`.
    pub fn write(&self, record: &Record) -> Result<()> {
        let text = json::to_vec(record, USUAL).map_err(|e| self.damaged(STATE, e.to_string()))?;
        self.write_file(STATE, &text)
    }

    /// What `state.json` says; read once.
    pub fn record(&self) -> Result<&Record> {
        if let Some(record) = self.record.get() {
            return Ok(record);
        }
        let record = self.read_record()?;
        Ok(self.record.get_or_init(|| record))
    }

    /// Leaves what was just made to the command that goes on with it.
    pub fn keep(&mut self, record: Record) {
        self.record = OnceCell::from(record);
    }

    /// What `start` and `delete` need of it.
    pub fn brief(&self) -> Result<Brief> {
        if let Some(record) = self.record.get() {
            return Ok(record.into());
        }
        let file: BriefFile = self.read_state(|file: &BriefFile| (file.version, &file.id))?;
        Ok(file.into())
    }

    /// Where its processes are: by what is read already, else by the smaller file that says so.
    pub fn cgroup(&self) -> Result<Cow<'_, CgroupRecord>> {
        if self.record.get().is_none()
            && let Ok(Some((_, cgroup))) = self.traces()
        {
            return Ok(Cow::Owned(cgroup));
        }
        self.record().map(|record| Cow::Borrowed(&record.cgroup))
    }

    fn read_record(&self) -> Result<Record> {
        self.read_state(|record: &Record| (record.version, &record.id))
    }

    /// `head` gives the format's number and whose state it is.
    fn read_state<T: DeserializeOwned>(&self, head: impl Fn(&T) -> (u32, &ContainerId)) -> Result<T> {
        let text = self.read_file(STATE)?;
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

    /// Whether somebody is making this container right now.
    pub fn being_created(&self) -> Result<bool> {
        // A second open file description: locks belong to those (flock(2)).
        let dir = open_dir(&self.path)?;
        match lock(&dir, FlockArg::LockSharedNonblock) {
            Ok(_unlocks_when_dropped) => Ok(false),
            Err(Errno::EWOULDBLOCK) => Ok(true),
            Err(e) => Err(Error::step(
                Step::StateDir,
                "look at the lock of the state directory",
                e,
            )),
        }
    }

    /// Waits, in bounds, until nobody else changes the state. Not the directory's own lock: that one says «being created».
    pub fn turn(&self) -> Result<Turn> {
        let path = self.path.join(TURN);
        let deadline = Instant::now() + PATIENCE;
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(libc::O_NOFOLLOW)
            .open(&path)
            .map_err(Error::file("open", &path))?;
        loop {
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => return Ok(Turn { _lock: lock }),
                Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                    file = back;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err((_, e)) => {
                    return Err(Error::step(
                        Step::StateDir,
                        "wait for another update of this container",
                        e,
                    ));
                }
            }
        }
    }

    /// Whether the path still leads to this very directory.
    pub fn is_current(&self) -> bool {
        let id = |meta: std::io::Result<fs::Metadata>| meta.map(|m| (m.dev(), m.ino()));
        matches!((id(self.dir.metadata()), id(fs::symlink_metadata(&self.path))), (Ok(a), Ok(b)) if a == b)
    }

    /// A path of this directory that is short enough for a socket's name.
    pub fn socket_path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{name}", self.dir.as_raw_fd()))
    }

    /// Whether `start` is still to come.
    pub fn awaits_start(&self) -> bool {
        fs::symlink_metadata(self.path.join(START_SOCKET)).is_ok()
    }

    /// Whether the first process is not ready yet, and never will be if its maker has died.
    pub fn is_unready(&self) -> bool {
        fs::symlink_metadata(self.path.join(UNREADY_SOCKET)).is_ok()
    }

    /// From here on `start` finds it.
    pub fn ready(&self) -> Result<()> {
        let path = self.path.join(START_SOCKET);
        fs::rename(self.path.join(UNREADY_SOCKET), &path).map_err(Error::file("make", path))
    }

    pub fn started(&self) -> Result<()> {
        let path = self.path.join(START_SOCKET);
        fs::remove_file(&path).map_err(Error::file("remove", path))
    }

    pub fn remove(&self) -> Result<()> {
        remove(&self.path)
    }
}

/// Removes a container's directory; no symlink in it is followed.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        _ => Ok(()),
    }
}
