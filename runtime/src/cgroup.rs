//! The container's cgroup: written file by file by `v1` and `v2`, kept small here so that it can be looked through. Under the
//! systemd driver the directory is a unit's, and `systemd` asks for it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use gabion_core::host::CgroupDriver;
use gabion_see::cgroup::{CgroupRecord, ROOT, hierarchies, members, relative, unified};
use gabion_see::error::{Error, Result, Step};
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

mod claim;
mod limits;
mod program;
mod properties;
mod readback;
mod remove;
pub(crate) mod signal;
pub(crate) mod stats;
mod systemd;
mod v1;
mod v2;

/// The cgroup of one container, or one below it.
pub(crate) struct Cgroup {
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
    pub(crate) fn open(record: &CgroupRecord) -> Self {
        Self {
            record: record.clone(),
            below: PathBuf::new(),
        }
    }

    /// Opens a cgroup of the container's own below its first one (`exec --cgroup`).
    pub(crate) fn open_below(record: &CgroupRecord, below: &Path) -> Self {
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

    fn scope_named(&self) -> bool {
        self.record.driver == CgroupDriver::Systemd && unified()
    }

    /// The unit that the directory belongs to. On v1 the systemd driver's names are directories like others.
    fn scope(&self) -> Result<Option<systemd::Scope>> {
        if self.scope_named() && !self.record.delegation.is_none() {
            systemd::Scope::find(&self.record).map(Some)
        } else {
            Ok(None)
        }
    }

    /// Its directory, made, for the first process to be born in (clone3(2), CLONE_INTO_CGROUP): on v2, where it is not systemd
    /// that makes it.
    pub(crate) fn cradle(&self) -> Result<Option<OwnedFd>> {
        match (self.record.driver, self.files()) {
            (CgroupDriver::Cgroupfs, Files::V2(v2)) => {
                v2.make()?;
                v2.open().map(Some)
            }
            _ => Ok(None),
        }
    }

    /// The same for a further process: whoever made the directory.
    pub(crate) fn cradle_of_another(&self) -> Result<Option<OwnedFd>> {
        let Files::V2(v2) = self.files() else { return Ok(None) };
        if !self.below.as_os_str().is_empty() {
            v2.make_inside()?;
        }
        v2.open().map(Some)
    }

    /// Makes the cgroup and puts the process into it. Of its limits (`limit`) only what cannot be told later is looked at.
    pub(crate) fn add(&self, pid: Pid, resources: Option<&LinuxResources>) -> Result<()> {
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
    pub(crate) fn enter(&self, pid: Pid, init: Pid) -> Result<()> {
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

    /// Its processes and those of the cgroups below it, as the host numbers them.
    pub(crate) fn pids(&self) -> Result<Vec<i32>> {
        let mut found = BTreeSet::new();
        for directory in self.directories()? {
            members::tree(&directory, &mut found).map_err(|e| Error::step(Step::Cgroup, "list its processes", e))?;
        }
        Ok(found.into_iter().collect())
    }

    /// Whether processes can be stopped where they are.
    pub(crate) fn freezes(&self) -> bool {
        self.record.freezer_files().any(|file| file.exists())
    }

    pub(crate) fn freeze(&self) -> Result<()> {
        match self.files() {
            Files::None => Err(Error::failed(Step::Cgroup, "the container has no cgroup to freeze")),
            Files::V1(v1) => v1.freeze(),
            Files::V2(v2) => v2.freeze(),
        }
    }

    /// Lets processes go on. A cgroup that is gone holds none.
    pub(crate) fn thaw(&self) -> Result<()> {
        match self.files() {
            Files::None => Ok(()),
            Files::V1(v1) => v1.thaw(),
            Files::V2(v2) => v2.thaw(),
        }
    }

    /// Where the cgroup's files are: one directory on v2, one for each controller on v1.
    pub(crate) fn directories(&self) -> Result<Vec<PathBuf>> {
        let mut all = gabion_see::cgroup::directories(&self.place())?;
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
