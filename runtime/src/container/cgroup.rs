//! The container's cgroup: written by libcontainer's cgroup code (v2, systemd) and by `v1`, kept small here so that it can be
//! looked through.

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libcgroups::common::{AnyCgroupManager, CgroupConfig, CgroupManager, FreezerState, create_cgroup_manager};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::container::options::CgroupDriver;
use crate::error::{Error, Result, Step};

mod limits;
pub mod members;
mod program;
mod remove;
mod v1;

/// What is kept of a cgroup to find it again: later calls come without `--systemd-cgroup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    pub path: PathBuf,
    pub driver: CgroupDriver,
    pub name: String,
}

impl CgroupRecord {
    /// Where it lies below each hierarchy's mount. Under systemd on v2 the name is made of `slice:prefix:name` as systemd
    /// makes it (systemd.slice(5)); on v1 libcontainer takes it as it is.
    pub fn place(&self) -> PathBuf {
        let text = self.path.to_string_lossy();
        let mut parts = text.splitn(3, ':');
        let (Some(slice), Some(prefix), Some(name)) = (parts.next(), parts.next(), parts.next()) else {
            return self.path.clone();
        };
        if self.driver != CgroupDriver::Systemd || !unified() {
            return self.path.clone();
        }
        let slice = if slice.is_empty() { "system.slice" } else { slice };
        // systemd's unit names are case-sensitive (systemd.unit(5)).
        #[allow(clippy::case_sensitive_file_extension_comparisons)]
        let unit = if name.ends_with(".slice") {
            name.to_owned()
        } else {
            format!("{prefix}-{name}.scope")
        };
        crate::host::slice_path(slice).join(unit)
    }
}

/// The cgroup of one container.
pub struct Cgroup {
    record: CgroupRecord,
    /// libcontainer's, made when it is needed: on v1 it reads the mount table for each of twelve controllers, some 600 calls.
    manager: OnceCell<AnyCgroupManager>,
}

impl Cgroup {
    /// Opens what the record names; nothing is made yet.
    pub fn open(record: &CgroupRecord) -> Self {
        Self {
            record: record.clone(),
            manager: OnceCell::new(),
        }
    }

    fn manager(&self) -> Result<&AnyCgroupManager> {
        if let Some(manager) = self.manager.get() {
            return Ok(manager);
        }
        let config = CgroupConfig {
            cgroup_path: self.record.path.clone(),
            systemd_cgroup: self.record.driver == CgroupDriver::Systemd,
            container_name: self.record.name.clone(),
        };
        let made = create_cgroup_manager(config).map_err(|e| failed(&e))?;
        Ok(self.manager.get_or_init(|| made))
    }

    /// Makes the cgroup and puts the process into it.
    pub fn add(&self, pid: Pid) -> Result<()> {
        match self.v1() {
            Some(v1) => v1.add(pid),
            None => self.manager()?.add_task(pid).map_err(|e| failed(&e)),
        }
    }

    fn v1(&self) -> Option<v1::Directories> {
        (self.record.driver == CgroupDriver::Cgroupfs && !unified()).then(|| v1::Directories {
            place: relative(&self.record.place()).to_path_buf(),
            root: PathBuf::from(ROOT),
        })
    }

    /// Nobody is in it yet.
    pub fn unoccupied(&self) -> Result<()> {
        members::unoccupied(&self.record.place(), &self.directories()?)
    }

    /// Its processes, as the host numbers them.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let pids = self.manager()?.get_all_pids().map_err(|e| failed(&e))?;
        Ok(pids.into_iter().map(Pid::as_raw).collect())
    }

    pub fn freeze(&self) -> Result<()> {
        match self.v1() {
            Some(v1) => v1.freeze(),
            None => self.manager()?.freeze(FreezerState::Frozen).map_err(|e| failed(&e)),
        }
    }

    /// Lets processes go on. A cgroup that is gone holds none.
    pub fn thaw(&self) -> Result<()> {
        match self.v1() {
            Some(v1) => v1.thaw(),
            None => self.manager()?.freeze(FreezerState::Thawed).map_err(|e| failed(&e)),
        }
    }

    /// Where the cgroup's files are: one directory on v2, one for each controller on v1.
    pub fn directories(&self) -> Result<Vec<PathBuf>> {
        directories(&self.record.place())
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::failed(Step::Cgroup, error.to_string())
}

/// Where cgroups are mounted (cgroups(7); systemd and all engines agree).
const ROOT: &str = "/sys/fs/cgroup";

/// Whether v2 alone is mounted. Hybrid counts as v1: the controllers are there.
pub fn unified() -> bool {
    nix::sys::statfs::statfs(ROOT).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// Where the freezer of the cgroup at `path` is looked at: v1's file, and v2's. One of them at most is there.
pub fn freezer_files(path: &Path) -> (PathBuf, PathBuf) {
    let root = Path::new(ROOT);
    let relative = relative(path);
    (
        root.join("freezer").join(relative).join("freezer.state"),
        root.join(relative).join("cgroup.freeze"),
    )
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

/// Where v1's hierarchies are mounted, and v2's beside them. A directory below the root that is no mount is none of them.
fn hierarchies(root: &Path) -> Result<Vec<PathBuf>> {
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
