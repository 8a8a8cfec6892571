//! The processes of a container that has no cgroup: by its own pid namespace.

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use crate::error::{Error, Result, Step};
use crate::procfs::Proc;
use crate::state::{Init, Record};
use gabion_core::control::namespaces;
use gabion_core::namespace::{NsId, NsType};

/// All of them, as the host numbers them.
///
/// # Errors
/// The container shares its pid namespace: nothing tells its processes from others'.
pub fn processes(record: &Record, init: Init) -> Result<BTreeSet<i32>> {
    let (proc, own) = open(record, init)?;
    within(&proc, own).map_err(|e| Error::step(Step::Namespaces, "list processes", e))
}

pub fn open(record: &Record, init: Init) -> Result<(Proc, NsId)> {
    if !namespaces::is_new(record.hardened.spec(), NsType::Pid) {
        let why = "the container has neither a cgroup nor a pid namespace of its own: its processes cannot be told";
        return Err(Error::failed(Step::Namespaces, why));
    }
    let proc = Proc::open()?;
    let own = of(&proc, init.pid).map_err(|e| Error::step(Step::Namespaces, "look at the pid namespace", e))?;
    // What was read of a pid that somebody else has by now would be somebody else's.
    if init.lives() {
        Ok((proc, own))
    } else {
        Err(Error::NotRunning {
            id: record.id.to_string(),
        })
    }
}

fn of(proc: &Proc, pid: i32) -> nix::Result<NsId> {
    let path = format!("{pid}/ns/pid");
    fstatat(Some(proc.as_fd().as_raw_fd()), path.as_str(), AtFlags::empty()).map(|s| NsId {
        dev: s.st_dev,
        ino: s.st_ino,
    })
}

/// The processes of a pid namespace. One that ends meanwhile is left out; one that may not be looked at is not ours.
pub fn within(proc: &Proc, namespace: NsId) -> nix::Result<BTreeSet<i32>> {
    let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
    let all = fs::read_dir("/proc").map_err(errno)?;
    let pids = all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    Ok(pids
        .filter(|pid| of(proc, *pid).is_ok_and(|own| own == namespace))
        .collect())
}
