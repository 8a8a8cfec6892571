//! Fault injection for tests. In a binary built without the feature `faults` every call here is a constant.
//!
//! `GABION_FAULT=skip:<control>` makes that control's enforcement silently do nothing (verification must then find it);
//! `GABION_FAULT=fail:<step>` makes a step fail; `GABION_FAULT=kill:<step>` kills the process there;
//! `GABION_FAULT=hang:<step>` says so on stderr and stays there for a while, so that a test can kill others meanwhile.

use gabion_core::id::ControlId;
use gabion_see::error::{Result, Step};

/// Whether to do what a control asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(crate) enum Enforcement {
    Do,
    #[cfg(feature = "faults")]
    Skip,
}

#[cfg(not(feature = "faults"))]
mod live {
    use super::{ControlId, Enforcement, Result, Step};

    /// Always `Do`.
    #[inline]
    pub(crate) fn enforcement(_control: ControlId) -> Enforcement {
        Enforcement::Do
    }

    /// Never fails.
    #[inline]
    #[allow(clippy::unnecessary_wraps)]
    pub(crate) fn at(_step: Step) -> Result<()> {
        Ok(())
    }
}

#[cfg(feature = "faults")]
mod live {
    use super::{ControlId, Enforcement, Result, Step};
    use gabion_see::error::Error;

    /// A copy: the environment is blank in a process that a container gets to see.
    static FAULT: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var("GABION_FAULT").unwrap_or_default());

    fn asked(verb: &str, what: &str) -> bool {
        FAULT.split(',').any(|f| f == format!("{verb}:{what}"))
    }

    /// `Skip` when the test asks for it.
    pub(crate) fn enforcement(control: ControlId) -> Enforcement {
        if asked("skip", control.as_str()) {
            Enforcement::Skip
        } else {
            Enforcement::Do
        }
    }

    /// Longer than a test needs to kill the runtime and to look around; bounded, so that nothing stays for ever.
    const HANG: std::time::Duration = std::time::Duration::from_secs(20);

    /// Stays there. A call that waits would be ended by a signal that ends us; where such a one is held, it ends this.
    fn hang() -> nix::Result<()> {
        use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
        use nix::sys::signal::{SigSet, Signal};
        use nix::sys::signalfd::SignalFd;
        use std::os::fd::AsFd;
        let mut ends = SigSet::from(Signal::SIGTERM);
        ends.add(Signal::SIGINT);
        let signals = SignalFd::new(&ends)?;
        let time = PollTimeout::try_from(HANG).unwrap_or(PollTimeout::MAX);
        poll(&mut [PollFd::new(signals.as_fd(), PollFlags::POLLIN)], time).map(drop)
    }

    /// Fails, dies or stays when the test asks for it.
    pub(crate) fn at(step: Step) -> Result<()> {
        if asked("hang", step.as_str()) {
            eprintln!("hangs at {step}");
            hang().map_err(|e| Error::step(step, "hang by request", e))?;
        }
        if asked("kill", step.as_str()) {
            // Not raise(3): musl's takes the number of its thread from before the clone.
            nix::sys::signal::kill(nix::unistd::getpid(), nix::sys::signal::Signal::SIGKILL)
                .map_err(|e| Error::step(step, "die by request", e))?;
            // The first process of a pid namespace does not hear its own SIGKILL (pid_namespaces(7)).
            gabion_sys::exit_now(137);
        }
        if asked("fail", step.as_str()) {
            return Err(Error::failed(step, "injected fault"));
        }
        Ok(())
    }
}

pub(crate) use live::{at, enforcement};

/// Tells whether a control's enforcement is to be carried out: always, but where a test build is told to skip it. It has nothing to do with
/// what the policy says.
pub(crate) fn not_skipped_by_a_test(control: ControlId) -> bool {
    enforcement(control) == Enforcement::Do
}
