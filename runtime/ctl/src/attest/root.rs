//! Paths inside the container, looked at from outside: below the process's own root, never through a magic link, and without
//! opening what is there.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use gabion_core::hardened::Hardened;
use gabion_core::observed::Masked;
use gabion_see::procfs::Proc;
use gabion_see::readback;

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// The process's root directory. This one magic link is meant.
pub(super) fn open(proc: &Proc, who: &str) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    gabion_sys::openat(proc.as_fd(), format!("{who}/root").as_str(), flags, Mode::empty())
}

/// How each masked path looks from in there, and each read-only one: a mount that was taken off it leaves no other trace.
pub(super) fn masked(root: &OwnedFd, hardened: &Hardened) -> BTreeMap<PathBuf, Masked> {
    let linux = hardened.spec().linux().as_ref();
    let lists = linux.into_iter().flat_map(|l| [l.masked_paths(), l.readonly_paths()]);
    lists
        .flat_map(|list| list.iter().flatten())
        .map(|path| (PathBuf::from(path), one(root, Path::new(path))))
        .collect()
}

fn one(root: &OwnedFd, path: &Path) -> Masked {
    let Ok(name) = CString::new(path.as_os_str().as_bytes()) else {
        return Masked::Unreadable(libc::EINVAL);
    };
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS;
    readback::classify_mask(gabion_sys::openat2(root.as_fd(), &name, flags, resolve))
}

/// The mount that a process's root lies on, by the number that mountinfo gives it (proc_pid_fdinfo(5)).
pub(super) fn mount_id(proc: &Proc, who: &str) -> Option<u64> {
    use std::os::fd::AsRawFd;
    let root = open(proc, who).ok()?;
    let text = proc.read(&format!("self/fdinfo/{}", root.as_raw_fd())).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// The numbers of all mounts that a process sees.
pub(super) fn mount_ids(proc: &Proc, who: &str) -> Vec<u64> {
    let text = proc.read(&format!("{who}/mountinfo")).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.split(' ').next()?.parse().ok())
        .collect()
}
