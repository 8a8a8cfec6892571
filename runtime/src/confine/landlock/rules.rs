//! The rules of a ruleset: which rights each path gets.

use std::ffi::OsStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use landlock::{ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, PathBeneath, RulesetCreated, RulesetCreatedAttr};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{FileStat, Mode, fstat};

use super::cannot;
use crate::contract::setup::Setup;
use gabion_core::hardened::LandlockPlan;
use gabion_see::error::{Error, Result, Step};

/// How many entries of the image get a rule of their own at most: a bound on what a hostile image costs.
const MAX_RULES: usize = 8192;

/// All file rights that the kernel knows at the ABI that was found when the container was judged.
pub(super) fn handled(plan: &LandlockPlan) -> BitFlags<AccessFs> {
    let abi = match plan.abi {
        0 | 1 => ABI::V1,
        2 => ABI::V2,
        3 => ABI::V3,
        4 => ABI::V4,
        _ => ABI::V5,
    };
    AccessFs::from_all(abi)
}

pub(super) struct Rules<'a> {
    created: RulesetCreated,
    handled: BitFlags<AccessFs>,
    plan: &'a LandlockPlan,
    count: usize,
}

impl<'a> Rules<'a> {
    pub(super) fn new(created: RulesetCreated, handled: BitFlags<AccessFs>, plan: &'a LandlockPlan) -> Self {
        Self {
            created,
            handled,
            plan,
            count: 0,
        }
    }

    pub(super) fn add(&mut self, fd: BorrowedFd<'_>, kind: Target, access: BitFlags<AccessFs>) -> Result<()> {
        self.count += 1;
        if self.count > MAX_RULES {
            return Err(Error::failed(
                Step::Landlock,
                "the image has too many entries beside a writable path",
            ));
        }
        // A file cannot carry the rights of a directory (landlock_add_rule(2)).
        let access = match kind {
            Target::Directory => access,
            Target::File | Target::Other => access & AccessFs::from_file(ABI::V5),
        } & self.handled;
        if access.is_empty() {
            return Ok(());
        }
        let rule = PathBeneath::new(fd, access);
        (&mut self.created)
            .add_rule(rule)
            .map(drop)
            .map_err(|e| cannot("add a rule")(&e))
    }

    pub(super) fn writable(&mut self) -> Result<()> {
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
            Ok(fd) => self.add(fd.as_fd(), Target::of(&fd)?, access),
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
    pub(super) fn executable(&mut self, directory: &OwnedFd, path: &Path) -> Result<()> {
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
            let full = path.join(OsStr::from_bytes(name.to_bytes()));
            let place = self.place(&full);
            // A symlink, a device: nothing to execute. What the list does not say is seen below.
            let other = entry
                .file_type()
                .is_some_and(|t| !matches!(t, nix::dir::Type::Directory | nix::dir::Type::File));
            if other || matches!(place, Nearness::Writable) {
                continue;
            }
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let fd = match gabion_sys::openat(directory.as_fd(), name, flags, Mode::empty()) {
                Ok(fd) => fd,
                // Gone since it was listed, or a mount that is not the user's to enter: not executable then.
                Err(Errno::ENOENT | Errno::EACCES) => continue,
                Err(e) => return Err(Error::step(Step::Landlock, "open an entry of the image", e)),
            };
            match (place, Target::of(&fd)?) {
                (_, Target::Other) | (Nearness::Writable, _) => {}
                (Nearness::Above, Target::Directory) => self.executable(&fd, &full)?,
                (_, kind) => self.add(fd.as_fd(), kind, AccessFs::Execute.into())?,
            }
        }
        Ok(())
    }

    /// Where a path lies with regard to what is writable.
    fn place(&self, path: &Path) -> Nearness {
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
            return Nearness::Writable;
        }
        if self.closed().any(|w| lies_in(w, path)) {
            Nearness::Above
        } else {
            Nearness::Clear
        }
    }

    /// What stands behind stdio and preserved descriptors may be opened again (`/dev/stdout` on a FIFO).
    pub(super) fn stdio(&mut self, setup: &Setup<'_>) -> Result<()> {
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
            let rule = PathBeneath::new(fd, again(number, &stat)? & self.handled);
            match (&mut self.created).add_rule(rule) {
                Ok(_) => {}
                // An anonymous pipe: Landlock does not govern it (landlock_add_rule(2), EBADFD).
                Err(e) if errno_of(&e) == Some(Errno::EBADFD) => {}
                Err(e) => return Err(cannot("add a rule for stdio")(&e)),
            }
        }
        Ok(())
    }

    pub(super) fn ports(self) -> Result<RulesetCreated> {
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
                .map_err(|e| cannot("add a port")(&e))?;
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

enum Nearness {
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
pub(super) enum Target {
    Directory,
    File,
    Other,
}

impl Target {
    fn of(fd: &OwnedFd) -> Result<Self> {
        let stat = fstat(fd.as_raw_fd()).map_err(|e| Error::step(Step::Landlock, "look at a path", e))?;
        Ok(match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => Self::Directory,
            libc::S_IFREG => Self::File,
            _ => Self::Other,
        })
    }
}

/// What a descriptor's file may be opened again for. A regular file of the host's only for what it was handed in for: one that is to be written
/// could be read, and so mapped executable; one that is to be read could be written.
fn again(number: i32, stat: &FileStat) -> Result<BitFlags<AccessFs>> {
    let write = AccessFs::WriteFile | AccessFs::Truncate;
    let all = write | AccessFs::ReadFile | AccessFs::IoctlDev;
    if stat.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Ok(all);
    }
    let flags = fcntl(number, FcntlArg::F_GETFL).map_err(|e| Error::step(Step::Landlock, "look at stdio", e))?;
    Ok(match flags & libc::O_ACCMODE {
        libc::O_RDONLY => AccessFs::ReadFile.into(),
        libc::O_WRONLY => write,
        _ => all,
    })
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
