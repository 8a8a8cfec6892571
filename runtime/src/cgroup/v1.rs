//! The container's directories on cgroup v1, one for each controller.
//!
//! libcontainer's code is not used for these: it opens the device list on every write, knows no weights of single devices, and
//! fails on kernel memory, which no kernel limits any more.

mod devices;
mod limits;

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;

use super::{Below, put, refuse_frozen};
use gabion_core::host::Delegation;
use gabion_see::cgroup::ROOT;
use gabion_see::error::{Error, Result, Step};

pub(super) use devices::needed;

/// How often a freeze is tried, a millisecond apart.
const PATIENCE: u32 = 2000;

/// The container's directories, one for each controller.
#[derive(Debug)]
pub(super) struct Directories {
    /// Relative to each hierarchy's mount.
    pub(super) place: PathBuf,
    pub(super) root: PathBuf,
    /// The hierarchies that it is made in.
    pub(super) delegation: Delegation,
}

impl Directories {
    fn of(&self, controller: &str) -> PathBuf {
        self.root.join(controller).join(&self.place)
    }

    /// The controller's directory, for a limit that is asked for.
    fn need(&self, controller: &str) -> Result<PathBuf> {
        let directory = self.of(controller);
        if self.delegation.has(controller) && directory.is_dir() {
            return Ok(directory);
        }
        let why = format!("a limit of the {controller} controller is asked for, and this caller may not use it");
        Err(Error::failed(Step::Cgroup, why))
    }

    /// Makes the directory in every hierarchy and puts the process there.
    pub(super) fn add(&self, pid: Pid) -> Result<()> {
        for top in super::hierarchies(&self.root)? {
            let name = top.file_name().unwrap_or_default().to_string_lossy();
            if !self.delegation.has(&name) {
                continue;
            }
            let is = |other: &str| name == other;
            if is("systemd") || is("unified") {
                self.join_unlimited(&top, pid)?;
                continue;
            }
            let directory = top.join(&self.place);
            make(&directory)?;
            if is("cpuset") {
                self.inherit_cpuset(&top)?;
            }
            put(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// The directories of each hierarchy that a further process joins. All are there.
    pub(super) fn targets(&self, below: &Below) -> Result<Vec<PathBuf>> {
        let mut tops = super::hierarchies(&self.root)?;
        let name = |top: &PathBuf| top.file_name().unwrap_or_default().to_string_lossy().into_owned();
        tops.retain(|top| self.delegation.has(&name(top)));
        below.known(&tops.iter().map(name).collect::<Vec<_>>())?;
        let mut found = Vec::new();
        for top in tops {
            let target = top.join(&self.place).join(below.within(&name(&top)));
            let members = target.join("cgroup.procs");
            fs::symlink_metadata(&members).map_err(|error| match error.kind() {
                // runc's words.
                std::io::ErrorKind::NotFound => Error::failed(
                    Step::Cgroup,
                    format!(
                        "adding pid of the process to {}: no such file or directory",
                        members.display()
                    ),
                ),
                _ => Error::file("join the cgroup", &target)(error),
            })?;
            found.push(target);
        }
        Ok(found)
    }

    /// Puts a further process into directories that are there.
    pub(super) fn join(&self, below: &Below, pid: Pid) -> Result<()> {
        for target in self.targets(below)? {
            put(&target.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// freezer.state tells of those above as well (freezer-subsystem.rst).
    pub(super) fn thawed(&self, below: &Path) -> Result<()> {
        if !self.delegation.has("freezer") {
            return Ok(());
        }
        let place: PathBuf = self.place.components().chain(below.components()).collect();
        refuse_frozen(&self.root.join("freezer"), &place, "freezer.state", |state| {
            state.trim() != "THAWED"
        })
    }

    /// A hierarchy without limits: in systemd's own the container would stay a part of its engine's service, and end with it.
    fn join_unlimited(&self, top: &Path, pid: Pid) -> Result<()> {
        let directory = top.join(&self.place);
        let joined =
            fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join("cgroup.procs"), pid.to_string()));
        match joined {
            // Not ours to write: nothing that was decided depends on these.
            Err(e) if !matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => {
                Err(Error::file("join", directory)(e))
            }
            _ => Ok(()),
        }
    }

    /// A cpuset without processors and memory nodes takes no process: each level gets its parent's (cpuset(7)).
    fn inherit_cpuset(&self, top: &Path) -> Result<()> {
        let mut at = top.to_path_buf();
        for part in &self.place {
            let parent = at.clone();
            at.push(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = gabion_see::small::read(at.join(file)).map_err(Error::file("read", at.join(file)))?;
                if own.trim().is_empty() {
                    let theirs =
                        gabion_see::small::read(parent.join(file)).map_err(Error::file("read", parent.join(file)))?;
                    put(&at.join(file), theirs.trim())?;
                }
            }
        }
        Ok(())
    }

    /// Stops every process. The kernel may need several tries while they fork (freezer-subsystem.rst).
    pub(super) fn freeze(&self) -> Result<()> {
        let file = self.need("freezer")?.join("freezer.state");
        for _ in 0..PATIENCE {
            put(&file, "FROZEN")?;
            let state = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
            if state.trim() == "FROZEN" {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        put(&file, "THAWED")?;
        Err(Error::failed(Step::Cgroup, "the kernel does not freeze the container"))
    }

    /// libcontainer's would make the directory again that `delete` has just removed.
    pub(super) fn thaw(&self) -> Result<()> {
        let file = self.of("freezer").join("freezer.state");
        if !self.delegation.has("freezer") {
            return Ok(());
        }
        match fs::write(&file, "THAWED") {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                Err(Error::file("write", file)(e))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a directory is in the hierarchy of the controller.
pub(super) fn is_in(directory: &Path, controller: &str) -> bool {
    let hierarchy = directory.strip_prefix(ROOT).ok().and_then(|d| d.components().next());
    hierarchy.is_some_and(|h| h.as_os_str().to_string_lossy().split(',').any(|c| c == controller))
}

/// Most often only the last level is missing.
fn make(directory: &Path) -> Result<()> {
    match fs::create_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(directory).map_err(Error::file("make", directory))
        }
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::File {
            doing: "make",
            path: directory.to_path_buf(),
            source: e,
        }),
        _ => Ok(()),
    }
}
