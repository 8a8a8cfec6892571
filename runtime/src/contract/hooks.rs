//! Hooks (runtime-spec, config.md#posix-platform-hooks): programs that are run at points of a container's life, with its state on stdin.
//!
//! libcontainer gives the state its form. Its runner is not used: it writes the state before its clock starts, and waits in a thread that nobody
//! ends (`gabion_sys` makes processes from one thread). Here one poll(2) feeds the hook, hears it and waits for its end, with one deadline.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr, OsString};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use libcontainer::container::{ContainerStatus, State};
use nix::unistd::Pid;
use oci_spec::runtime::{Hook, Process};

use gabion_core::control::hooks as control;
use gabion_core::hardened::Hardened;
use gabion_core::id::ControlId;
use gabion_core::printable;
use gabion_core::time::timeout;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::Record;

mod running;
use running::Running;

/// Bytes of a hook's stderr that an error has at most: whole lines, from the last one on.
const TOLD: usize = 2 << 10;

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
    /// What was judged and is held open of the programs that the spec names: by the spec's path, the path to run it by.
    programs: BTreeMap<PathBuf, PathBuf>,
}

impl Scene {
    /// Runs these programs, which were judged, whatever their paths lead to by now. They are programs of the machine, no scripts: an
    /// interpreter would not have the descriptor.
    pub(crate) fn holding(mut self, programs: &BTreeMap<PathBuf, OwnedFd>) -> Self {
        let by_fd = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        self.programs = programs.iter().map(|(path, fd)| (path.clone(), by_fd(fd))).collect();
        self
    }

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
        Self {
            env,
            dir,
            programs: BTreeMap::new(),
        }
    }

    /// Gives that of createContainer hooks: the workload's environment, as the spec has it (runc, the same). Where the control is in force
    /// it has given these hooks one of their own.
    pub(crate) fn of_process(process: &Process) -> Self {
        let pairs = process.env().iter().flatten().filter_map(|one| one.split_once('='));
        let env = pairs.map(|(name, value)| (name.into(), value.into())).collect();
        Self { env, ..Self::default() }
    }

    /// Gives that of startContainer hooks: the environment that the workload will have.
    pub(crate) fn of_workload(env: &[CString]) -> Self {
        let pair = |one: &CString| {
            let at = one.as_bytes().iter().position(|byte| *byte == b'=')?;
            let (name, value) = (one.as_bytes().get(..at)?, one.as_bytes().get(at + 1..)?);
            Some((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()))
        };
        let env = env.iter().filter_map(pair).collect();
        Self { env, ..Self::default() }
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
            printable::one_line(&format!(
                "error running {} hook #{index}: error running hook: {path} {why}",
                kind.name()
            )),
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

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("failed with exit code {code}"),
        // Go's words for what a filter does.
        (None, Some(libc::SIGSYS)) => format!("was ended by signal {}: bad system call", libc::SIGSYS),
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
