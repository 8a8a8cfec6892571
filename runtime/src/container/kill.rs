//! `kill`: signals to the first process, or to all.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::cgroup::{Cgroup, signal};
use crate::container::options::{KillScope, Settings};
use crate::state::StateDir;
use gabion_core::control::namespaces::is_new;
use gabion_core::namespace::NsType;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::{Init, Record, Status};
use gabion_see::{pid_namespace, status as status_of};

/// Sends a signal.
///
/// # Errors
/// «container not running» where there is nobody to signal: containerd looks for the words.
pub(crate) fn kill(settings: &Settings, id: &ContainerId, number: i32, scope: KillScope) -> Result<()> {
    let dir = StateDir::open(&settings.root, id)?;
    let record = dir.record()?;
    let status = status_of::status(&dir)?;
    if scope == KillScope::All {
        if record.cgroup.delegation.is_none() {
            let init = dir.init()?.ok_or_else(|| Error::NotRunning { id: id.to_string() })?;
            return in_pid_namespace(record, init, number);
        }
        return all(&Cgroup::open(&record.cgroup), number);
    }
    if number == libc::SIGKILL && !is_new(record.hardened.spec(), NsType::Pid) && !record.cgroup.delegation.is_none() {
        return whole(record, id, status);
    }
    match (status, dir.init()?) {
        (Status::Stopped, _) | (_, None) => Err(Error::NotRunning { id: id.to_string() }),
        (_, Some(init)) => {
            one(init, number)?;
            // A frozen process dies when it is thawed (v1 freezer): SIGKILL is meant to end it.
            if status == Status::Paused && number == libc::SIGKILL {
                Cgroup::open(&record.cgroup).thaw()?;
            }
            Ok(())
        }
    }
}

/// Ends every process of a container that shares its pid namespace: there the kernel does not end the others with the first one, and they
/// may outlive it.
fn whole(record: &Record, id: &ContainerId, status: Status) -> Result<()> {
    let cgroup = Cgroup::open(&record.cgroup);
    if status == Status::Stopped && cgroup.pids()?.is_empty() {
        return Err(Error::NotRunning { id: id.to_string() });
    }
    all(&cgroup, libc::SIGKILL)
}

/// Sends a signal to every process of the container's own pid namespace, where it has no cgroup.
///
/// # Errors
/// As `processes`; a signal that cannot be sent.
fn in_pid_namespace(record: &Record, init: Init, number: i32) -> Result<()> {
    let (proc, own) = pid_namespace::open(record, init)?;
    signal::signal_those(|| pid_namespace::within(&proc, own), number)
        .map_err(|e| Error::step(Step::Kill, format!("send signal {number} to all"), e))
}

/// Signals through a pidfd, so that a recycled pid is never hit.
pub(crate) fn one(init: Init, signal: i32) -> Result<()> {
    let gone = || Error::NotRunning {
        id: format!("process {}", init.pid),
    };
    let pidfd = match gabion_sys::pidfd_open(Pid::from_raw(init.pid)) {
        Err(Errno::ESRCH) => return Err(gone()),
        other => other.map_err(|e| Error::step(Step::Kill, "open the process", e))?,
    };
    if !init.lives() {
        return Err(gone());
    }
    match gabion_sys::pidfd_send_signal(pidfd.as_fd(), signal) {
        Err(Errno::ESRCH) => Err(gone()),
        other => other.map_err(|e| Error::step(Step::Kill, format!("send signal {signal}"), e)),
    }
}

/// To every process of the cgroup.
pub(crate) fn all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    if !(0..=64).contains(&signal) {
        return Err(Error::Usage(format!(
            "{signal} is not a signal that can be sent to all"
        )));
    }
    // On v1 each hierarchy shows the same processes: one that died is not signalled twice.
    for directory in cgroup.directories()? {
        signal::signal_tree(&directory, signal)
            .map_err(|e| Error::step(Step::Kill, format!("send signal {signal} to all"), e))?;
        if signal != libc::SIGKILL && directory.exists() {
            break;
        }
    }
    if signal == libc::SIGKILL { cgroup.thaw() } else { Ok(()) }
}
