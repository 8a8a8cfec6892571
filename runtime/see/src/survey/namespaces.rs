//! Our own namespaces, and those that a spec names by path.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, Metadata};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gabion_sys::Cloned;
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::sys::statfs::{FsType, fstatfs};
use nix::sys::wait::waitpid;

use super::files::{Opened, errno, open_path};
use gabion_core::host::NsPath;
use gabion_core::ids::{IdMap, JoinedUsers, Maps};
use gabion_core::namespace::{NsId, NsType};
use gabion_core::request::Request;

/// The file system of namespace files (linux/magic.h, NSFS_MAGIC).
const NSFS: FsType = FsType(0x6e73_6673);

/// How long a child is waited for that only enters a namespace.
const PATIENCE: Duration = Duration::from_secs(10);

fn id_of(meta: &Metadata) -> NsId {
    NsId {
        dev: meta.dev(),
        ino: meta.ino(),
    }
}

/// «The host's»: those that this process is in, and init's where they may be seen.
pub(super) fn own() -> BTreeMap<NsType, BTreeSet<NsId>> {
    let mut all: BTreeMap<NsType, BTreeSet<NsId>> = BTreeMap::new();
    for process in ["self", "1"] {
        for typ in NsType::ALL {
            let path = format!("/proc/{process}/ns/{}", typ.proc_name());
            match std::fs::metadata(path) {
                Ok(meta) => {
                    all.entry(typ).or_default().insert(id_of(&meta));
                }
                // The first that may not be seen stands for all of init's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                Err(_) => {}
            }
        }
    }
    all
}

pub(super) fn by_path(request: &Request) -> (BTreeMap<PathBuf, NsPath>, Opened<PathBuf>) {
    let (mut facts, mut fds) = (BTreeMap::new(), BTreeMap::new());
    let linux = request.spec.linux().as_ref();
    let asked = linux.and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
    // An empty path is a new namespace (runc).
    let paths = asked.iter().filter_map(|ns| ns.path().as_ref());
    for path in paths.filter(|p| !p.as_os_str().is_empty()) {
        if facts.contains_key(path) {
            continue;
        }
        let fact = match open_ns(path) {
            Ok((fact, fd)) => {
                if let Some(fd) = fd {
                    fds.insert(path.clone(), fd);
                }
                fact
            }
            Err(error) => NsPath::Unreadable(errno(&error)),
        };
        facts.insert(path.clone(), fact);
    }
    (facts, fds)
}

/// The maps of user namespaces that are joined, each from a process that is in it: the kernel shows them nowhere else. Where nobody is in it (containerd
/// 2 makes a pod's and leaves it), a child of ours goes there for as long as it takes to read them.
pub(super) fn users(paths: &BTreeMap<PathBuf, NsPath>, open: &Opened<PathBuf>) -> BTreeMap<PathBuf, JoinedUsers> {
    let found = paths.iter().filter_map(|(path, fact)| match fact {
        NsPath::Namespace { typ: NsType::User, id } => {
            let entered = || by_entering(open.get(path)?.as_fd(), *id);
            Some((path.clone(), look_into(path, *id).or_else(entered)?))
        }
        _ => None,
    });
    found.collect()
}

/// Reads the maps off a child that has entered the namespace, which not everybody may.
fn by_entering(namespace: BorrowedFd<'_>, id: NsId) -> Option<JoinedUsers> {
    let (mut ours, mut theirs) = UnixStream::pair().ok()?;
    ours.set_read_timeout(Some(PATIENCE)).ok()?;
    let pid = match gabion_sys::fork().ok()? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            drop(ours);
            let entered = setns(namespace, CloneFlags::CLONE_NEWUSER).is_ok();
            // It lives until we let go of our end, or die.
            let told = theirs.write_all(&[u8::from(entered)]);
            let ended = told.and_then(|()| theirs.read(&mut [0]));
            gabion_sys::exit_now(i32::from(ended.is_err()))
        }
    };
    drop(theirs);
    let mut said = [0];
    let entered = ours.read_exact(&mut said).is_ok() && said == [1];
    let maps = entered.then(|| maps_of(&pid.to_string(), id)).flatten();
    drop(ours);
    match waitpid(pid, None) {
        // Whoever ignores SIGCHLD has no children to wait for.
        Ok(_) | Err(Errno::ECHILD) => maps,
        Err(_) => None,
    }
}

fn look_into(path: &Path, id: NsId) -> Option<JoinedUsers> {
    let named = path
        .strip_prefix("/proc")
        .ok()
        .and_then(|rest| rest.iter().next()?.to_str());
    let named = named.filter(|pid| is_pid(pid)).map(str::to_owned);
    // A path that is a bind of the namespace, or one through a link, says nothing of who is in it.
    let others = || {
        let entries = std::fs::read_dir("/proc").ok().into_iter().flatten();
        entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok().filter(|pid| is_pid(pid)))
    };
    named
        .and_then(|pid| maps_of(&pid, id))
        .or_else(|| others().find_map(|pid| maps_of(&pid, id)))
}

fn is_pid(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|b| b.is_ascii_digit())
}

/// Asks again after reading: by then the pid may be another process's, or the process in another namespace. A map that was written once
/// never changes.
fn maps_of(pid: &str, id: NsId) -> Option<JoinedUsers> {
    let is_it = || std::fs::metadata(format!("/proc/{pid}/ns/user")).is_ok_and(|meta| id_of(&meta) == id);
    if !is_it() {
        return None;
    }
    let map = |name: &str| IdMap::parse(&crate::small::read(format!("/proc/{pid}/{name}")).ok()?);
    let (uids, gids) = (map("uid_map")?, map("gid_map")?);
    let set_groups = crate::caller::set_groups(pid);
    is_it().then_some(JoinedUsers {
        maps: Maps { uids, gids },
        set_groups,
    })
}

/// Opens a namespace file for setns(2). First as O_PATH: opening some other file or device might do something.
fn open_ns(path: &Path) -> io::Result<(NsPath, Option<OwnedFd>)> {
    let at = open_path(path)?;
    if fstatfs(&at)?.filesystem_type() != NSFS {
        return Ok((NsPath::NotANamespace, None));
    }
    let file = File::open(format!("/proc/self/fd/{}", at.as_raw_fd()))?;
    let Some(typ) = gabion_sys::ns_type(file.as_fd()).ok().and_then(ns_kind) else {
        return Ok((NsPath::NotANamespace, None));
    };
    let id = id_of(&file.metadata()?);
    Ok((NsPath::Namespace { typ, id }, Some(file.into())))
}

fn ns_kind(flag: libc::c_int) -> Option<NsType> {
    Some(match flag {
        libc::CLONE_NEWUSER => NsType::User,
        libc::CLONE_NEWNS => NsType::Mount,
        libc::CLONE_NEWPID => NsType::Pid,
        libc::CLONE_NEWIPC => NsType::Ipc,
        libc::CLONE_NEWUTS => NsType::Uts,
        libc::CLONE_NEWNET => NsType::Network,
        libc::CLONE_NEWCGROUP => NsType::Cgroup,
        // CLONE_NEWTIME (linux/sched.h); libc has no name for it everywhere.
        0x80 => NsType::Time,
        _ => return None,
    })
}
