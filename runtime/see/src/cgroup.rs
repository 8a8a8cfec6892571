//! A container's cgroup: where it is, who is in it, what its files say.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use gabion_core::host::{CgroupDriver, Delegation};
use gabion_core::request::ContainerId;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
pub use unit::Unit;

pub mod limits;
pub mod members;
pub mod program;
pub mod unit;

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

    /// Lists the directories of its files: one on v2, one for each controller on v1.
    ///
    /// # Errors
    /// The hierarchies cannot be listed.
    pub fn directories(&self) -> Result<Vec<PathBuf>> {
        let mut all = directories(&self.place())?;
        all.retain(|directory| self.owns(directory));
        Ok(all)
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

impl CgroupRecord {
    /// The unit that it is, where systemd's driver made it.
    pub fn unit(&self) -> Option<Unit> {
        Unit::named(&self.path, self.is_the_machines())
    }

    /// Whether the machine's own systemd made it, and not a user's.
    pub fn is_the_machines(&self) -> bool {
        self.manager.as_os_str().is_empty()
    }
}

/// Where a container's cgroup is if nobody says: the control `cgroup` writes that into the spec, and is not always in force.
pub fn default_place(driver: CgroupDriver, id: &ContainerId) -> PathBuf {
    PathBuf::from(match driver {
        CgroupDriver::Systemd if unified() => format!(":gabion:{id}"),
        _ => format!("/gabion/{id}"),
    })
}

/// Where cgroups are mounted (cgroups(7); systemd and all engines agree).
pub const ROOT: &str = "/sys/fs/cgroup";

/// Whether v2 alone is mounted. Hybrid counts as v1: the controllers are there.
pub fn unified() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    // It stays as it is while a command runs.
    *FOUND.get_or_init(|| {
        nix::sys::statfs::statfs(ROOT).is_ok_and(|s| s.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC)
    })
}

/// Our own group on v2.
pub fn own_v2() -> PathBuf {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let own = text
        .lines()
        .find_map(|line| line.strip_prefix("0::/"))
        .unwrap_or_default();
    Path::new(ROOT).join(own)
}

pub fn relative(path: &Path) -> &Path {
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
pub fn hierarchies(root: &Path) -> Result<Vec<PathBuf>> {
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
