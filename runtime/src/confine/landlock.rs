//! Landlock: what may be executed and written, by path, under every other layer.
//!
//! Rights add up along a path, so a directory above a hole may never get EXECUTE: `/` gets reading, EXECUTE goes to the entries
//! below it, and further down only where something writable lies below.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, NetPort, PathBeneath, RulesetAttr,
    RulesetCreated, RulesetCreatedAttr, RulesetStatus,
};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};

use crate::contract::setup::Setup;
use gabion_core::hardened::LandlockPlan;
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};

/// How many entries of the image get a rule of their own at most: a bound on what a hostile image costs.
const MAX_RULES: usize = 8192;

/// A ruleset with its paths open, not yet in force.
#[derive(Debug)]
pub(crate) struct Ruleset {
    created: RulesetCreated,
    /// Whether the kernel can write what it denies into its audit log, and says so by its ABI.
    logs: Logs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Logs {
    No,
    Yes,
}

/// LANDLOCK_RESTRICT_SELF_LOG_NEW_EXEC_ON came with ABI 7.
const ABI_LOG: u32 = 7;

fn failed(doing: &'static str) -> impl Fn(&dyn std::fmt::Display) -> Error {
    move |e| Error::failed(Step::Landlock, format!("cannot {doing}: {e}"))
}

/// Opens the paths of the plan and makes the ruleset.
pub(crate) fn build(setup: &Setup<'_>) -> Result<Option<Ruleset>> {
    let Some(plan) = &setup.hardened.plan().landlock else {
        return Ok(None);
    };
    let handled = handled(plan);
    let mut ruleset = landlock::Ruleset::default()
        .set_compatibility(CompatLevel::HardRequirement)
        .handle_access(handled)
        .map_err(|e| failed("handle its accesses")(&e))?;
    if plan.tcp_bind.is_some() {
        ruleset = ruleset
            .handle_access(AccessNet::BindTcp)
            .map_err(|e| failed("handle TCP bind")(&e))?;
    }
    if plan.tcp_connect.is_some() {
        ruleset = ruleset
            .handle_access(AccessNet::ConnectTcp)
            .map_err(|e| failed("handle TCP connect")(&e))?;
    }
    let created = ruleset.create().map_err(|e| failed("make a ruleset")(&e))?;
    let mut rules = Rules {
        created,
        handled,
        plan,
        count: 0,
    };
    let root = Path::new("/");
    let open =
        gabion_sys::open_path(root, OFlag::empty()).map_err(|e| Error::step(Step::Landlock, "open the root", e))?;
    rules.add(open.as_fd(), Kind::Directory, AccessFs::ReadFile | AccessFs::ReadDir)?;
    rules.writable()?;
    rules.executable(&open, root)?;
    rules.stdio(setup)?;
    let created = rules.ports()?;
    let logs = if plan.abi >= ABI_LOG { Logs::Yes } else { Logs::No };
    Ok(Some(Ruleset { created, logs }))
}

/// All file rights that the kernel knows at the ABI that was found when the container was judged.
fn handled(plan: &LandlockPlan) -> BitFlags<AccessFs> {
    let abi = match plan.abi {
        0 | 1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        _ => ABI::V5,
    };
    AccessFs::from_all(abi)
}

struct Rules<'a> {
    created: RulesetCreated,
    handled: BitFlags<AccessFs>,
    plan: &'a LandlockPlan,
    count: usize,
}

impl Rules<'_> {
    fn add(&mut self, fd: BorrowedFd<'_>, kind: Kind, access: BitFlags<AccessFs>) -> Result<()> {
        self.count += 1;
        if self.count > MAX_RULES {
            return Err(Error::failed(
                Step::Landlock,
                "the image has too many entries beside a writable path",
            ));
        }
        // A file cannot carry the rights of a directory (landlock_add_rule(2)).
        let access = match kind {
            Kind::Directory => access,
            Kind::File | Kind::Other => access & AccessFs::from_file(ABI::V5),
        } & self.handled;
        if access.is_empty() {
            return Ok(());
        }
        let rule = PathBeneath::new(fd, access);
        (&mut self.created)
            .add_rule(rule)
            .map(drop)
            .map_err(|e| failed("add a rule")(&e))
    }

    fn writable(&mut self) -> Result<()> {
        let write = AccessFs::ReadFile
            | AccessFs::ReadDir
            | AccessFs::WriteFile
            | AccessFs::Truncate
            | AccessFs::RemoveDir
            | AccessFs::RemoveFile
            | AccessFs::MakeDir
            | AccessFs::MakeReg
            | AccessFs::MakeSock
            | AccessFs::MakeFifo
            | AccessFs::MakeSym
            | AccessFs::Refer
            | AccessFs::IoctlDev;
        let plan = self.plan;
        for path in &plan.writable {
            self.add_path(path, write)?;
        }
        for path in &plan.executable {
            self.add_executable(path)?;
        }
        for path in &plan.writable_exec {
            self.add_path(path, write | AccessFs::Execute)?;
        }
        Ok(())
    }

    fn add_path(&mut self, path: &Path, access: BitFlags<AccessFs>) -> Result<()> {
        match gabion_sys::open_path(path, OFlag::empty()) {
            Ok(fd) => self.add(fd.as_fd(), Kind::of(&fd)?, access),
            // Not every container has every one (a spec without /dev/mqueue): nothing there, nothing to allow.
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(e) => Err(Error::step(Step::Landlock, format!("open {}", path.display()), e)),
        }
    }

    /// EXECUTE for a mount below what is writable: for the whole of it where nothing in it is closed.
    fn add_executable(&mut self, path: &Path) -> Result<()> {
        if !self.closed().any(|w| w != path && lies_in(w, path)) {
            return self.add_path(path, AccessFs::Execute.into());
        }
        match gabion_sys::open_path(path, OFlag::O_DIRECTORY) {
            Ok(fd) => self.executable(&fd, path),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(()),
            Err(e) => Err(Error::step(Step::Landlock, format!("open {}", path.display()), e)),
        }
    }

    /// What nothing is executed in: it is writable, here or under another name.
    fn closed(&self) -> impl Iterator<Item = &Path> {
        let closed = self.plan.writable.iter().chain(&self.plan.inert);
        closed.map(std::path::PathBuf::as_path)
    }

    /// EXECUTE for what lies below `directory`, leaving out everything writable.
    fn executable(&mut self, directory: &OwnedFd, path: &Path) -> Result<()> {
        let mut names = nix::dir::Dir::openat(
            Some(directory.as_raw_fd()),
            ".",
            OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
            Mode::empty(),
        )
        .map_err(|e| Error::step(Step::Landlock, format!("list {}", path.display()), e))?;
        for entry in names.iter() {
            let entry = entry.map_err(|e| Error::step(Step::Landlock, format!("list {}", path.display()), e))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let full = path.join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(
                name.to_bytes(),
            ));
            let place = self.place(&full);
            // A symlink, a device: nothing to execute. What the list does not say is seen below.
            let other = entry
                .file_type()
                .is_some_and(|t| !matches!(t, nix::dir::Type::Directory | nix::dir::Type::File));
            if other || matches!(place, Place::Writable) {
                continue;
            }
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = match gabion_sys::openat(directory.as_fd(), name, flags, Mode::empty()) {
                Ok(fd) => fd,
                // Gone since it was listed, or a mount that is not the user's to enter: not executable then.
                Err(Errno::ENOENT | Errno::EACCES) => continue,
                Err(e) => return Err(Error::step(Step::Landlock, "open an entry of the image", e)),
            };
            match (place, Kind::of(&fd)?) {
                (_, Kind::Other) | (Place::Writable, _) => {}
                (Place::Above, Kind::Directory) => self.executable(&fd, &full)?,
                (_, kind) => self.add(fd.as_fd(), kind, AccessFs::Execute.into())?,
            }
        }
        Ok(())
    }

    /// Where a path lies with regard to what is writable.
    fn place(&self, path: &Path) -> Place {
        // What is closed nearest to a path decides: an executable mount may lie in something that is writable.
        let depth = |p: &Path| p.as_os_str().len();
        let closed = self.closed().filter(|w| lies_in(path, w)).map(depth).max();
        let open = self
            .plan
            .executable
            .iter()
            .filter(|e| lies_in(path, e))
            .map(|e| depth(e))
            .max();
        if closed.is_some_and(|closed| open.is_none_or(|open| open <= closed)) {
            return Place::Writable;
        }
        if self.closed().any(|w| lies_in(w, path)) {
            Place::Above
        } else {
            Place::Clear
        }
    }

    /// What stands behind stdio and preserved descriptors may be opened again (`/dev/stdout` on a FIFO).
    fn stdio(&mut self, setup: &Setup<'_>) -> Result<()> {
        let access = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::IoctlDev;
        let last = i32::try_from(setup.preserved.count).unwrap_or(0).saturating_add(3);
        for number in 0..last {
            let fd = match gabion_sys::duplicate_number(number) {
                Ok(fd) => fd,
                Err(Errno::EBADF) => continue,
                Err(e) => return Err(Error::step(Step::Landlock, "look at stdio", e)),
            };
            let stat = fstat(number).map_err(|e| Error::step(Step::Landlock, "look at stdio", e))?;
            // A directory is never handed in; sockets and anonymous pipes are not found by path.
            let by_path = matches!(
                stat.st_mode & libc::S_IFMT,
                libc::S_IFREG | libc::S_IFIFO | libc::S_IFCHR
            );
            if !by_path {
                continue;
            }
            let rule = PathBeneath::new(fd, access & self.handled);
            match (&mut self.created).add_rule(rule) {
                Ok(_) => {}
                // An anonymous pipe: Landlock does not govern it (landlock_add_rule(2), EBADFD).
                Err(e) if errno_of(&e) == Some(Errno::EBADFD) => {}
                Err(e) => return Err(failed("add a rule for stdio")(&e)),
            }
        }
        Ok(())
    }

    fn ports(self) -> Result<RulesetCreated> {
        let mut created = self.created;
        let bind = self.plan.tcp_bind.iter().flatten().map(|p| (*p, AccessNet::BindTcp));
        let connect = self
            .plan
            .tcp_connect
            .iter()
            .flatten()
            .map(|p| (*p, AccessNet::ConnectTcp));
        for (port, access) in bind.chain(connect) {
            created = created
                .add_rule(NetPort::new(port, access))
                .map_err(|e| failed("add a port")(&e))?;
        }
        Ok(created)
    }
}

/// `Path::starts_with` for paths in normal form: that takes both apart each time, and here it is asked of every entry of the image's root.
fn lies_in(path: &Path, directory: &Path) -> bool {
    let directory = directory.as_os_str().as_bytes();
    // The root's name ends in what separates others from what is in them.
    let directory = directory.strip_suffix(b"/").unwrap_or(directory);
    let rest = path.as_os_str().as_bytes().strip_prefix(directory);
    rest.is_some_and(|rest| matches!(rest, [] | [b'/', ..]))
}

enum Place {
    /// At or below something writable, or a read-only name of that: never executable by this layer.
    Writable,
    /// Something writable lies below.
    Above,
    Clear,
}

fn errno_of(error: &landlock::RulesetError) -> Option<Errno> {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(e) = source {
        if let Some(io) = e.downcast_ref::<std::io::Error>() {
            return io.raw_os_error().map(Errno::from_raw);
        }
        source = e.source();
    }
    None
}

/// What a descriptor leads to, as far as rules tell it apart.
#[derive(Clone, Copy)]
enum Kind {
    Directory,
    File,
    Other,
}

impl Kind {
    fn of(fd: &OwnedFd) -> Result<Self> {
        let stat = fstat(fd.as_raw_fd()).map_err(|e| Error::step(Step::Landlock, "look at a path", e))?;
        Ok(match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => Self::Directory,
            libc::S_IFREG => Self::File,
            _ => Self::Other,
        })
    }
}

/// Puts the ruleset in force and tries a path that it must deny.
pub(crate) fn enforce(ruleset: &Ruleset, probe: Option<&OwnedFd>) -> Result<()> {
    // The control: the probe opens before, so that its failing afterwards is Landlock's doing.
    if let Some(probe) = probe {
        open_probe(probe).map_err(|e| Error::step(Step::Landlock, "open the probe directory beforehand", e))?;
    }
    if crate::faults::not_skipped_by_a_test(ControlId::Landlock) {
        let created = ruleset
            .created
            .try_clone()
            .map_err(|e| failed("clone the ruleset")(&e))?;
        // no_new_privs is the control of that name's to set; where it is off CAP_SYS_ADMIN stands in for it.
        let mut created = created.no_new_privs(false);
        if ruleset.logs == Logs::Yes {
            // A domain of before execve logs nothing after it, unless it is told to: and after it comes all that this one is for.
            created = created
                .log_new_exec(true)
                .map_err(|e| failed("have its denials logged")(&e))?;
        }
        let status = created.restrict_self().map_err(|e| failed("restrict itself")(&e))?;
        if status.ruleset != RulesetStatus::FullyEnforced {
            return Err(mismatch(format!("{:?}", status.ruleset)));
        }
    }
    let Some(probe) = probe else { return Ok(()) };
    match open_probe(probe) {
        Err(Errno::EACCES) => Ok(()),
        Ok(_) => Err(mismatch("a path outside every rule could be opened".to_owned())),
        Err(e) => Err(mismatch(format!("a path outside every rule gave {e}"))),
    }
}

fn open_probe(probe: &OwnedFd) -> nix::Result<OwnedFd> {
    gabion_sys::openat(
        probe.as_fd(),
        ".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
}

fn mismatch(observed: String) -> Error {
    let expected = "a path outside every rule gives EACCES".to_owned();
    Error::Mismatch {
        control: ControlId::Landlock,
        expected,
        observed,
    }
}

#[cfg(test)]
mod tests {
    use super::lies_in;
    use std::path::Path;

    #[test]
    fn a_path_lies_in_itself_and_in_what_is_above_it() {
        let paths = ["/", "/a", "/a/b", "/ab", "/a/b/c", "/b"].map(Path::new);
        for path in paths {
            for directory in paths {
                assert_eq!(
                    lies_in(path, directory),
                    path.starts_with(directory),
                    "{path:?} in {directory:?}"
                );
            }
        }
    }
}
