//! Waiting, in bounds, for processes of ours that others may see: a root in the container can stop them, and a frozen cgroup does too.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, socket};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use gabion_see::error::{Error, Result, Step};

/// How long a process may take from one of its messages to the next where nothing large is done.
pub(crate) const STEP: Duration = Duration::from_secs(30);

/// The same where mounts are made, and directories of an image are copied.
pub(crate) const BUILD: Duration = Duration::from_mins(2);

/// How long a socket of our caller's may take to be answered, and how often it is asked.
const ANSWER: Duration = Duration::from_secs(10);
const AGAIN: Duration = Duration::from_millis(10);

/// How long one that was killed may take to end.
const END: Duration = Duration::from_secs(5);

/// Waits until there is something to read, or the other end is gone. TERM ends the wait, and where `hold_signals` keeps all signals so
/// does INT: a runtime that waits for a process which others have stopped can be told to end, and clears up.
///
/// # Errors
/// The time is over; the runtime is told to end.
pub(crate) fn readable(fd: BorrowedFd<'_>, patience: Option<Duration>) -> Result<()> {
    let ends = Ends::watch()?;
    let deadline = patience.map(|patience| Instant::now() + patience);
    loop {
        let left = match deadline {
            None => PollTimeout::NONE,
            Some(deadline) => rest(deadline),
        };
        let mut fds = [
            PollFd::new(fd, PollFlags::POLLIN),
            PollFd::new(ends.signals.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut fds, left) {
            Err(Errno::EINTR) => continue,
            Err(e) => return Err(Step::Ready.failing("wait for the container's process")(e)),
            Ok(_) => {}
        }
        let [of_process, of_signals] = fds.map(|fd| fd.any().unwrap_or(true));
        if of_process {
            return Ok(());
        }
        if of_signals && let Some(signal) = ends.taken()? {
            let why = format!("ended by {signal} while it waited for the container's process");
            return Err(Error::failed(Step::Ready, why));
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            let patience = patience.unwrap_or_default().as_secs();
            let why = format!(
                "the container's process did not go on for {patience} s (it may have been stopped): it was killed"
            );
            return Err(Error::failed(Step::Ready, why));
        }
    }
}

/// Connects to a socket that our caller listens on. The kernel lets who connects to one that nobody accepts from wait without end, once its queue
/// is full; this wait has one, and TERM ends it.
///
/// # Errors
/// Nobody listens, or nobody accepts in time; the runtime is told to end.
pub(crate) fn connect(doing: &'static str, path: &Path) -> Result<OwnedFd> {
    connect_at(doing, path, path)
}

/// The same, where the socket is open already: `at` leads to it, and `path` is what it is called in an error.
pub(crate) fn connect_at(doing: &'static str, path: &Path, at: &Path) -> Result<OwnedFd> {
    let failed = |e: Errno| Error::file(doing, path)(e.into());
    let address = UnixAddr::new(at).map_err(failed)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
    let ends = Ends::watch()?;
    let deadline = Instant::now() + ANSWER;
    loop {
        match nix::sys::socket::connect(socket.as_raw_fd(), &address) {
            Ok(()) => break,
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) if Instant::now() < deadline => ends.pause(AGAIN)?,
            Err(Errno::EAGAIN) => return Err(failed(Errno::ETIMEDOUT)),
            Err(e) => return Err(failed(e)),
        }
    }
    // Who sends on it may wait: the runtime bounds that wait.
    fcntl(socket.as_raw_fd(), FcntlArg::F_SETFL(OFlag::empty())).map_err(failed)?;
    Ok(socket)
}

/// Holds TERM and INT back from here to the end of this process, where its caller does not ignore them: what is begun is finished or taken
/// back, and never left half made. Every wait ends by them, and [`told_to_end`] asks where there is none.
///
/// # Errors
/// The kernel says no.
pub(crate) fn hold_ends() -> Result<()> {
    for signal in [Signal::SIGTERM, Signal::SIGINT] {
        let ignored = gabion_sys::is_ignored(signal as i32).map_err(Step::Ready.failing("look at a signal"))?;
        if !ignored {
            SigSet::from(signal)
                .thread_block()
                .map_err(Step::Ready.failing("hold signals"))?;
        }
    }
    Ok(())
}

/// Whether we were told to end, where nothing is waited for.
///
/// # Errors
/// We were.
pub(crate) fn told_to_end() -> Result<()> {
    match Ends::watch()?.taken()? {
        None => Ok(()),
        Some(signal) => Err(Error::failed(Step::Ready, format!("ended by {signal}"))),
    }
}

/// What is left until then; a part of a millisecond counts as one.
fn rest(deadline: Instant) -> PollTimeout {
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_millis() + u128::from(!left.subsec_nanos().is_multiple_of(1_000_000));
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}

/// The signals that end a wait, held while it lasts.
struct Ends {
    signals: SignalFd,
    before: SigSet,
}

impl Ends {
    fn watch() -> Result<Self> {
        let mut set = SigSet::from(Signal::SIGTERM);
        let before = set
            .thread_swap_mask(SigmaskHow::SIG_BLOCK)
            .map_err(Step::Ready.failing("hold signals"))?;
        if before.contains(Signal::SIGINT) {
            set.add(Signal::SIGINT);
        }
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&set, flags).map_err(Step::Ready.failing("listen for signals"))?;
        Ok(Self { signals, before })
    }

    /// Waits so long, or until we are told to end, which is an error.
    fn pause(&self, time: Duration) -> Result<()> {
        let mut fds = [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, rest(Instant::now() + time)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Step::Ready.failing("wait for a socket")(e)),
        }
        match self.taken()? {
            None => Ok(()),
            Some(signal) => Err(Error::failed(
                Step::Ready,
                format!("ended by {signal} while it waited for a socket to be answered"),
            )),
        }
    }

    fn taken(&self) -> Result<Option<Signal>> {
        let info = self
            .signals
            .read_signal()
            .map_err(Step::Ready.failing("read a signal"))?;
        Ok(info.and_then(|info| Signal::try_from(i32::try_from(info.ssi_signo).ok()?).ok()))
    }
}

impl Drop for Ends {
    fn drop(&mut self) {
        if let Err(error) = self.before.thread_set_mask() {
            tracing::debug!(%error, "letting signals through again");
        }
    }
}

/// Kills a child of ours that is not to go on, and reaps it. One that the kernel holds (a frozen cgroup of v1) dies when it is let go,
/// and is not waited for.
pub(crate) fn end(child: Pid) {
    // Ours, and not reaped yet: nobody else can have its number.
    if let Err(error) = nix::sys::signal::kill(child, Signal::SIGKILL) {
        tracing::debug!(%error, "ending a process of ours");
    }
    if let Err(error) = reap(child, END) {
        tracing::debug!(%error, "reaping a process of ours");
    }
}

/// Waits for the end of a child that is about to end.
///
/// # Errors
/// It does not within the time.
pub(crate) fn reap(child: Pid, patience: Duration) -> Result<()> {
    let pidfd = match gabion_sys::pidfd_open(child) {
        // Reaped already.
        Err(Errno::ESRCH) => return Ok(()),
        other => other.map_err(Step::Ready.failing("open a process of ours"))?,
    };
    let deadline = Instant::now() + patience;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::EINTR) => {}
            Ok(_) | Err(Errno::ECHILD) => return Ok(()),
            Err(e) => return Err(Step::Ready.failing("wait for a process of ours")(e)),
        }
        if Instant::now() >= deadline {
            return Err(Error::failed(Step::Ready, format!("process {child} does not end")));
        }
        match poll(&mut [PollFd::new(pidfd.as_fd(), PollFlags::POLLIN)], rest(deadline)) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(Step::Ready.failing("wait for a process of ours")(e)),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};

    #[test]
    fn what_tells_us_to_end_is_held_until_it_is_asked_for() {
        // In a thread of its own: masks are threads'.
        let thread = std::thread::spawn(|| {
            hold_ends().unwrap();
            told_to_end().unwrap();
            for signal in [Signal::SIGTERM, Signal::SIGINT] {
                nix::sys::signal::raise(signal).unwrap();
                let error = told_to_end().unwrap_err().to_string();
                assert!(error.contains(signal.as_str()), "{error}");
            }
            told_to_end().unwrap();
        });
        thread.join().unwrap();
    }

    #[test]
    fn a_wait_ends_when_its_time_is_over_or_the_other_side_is_gone() {
        let (ours, theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC).unwrap();
        let begun = Instant::now();
        let error = readable(ours.as_fd(), Some(Duration::from_millis(30))).unwrap_err();
        assert!(begun.elapsed() >= Duration::from_millis(30), "{error}");
        assert!(error.to_string().contains("did not go on"), "{error}");
        drop(theirs);
        readable(ours.as_fd(), None).unwrap();
    }

    /// TERM is held back only while a wait lasts, so the test's own is sent to its thread before.
    #[test]
    fn a_socket_that_nobody_answers_is_not_waited_for_when_told_to_end() {
        let path = std::env::temp_dir().join(format!("gabion-deaf-{}", std::process::id()));
        let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
        nix::sys::socket::bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
        nix::sys::socket::listen(&listener, nix::sys::socket::Backlog::new(0).unwrap()).unwrap();
        let first = connect("try", &path).unwrap();
        SigSet::from(Signal::SIGTERM).thread_block().unwrap();
        nix::sys::signal::raise(Signal::SIGTERM).unwrap();
        let error = connect("try", &path).unwrap_err().to_string();
        assert!(error.contains("SIGTERM"), "{error}");
        drop((first, listener));
        let error = connect("try", &path).unwrap_err().to_string();
        assert!(error.contains("refused"), "{error}");
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_child_that_never_ends_is_ended() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
        assert!(reap(pid, Duration::from_millis(20)).is_err());
        end(pid);
        assert!(child.wait().is_err(), "it was not reaped");
    }
}
