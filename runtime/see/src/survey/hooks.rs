//! Hooks that run on the host: their programs.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, read_link};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use oci_spec::runtime::Hook;

use gabion_core::caller::{OwnUserNs, Reader};
use gabion_core::host::{Above, HookFile, ProcessExe, RunBy};
use gabion_core::request::Request;

use super::files::{Opened, errno, open_path};
use crate::caller::reader;

/// The overflow uid: the host's root, seen from inside a user namespace.
const UNMAPPED: u32 = 65534;

/// Looks at the programs of hooks that run on the host, by the path that the spec has. startContainer hooks are the image's own and run confined.
///
/// The program of a process is opened: the process may end, and its number be another's, before it is run.
pub(super) fn look(request: &Request) -> (BTreeMap<PathBuf, HookFile>, Opened<PathBuf>) {
    let (mut facts, mut held) = (BTreeMap::new(), BTreeMap::new());
    for path in paths(request) {
        let fact = match pid_of(path) {
            None => hook_file(path),
            Some(pid) => match of_process(pid) {
                Ok((exe, file)) => {
                    held.extend(file.map(|file| (path.clone(), file.into())));
                    HookFile::OfProcess(exe)
                }
                Err(error) => HookFile::Unreadable(errno(&error)),
            },
        };
        facts.insert(path.clone(), fact);
    }
    (facts, held)
}

/// The paths of the hooks that run on the host.
pub(super) fn paths(request: &Request) -> impl Iterator<Item = &PathBuf> {
    let hooks = request.spec.hooks().as_ref();
    // Deprecated in the spec, and still sent.
    #[allow(deprecated)]
    let lists = hooks.map(|hooks| {
        [
            hooks.prestart(),
            hooks.create_runtime(),
            hooks.create_container(),
            hooks.poststart(),
            hooks.poststop(),
        ]
    });
    lists.into_iter().flatten().flatten().flatten().map(Hook::path)
}

/// Reads the number off `/proc/<pid>/exe`, written exactly so.
fn pid_of(path: &Path) -> Option<u32> {
    let text = path.to_str()?.strip_prefix("/proc/")?.strip_suffix("/exe")?;
    let pid: u32 = text.parse().ok()?;
    (pid.to_string() == text).then_some(pid)
}

fn hook_file(path: &Path) -> HookFile {
    match leads_through_magic(path) {
        Ok(true) => return HookFile::MagicLink,
        Ok(false) => {}
        Err(error) => return HookFile::Unreadable(errno(&error)),
    }
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => HookFile::Executable {
            uid: meta.uid(),
            mode: meta.mode() & 0o7777,
        },
        Ok(_) => HookFile::NotAFile,
        Err(error) => HookFile::Unreadable(errno(&error)),
    }
}

/// Tells whether a path leads through a link of procfs that the kernel follows by itself (openat2(2), RESOLVE_NO_MAGICLINKS).
fn leads_through_magic(path: &Path) -> io::Result<bool> {
    const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
    // A relative one is refused by its form.
    if !path.is_absolute() {
        return Ok(false);
    }
    let root = open_path(Path::new("/"))?;
    let name = std::ffi::CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::O_PATH | libc::O_CLOEXEC;
    match gabion_sys::openat2(root.as_fd(), &name, flags, RESOLVE_NO_MAGICLINKS) {
        Ok(_) => Ok(false),
        // Also for a ring of ordinary links, which leads nowhere.
        Err(Errno::ELOOP) => open_path(path).map(|_| true),
        Err(errno) => Err(errno.into()),
    }
}

/// Looks at the program of a process, and opens it where it lies.
fn of_process(pid: u32) -> io::Result<(ProcessExe, Option<File>)> {
    let proc = crate::procfs::Proc::open().map_err(|_| io::Error::from(Errno::ENOSYS))?;
    // Of one process, whatever becomes of its number.
    let dir = proc.open_file(&pid.to_string(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC)?;
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC;
    let none = nix::sys::stat::Mode::empty();
    let runs = File::from(gabion_sys::openat(dir.as_fd(), "exe", flags, none)?);
    let real = read_link(format!("/proc/self/fd/{}", runs.as_raw_fd()))?;
    let meta = runs.metadata()?;
    let there = gabion_sys::open_path(&real, OFlag::O_NOFOLLOW).ok().map(File::from);
    let same = |file: &File| {
        file.metadata()
            .is_ok_and(|m| (m.dev(), m.ino()) == (meta.dev(), meta.ino()))
    };
    let held = there.filter(|file| meta.is_file() && real.is_absolute() && same(file));
    let exe = ProcessExe {
        above: above(&real),
        program: held.is_some().then_some(real),
        uid: meta.uid(),
        mode: meta.mode() & 0o7777,
        process: run_by(dir.as_fd()).unwrap_or(RunBy::Another),
    };
    Ok((exe, held))
}

/// Tells whether a process is the caller's own, by all of its users and by its user and pid namespaces.
fn run_by(dir: std::os::fd::BorrowedFd<'_>) -> io::Result<RunBy> {
    let (flags, none) = (OFlag::O_RDONLY | OFlag::O_CLOEXEC, nix::sys::stat::Mode::empty());
    let status = File::from(gabion_sys::openat(dir, "status", flags, none)?);
    let status = io::read_to_string(io::Read::take(status, 64 << 10))?;
    let euid = reader().euid.to_string();
    let users = status
        .lines()
        .find_map(|line| line.strip_prefix("Uid:"))
        .unwrap_or_default();
    let all_ours = users.split_whitespace().count() == 4 && users.split_whitespace().all(|uid| uid == euid);
    for name in ["ns/user", "ns/pid"] {
        let theirs = nix::sys::stat::fstatat(Some(dir.as_raw_fd()), name, nix::fcntl::AtFlags::empty())?;
        let ours = nix::sys::stat::stat(format!("/proc/self/{name}").as_str())?;
        if (theirs.st_dev, theirs.st_ino) != (ours.st_dev, ours.st_ino) {
            return Ok(RunBy::Another);
        }
    }
    Ok(if all_ours { RunBy::Caller } else { RunBy::Another })
}

/// Looks at the directories above a file. In a sticky one (/tmp) nobody can exchange what is another's.
fn above(real: &Path) -> Above {
    let Reader { euid, user_ns } = reader();
    let ours = |meta: &Metadata| {
        meta.uid() == 0 || meta.uid() == euid || (user_ns == OwnUserNs::Nested && meta.uid() == UNMAPPED)
    };
    let closed = |meta: &Metadata| meta.mode() & 0o022 == 0 || meta.mode() & 0o1000 != 0;
    let mut each = real.ancestors().skip(1).map(Path::symlink_metadata);
    if each.all(|meta| meta.is_ok_and(|meta| ours(&meta) && closed(&meta))) {
        Above::Closed
    } else {
        Above::Open
    }
}
