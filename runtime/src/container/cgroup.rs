//! The container's cgroup: written file by file by `v1` and `v2`, kept small here so that it can be looked through. Under the
//! systemd driver the directory is a unit's, and `systemd` asks for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::container::options::CgroupDriver;
use crate::error::{Error, Result, Step};
use crate::host::Delegation;

mod limits;
pub mod members;
mod program;
mod properties;
mod readback;
mod remove;
mod systemd;
mod v1;
mod v2;

/// What is kept of a cgroup to find it again: later calls come without `--systemd-cgroup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    pub path: PathBuf,
    pub driver: CgroupDriver,
    pub name: String,
    /// The cgroup of the systemd whose unit it is, where that is a user's.
    #[serde(default, skip_serializing_if = "is_root")]
    pub manager: PathBuf,
    /// In which hierarchies it is made. Elsewhere a cgroup of its path is somebody else's.
    #[serde(default, skip_serializing_if = "Delegation::is_whole")]
    pub delegation: Delegation,
}

fn is_root(path: &Path) -> bool {
    path.as_os_str().is_empty()
}

impl CgroupRecord {
    /// Where it lies below each hierarchy's mount. Under systemd on v2 the name is made of `slice:prefix:name` as systemd
    /// makes it (systemd.slice(5)); on v1 libcontainer took it as it is.
    pub fn place(&self) -> PathBuf {
        match self.unit() {
            Some(unit) if self.driver == CgroupDriver::Systemd && unified() => self.manager.join(unit.place()),
            _ => self.path.clone(),
        }
    }

    /// Whether a directory of cgroup files is the container's own, and not of a hierarchy that its maker could not write to.
    pub fn owns(&self, directory: &Path) -> bool {
        if unified() {
            return self.delegation.has("unified");
        }
        let hierarchy = directory.strip_prefix(ROOT).ok().and_then(|d| d.components().next());
        hierarchy.is_some_and(|h| self.delegation.has(&h.as_os_str().to_string_lossy()))
    }

    /// Where its freezer is looked at: v1's file, and v2's. One of them at most is there.
    pub fn freezer_files(&self) -> impl Iterator<Item = PathBuf> {
        let root = Path::new(ROOT);
        let place = self.place();
        let relative = relative(&place);
        let files = [
            root.join("freezer").join(relative).join("freezer.state"),
            root.join(relative).join("cgroup.freeze"),
        ];
        let owned = files.map(|file| self.owns(&file).then_some(file));
        owned.into_iter().flatten()
    }
}

/// The cgroup of one container, or one below it.
pub struct Cgroup {
    record: CgroupRecord,
    below: PathBuf,
}

/// Which files there are.
enum Files {
    /// No cgroup was delegated to who made the container.
    None,
    V1(v1::Directories),
    V2(v2::Directory),
}

impl Cgroup {
    /// Opens what the record names; nothing is made yet.
    pub fn open(record: &CgroupRecord) -> Self {
        Self {
            record: record.clone(),
            below: PathBuf::new(),
        }
    }

    /// Opens a cgroup of the container's own below its first one (`exec --cgroup`).
    pub fn open_below(record: &CgroupRecord, below: &Path) -> Self {
        Self {
            record: record.clone(),
            below: relative(below).to_path_buf(),
        }
    }

    /// Relative to each hierarchy's mount.
    fn place(&self) -> PathBuf {
        let place = relative(&self.record.place()).to_path_buf();
        if self.below.as_os_str().is_empty() {
            place
        } else {
            place.join(&self.below)
        }
    }

    fn files(&self) -> Files {
        let (place, root) = (self.place(), PathBuf::from(ROOT));
        let delegation = self.record.delegation.clone();
        if delegation.is_none() {
            Files::None
        } else if unified() {
            Files::V2(v2::Directory { place, root })
        } else {
            Files::V1(v1::Directories {
                place,
                root,
                delegation,
            })
        }
    }

    /// Its directory on v2.
    fn directory(&self) -> PathBuf {
        Path::new(ROOT).join(self.place())
    }

    /// The unit that the directory belongs to. On v1 the systemd driver's names are directories like others.
    fn scope(&self) -> Result<Option<systemd::Scope>> {
        if self.record.driver == CgroupDriver::Systemd && unified() && !self.record.delegation.is_none() {
            systemd::Scope::find(&self.record).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Its directory, made, for the first process to be born in (clone3(2), CLONE_INTO_CGROUP): on v2, where it is not systemd
    /// that makes it.
    pub fn cradle(&self) -> Result<Option<OwnedFd>> {
        match (self.record.driver, self.files()) {
            (CgroupDriver::Cgroupfs, Files::V2(v2)) => {
                v2.make()?;
                v2.open().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The same for a further process: whoever made the directory.
    pub fn cradle_of_another(&self) -> Result<Option<OwnedFd>> {
        let Files::V2(v2) = self.files() else { return Ok(None) };
        if !self.below.as_os_str().is_empty() {
            v2.make_inside()?;
        }
        v2.open().map(Some)
    }

    /// Makes the cgroup and puts the process into it. Of its limits (`limit`) only what cannot be told later is looked at.
    pub fn add(&self, pid: Pid, resources: Option<&LinuxResources>) -> Result<()> {
        match (self.scope()?, self.files()) {
            (Some(mut scope), Files::V2(v2)) => {
                scope.start(pid, &self.place(), resources)?;
                // Those that systemd does not know (huge pages) it does not pass on.
                v2.make()
            }
            (_, Files::None) => Ok(()),
            (_, Files::V1(v1)) => v1.add(pid),
            (None, Files::V2(v2)) => v2.make().and_then(|()| v2.join(pid)),
        }
    }

    /// Puts a further process into a container's cgroup, beside `init` where that has moved to one below.
    pub fn enter(&self, pid: Pid, init: Pid) -> Result<()> {
        let join = || match self.files() {
            Files::None => Ok(()),
            Files::V1(v1) => v1.add(pid),
            Files::V2(v2) if self.below.as_os_str().is_empty() => v2.join_beside(pid, init),
            Files::V2(v2) => v2.make_inside().and_then(|()| v2.join(pid)),
        };
        let joined = join();
        // A user may not take a process out of what is not theirs: a login's own cgroup (cgroup-v2.rst, Delegation Containment).
        // Their systemd has it moved.
        let denied = matches!(&joined, Err(Error::File { source, .. }) if source.raw_os_error() == Some(libc::EACCES));
        if !denied {
            return joined;
        }
        match (self.scope()?, self.files()) {
            (Some(mut scope), Files::V2(v2)) if self.below.as_os_str().is_empty() => {
                scope.attach(pid, &self.place(), &v2.beside(init)?)
            }
            (Some(mut scope), Files::V2(v2)) => scope.attach(pid, relative(&self.record.place()), &v2.place),
            _ => joined,
        }
    }

    /// Nobody is in it yet.
    pub fn unoccupied(&self) -> Result<()> {
        members::unoccupied(&self.place(), &self.directories()?)
    }

    /// Its processes and those of the cgroups below it, as the host numbers them.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut found = BTreeSet::new();
        for directory in self.directories()? {
            members::tree(&directory, &mut found).map_err(|e| Error::step(Step::Cgroup, "list its processes", e))?;
        }
        Ok(found.into_iter().collect())
    }

    /// Whether processes can be stopped where they are.
    pub fn freezes(&self) -> bool {
        self.record.freezer_files().any(|file| file.exists())
    }

    pub fn freeze(&self) -> Result<()> {
        match self.files() {
            Files::None => Err(Error::failed(Step::Cgroup, "the container has no cgroup to freeze")),
            Files::V1(v1) => v1.freeze(),
            Files::V2(v2) => v2.freeze(),
        }
    }

    /// Lets processes go on. A cgroup that is gone holds none.
    pub fn thaw(&self) -> Result<()> {
        match self.files() {
            Files::None => Ok(()),
            Files::V1(v1) => v1.thaw(),
            Files::V2(v2) => v2.thaw(),
        }
    }

    /// Where the cgroup's files are: one directory on v2, one for each controller on v1.
    pub fn directories(&self) -> Result<Vec<PathBuf>> {
        let mut all = directories(&self.place())?;
        all.retain(|directory| self.record.owns(directory));
        Ok(all)
    }
}

fn open(path: &Path) -> Result<File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).open(path).map_err(Error::file("write", path))
}

/// Writes a file of a cgroup. Never made: where it is missing there is no such limit.
fn put(path: &Path, text: &str) -> Result<()> {
    tracing::debug!(path = %path.display(), text, "cgroup");
    let mut file = open(path)?;
    file.write_all(text.as_bytes()).map_err(Error::file("write", path))
}

/// Where cgroups are mounted (cgroups(7); systemd and all engines agree).
const ROOT: &str = "/sys/fs/cgroup";

/// Whether v2 alone is mounted. Hybrid counts as v1: the controllers are there.
pub fn unified() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    // It stays as it is while a command runs.
    *FOUND.get_or_init(|| {
        nix::sys::statfs::statfs(ROOT).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
    })
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The directories that hold the cgroup at `path` (relative to each hierarchy's mount).
pub fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    let relative = relative(path);
    if unified() {
        return Ok(vec![root.join(relative)]);
    }
    Ok(hierarchies(root)?.into_iter().map(|top| top.join(relative)).collect())
}

/// Where v1's hierarchies are mounted, and v2's beside them. They stay where they are while a command runs: listed once.
fn hierarchies(root: &Path) -> Result<Vec<PathBuf>> {
    static FOUND: OnceLock<Vec<PathBuf>> = OnceLock::new();
    if root != Path::new(ROOT) {
        return list(root);
    }
    if let Some(found) = FOUND.get() {
        return Ok(found.clone());
    }
    let found = list(root)?;
    Ok(FOUND.get_or_init(|| found).clone())
}

/// A directory below the root that is no mount is none of them.
fn list(root: &Path) -> Result<Vec<PathBuf>> {
    let failed = || Error::file("list", root);
    let own = fs::metadata(root).map_err(failed())?.dev();
    let mut found = Vec::new();
    for entry in fs::read_dir(root).map_err(failed())? {
        let entry = entry.map_err(failed())?;
        // Not followed: co-mounted controllers are there once more as symlinks (cpu -> cpu,cpuacct).
        let meta = entry.metadata().map_err(failed())?;
        if meta.is_dir() && meta.dev() != own {
            found.push(entry.path());
        }
    }
    Ok(found)
}
