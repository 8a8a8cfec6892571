//! Writing what gabion keeps of a container. Reading it is `gabion_see::state`'s.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use gabion_common::audit::{FILE as AUDIT, REPEATS};
use gabion_common::whole;
use gabion_core::request::ContainerId;
use gabion_see::cgroup::CgroupRecord;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::{
    DIRECTORY, FILES, Init, PID, Record, START_SOCKET, STATE, StateView, TAKING, UNREADY_SOCKET, judge_root, lock,
    open_root,
};
use gabion_see::vetted::{self, Fault};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, renameat};
use nix::sys::stat::{Mode, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::faults;

/// How long one update waits for another.
const TURN_PATIENCE: Duration = Duration::from_secs(10);
/// Locked by whoever changes `state.json` of a container that is there.
const TURN: &str = "update.lock";

/// The mode of a container's directory: its owner's alone, and the bit that means nothing then, by which one is known for gabion's own as
/// soon as it is there.
const CLAIMED: u32 = 0o1700;
/// All that gabion makes in it.
const OWN: [&str; 8] = [STATE, PID, AUDIT, REPEATS, START_SOCKET, UNREADY_SOCKET, TURN, TAKING];
/// How often the directory is emptied for a file that came meanwhile.
const REMOVALS: u32 = 3;

/// Whose a container's directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Mark {
    Gabions,
    /// Nothing tells that gabion made it.
    None,
}

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
        match fs::DirBuilder::new().mode(CLAIMED).create(&path) {
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

    /// Writes which cgroup is about to be taken.
    ///
    /// # Errors
    /// It cannot be written.
    pub(crate) fn write_taking(&self, cgroup: &CgroupRecord) -> Result<()> {
        let text = serde_json::to_vec(cgroup).map_err(|e| self.damaged(TAKING, e.to_string()))?;
        self.write_file(TAKING, &text)
    }

    /// Removes what [`Self::write_taking`] wrote: `state.json` says it from now on. An older gabion knows no such file.
    ///
    /// # Errors
    /// It cannot be removed.
    pub(crate) fn taken(&self) -> Result<()> {
        unlinkat(Some(self.dir().as_raw_fd()), TAKING, UnlinkatFlags::NoRemoveDir)
            .map_err(|errno| Error::file("remove", self.path().join(TAKING))(errno.into()))
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

    /// Tells whether gabion made this directory: by the mode that it gives to one, which nobody else does; one of an older gabion, by what
    /// is in it.
    ///
    /// # Errors
    /// It cannot be looked at.
    pub(crate) fn mark(&self) -> Result<Mark> {
        let meta = self.dir().metadata().map_err(Error::file("look at", self.path()))?;
        // Below a setgid directory a new one is setgid.
        let claimed = meta.mode() & 0o1777 == CLAIMED;
        Ok(if claimed || self.is_in_our_form() {
            Mark::Gabions
        } else {
            Mark::None
        })
    }

    /// Removes the directory: the files that gabion makes, each by its name in this very directory, and then the directory if that empties
    /// it. Nothing else is ever removed, and no link is followed.
    ///
    /// # Errors
    /// Something else lies in it, and then nothing is removed; or it cannot be removed. One that is gone is no error.
    pub(crate) fn remove(&self) -> Result<()> {
        // Another command may leave its own file between the two.
        for _ in 0..REMOVALS {
            self.remove_files()?;
            match self.remove_empty() {
                Err(Errno::ENOTEMPTY | Errno::EEXIST) => {}
                Err(errno) => return Err(Error::file("remove", self.path())(errno.into())),
                Ok(()) => return Ok(()),
            }
        }
        Err(Error::file("remove", self.path())(Errno::ENOTEMPTY.into()))
    }

    fn remove_files(&self) -> Result<()> {
        let failed = Error::file("list", self.path());
        let at = self.dir().as_raw_fd();
        let entries = fs::read_dir(format!("/proc/self/fd/{at}")).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        let names: Vec<OsString> = entries.map_err(failed)?.iter().map(fs::DirEntry::file_name).collect();
        if let Some(foreign) = names.iter().find(|name| !is_own(name)) {
            let why = "gabion did not make this file: nothing was removed; remove it by hand, then delete again";
            return Err(Error::State {
                path: self.path().join(foreign),
                why: why.to_owned(),
            });
        }
        for name in &names {
            let removed = match unlinkat(Some(at), name.as_os_str(), UnlinkatFlags::NoRemoveDir) {
                // What was damaged may be one. A directory with something in it stays.
                Err(Errno::EISDIR) => unlinkat(Some(at), name.as_os_str(), UnlinkatFlags::RemoveDir),
                other => other,
            };
            match removed {
                Ok(()) | Err(Errno::ENOENT) => {}
                Err(errno) => return Err(Error::file("remove", self.path().join(name))(errno.into())),
            }
        }
        Ok(())
    }

    /// By the root's descriptor, and only where the name there still is this directory's.
    fn remove_empty(&self) -> std::result::Result<(), Errno> {
        let (Some(root), Some(name)) = (self.path().parent(), self.path().file_name()) else {
            return Err(Errno::EINVAL);
        };
        let errno = |e: io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
        let root = match open_root(root) {
            Ok(root) => root,
            Err(Fault::Missing) => return Ok(()),
            Err(fault) => return Err(errno(fault.into())),
        };
        let own = self.dir().metadata().map_err(errno)?;
        match fstatat(Some(root.as_raw_fd()), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(there) if (there.st_dev, there.st_ino) == (own.dev(), own.ino()) => {}
            Ok(_) | Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(errno),
        }
        match unlinkat(Some(root.as_raw_fd()), name, UnlinkatFlags::RemoveDir) {
            Err(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }
}

/// Whether gabion makes files of this name in a container's directory: its own, or one that is being written whole beside it.
fn is_own(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return false };
    let temporary = || {
        let (of, drawn) = name.strip_prefix('.')?.rsplit_once('.')?;
        let drawn = drawn.len() == 16 && drawn.bytes().all(|b| b.is_ascii_hexdigit());
        (drawn && OWN.contains(&of)).then_some(())
    };
    OWN.contains(&name) || temporary().is_some()
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use super::*;

    struct Root(PathBuf);

    impl Root {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("gabion-state-{}-{name}", std::process::id()));
            fs::DirBuilder::new().mode(0o700).create(&dir).unwrap();
            Self(dir)
        }

        fn with(&self, id: &str, mode: u32, files: &[&str]) -> StateDir {
            let dir = self.0.join(id);
            fs::create_dir(&dir).unwrap();
            fs::set_permissions(&dir, fs::Permissions::from_mode(mode)).unwrap();
            for file in files {
                fs::write(dir.join(file), "x").unwrap();
            }
            StateDir::open(&self.0, &id.parse().unwrap()).unwrap()
        }
    }

    impl Drop for Root {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    #[test]
    fn a_claimed_directory_bears_the_mark_from_the_beginning() {
        let root = Root::new("claimed");
        let (dir, _lock) = StateDir::claim(&root.0, &"c".parse().unwrap()).unwrap();
        assert_eq!(dir.mark().unwrap(), Mark::Gabions);
        dir.remove().unwrap();
        assert!(!root.0.join("c").exists());
        dir.remove().unwrap();
        // Empty ones, and those of others, of any other mode.
        for mode in [0o700, 0o755, 0o1755, 0o600] {
            let dir = root.with("other", mode, &["state.json", "pid"]);
            assert_eq!(dir.mark().unwrap(), Mark::None, "{mode:o}");
            fs::remove_dir_all(dir.path()).unwrap();
        }
    }

    #[test]
    fn what_an_older_one_wrote_is_its_mark() {
        let root = Root::new("older");
        let cgroup = r#"{"path":"/gabion/c","driver":"cgroupfs","name":"c"}"#;
        let state = format!(r#"{{"version":1,"id":"c","cgroup":{cgroup},"hardened":{{"more":[]}},"created":""}}"#);
        for (file, text, mark) in [
            ("state.json", state.as_str(), Mark::Gabions),
            ("pid", &format!("5 77\n{cgroup}\n"), Mark::Gabions),
            // runc's, and what is nobody's.
            (
                "state.json",
                r#"{"id":"c","init_process_pid":5,"config":{"version":1}}"#,
                Mark::None,
            ),
            ("state.json", "{", Mark::None),
            ("pid", "5\n", Mark::None),
        ] {
            let dir = root.with("c", 0o700, &[]);
            fs::write(dir.path().join(file), text).unwrap();
            assert_eq!(dir.mark().unwrap(), mark, "{file}: {text}");
            fs::remove_dir_all(dir.path()).unwrap();
        }
    }

    #[test]
    fn nothing_goes_that_gabion_did_not_make() {
        let root = Root::new("foreign");
        for foreign in ["sshd.pid", ".state.json.0123", ".other.0123456789abcdef", "config.json"] {
            let dir = root.with("c", CLAIMED, &["state.json", foreign]);
            assert!(matches!(dir.remove(), Err(Error::State { .. })), "{foreign}");
            assert!(dir.path().join("state.json").exists() && dir.path().join(foreign).exists());
            fs::remove_dir_all(dir.path()).unwrap();
        }
        // A directory in a file's place that has something in it.
        let dir = root.with("c", CLAIMED, &[]);
        fs::create_dir_all(dir.path().join("pid/kept")).unwrap();
        assert!(dir.remove().is_err());
        assert!(dir.path().join("pid/kept").exists());
        fs::remove_dir_all(dir.path()).unwrap();
        // All that it makes; a link is removed, and not followed.
        let kept = root.0.join("kept");
        fs::write(&kept, "x").unwrap();
        let dir = root.with("c", CLAIMED, &[".state.json.0123456789abcdef"]);
        for name in OWN {
            symlink(&kept, dir.path().join(name)).unwrap();
        }
        dir.remove().unwrap();
        assert!(!root.0.join("c").exists() && kept.exists());
        // Another directory that has taken its place.
        let dir = root.with("c", CLAIMED, &["pid"]);
        fs::rename(dir.path(), root.0.join("moved")).unwrap();
        fs::create_dir(dir.path()).unwrap();
        dir.remove().unwrap();
        assert!(dir.path().exists());
    }
}
