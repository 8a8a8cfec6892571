//! A notify filter and where its descriptor goes (runtime-spec, config-linux.md, seccomp listenerPath).
//!
//! Once the filter is in force any call of ours may be one that it hands to the listener, who does not have the descriptor yet: our own
//! sendmsg(2), even the wait for somebody who sends for us. So a helper is forked first: it shares our descriptors but not the filter, waits
//! for the new one to appear, sends it, and tells the runtime. We make no call until `start`, or execve(2), comes.

use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use crate::contract::channel::Message;
use crate::contract::setup::{Kind, NotifyTarget, Setup};
use crate::filter;
use gabion_see::error::{Error, Result, Step};
use gabion_see::seccomp::Compiled;
use gabion_sys::{ChildOf, Words};

/// How long the helper waits for the filter.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who tells the runtime that all is ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// The helper, when the descriptor is sent: nothing else is left to do.
    Helper,
    /// The process itself, before or after.
    Process,
}

/// The process that sends the descriptor.
#[derive(Debug)]
pub(crate) struct Helper {
    pid: Pid,
    number: RawFd,
}

/// A listener's descriptor that is in force. Execve closes it; before that, to close it may be a call that is handed to the listener.
#[derive(Debug)]
pub(crate) struct Listening {
    _listener: OwnedFd,
    helper: Pid,
}

impl Helper {
    /// Forks it. Before any filter: the floor answers clone3(2) with ENOSYS.
    pub(crate) fn fork(setup: &Setup<'_>, target: &NotifyTarget, tells: Tells) -> Result<Self> {
        let pid = nix::fcntl::readlinkat(Some(setup.proc.as_fd().as_raw_fd()), "self");
        let pid = pid.map_err(Step::Seccomp.failing("learn our pid"))?;
        let state = target.state_of(&pid.to_string_lossy())?;
        let sent = match tells {
            Tells::Helper => Message::Ready.bytes()?,
            Tells::Process => Vec::new(),
        };
        let why = Error::failed(Step::Seccomp, "cannot send the notify descriptor to its listener");
        let failed = Message::Failed((&why).into()).bytes()?;
        let words = Words {
            socket: setup.channel.as_fd(),
            sent: &sent,
            failed: &failed,
        };
        let number = next_descriptor(setup)?;
        let forking = Step::Seccomp.failing("fork a helper for the notify descriptor");
        let whose = match setup.kind {
            // The first process of a pid namespace has no siblings (clone(2)). It waits for its start, and by then this child is gone.
            Kind::Create(_) => {
                gabion_sys::unseen_children().map_err(Step::Seccomp.failing("have the kernel reap the helper"))?;
                ChildOf::Us
            }
            // The program is run at once, and is no parent of a process of ours.
            Kind::Exec => ChildOf::OurParent,
        };
        let to = (target.socket.as_fd(), state.as_slice());
        let pid = gabion_sys::send_when_open(whose, number, to, PATIENCE, words).map_err(forking)?;
        Ok(Self { pid, number })
    }

    /// Installs the profile. From here on calls may be handed to the listener.
    pub(crate) fn install(self, profile: &Compiled) -> Result<Listening> {
        let listener = filter::install(&profile.program, profile.flags)
            .map_err(Step::Seccomp.failing("install the seccomp filter"))?;
        match listener.filter(|fd| fd.as_raw_fd() == self.number) {
            Some(listener) => Ok(Listening {
                _listener: listener,
                helper: self.pid,
            }),
            None => Err(Error::failed(
                Step::Seccomp,
                "the notify descriptor is not where it was expected",
            )),
        }
    }
}

impl Listening {
    /// Waits for the helper's end, which came with its word: the workload is to find no child. A profile may forbid to wait for it.
    pub(crate) fn settled(&self) {
        if let Err(error) = waitpid(self.helper, None) {
            tracing::debug!(%error, "the helper is gone");
        }
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
