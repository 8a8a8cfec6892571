//! A notify filter and where its descriptor goes (runtime-spec, config-linux.md, seccomp listenerPath).
//!
//! Once the filter is in force our own sendmsg(2) may be a call that it hands to the listener, who does not have the
//! descriptor yet. So a helper is forked first: it shares our descriptors but not the filter, waits for the new one to appear,
//! and sends it.

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::contract::setup::{NotifyTarget, Setup};
use crate::filter;
use gabion_see::error::{Error, Result, Step};
use gabion_see::seccomp::Compiled;

/// How long the helper waits for the filter.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process that sends the descriptor.
#[derive(Debug)]
pub(crate) struct Helper {
    pid: Pid,
    number: RawFd,
}

impl Helper {
    /// Forks it. Before any filter: the floor answers clone3(2) with ENOSYS.
    pub(crate) fn fork(setup: &Setup<'_>, target: &NotifyTarget) -> Result<Self> {
        let pid = nix::fcntl::readlinkat(Some(setup.proc.as_fd().as_raw_fd()), "self");
        let pid = pid.map_err(Step::Seccomp.failing("learn our pid"))?;
        let state = target.state_of(&pid.to_string_lossy())?;
        let number = next_descriptor(setup)?;
        let pid = gabion_sys::send_when_open(number, target.socket.as_fd(), &state, PATIENCE)
            .map_err(Step::Seccomp.failing("fork a helper for the notify descriptor"))?;
        Ok(Self { pid, number })
    }

    /// Installs the profile; its listener is sent when this returns.
    pub(crate) fn install(self, profile: &Compiled) -> Result<()> {
        let listener = filter::install(&profile.program, profile.flags)
            .map_err(Step::Seccomp.failing("install the seccomp filter"))?;
        let Some(listener) = listener.filter(|fd| fd.as_raw_fd() == self.number) else {
            return Err(Error::failed(
                Step::Seccomp,
                "the notify descriptor is not where it was expected",
            ));
        };
        // The listener may now have to answer our own calls, this one among them.
        let sent = match waitpid(self.pid, None) {
            Ok(WaitStatus::Exited(_, 0)) => Ok(()),
            Ok(_) => Err(Error::failed(
                Step::Seccomp,
                "cannot send the notify descriptor to its listener",
            )),
            // The profile forbids waiting: the helper still sends, and the workload reaps it.
            Err(_) => Ok(()),
        };
        drop(listener);
        sent
    }
}

/// The number that the next descriptor gets: descriptors are given out from the lowest free one.
fn next_descriptor(setup: &Setup<'_>) -> Result<RawFd> {
    let probe = setup
        .proc
        .as_fd()
        .try_clone_to_owned()
        .map_err(|e| Error::failed(Step::Seccomp, e.to_string()))?;
    Ok(probe.as_raw_fd())
}
