//! The namespaces that an exec joins.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::Mode;

use crate::container::spawn::Entry;
use crate::state::StateDir;
use gabion_core::namespace::{self, NsType};
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::Init;

/// The first process's namespaces, opened while it certainly is that process.
pub(super) fn entry(dir: &StateDir, init: Init) -> Result<(Entry, Vec<(NsType, OwnedFd)>)> {
    let mut entry = Entry::default();
    let mut joins = Vec::new();
    // A leader that ended has no namespaces any more; its threads have.
    let who = init.living_task().ok_or_else(|| not_running(dir))?;
    for typ in namespace::JOIN_ORDER {
        let Some(fd) = other_namespace(&who, typ)? else {
            continue;
        };
        match typ {
            NsType::User => entry.user = Some(fd),
            NsType::Pid => entry.pid = Some(fd),
            _ => joins.push((typ, fd)),
        }
    }
    if !init.lives() {
        return Err(not_running(dir));
    }
    Ok((entry, joins))
}

fn not_running(dir: &StateDir) -> Error {
    let id = dir.path().file_name().unwrap_or_default();
    let id = id.to_string_lossy().into_owned();
    Error::NotRunning { id }
}

/// A namespace of the process, if it is not ours already.
fn other_namespace(who: &str, typ: NsType) -> Result<Option<OwnedFd>> {
    let open = |who: &str| {
        let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
        let path = format!("/proc/{who}/ns/{}", typ.proc_name());
        match gabion_sys::open(path.as_str(), flags, Mode::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::ENOENT) => Ok(None),
            Err(e) => Err(Error::step(Step::Namespaces, format!("open {path}"), e)),
        }
    };
    let (Some(theirs), Some(ours)) = (open(who)?, open("self")?) else {
        return Ok(None);
    };
    let id = |fd: &OwnedFd| {
        nix::sys::stat::fstat(fd.as_raw_fd())
            .map(|s| (s.st_dev, s.st_ino))
            .map_err(|e| Error::step(Step::Namespaces, "compare namespaces", e))
    };
    Ok(if id(&theirs)? == id(&ours)? { None } else { Some(theirs) })
}
