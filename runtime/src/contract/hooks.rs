//! Hooks (runtime-spec, config.md#posix-platform-hooks): programs that are run at points of a container's life, with its state on stdin.
//!
//! libcontainer gives the state its form. Its runner is not used: it writes the state before its clock starts, and waits in a thread that nobody
//! ends (`gabion_sys` makes processes from one thread). Here one poll(2) feeds the hook, hears it and waits for its end, with one deadline.

use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use libcontainer::container::{ContainerStatus, State};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Process};

use gabion_core::control::hooks as control;
use gabion_core::hardened::Hardened;
use gabion_core::id::ControlId;
use gabion_core::printable;
use gabion_core::time::timeout;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::Record;
use gabion_sys::Held;

/// Bytes of a hook's stderr that are kept: the last ones.
const KEPT: usize = 64 << 10;
/// Bytes of it that an error has at most: whole lines, from the last one on.
const TOLD: usize = 2 << 10;
/// How often a hook is looked at where its end cannot be waited for: the workload's own filter may forbid pidfd_open(2).
const LOOK: Duration = Duration::from_millis(10);
/// How long a killed hook is waited for: one that hangs in the kernel ends when it can, without us.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Which of the spec's lists a hook is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Prestart,
    CreateRuntime,
    CreateContainer,
    StartContainer,
    Poststart,
    Poststop,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Prestart => "prestart",
            Self::CreateRuntime => "createRuntime",
            Self::CreateContainer => "createContainer",
            Self::StartContainer => "startContainer",
            Self::Poststart => "poststart",
            Self::Poststop => "poststop",
        }
    }

    /// Whether the runtime runs it, whom a caller may ask to end. The container's first process and its children are ended by the kernel.
    const fn is_the_runtimes(self) -> bool {
        !matches!(self, Self::CreateContainer | Self::StartContainer)
    }
}

/// What a hook finds around it, where it does not say so itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Scene {
    /// The environment of a hook that names none; one that names an empty one has an empty one.
    env: Vec<(OsString, OsString)>,
    /// The working directory; None where it is ours. One that is gone meanwhile is ours, too.
    dir: Option<PathBuf>,
}

impl Scene {
    /// Gives that of hooks which the runtime runs: its own environment. Where the control is in force nothing in it loads code.
    pub(crate) fn of_runtime(hardened: &Hardened, dir: Option<PathBuf>) -> Self {
        let clean = hardened.enforces(ControlId::Hooks);
        let kept = |(name, value): (OsString, OsString)| {
            let cleaned = if clean {
                control::cleaned(name.to_str()?, value.to_str()?)?.into()
            } else {
                value
            };
            Some((name, cleaned))
        };
        let env = std::env::vars_os().filter_map(kept).collect();
        Self { env, dir }
    }

    /// Gives that of createContainer hooks: the workload's environment, as the spec has it (runc, the same). Where the control is in force
    /// it has given these hooks one of their own.
    pub(crate) fn of_process(process: &Process) -> Self {
        let pairs = process.env().iter().flatten().filter_map(|one| one.split_once('='));
        let env = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        Self { env, dir: None }
    }

    /// Gives that of startContainer hooks: the environment that the workload will have.
    pub(crate) fn of_workload(env: &[CString]) -> Self {
        let pair = |one: &CString| {
            let at = one.as_bytes().iter().position(|byte| *byte == b'=')?;
            let (name, value) = (one.as_bytes().get(..at)?, one.as_bytes().get(at + 1..)?);
            Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
        };
        let env = env.iter().filter_map(pair).collect();
        Self { env, dir: None }
    }
}

/// The state that a hook inside the container reads: its first process has the pid there that the container sees (runtime.md, state).
pub(crate) fn state_inside(state: &State, status: ContainerStatus, pid: Pid) -> State {
    State {
        status,
        pid: Some(pid.as_raw()),
        ..state.clone()
    }
}

/// The state that a hook reads on stdin.
pub(crate) fn state_for(record: &Record, status: ContainerStatus, pid: Option<i32>) -> State {
    State {
        oci_version: record.hardened.spec().version().clone(),
        id: record.id.to_string(),
        status,
        pid,
        bundle: record.bundle.clone(),
        annotations: record.hardened.spec().annotations().clone(),
        created: None,
        creator: Some(record.owner),
        use_systemd: false,
        clean_up_intel_rdt_subdirectory: None,
        intel_rdt_dir: None::<PathBuf>,
        intel_rdt_monitoring_dir: None,
    }
}

/// Gives the longest time that hooks may take; None where one of them is given no bound.
pub(crate) fn patience(hooks: Option<&Vec<Hook>>) -> Option<Duration> {
    hooks
        .into_iter()
        .flatten()
        .map(|hook| Some(timeout(hook.timeout()?)))
        .sum()
}

/// Runs hooks in their order; the first that fails ends it.
pub(crate) fn run(kind: Kind, hooks: Option<&Vec<Hook>>, state: Option<&State>, scene: &Scene) -> Result<()> {
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        run_one(kind, index, hook, state, scene)?;
    }
    Ok(())
}

/// Runs the hook that is at `index` in its list.
pub(crate) fn run_one(kind: Kind, index: usize, hook: &Hook, state: Option<&State>, scene: &Scene) -> Result<()> {
    let failed = |why: String| {
        let path = hook.path().display();
        Error::failed(
            Step::Hooks,
            printable::one_line(&format!("{} hook {index} ({path}) {why}", kind.name())),
        )
    };
    let state = text_of(state).map_err(failed)?;
    let limit = match hook.timeout() {
        None => None,
        Some(seconds) if seconds > 0 => Some(timeout(seconds)),
        Some(seconds) => return Err(failed(format!("has the timeout {seconds}; it must be greater than 0"))),
    };
    let mut said = Vec::new();
    let ended = Running::start(kind, hook, scene).and_then(|mut running| {
        let ended = running.wait(state.as_bytes(), limit);
        said = std::mem::take(&mut running.said);
        ended
    });
    match ended {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(failed(format!("{}{}", how(status), last_words(&said)))),
        Err(fault) => Err(failed(format!("{fault}{}", last_words(&said)))),
    }
}

/// The state as the spec has it.
fn text_of(state: Option<&State>) -> std::result::Result<String, String> {
    let state = state.ok_or("has no state to read")?;
    let state = oci_spec::runtime::State::try_from(state).map_err(|e| format!("has no state to read: {e}"))?;
    serde_json::to_string(&state).map_err(|e| format!("has no state to read: {e}"))
}

/// Why a hook did not come to its own end.
#[derive(Debug)]
enum Fault {
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
struct Running {
    child: Child,
    /// None where the workload's filter, under which startContainer hooks run, does not have it.
    pidfd: Option<OwnedFd>,
    /// What asks us to end, held back while the hook runs.
    asked: Option<Held>,
    stdin: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    /// How much of the state it has.
    fed: usize,
    said: Vec<u8>,
}

impl Running {
    /// In a group of its own, so that what it started can be ended with it.
    fn start(kind: Kind, hook: &Hook, scene: &Scene) -> std::result::Result<Self, Fault> {
        // A relative path, which only a startContainer hook can have left here, would be looked for in somebody's PATH.
        if !hook.path().is_absolute() {
            return Err(Fault::Start(std::io::Error::other("its path is not absolute")));
        }
        let asked = if kind.is_the_runtimes() { Some(hold()?) } else { None };
        let mut command = Command::new(hook.path());
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
    fn wait(&mut self, state: &[u8], timeout: Option<Duration>) -> std::result::Result<ExitStatus, Fault> {
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

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        (None, Some(number)) => format!("was ended by signal {number}"),
        (None, None) => format!("failed: {status}"),
    }
}

/// The last lines that it said, whole ones and not more than `TOLD` bytes of them; of a last line that is longer, the end.
fn last_words(said: &[u8]) -> String {
    let said = said.trim_ascii();
    let mut start = said.len().saturating_sub(TOLD);
    if start > 0 {
        let whole = said[start - 1..].iter().position(|byte| *byte == b'\n');
        start += whole.unwrap_or(0);
    }
    let words = String::from_utf8_lossy(&said[start..]);
    let lines: Vec<&str> = words.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if lines.is_empty() {
        String::new()
    } else {
        format!(": {}", lines.join("; "))
    }
}

#[cfg(test)]
#[path = "hooks_tests.rs"]
mod tests;
