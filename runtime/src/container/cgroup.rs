//! The container's cgroup: written by libcontainer's cgroup code, kept small here so that it can be looked through.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, ControllerOpt, FreezerState, create_cgroup_manager,
};
use nix::errno::Errno;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use crate::container::cgroup::readback::{Decided, decided, expected, same};
use crate::container::options::CgroupDriver;
use crate::control::{CONTROLS, ControlId};
use crate::error::{Error, Result, Step};
use crate::executor::verify;
use crate::faults::{self, Enforcement};
use crate::hardened::Hardened;
use crate::observed::Observed;

pub mod members;
mod readback;
mod v1;

pub use v1::is_hierarchy;

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
        let unit = if name.ends_with(".slice") { name.to_owned() } else { format!("{prefix}-{name}.scope") };
        crate::host::slice_path(slice).join(unit)
    }
}

/// The cgroup of one container.
pub struct Cgroup {
    manager: AnyCgroupManager,
    record: CgroupRecord,
}

impl Cgroup {
    /// Opens what the record names; nothing is made yet.
    pub fn open(record: &CgroupRecord) -> Result<Self> {
        let config = CgroupConfig {
            cgroup_path: record.path.clone(),
            systemd_cgroup: record.driver == CgroupDriver::Systemd,
            container_name: record.name.clone(),
        };
        let manager = create_cgroup_manager(config).map_err(|e| failed(&e))?;
        Ok(Self { manager, record: record.clone() })
    }

    /// Makes the cgroup and puts the process into it.
    pub fn add(&self, pid: Pid) -> Result<()> {
        match self.v1() {
            Some(v1) => v1.add(pid),
            None => self.manager.add_task(pid).map_err(|e| failed(&e)),
        }
    }

    /// Sets limits. Devices are create's alone: see `limit`.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        if let Some(v1) = self.v1() {
            return v1.write(resources);
        }
        let mut resources = resources.clone();
        resources.set_devices(None);
        let options =
            ControllerOpt { resources: &resources, freezer_state: None, oom_score_adj: None, disable_oom_killer: false };
        self.manager.apply(&options).map_err(|e| failed(&e))
    }

    /// Sets the limits of a vetted container.
    pub fn limit(&self, resources: &LinuxResources, hardened: &Hardened) -> Result<()> {
        let skip = |control| hardened.enforces(control) && faults::enforcement(control) != Enforcement::Do;
        let mut limits = resources.clone();
        if skip(ControlId::Cgroup) {
            limits.set_pids(None).set_memory(None);
        }
        self.apply(&limits)?;
        let Some(v1) = self.v1() else { return Ok(()) };
        let rules = resources.devices().as_deref().unwrap_or_default();
        if hardened.enforces(ControlId::Devices) && !skip(ControlId::Devices) {
            v1.devices_as_vetted(rules)
        } else {
            v1.devices_as_asked(rules)
        }
    }

    fn v1(&self) -> Option<v1::Directories> {
        matches!(self.manager, AnyCgroupManager::V1(_))
            .then(|| v1::Directories { place: relative(&self.record.place()).to_path_buf(), root: PathBuf::from(ROOT) })
    }

    /// Nobody is in it yet.
    pub fn unoccupied(&self) -> Result<()> {
        members::unoccupied(&self.record.place(), &self.directories()?)
    }

    /// The process is in it, and limits are as decided. Read by cgroups-rs, which did not write them.
    pub fn verify(&self, hardened: &Hardened, pid: Pid) -> Result<()> {
        let seen = Observed { cgroup: crate::observed::cgroup::read(&self.record.place())?, ..Observed::default() };
        self.verify_member(hardened, pid)?;
        // A limit that nobody can see is not one that holds, here where its files are known.
        let unseen = |d: &Decided| d.files.iter().all(|f| !seen.cgroup.contains_key(*f)) && !d.files.is_empty();
        if let Some(lost) = decided(hardened).iter().find(|d| self.record.driver == CgroupDriver::Cgroupfs && unseen(d)) {
            return Err(Error::Mismatch {
                control: lost.control,
                expected: format!("a limit in {}", lost.files.join(" or ")),
                observed: "no such file".to_owned(),
            });
        }
        for control in CONTROLS.iter().filter(|c| matches!(c.id(), ControlId::Cgroup | ControlId::Devices)) {
            if hardened.enforces(control.id()) {
                let facts = control.facts(hardened, &seen).into_iter().filter(|f| f.control == control.id());
                verify::all_hold(facts.collect())?;
            }
        }
        Ok(())
    }

    /// What was just written, read back: at every level, since an update that did nothing must not look like one that did.
    pub fn shows(&self, written: &LinuxResources) -> Result<()> {
        let seen = crate::observed::cgroup::read(&self.record.place())?;
        for (files, wanted) in expected(written) {
            let Some((file, shown)) = files.iter().find_map(|f| seen.get(*f).map(|v| (*f, v.trim()))) else { continue };
            if !same(shown, wanted) {
                let why = format!("{wanted} was written and {file} shows {shown}");
                return Err(Error::failed(Step::Cgroup, why));
            }
        }
        Ok(())
    }

    /// The process is where what was decided holds.
    pub fn verify_member(&self, hardened: &Hardened, pid: Pid) -> Result<()> {
        // systemd's own name for the path is not known here.
        if self.record.driver == CgroupDriver::Systemd {
            return Ok(());
        }
        let controllers: Vec<_> = decided(hardened).into_iter().map(|d| (d.control, d.controller)).collect();
        let path = format!("/proc/{pid}/cgroup");
        let listing = std::fs::read_to_string(&path).map_err(Error::file("read", path))?;
        members::verify(&self.record.place(), &controllers, &listing)
    }

    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(self.manager.get_all_pids().map_err(|e| failed(&e))?.into_iter().map(Pid::as_raw).collect())
    }

    pub fn freeze(&self) -> Result<()> {
        self.manager.freeze(FreezerState::Frozen).map_err(|e| failed(&e))
    }

    pub fn thaw(&self) -> Result<()> {
        self.manager.freeze(FreezerState::Thawed).map_err(|e| failed(&e))
    }

    /// Where the cgroup's files are: one directory on v2, one for each controller on v1.
    pub fn directories(&self) -> Result<Vec<PathBuf>> {
        directories(&self.record.place())
    }

    /// Kills what is left in it and removes it. A cgroup that is not there is removed.
    pub fn remove(&self) -> Result<()> {
        // The root of a hierarchy, or a path that climbs, is never ours to clear.
        let ours = |c: std::path::Component<'_>| !matches!(c, std::path::Component::ParentDir);
        if self.record.path.components().all(|c| c == std::path::Component::RootDir) || !self.record.path.components().all(ours) {
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
            let Some((path, errno)) = busy else { return self.remove_unit() };
            if errno != Errno::EBUSY || Instant::now() > deadline {
                return Err(Error::File { doing: "remove cgroup", path, source: errno.into() });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Under systemd the scope must go too; elsewhere there is nothing more.
    fn remove_unit(&self) -> Result<()> {
        match &self.manager {
            AnyCgroupManager::Systemd(_) => self.manager.remove().map_err(|e| failed(&e)),
            _ => Ok(()),
        }
    }
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::failed(Step::Cgroup, error.to_string())
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
    for entry in std::fs::read_dir(directory).map_err(|e| errno(&e))? {
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
    members::signal(directory, libc::SIGKILL)?;
    match std::fs::remove_dir(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(errno(&e)),
        _ => Ok(()),
    }
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
    (root.join("freezer").join(relative).join("freezer.state"), root.join(relative).join("cgroup.freeze"))
}

/// The directories that hold the cgroup at `path` (relative to each hierarchy's mount).
pub fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    let relative = relative(path);
    if unified() {
        return Ok(vec![root.join(relative)]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(Error::file("list", root))? {
        let entry = entry.map_err(Error::file("list", root))?;
        // Co-mounted controllers are there once more as symlinks (cpu -> cpu,cpuacct).
        let kind = entry.file_type().map_err(Error::file("list", root))?;
        if kind.is_dir() && v1::is_hierarchy(&entry.path()) {
            found.push(entry.path().join(relative));
        }
    }
    Ok(found)
}
