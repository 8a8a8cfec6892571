//! One run, from the bundle that is made for it to what it showed.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gabion_core::learn::{Denied, Loosening, Seen};
use gabion_core::request::normalize;
use gabion_see::error::{Error, Result};
use gabion_see::seccomp;
use gabion_sys::{Call, CallsMade, Held};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::listen::Listener;
use super::look::Looker;
use super::stage::{Round, Stage};
use super::upper::{self, Marks, Since, Whole};

mod bundle;
mod grant;

pub(super) use bundle::volumes;
pub(crate) use bundle::{ARCHITECTURES, apply};

/// What is run, and how.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) id: String,
    /// The bundle that was asked for.
    pub(crate) bundle: PathBuf,
    pub(crate) config: Value,
    /// gabion, and what stands before its command.
    pub(crate) program: PathBuf,
    pub(crate) globals: Vec<OsString>,
    pub(crate) until: Until,
}

/// How a run ends.
#[derive(Clone, Debug)]
pub(crate) struct Until {
    /// A command of the host's that asks the program: it is repeated until it succeeds, and ends the run.
    pub(crate) ask: Option<String>,
    pub(crate) longest: Option<Duration>,
}

/// What a run is for.
#[derive(Debug)]
pub(crate) enum Asked<'a> {
    /// As at permissive, on an image in which these needs are met already.
    Learn(&'a BTreeSet<Denied>),
    /// With the outcome.
    Prove(&'a Loosening),
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) seen: Seen,
    /// In the order of time.
    pub(crate) denied: Vec<Denied>,
    pub(crate) code: i32,
    pub(crate) how: How,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// By itself.
    Alone,
    /// We ended it when its time was over, or somebody ended us.
    Stopped,
    /// The command that asks it succeeded.
    Answered,
    /// It did not succeed in time.
    Unanswered,
    /// No instruction of it ran.
    NotStarted,
}

/// How long a program may take to end once it was asked to, and the runtime to clear away.
const PATIENCE: Duration = Duration::from_secs(15);
const TICK: Duration = Duration::from_millis(100);

/// Runs it once.
///
/// # Errors
/// It could not be watched.
pub(crate) fn once(stage: &mut Stage, prepared: &Prepared, asked: &Asked<'_>) -> Result<Ended> {
    let round = stage.round()?;
    if let Asked::Learn(needed) = asked {
        grant::grant(&round.root(), needed)?;
    }
    let socket = stage.path("listener");
    let listener = Listener::new(&socket)?;
    let config = bundle::config(prepared, &round, &socket, asked);
    let path = round.bundle().join("config.json");
    fs::write(&path, config.to_string()).map_err(Error::file("write", &path))?;
    let looker = Looker::new(bundle::free_port(&config))?;
    let signals = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGCHLD];
    let signals =
        Held::new(&signals).map_err(|errno| Error::file("hold back signals of", "/proc/self")(errno.into()))?;
    let child = bundle::start(prepared, &round, &config)?;
    let mut run = Run {
        prepared,
        round: &round,
        listener,
        looker,
        signals,
        child,
        begun: None,
        asking: None,
        answered: false,
        stopping: None,
        cgroups: Vec::new(),
        calls: None,
        marks: Marks::new(),
    };
    let code = run.watch();
    run.peaks();
    let seen = run.conclude(&config);
    bundle::clear_away(prepared)?;
    let how = run.how();
    let denied = std::mem::take(&mut run.looker.denied);
    Ok(Ended {
        seen: seen?,
        denied,
        code: code?,
        how,
    })
}

struct Run<'a> {
    prepared: &'a Prepared,
    round: &'a Round,
    listener: Listener,
    looker: Looker,
    signals: Held,
    child: Child,
    /// Since the program's first call.
    begun: Option<Instant>,
    asking: Option<Child>,
    answered: bool,
    stopping: Option<(Instant, Signal)>,
    cgroups: Vec<PathBuf>,
    calls: Option<CallsMade>,
    marks: Marks,
}

/// What there is to do.
struct Ready {
    /// A filter's listener.
    comes: bool,
    /// The filters that have a call.
    calls: Vec<usize>,
}

impl Run<'_> {
    /// Answers calls until the runtime has ended, and gives its exit code.
    fn watch(&mut self) -> Result<i32> {
        let mut sampled = Instant::now();
        loop {
            let ready = self.wait()?;
            // From the last on, since one that is over is taken out.
            for at in ready.calls.iter().rev().copied() {
                if let Some(call) = self.listener.call(at) {
                    self.told(at, &call);
                    self.listener.go_on(at, &call);
                }
            }
            if ready.comes {
                self.listener.accept();
            }
            // A call waits: the rest can, too.
            if !ready.calls.is_empty() && sampled.elapsed() < TICK {
                continue;
            }
            self.forward_signals()?;
            if sampled.elapsed() > TICK {
                sampled = Instant::now();
                self.peaks();
                self.ask()?;
                self.end_in_time();
            }
            if let Some(status) = self
                .child
                .try_wait()
                .map_err(Error::file("wait for", &self.prepared.program))?
            {
                return Ok(status.code().unwrap_or(1));
            }
        }
    }

    /// A call of the program's, or of the runtime's on the way to it.
    fn told(&mut self, at: usize, call: &Call) {
        let Some(filter) = self.listener.filters.get_mut(at) else {
            return;
        };
        filter.runs |= self.looker.executes_program(call);
        if !filter.runs {
            return;
        }
        if self.begun.is_none() {
            self.begin(call.pid);
        }
        self.looker.look(call);
    }

    /// Waits for anything.
    fn wait(&self) -> Result<Ready> {
        let filters = self.listener.filters.iter().map(|filter| filter.fd.as_fd());
        let all = [self.listener.as_fd(), self.signals.as_fd()].into_iter().chain(filters);
        let mut fds: Vec<PollFd<'_>> = all.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
        let timeout = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::MAX);
        match poll(&mut fds, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(Error::file("wait at", self.prepared.bundle.as_path())(errno.into())),
        }
        let ready = |fd: &PollFd<'_>| fd.revents().is_some_and(|events| !events.is_empty());
        let calls = fds.iter().skip(2).enumerate().filter(|(_, fd)| ready(fd));
        Ok(Ready {
            comes: fds.first().is_some_and(ready),
            calls: calls.map(|(at, _)| at).collect(),
        })
    }

    /// The first call, before it goes on: execve(2) of the program. All that is there now is the runtime's work.
    fn begin(&mut self, pid: u32) {
        self.begun = Some(Instant::now());
        let unseen = &mut self.looker.seen.unseen;
        match upper::marks(&self.round.upper()) {
            Ok(marks) => self.marks = marks,
            Err(error) => {
                unseen.insert(format!(
                    "what the runtime itself had written before the program began: {error}"
                ));
            }
        }
        match calls_of(pid) {
            Ok(calls) => self.calls = Some(calls),
            Err(why) => {
                unseen.insert(format!("the set of all system calls: {why}"));
            }
        }
        self.cgroups = cgroups_of(pid);
    }

    fn forward_signals(&mut self) -> Result<()> {
        let reading = |errno: nix::errno::Errno| Error::file("read signals of", "/proc/self")(errno.into());
        while let Some(came) = self.signals.next().map_err(reading)? {
            // The terminal's own goes to the whole group, the runtime with it.
            if came.number == libc::SIGCHLD || came.sender == 0 {
                continue;
            }
            self.stop();
        }
        Ok(())
    }

    /// Asks the program to end; a while after that it is killed.
    fn stop(&mut self) {
        if self.stopping.is_none() {
            self.stopping = Some((Instant::now(), Signal::SIGTERM));
            self.signal("TERM");
        }
    }

    fn signal(&self, signal: &str) {
        let done = bundle::command(self.prepared)
            .args(["kill", &self.prepared.id, signal])
            .stderr(Stdio::null())
            .status();
        if !done.is_ok_and(|status| status.success()) {
            let pid = Pid::from_raw(self.child.id().cast_signed());
            if let Err(error) = kill(pid, Signal::SIGTERM) {
                tracing::debug!(%error, "the runtime has ended");
            }
        }
    }

    fn end_in_time(&mut self) {
        let over = |longest: &Duration| self.begun.is_some_and(|begun| begun.elapsed() > *longest);
        if self.prepared.until.longest.as_ref().is_some_and(over) {
            self.stop();
        }
        if let Some((since, Signal::SIGTERM)) = self.stopping
            && since.elapsed() > PATIENCE
        {
            self.stopping = Some((since, Signal::SIGKILL));
            self.signal("KILL");
        }
    }

    /// Has the command ask, one after the other, until one of them succeeds.
    fn ask(&mut self) -> Result<()> {
        let Some(ask) = self
            .prepared
            .until
            .ask
            .as_deref()
            .filter(|_| !self.answered && self.begun.is_some())
        else {
            return Ok(());
        };
        let Some(asking) = &mut self.asking else {
            let mut command = Command::new("/bin/sh");
            command
                .args(["-c", ask])
                .env("GABION_ID", &self.prepared.id)
                .stdin(Stdio::null());
            command.stdout(bundle::our_stderr()?);
            self.asking = Some(command.spawn().map_err(Error::file("run", "/bin/sh"))?);
            return Ok(());
        };
        if let Some(status) = asking.try_wait().map_err(Error::file("wait for", "/bin/sh"))? {
            self.asking = None;
            if status.success() {
                self.answered = true;
                self.stop();
            }
        }
        Ok(())
    }

    /// The most that the cgroup says was in use; where it only says what is, the most of our looks.
    fn peaks(&mut self) {
        let Self { cgroups, looker, .. } = self;
        let number = |name: &str| {
            let texts = cgroups.iter().filter_map(|dir| fs::read_to_string(dir.join(name)).ok());
            texts.filter_map(|text| text.trim().parse::<u64>().ok()).max()
        };
        let memory = ["memory.peak", "memory.max_usage_in_bytes", "memory.current"]
            .into_iter()
            .find_map(number);
        let tasks = ["pids.peak", "pids.current"].into_iter().find_map(number);
        looker.seen.memory_peak = looker.seen.memory_peak.max(memory);
        looker.seen.tasks_peak = looker.seen.tasks_peak.max(tasks);
    }

    fn how(&self) -> How {
        match (self.begun, self.answered, self.stopping, &self.prepared.until.ask) {
            (None, ..) => How::NotStarted,
            (_, true, ..) => How::Answered,
            (.., Some(_)) => How::Unanswered,
            (_, _, Some(_), None) => How::Stopped,
            (_, _, None, None) => How::Alone,
        }
    }

    /// Puts together what was seen, when nothing of the program runs any more.
    fn conclude(&mut self, config: &Value) -> Result<Seen> {
        if let Some(mut asking) = self.asking.take() {
            // It may be waiting for a program that is gone.
            let ended = asking.kill().and_then(|()| asking.wait());
            ended.map_err(Error::file("end", "/bin/sh"))?;
        }
        let mut seen = std::mem::take(&mut self.looker.seen);
        seen.runs = 1;
        let upper = self.round.upper();
        let lower = [self.round.lower().to_owned()];
        let (written, whole) =
            upper::written(&upper, &lower, &Since::Marks(&self.marks)).map_err(Error::file("look through", &upper))?;
        if whole == Whole::No {
            seen.unseen
                .insert("more than 100000 entries below the root: what was written beyond them".to_owned());
        }
        let mut dirs = upper::directories(&written);
        dirs.extend(self.looker.denied.iter().filter_map(|denied| match denied {
            Denied::Foreign { dir, .. } | Denied::ReadOnly { dir, .. } => Some(dir.clone()),
            _ => None,
        }));
        seen.sizes = upper::sizes(&self.round.root(), dirs);
        seen.written = written;
        seen.volumes = bundle::volumes(config);
        seen.denied = self.looker.denied.iter().cloned().collect();
        if let Some(calls) = &self.calls {
            let numbers = calls
                .numbers()
                .map_err(|errno| Error::file("read the calls of", "/proc")(errno.into()))?;
            seen.calls = Some(
                numbers
                    .into_iter()
                    .map(|n| seccomp::call_name(n).unwrap_or_else(|| n.to_string()))
                    .collect(),
            );
        }
        Ok(seen)
    }
}

/// Notes the calls of the pid namespace that a process is in, if it is the container's own.
fn calls_of(pid: u32) -> std::result::Result<CallsMade, String> {
    let namespace = |who: &str| fs::metadata(format!("/proc/{who}/ns/pid")).map_err(|e| e.to_string());
    let (own, theirs) = (namespace("self")?, namespace(&pid.to_string())?);
    if own.ino() == theirs.ino() {
        return Err("the container has no pid namespace of its own".to_owned());
    }
    CallsMade::begin(theirs.dev(), theirs.ino())
        .map_err(|errno| format!("the kernel loads no program for it ({errno})"))
}

/// The directories of a process's cgroup.
fn cgroups_of(pid: u32) -> Vec<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let place = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, normalize(Path::new(parts.next()?)));
        let below = path.strip_prefix("/").ok()?.to_owned();
        let root = Path::new("/sys/fs/cgroup");
        match controllers {
            "" => Some(root.join(&below)),
            "memory" | "pids" => Some(root.join(controllers).join(below)),
            _ => None,
        }
    };
    text.lines().filter_map(place).filter(|dir| dir.is_dir()).collect()
}

/// A descriptor's owner, for a child.
fn owned(fd: OwnedFd) -> Stdio {
    Stdio::from(fd)
}
