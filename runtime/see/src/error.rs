//! What can go wrong, with one line for a person and a stable code for machines.
//!
//! Callers classify by words (containerd looks for «does not exist», «container not running», «no such process»;
//! podman rewrites «operation not permitted», «permission denied» and «no such file or directory»), so our own refusals use
//! none of them, and what does not exist is said in containerd's words.

use std::fmt;
use std::io;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use gabion_core::hardened::Denial;
use gabion_core::id::ControlId;
use gabion_core::request::{BadInput, INVALID, InvalidId};

/// A step of create, start or exec, as messages and fault injection name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    StateDir,
    Seccomp,
    Cgroup,
    Clone,
    UserNamespace,
    Namespaces,
    Rlimits,
    Rootfs,
    Holes,
    Mounts,
    Devices,
    Hooks,
    Pivot,
    Sysctl,
    MaskedPaths,
    Console,
    Keyring,
    Ids,
    Capabilities,
    NoNewPrivs,
    Memory,
    Label,
    Verify,
    Landlock,
    Ready,
    Start,
    Execve,
    Kill,
    Delete,
    /// What the runtime and the container's first process say to each other.
    Channel,
    Procfs,
}

impl Step {
    pub const ALL: [Self; 31] = [
        Self::StateDir,
        Self::Seccomp,
        Self::Cgroup,
        Self::Clone,
        Self::UserNamespace,
        Self::Namespaces,
        Self::Rlimits,
        Self::Rootfs,
        Self::Holes,
        Self::Mounts,
        Self::Devices,
        Self::Hooks,
        Self::Pivot,
        Self::Sysctl,
        Self::MaskedPaths,
        Self::Console,
        Self::Keyring,
        Self::Ids,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Memory,
        Self::Label,
        Self::Verify,
        Self::Landlock,
        Self::Ready,
        Self::Start,
        Self::Execve,
        Self::Kill,
        Self::Delete,
        Self::Channel,
        Self::Procfs,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::StateDir => "state-dir",
            Self::Seccomp => "seccomp",
            Self::Cgroup => "cgroup",
            Self::Clone => "clone",
            Self::UserNamespace => "user-namespace",
            Self::Namespaces => "namespaces",
            Self::Rlimits => "rlimits",
            Self::Rootfs => "rootfs",
            Self::Holes => "holes",
            Self::Mounts => "mounts",
            Self::Devices => "devices",
            Self::Hooks => "hooks",
            Self::Pivot => "pivot",
            Self::Sysctl => "sysctl",
            Self::MaskedPaths => "masked-paths",
            Self::Console => "console",
            Self::Keyring => "keyring",
            Self::Ids => "ids",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no-new-privs",
            Self::Memory => "memory",
            Self::Label => "label",
            Self::Verify => "verify",
            Self::Landlock => "landlock",
            Self::Ready => "ready",
            Self::Start => "start",
            Self::Execve => "execve",
            Self::Kill => "kill",
            Self::Delete => "delete",
            Self::Channel => "channel",
            Self::Procfs => "procfs",
        }
    }
}

impl Step {
    /// Gives what `map_err` takes: the error of a system call in this step. `doing` is what could not be done.
    pub fn failing(self, doing: impl Into<String>) -> impl Fn(Errno) -> Error {
        let doing = doing.into();
        move |errno| Error::Step {
            step: self,
            doing: doing.clone(),
            errno,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error. `Display` is the one line for a person, without the leading `gabion: `.
#[derive(Debug)]
pub enum Error {
    /// The policy refused it.
    Refused(Denial),
    /// A refusal outside `harden`: exec or update asked for more than the container has.
    RefusedCall {
        code: &'static str,
        what: String,
        remedy: String,
    },
    InvalidId(InvalidId),
    /// The id is taken.
    Exists {
        id: String,
    },
    /// containerd looks for «does not exist».
    NotFound {
        id: String,
    },
    /// exec, where every process of the container is stopped.
    Paused {
        id: String,
    },
    /// The container is in a state in which this cannot be done.
    WrongState {
        id: String,
        status: &'static str,
        wanted: &'static str,
    },
    /// containerd looks for «container not running».
    NotRunning {
        id: String,
    },
    /// config.json, process.json or resources that cannot be used.
    Bundle(BadInput),
    /// config.json or process.json asks for something that gabion does not do: never left out in silence.
    Unsupported {
        field: String,
        why: String,
    },
    /// A policy file that cannot be used. Nothing starts.
    Policy {
        path: PathBuf,
        why: String,
    },
    /// A command line that cannot be used.
    Usage(String),
    /// A file operation of our own.
    File {
        doing: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// A system call in a step of create, start or exec.
    Step {
        step: Step,
        doing: String,
        errno: Errno,
    },
    /// A step failed for a reason that is no errno.
    Failed {
        step: Step,
        why: String,
    },
    /// What was decided is not what the kernel shows: the workload never runs, or is ended; an update is taken back.
    Mismatch {
        control: ControlId,
        expected: String,
        observed: String,
    },
    /// What the container's own first process reported (already in words, with its code).
    Child {
        code: String,
        message: String,
    },
    /// The program that the workload names cannot be run. runc's words: engines tell exit code 127 and 126 by them.
    NoProgram {
        name: String,
        why: &'static str,
    },
    /// State of a container that cannot be read.
    State {
        path: PathBuf,
        why: String,
    },
    /// By design.
    NotSupported {
        what: &'static str,
        why: &'static str,
    },
}

impl Error {
    /// The stable code, for machines.
    pub fn code(&self) -> String {
        match self {
            Self::Refused(denial) => denial
                .refusals()
                .next()
                .and_then(|c| c.code.clone())
                .unwrap_or_else(|| "refused".to_owned()),
            Self::RefusedCall { code, .. } => (*code).to_owned(),
            Self::InvalidId(_) => "id.invalid".to_owned(),
            Self::Exists { .. } => "id.exists".to_owned(),
            Self::NotFound { .. } => "id.not-found".to_owned(),
            Self::WrongState { .. } | Self::Paused { .. } => "state.wrong".to_owned(),
            Self::NotRunning { .. } => "state.not-running".to_owned(),
            Self::Bundle(bad) => bad.code.to_owned(),
            Self::Unsupported { .. } => "bundle.unsupported".to_owned(),
            Self::Policy { .. } => "policy.invalid".to_owned(),
            Self::Usage(_) => "usage".to_owned(),
            Self::File { .. } => "file".to_owned(),
            Self::Step { step, .. } | Self::Failed { step, .. } => format!("step.{step}"),
            Self::Mismatch { control, .. } => format!("{control}.not-enforced"),
            Self::Child { code, .. } => code.clone(),
            Self::NoProgram { .. } => "program.not-found".to_owned(),
            Self::State { .. } => "state.unreadable".to_owned(),
            Self::NotSupported { .. } => "not-supported".to_owned(),
        }
    }

    /// Whether a step failed or was not seen to hold, and not what was asked for: it may be the consequence of an end that came meanwhile. A process that
    /// was killed holds nothing of what was decided any more.
    pub fn may_follow_an_end(&self) -> bool {
        match self {
            Self::Step { .. } | Self::Failed { .. } | Self::File { .. } | Self::Mismatch { .. } => true,
            Self::Child { code, .. } => code.starts_with("step.") || code.ends_with(".not-enforced") || code == "file",
            _ => false,
        }
    }

    /// An errno in a step.
    pub fn step(step: Step, doing: impl Into<String>, errno: Errno) -> Self {
        Self::Step {
            step,
            doing: doing.into(),
            errno,
        }
    }

    /// A reason in a step.
    pub fn failed(step: Step, why: impl Into<String>) -> Self {
        Self::Failed { step, why: why.into() }
    }

    /// For `map_err` on a file operation.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { doing, path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(denial) => denial.fmt(f),
            Self::RefusedCall { code, what, remedy } => write!(f, "refused [{code}]: {what}; remedy: {remedy}"),
            Self::InvalidId(invalid) => invalid.fmt(f),
            Self::Exists { id } => write!(f, "container {id} already exists: delete it first, or use another id"),
            Self::NotFound { id } => write!(f, "container {id} does not exist"),
            Self::WrongState { id, status, wanted } => {
                write!(f, "container {id} is {status}: this needs it to be {wanted}")
            }
            // runc's words.
            Self::Paused { id } => write!(
                f,
                "cannot exec in a paused container: {id} is paused; resume it, or use --ignore-paused"
            ),
            Self::NotRunning { id } => write!(f, "container not running: {id}"),
            Self::Bundle(bad) if bad.code == INVALID => bad.fmt(f),
            Self::Bundle(bad) => write!(f, "refused [{}]: {bad}", bad.code),
            Self::Policy { path, why } | Self::State { path, why } => {
                write!(f, "{}: {why}", path.display())
            }
            Self::Unsupported { field, why } => write!(f, "{field} is not supported [bundle.unsupported]: {why}"),
            Self::Usage(why) => f.write_str(why),
            Self::File { doing, path, source } => {
                // std's «(os error 2)» is for nobody.
                let text = source.to_string();
                let words = text
                    .rsplit_once(" (os error ")
                    .map_or(text.as_str(), |(words, _)| words);
                write!(f, "cannot {doing} {}: {words}", path.display())
            }
            Self::Step { step, doing, errno } => write!(f, "{step}: cannot {doing}: {}", errno.desc()),
            Self::Failed { step, why } => write!(f, "{step}: {why}"),
            Self::Mismatch {
                control,
                expected,
                observed,
            } => write!(
                f,
                "{control} is not in force [{control}.not-enforced]: decided {expected}, the kernel shows {observed}"
            ),
            Self::Child { message, .. } => f.write_str(message),
            Self::NoProgram { name, why } => write!(f, "exec: {name:?}: {why}"),
            Self::NotSupported { what, why } => write!(f, "{what} is not supported, by design: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Denial> for Error {
    fn from(denial: Denial) -> Self {
        Self::Refused(denial)
    }
}

impl From<BadInput> for Error {
    fn from(bad: BadInput) -> Self {
        Self::Bundle(bad)
    }
}

impl From<InvalidId> for Error {
    fn from(invalid: InvalidId) -> Self {
        Self::InvalidId(invalid)
    }
}

/// gabion's results.
pub type Result<T> = std::result::Result<T, Error>;
