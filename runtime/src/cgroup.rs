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

mod below;
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

pub(crate) use below::Below;

/// The cgroup of one container, or one below it.
pub(crate) struct Cgroup {
    record: CgroupRecord,
    below: Below,
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
            below: Below::Own,
        }
    }

    /// Opens those of the container's own below its first one that a further process joins (`exec --cgroup`).
    ///
    /// # Errors
    /// One is not there, or of no controller of the container's.
    pub(crate) fn open_below(record: &CgroupRecord, below: Below) -> Result<Self> {
        let cgroup = Self {
            record: record.clone(),
            below,
        };
        match (&cgroup.below, cgroup.files()) {
            (Below::Own, _) => {}
            (_, Files::None) => {
                let why = "--cgroup: the container has no cgroup: none is delegated to who made it";
                return Err(Error::failed(Step::Cgroup, why));
            }
            (below, Files::V1(v1)) => v1.targets(below).map(drop)?,
            (Below::Each(_), Files::V2(_)) => cgroup.below.known(&[])?,
            (Below::All(_), Files::V2(v2)) => v2.open().map(drop)?,
        }
        Ok(cgroup)
    }

    /// Relative to each hierarchy's mount; on v1 that of the container's own.
    fn place(&self) -> PathBuf {
        let place = relative(&self.record.place()).to_path_buf();
        match &self.below {
            Below::All(path) if unified() && !path.as_os_str().is_empty() => place.join(path),
            _ => place,
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
        match self.files() {
            Files::V2(v2) => v2.open().map(Some),
            Files::None | Files::V1(_) => Ok(None),
        }
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
            Files::V1(v1) if self.below == Below::Own => v1.add(pid),
            Files::V1(v1) => v1.join(&self.below, pid),
            Files::V2(v2) if self.below == Below::Own => v2.join_beside(pid, init),
            Files::V2(v2) => v2.join(pid),
        };
        let joined = join();
        // A user may not take a process out of what is not theirs: a login's own cgroup (cgroup-v2.rst, Delegation Containment).
        // Their systemd has it moved.
        let denied = matches!(&joined, Err(Error::File { source, .. }) if source.raw_os_error() == Some(libc::EACCES));
        if !denied {
            return joined;
        }
        match (self.scope()?, self.files()) {
            (Some(mut scope), Files::V2(v2)) if self.below == Below::Own => {
                scope.attach(pid, &self.place(), &v2.beside(init)?)
            }
            (Some(mut scope), Files::V2(v2)) => scope.attach(pid, relative(&self.record.place()), &v2.place),
            _ => joined,
        }
    }

    /// Checks that nobody has frozen it, nor a cgroup above it: a process that was put there would never go on.
    ///
    /// # Errors
    /// It is frozen; it cannot be looked at.
    pub(crate) fn thawed(&self) -> Result<()> {
        match self.files() {
            Files::None => Ok(()),
            Files::V1(v1) => v1.thawed(self.below.within("freezer")),
            Files::V2(v2) => v2.thawed(),
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

/// Refuses a directory whose file of the freezer shows that it is frozen, itself or by one above it. One that is not there yet is as the next
/// one above it; the hierarchy's own top has no such file and is never frozen.
fn refuse_frozen(top: &Path, place: &Path, file: &str, is_frozen: fn(&str) -> bool) -> Result<()> {
    for at in place.ancestors() {
        let path = top.join(at).join(file);
        match gabion_see::small::read(&path) {
            Ok(text) if is_frozen(&text) => return Err(frozen(&top.join(at))),
            Ok(_) => return Ok(()),
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {}
            Err(e) => return Err(Error::file("read", path)(e)),
        }
    }
    Ok(())
}

/// runc's words: callers look for them.
fn frozen(directory: &Path) -> Error {
    let why = format!(
        "container's cgroup unexpectedly frozen: {} (or one above it) holds its processes; thaw it first",
        directory.display()
    );
    Error::failed(Step::Cgroup, why)
}

/// Writes files in the order in which the kernel takes them: which of two must be first hangs on what they are now (a quota and its period below
/// a parent with limits of its own). What it calls invalid is tried again after the others.
fn put_in_any_order(writes: Vec<(PathBuf, String)>) -> Result<()> {
    let mut left = writes;
    while !left.is_empty() {
        let before = left.len();
        let mut first = None;
        let mut again = Vec::new();
        for (path, text) in left {
            match put(&path, &text) {
                Ok(()) => {}
                Err(error) if is_invalid(&error) => {
                    first.get_or_insert(error);
                    again.push((path, text));
                }
                Err(error) => return Err(error),
            }
        }
        match first {
            Some(error) if again.len() == before => return Err(error),
            _ => left = again,
        }
    }
    Ok(())
}

fn is_invalid(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if source.raw_os_error() == Some(libc::EINVAL))
}

/// Writes a file of a cgroup. Never made: where it is missing there is no such limit.
fn put(path: &Path, text: &str) -> Result<()> {
    tracing::debug!(path = %path.display(), text, "cgroup");
    let mut file = open(path)?;
    file.write_all(text.as_bytes()).map_err(Error::file("write", path))
}
