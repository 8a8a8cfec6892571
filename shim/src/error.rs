//! Everything that can go wrong, each with the ttrpc code that containerd acts on.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use containerd_shim_protos::{protobuf, ttrpc::Code};

use crate::task_state::{Action, Phase};

/// Shorthand.
pub type Result<T> = std::result::Result<T, Error>;

/// An error with a stable meaning; its text is one line.
#[derive(Debug)]
pub enum Error {
    /// This shim has no such container.
    NoContainer(String),
    /// The container has no such exec.
    NoProcess { container: String, exec: String },
    /// The process has ended: it cannot be signalled.
    ProcessFinished,
    /// A container of this id is here already.
    ContainerExists(String),
    /// An exec of this id is here already.
    ExecExists(String),
    /// A client has asked for more than the shim holds at once, and of what.
    Full(&'static str),
    /// Not an identifier that containerd would make.
    BadId(String),
    /// The request's bytes are no message of its method.
    BadMessage(protobuf::Error),
    /// A field of the request cannot be used, and why.
    BadRequest(&'static str),
    /// A path of the request cannot be used, and why.
    BadPath { path: PathBuf, why: &'static str },
    /// A file holds more than it may.
    TooLong { path: PathBuf, limit: u64 },
    /// A mount of the request cannot be made.
    BadMount { option: String },
    /// The runtime options are of a type we do not know.
    OptionsType(String),
    /// The runtime options' TOML does not parse.
    OptionsToml {
        path: Option<PathBuf>,
        source: toml::de::Error,
    },
    /// The process is in a phase that does not allow this.
    State { id: String, phase: Phase, action: Action },
    /// The runtime said no; its own one line.
    Runtime { verb: &'static str, message: String },
    /// The runtime failed and said nothing.
    RuntimeSilent { verb: &'static str, status: u32 },
    /// The runtime did not end in time and was killed.
    RuntimeTimeout { verb: &'static str },
    /// The runtime's output is not what its command prints.
    RuntimeOutput {
        verb: &'static str,
        source: serde_json::Error,
    },
    /// The process of a log driver failed before it was ready.
    Logger { binary: PathBuf },
    /// A log driver was not ready in time and was killed.
    LoggerTimeout { binary: PathBuf },
    /// The cgroup's numbers could not be read; mostly because the container has just ended.
    Metrics,
    /// gabion makes no checkpoints.
    Checkpoint,
    /// No such service or method.
    NoMethod { service: String, method: String },
    /// A file holds something else than we wrote or expected.
    Content { path: PathBuf, expected: &'static str },
    /// A system call failed.
    System {
        doing: &'static str,
        path: Option<PathBuf>,
        source: io::Error,
    },
    /// Messages to or from containerd could not be framed.
    Frame(&'static str),
}

impl Error {
    /// A system call failed while `doing`, on no path.
    pub fn system(doing: &'static str, source: impl Into<io::Error>) -> Self {
        Self::System {
            doing,
            path: None,
            source: source.into(),
        }
    }

    /// A system call failed while `doing`, on `path`.
    pub fn at(doing: &'static str, path: &Path, source: impl Into<io::Error>) -> Self {
        Self::System {
            doing,
            path: Some(path.to_owned()),
            source: source.into(),
        }
    }

    /// What containerd, and the client behind it, decides by.
    pub fn code(&self) -> Code {
        match self {
            Self::NoContainer(_) | Self::NoProcess { .. } | Self::ProcessFinished => Code::NOT_FOUND,
            Self::ContainerExists(_) | Self::ExecExists(_) => Code::ALREADY_EXISTS,
            Self::BadId(_)
            | Self::BadMessage(_)
            | Self::BadRequest(_)
            | Self::BadPath { .. }
            | Self::TooLong { .. }
            | Self::BadMount { .. }
            | Self::OptionsType(_)
            | Self::OptionsToml { .. } => Code::INVALID_ARGUMENT,
            Self::Full(_) => Code::RESOURCE_EXHAUSTED,
            Self::State { .. } => Code::FAILED_PRECONDITION,
            Self::Checkpoint | Self::NoMethod { .. } => Code::UNIMPLEMENTED,
            Self::RuntimeTimeout { .. } | Self::LoggerTimeout { .. } => Code::DEADLINE_EXCEEDED,
            Self::Runtime { .. }
            | Self::RuntimeSilent { .. }
            | Self::RuntimeOutput { .. }
            | Self::Logger { .. }
            | Self::Metrics
            | Self::Content { .. }
            | Self::System { .. }
            | Self::Frame(_) => Code::UNKNOWN,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoContainer(id) => write!(f, "no container {id} in this shim"),
            Self::NoProcess { container, exec } => write!(f, "no exec {exec} in container {container}"),
            // containerd's clients know these words from its own shims.
            Self::ProcessFinished => write!(f, "process already finished"),
            Self::ContainerExists(id) => write!(f, "container {id} exists already"),
            Self::ExecExists(id) => write!(f, "exec {id} exists already"),
            Self::Full(what) => write!(f, "too much at once for one shim: {what}"),
            Self::BadId(id) => write!(f, "{id:?} is not an identifier"),
            Self::BadMessage(source) => write!(f, "request cannot be decoded: {source}"),
            Self::BadRequest(why) => write!(f, "{why}"),
            Self::BadPath { path, why } => write!(f, "{}: {why}", path.display()),
            Self::TooLong { path, limit } => write!(f, "{}: longer than {limit} bytes", path.display()),
            Self::BadMount { option } => write!(f, "mount option {option:?} is not supported"),
            Self::OptionsType(kind) => write!(f, "runtime options of type {kind:?} are not known"),
            Self::OptionsToml { path, source } => {
                let place = path.as_ref().map(|path| format!(" in {}", path.display()));
                let place = place.unwrap_or_default();
                write!(f, "runtime options{place}: {}", one_line(source.message()))
            }
            Self::State { id, phase, action } => write!(f, "cannot {action} {id}: it is {phase}"),
            Self::Runtime { verb, message } => write!(f, "OCI runtime {verb} failed: {message}"),
            Self::RuntimeSilent { verb, status } => {
                write!(f, "OCI runtime {verb} failed with status {status} and no message")
            }
            Self::RuntimeTimeout { verb } => write!(f, "OCI runtime {verb} did not end in time and was killed"),
            Self::RuntimeOutput { verb, source } => write!(f, "OCI runtime {verb} printed no valid JSON: {source}"),
            Self::Logger { binary } => write!(f, "log driver {} ended before it was ready", binary.display()),
            Self::LoggerTimeout { binary } => {
                write!(
                    f,
                    "log driver {} was not ready in time and was killed",
                    binary.display()
                )
            }
            Self::Metrics => write!(f, "the cgroup's metrics cannot be read"),
            Self::Checkpoint => write!(f, "gabion makes no checkpoints"),
            Self::NoMethod { service, method } => write!(f, "no method {method} in service {service}"),
            Self::Content { path, expected } => write!(f, "{}: {expected} expected", path.display()),
            Self::System {
                doing,
                path: Some(path),
                source,
            } => write!(f, "{doing} {}: {source}", path.display()),
            Self::System {
                doing,
                path: None,
                source,
            } => write!(f, "{doing}: {source}"),
            Self::Frame(why) => write!(f, "ttrpc: {why}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<protobuf::Error> for Error {
    fn from(source: protobuf::Error) -> Self {
        Self::BadMessage(source)
    }
}

/// The text with every run of white space and control characters as one blank: what reaches users and logs is one line.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for word in text
        .split(|c: char| c.is_whitespace() || c.is_control())
        .filter(|word| !word.is_empty())
    {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_one_line() {
        assert_eq!(one_line("a\n\tb\u{1b}[31m  c"), "a b [31m c");
    }

    #[test]
    fn codes_are_those_that_containerd_acts_on() {
        assert_eq!(Error::NoContainer("x".into()).code(), Code::NOT_FOUND);
        assert_eq!(Error::ProcessFinished.code(), Code::NOT_FOUND);
        assert_eq!(Error::Checkpoint.code(), Code::UNIMPLEMENTED);
        assert_eq!(Error::ContainerExists("x".into()).code(), Code::ALREADY_EXISTS);
    }
}
