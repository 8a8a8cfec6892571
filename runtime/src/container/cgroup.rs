//! The container's cgroup: written by libcontainer's cgroup code, kept small here so that it can be looked through.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use libcgroups::common::{
    AnyCgroupManager, CgroupConfig, CgroupManager, ControllerOpt, FreezerState, create_cgroup_manager,
};
use nix::errno::Errno;
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use serde::{Deserialize, Serialize};

use crate::container::options::CgroupDriver;
use crate::control::{CONTROLS, ControlId};
use crate::error::{Error, Result, Step};
use crate::executor::verify;
use crate::faults::{self, Enforcement};
use crate::hardened::Hardened;
use crate::observed::Observed;

/// What is kept of a cgroup to find it again: later calls come without `--systemd-cgroup`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupRecord {
    pub path: PathBuf,
    pub driver: CgroupDriver,
    pub name: String,
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
        Ok(Self {
            manager,
            record: record.clone(),
        })
    }

    /// Makes the cgroup and puts the process into it.
    pub fn add(&self, pid: Pid) -> Result<()> {
        self.manager.add_task(pid).map_err(|e| failed(&e))
    }

    /// Sets limits.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        let options = ControllerOpt {
            resources,
            freezer_state: None,
            oom_score_adj: None,
            disable_oom_killer: false,
        };
        self.manager.apply(&options).map_err(|e| failed(&e))
    }

    /// Sets the limits of a vetted container.
    pub fn limit(&self, resources: &LinuxResources, hardened: &Hardened) -> Result<()> {
        let skip = |control| hardened.enforces(control) && faults::enforcement(control) != Enforcement::Do;
        let mut resources = resources.clone();
        if skip(ControlId::Cgroup) {
            resources.set_pids(None).set_memory(None);
        }
        self.apply(&resources)?;
        if hardened.enforces(ControlId::Devices) && !skip(ControlId::Devices) {
            self.close_devices(resources.devices().as_deref().unwrap_or_default())?;
        }
        Ok(())
    }

    /// libcontainer's v1 code lets every container make device nodes of any number (`c *:* m`): the vetted list is written
    /// again, from nothing, after it.
    fn close_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        if !matches!(self.manager, AnyCgroupManager::V1(_)) {
            return Ok(());
        }
        let directory = Path::new(ROOT).join("devices").join(relative(&self.record.path));
        let write = |file: &str, text: &str| {
            let path = directory.join(file);
            std::fs::write(&path, text).map_err(Error::file("write", path))
        };
        write("devices.deny", "a")?;
        for rule in rules.iter().filter(|r| r.allow()) {
            write("devices.allow", &rule.to_string())?;
        }
        Ok(())
    }

    /// Limits, as the kernel shows them, beside what was decided. Read by cgroups-rs, which did not write them.
    pub fn verify(&self, hardened: &Hardened) -> Result<()> {
        let seen = Observed {
            cgroup: crate::observed::cgroup::read(&self.record.path)?,
            ..Observed::default()
        };
        for control in CONTROLS
            .iter()
            .filter(|c| matches!(c.id(), ControlId::Cgroup | ControlId::Devices))
        {
            if hardened.enforces(control.id()) {
                let facts = control
                    .facts(hardened, &seen)
                    .into_iter()
                    .filter(|f| f.control == control.id());
                verify::all_hold(facts.collect())?;
            }
        }
        Ok(())
    }

    pub fn pids(&self) -> Result<Vec<i32>> {
        Ok(self
            .manager
            .get_all_pids()
            .map_err(|e| failed(&e))?
            .into_iter()
            .map(Pid::as_raw)
            .collect())
    }

    pub fn freeze(&self) -> Result<()> {
        self.manager.freeze(FreezerState::Frozen).map_err(|e| failed(&e))
    }

    pub fn thaw(&self) -> Result<()> {
        self.manager.freeze(FreezerState::Thawed).map_err(|e| failed(&e))
    }

    /// Where the cgroup's files are: one directory on v2, one for each controller on v1.
    pub fn directories(&self) -> Result<Vec<PathBuf>> {
        directories(&self.record.path)
    }

    /// Kills what is left in it and removes it. A cgroup that is not there is removed.
    pub fn remove(&self) -> Result<()> {
        // The root of a hierarchy, or a path that climbs, is never ours to clear.
        let ours = |c: std::path::Component<'_>| !matches!(c, std::path::Component::ParentDir);
        if self
            .record
            .path
            .components()
            .all(|c| c == std::path::Component::RootDir)
            || !self.record.path.components().all(ours)
        {
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
            let Some((path, errno)) = busy else {
                return self.remove_unit();
            };
            if errno != Errno::EBUSY || Instant::now() > deadline {
                return Err(Error::File {
                    doing: "remove cgroup",
                    path,
                    source: errno.into(),
                });
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
    let procs = std::fs::read_to_string(directory.join("cgroup.procs")).map_err(|e| errno(&e))?;
    for pid in procs.lines().filter_map(|l| l.parse().ok()).filter(|pid| *pid > 0) {
        match nix::sys::signal::kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(e),
        }
    }
    match std::fs::remove_dir(directory) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(errno(&e)),
        _ => Ok(()),
    }
}

/// Where cgroups are mounted (cgroups(7); systemd and all engines agree).
const ROOT: &str = "/sys/fs/cgroup";

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// The directories that hold the cgroup at `path` (relative to each hierarchy's mount).
pub fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    let relative = relative(path);
    let statfs = nix::sys::statfs::statfs(root).map_err(|e| Error::File {
        doing: "look at",
        path: root.to_path_buf(),
        source: e.into(),
    })?;
    if statfs.filesystem_type() == nix::sys::statfs::CGROUP2_SUPER_MAGIC {
        return Ok(vec![root.join(relative)]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(root).map_err(Error::file("list", root))? {
        let entry = entry.map_err(Error::file("list", root))?;
        // Co-mounted controllers are there once more as symlinks (cpu -> cpu,cpuacct).
        let kind = entry.file_type().map_err(Error::file("list", root))?;
        if kind.is_dir() {
            found.push(entry.path().join(relative));
        }
    }
    Ok(found)
}
