//! A hook that runs: it is fed the state, heard, waited for and, at its deadline, killed, by one poll(2).

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use oci_spec::runtime::Hook;

use gabion_sys::Held;

use super::{Kind, Scene};

/// Bytes of a hook's stderr that are kept: the last ones.
const KEPT: usize = 64 << 10;
/// How often a hook is looked at where its end cannot be waited for: the workload's own filter may forbid pidfd_open(2).
const LOOK: Duration = Duration::from_millis(10);
/// How long a killed hook is waited for: one that hangs in the kernel ends when it can, without us.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why a hook did not come to its own end.
#[derive(Debug)]
pub(super) enum Fault {
    Start(std::io::Error),
    Feed(Errno),
    Wait(std::io::Error),
    Timeout(Duration),
    Asked(i32),
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Start(e) => write!(f, "cannot be run: {e}"),
            Self::Feed(e) => write!(f, "cannot be given the state: {}", e.desc()),
            Self::Wait(e) => write!(f, "cannot be waited for: {e}"),
            Self::Timeout(limit) => write!(f, "was killed after its timeout of {} s", limit.as_secs()),
            Self::Asked(number) => match Signal::try_from(*number) {
                Ok(signal) => write!(f, "was killed: {signal} asked us to end"),
                Err(_) => write!(f, "was killed: signal {number} asked us to end"),
            },
        }
    }
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Wait(errno.into())
    }
}

/// A hook that runs.
pub(super) struct Running {
    child: Child,
    /// None where the workload's filter, under which startContainer hooks run, does not have it.
    pidfd: Option<OwnedFd>,
    /// What asks us to end, held back while the hook runs.
    asked: Option<Held>,
    stdin: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// How much of the state it has.
    fed: usize,
    pub(super) said: Vec<u8>,
}

impl Running {
    /// In a group of its own, so that what it started can be ended with it.
    pub(super) fn start(kind: Kind, hook: &Hook, scene: &Scene) -> std::result::Result<Self, Fault> {
        // A relative path, which only a startContainer hook can have left here, would be looked for in somebody's PATH.
        if !hook.path().is_absolute() {
            return Err(Fault::Start(std::io::Error::other("its path is not absolute")));
        }
        let asked = if kind.is_the_runtimes() { Some(hold()?) } else { None };
        let mut command = Command::new(scene.programs.get(hook.path()).unwrap_or(hook.path()));
        command.arg0(hook.path());
        if let Some((name, args)) = hook.args().as_ref().and_then(|args| args.split_first()) {
            command.arg0(name).args(args);
        }
        command.env_clear().process_group(0);
        match hook.env() {
            Some(own) => command.envs(own.iter().filter_map(|one| one.split_once('='))),
            None => command.envs(scene.env.iter().map(|(name, value)| (name, value))),
        };
        if let Some(dir) = scene.dir.as_ref().filter(|dir| dir.is_dir()) {
            command.current_dir(dir);
        }
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = gabion_common::limits::for_another(|| command.spawn()).map_err(Fault::Start)?;
        let stdin = child.stdin.take().map(OwnedFd::from);
        let stderr = child.stderr.take().map(OwnedFd::from);
        let mut running = Self {
            pidfd: None,
            asked,
            stdin,
            stderr,
            fed: 0,
            said: Vec::new(),
            child,
        };
        let ready = running.prepare();
        ready.inspect_err(|_| running.kill()).map(|()| running)
    }

    fn prepare(&mut self) -> std::result::Result<(), Fault> {
        for end in [&self.stdin, &self.stderr].into_iter().flatten() {
            fcntl(end.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        }
        self.pidfd = gabion_sys::pidfd_open(self.pid()?).ok();
        Ok(())
    }

    fn pid(&self) -> std::result::Result<Pid, Fault> {
        i32::try_from(self.child.id())
            .map(Pid::from_raw)
            .map_err(|_| Errno::ESRCH.into())
    }

    /// Feeds it, hears it, and waits for its end. The clock runs from before the first byte is written.
    pub(super) fn wait(&mut self, state: &[u8], timeout: Option<Duration>) -> std::result::Result<ExitStatus, Fault> {
        let started = Instant::now();
        let ended = self.wait_until(state, timeout.map(|limit| (limit, started + limit)));
        if ended.is_err() {
            self.kill();
        }
        // Not to its end: a child of the hook's may hold it open for as long as it likes.
        self.hear();
        ended
    }

    fn wait_until(
        &mut self,
        state: &[u8],
        deadline: Option<(Duration, Instant)>,
    ) -> std::result::Result<ExitStatus, Fault> {
        loop {
            if let Some(status) = self.child.try_wait().map_err(Fault::Wait)? {
                return Ok(status);
            }
            if let Some(came) = self.asked.as_ref().map_or(Ok(None), Held::next)? {
                return Err(Fault::Asked(came.number));
            }
            let left = match deadline {
                None => None,
                Some((limit, at)) => match at.checked_duration_since(Instant::now()) {
                    Some(left) if !left.is_zero() => Some(left),
                    _ => return Err(Fault::Timeout(limit)),
                },
            };
            let [feed, hear] = self.poll(left)?;
            if feed {
                self.feed(state)?;
            }
            if hear {
                self.hear();
            }
        }
    }

    /// Whether it takes more of the state, and whether it said something.
    fn poll(&self, left: Option<Duration>) -> std::result::Result<[bool; 2], Fault> {
        let look = self.pidfd.is_none().then_some(LOOK);
        let patience = match left.into_iter().chain(look).min() {
            None => PollTimeout::NONE,
            // Rounded up: a wait of less than a millisecond would be none, again and again.
            Some(wait) => PollTimeout::try_from(wait + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX),
        };
        let wanted = [
            self.stdin.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLOUT)),
            self.stderr.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
            self.pidfd.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
            self.asked.as_ref().map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
        ];
        let open = |one: &Option<(BorrowedFd<'_>, PollFlags)>| one.is_some();
        let [feeds, hears, ..] = [open(&wanted[0]), open(&wanted[1])];
        let mut fds: Vec<_> = wanted
            .into_iter()
            .flatten()
            .map(|(fd, flags)| PollFd::new(fd, flags))
            .collect();
        match poll(&mut fds, patience) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(e.into()),
        }
        let mut ready = fds.iter().map(|fd| fd.any().unwrap_or(false));
        let mut next = |open: bool| open && ready.next().unwrap_or(false);
        Ok([next(feeds), next(hears)])
    }

    /// Gives it the next piece of the state. One that does not read it need not: its own end says how it went.
    fn feed(&mut self, state: &[u8]) -> std::result::Result<(), Fault> {
        let Some(stdin) = &self.stdin else { return Ok(()) };
        match nix::unistd::write(stdin, state.get(self.fed..).unwrap_or_default()) {
            Ok(n) => self.fed += n,
            Err(Errno::EINTR | Errno::EAGAIN) => return Ok(()),
            Err(Errno::EPIPE) => self.fed = state.len(),
            Err(e) => return Err(Fault::Feed(e)),
        }
        if self.fed >= state.len() {
            // The end of the file: it may be waiting for that.
            self.stdin = None;
        }
        Ok(())
    }

    /// Takes what it has said, a pipe's fill at most: who writes without end does not keep us.
    fn hear(&mut self) {
        let mut buffer = [0_u8; 4096];
        for _ in 0..KEPT / buffer.len() {
            let Some(stderr) = &self.stderr else { return };
            match nix::unistd::read(stderr.as_raw_fd(), &mut buffer) {
                Ok(n) if n > 0 => {
                    self.said.extend_from_slice(&buffer[..n]);
                    let over = self.said.len().saturating_sub(KEPT);
                    self.said.drain(..over);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return,
                _ => self.stderr = None,
            }
        }
    }

    /// Ends it with its group. It is not reaped yet, so its number is still its own.
    fn kill(&mut self) {
        let killed = self.pid().map(|pid| nix::sys::signal::killpg(pid, Signal::SIGKILL));
        tracing::debug!(?killed, "killed a hook");
        let deadline = Instant::now() + LAST_WORDS;
        while Instant::now() < deadline {
            match self.child.try_wait() {
                Ok(None) => std::thread::sleep(Duration::from_millis(1)),
                Ok(Some(_)) => return,
                Err(error) => {
                    tracing::debug!(%error, "waiting for a killed hook");
                    return;
                }
            }
        }
    }
}

/// Holds back what asks us to end. Not what our caller has us ignore: held back, an ignored signal would come to us all the same.
fn hold() -> std::result::Result<Held, Fault> {
    let mut numbers = Vec::new();
    for number in [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT] {
        if !gabion_sys::is_ignored(number)? {
            numbers.push(number);
        }
    }
    Ok(Held::new(&numbers)?)
}
