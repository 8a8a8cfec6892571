//! `kill`: signals to the first process, or to all.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::unistd::Pid;

use crate::container::cgroup::{Cgroup, members};
use crate::container::options::{KillScope, Settings};
use crate::container::state::{Init, StateDir, Status};
use crate::container::{namespace, query};
use crate::error::{Error, Result, Step};
use crate::request::ContainerId;
use crate::sys;

/// Sends a signal.
///
/// # Errors
/// «container not running» where there is nobody to signal: containerd looks for the words.
pub fn kill(settings: &Settings, id: &ContainerId, signal: i32, scope: KillScope) -> Result<()> {
    let dir = StateDir::open(&settings.root, id)?;
    let record = dir.record()?;
    let status = query::status(&dir)?;
    if scope == KillScope::All {
        if record.cgroup.delegation.is_none() {
            let init = dir.init()?.ok_or_else(|| Error::NotRunning { id: id.to_string() })?;
            return namespace::signal(record, init, signal);
        }
        return all(&Cgroup::open(&record.cgroup), signal);
    }
    match (status, dir.init()?) {
        (Status::Stopped, _) | (_, None) => Err(Error::NotRunning { id: id.to_string() }),
        (_, Some(init)) => {
            one(init, signal)?;
            // A frozen process dies when it is thawed (v1 freezer): SIGKILL is meant to end it.
            if status == Status::Paused && signal == libc::SIGKILL {
                Cgroup::open(&record.cgroup).thaw()?;
            }
            Ok(())
        }
    }
}

/// To this very process, not to another one with its number.
pub fn one(init: Init, signal: i32) -> Result<()> {
    let gone = || Error::NotRunning {
        id: format!("process {}", init.pid),
    };
    let pidfd = match sys::pidfd_open(Pid::from_raw(init.pid)) {
        Err(Errno::ESRCH) => return Err(gone()),
        other => other.map_err(|e| Error::step(Step::Start, "open the process", e))?,
    };
    if !init.lives() {
        return Err(gone());
    }
    match sys::pidfd_send_signal(pidfd.as_fd(), signal) {
        Err(Errno::ESRCH) => Err(gone()),
        other => other.map_err(|e| Error::step(Step::Start, format!("send signal {signal}"), e)),
    }
}

/// To every process of the cgroup.
pub fn all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    if !(0..=64).contains(&signal) {
        return Err(Error::Usage(format!(
            "{signal} is not a signal that can be sent to all"
        )));
    }
    // On v1 each hierarchy shows the same processes: one that died is not signalled twice.
    for directory in cgroup.directories()? {
        members::signal_tree(&directory, signal)
            .map_err(|e| Error::step(Step::Start, format!("send signal {signal} to all"), e))?;
        if signal != libc::SIGKILL && directory.exists() {
            break;
        }
    }
    if signal == libc::SIGKILL { cgroup.thaw() } else { Ok(()) }
}
