//! Writing what gabion keeps of a container. Reading it is `gabion_see::state`'s.

use std::fs::{self, File};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::{Duration, Instant};

use gabion_common::whole;
use gabion_core::request::ContainerId;
use gabion_see::cgroup::CgroupRecord;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::{
    DIRECTORY, FILES, Init, PID, Record, START_SOCKET, STATE, StateView, UNREADY_SOCKET, judge_root, lock,
};
use gabion_see::vetted;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::faults;

/// How long one update waits for another.
const TURN_PATIENCE: Duration = Duration::from_secs(10);
/// Locked by whoever changes `state.json` of a container that is there.
const TURN: &str = "update.lock";

/// A container's directory, to read and to write in.
#[derive(Debug)]
pub(crate) struct StateDir(StateView);

impl Deref for StateDir {
    type Target = StateView;
    fn deref(&self) -> &StateView {
        &self.0
    }
}

impl DerefMut for StateDir {
    fn deref_mut(&mut self) -> &mut StateView {
        &mut self.0
    }
}

/// Held while a container is being made: its absence tells a dead creator from a slow one.
#[derive(Debug)]
pub(crate) struct CreateLock {
    _lock: Flock<File>,
}

/// Held while `state.json` is read, changed and written back.
#[derive(Debug)]
pub(crate) struct Turn {
    _lock: Flock<File>,
}

impl StateDir {
    /// Takes the id: makes its directory, which must not be there.
    ///
    /// # Errors
    /// The id is taken, or the root is not the caller's alone.
    pub(crate) fn claim(root: &Path, id: &ContainerId) -> Result<(Self, CreateLock)> {
        faults::at(Step::StateDir)?;
        make_root(root)?;
        let path = root.join(id.as_str());
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists { id: id.to_string() });
            }
            Err(e) => return Err(Error::file("make", path)(e)),
        }
        let dir = vetted::open(&path, &DIRECTORY).map_err(|fault| Error::file("open", &path)(fault.into()))?;
        let lock = lock(&dir, FlockArg::LockExclusiveNonblock)
            .map_err(|e| Error::step(Step::StateDir, "lock the new state directory", e))?;
        Ok((Self(StateView::at(path, dir)), CreateLock { _lock: lock }))
    }

    /// Opens the directory of an existing container.
    ///
    /// # Errors
    /// As of [`StateView::open`].
    pub(crate) fn open(root: &Path, id: &ContainerId) -> Result<Self> {
        StateView::open(root, id).map(Self)
    }

    /// Writes `state.json`.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(|e| self.damaged(STATE, e.to_string()))?;
        self.write_file(STATE, &text)
    }

    /// Writes the first process's pid, and on a second line where it will be.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write_init(&self, init: Init, cgroup: &CgroupRecord) -> Result<()> {
        let cgroup = serde_json::to_string(cgroup).map_err(|e| self.damaged(PID, e.to_string()))?;
        self.write_file(PID, format!("{} {}\n{cgroup}\n", init.pid, init.start).as_bytes())
    }

    fn write_file(&self, name: &str, content: &[u8]) -> Result<()> {
        let mode = Mode::S_IRUSR | Mode::S_IWUSR;
        whole::write_at(self.as_fd(), Path::new(name), mode, content)
            .map_err(|e| Error::file("write", self.path().join(name))(e.into()))
    }

    /// Waits, in bounds, until nobody else changes the state. Not the directory's own lock: that one says «being created».
    ///
    /// # Errors
    /// Somebody else takes longer than ten seconds.
    pub(crate) fn turn(&self) -> Result<Turn> {
        let deadline = Instant::now() + TURN_PATIENCE;
        let opened = vetted::open_with(
            Some(self.as_fd()),
            Path::new(TURN),
            OFlag::O_WRONLY | OFlag::O_CREAT,
            &FILES,
        );
        let mut file = opened.map_err(|fault| Error::file("open", self.path().join(TURN))(fault.into()))?;
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

    /// Lets `start` find the container from here on.
    ///
    /// # Errors
    /// The socket cannot be renamed.
    pub(crate) fn ready(&self) -> Result<()> {
        let at = Some(self.dir().as_raw_fd());
        renameat(at, UNREADY_SOCKET, at, START_SOCKET)
            .map_err(|e| Error::file("make", self.path().join(START_SOCKET))(e.into()))
    }

    /// Removes the socket that `start` connected to: its absence tells a running container from a created one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn started(&self) -> Result<()> {
        unlinkat(Some(self.dir().as_raw_fd()), START_SOCKET, UnlinkatFlags::NoRemoveDir)
            .map_err(|e| Error::file("remove", self.path().join(START_SOCKET))(e.into()))
    }

    /// Removes the directory.
    ///
    /// # Errors
    /// As of [`remove`].
    pub(crate) fn remove(&self) -> Result<()> {
        remove(self.path())
    }
}

/// Removes a container's directory; no symlink in it is followed.
///
/// # Errors
/// It cannot be removed. One that is gone is no error.
pub(crate) fn remove(path: &Path) -> Result<()> {
    match fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes the root, or checks that it is ours.
///
/// # Errors
/// It cannot be made, or is not the caller's alone.
pub(crate) fn make_root(root: &Path) -> Result<()> {
    if let Some(parent) = root.parent().filter(|p| !p.as_os_str().is_empty()) {
        let made = fs::DirBuilder::new().recursive(true).mode(0o755).create(parent);
        made.map_err(|source| no_parent(root, parent, source))?;
    }
    match fs::DirBuilder::new().mode(0o700).create(root) {
        Ok(()) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => judge_root(root),
        Err(e) => Err(Error::file("make", root)(e)),
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
