//! Where the log is, and opening it: a file that nobody else could have put there or can write to.

use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gabion_core::caller::{OwnUserNs, Reader};
use gabion_core::policy::AuditPolicy;
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::vetted::{self, Fault, Kind, Links, Owner, Rules};

/// Where root's log is.
pub const SYSTEM: &str = "/var/log/gabion/audit.jsonl";

/// The policy's file, or the caller's default: root's, or the user's own (XDG base directory specification).
pub fn file(policy: &AuditPolicy, reader: Reader) -> Option<PathBuf> {
    if let Some(file) = &policy.file {
        return Some(file.clone());
    }
    if reader.euid == 0 && reader.user_ns == OwnUserNs::Initial {
        return Some(SYSTEM.into());
    }
    let dir = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = dir("XDG_STATE_HOME").or_else(|| Some(dir("HOME")?.join(".local/state")))?;
    Some(state.join("gabion/audit.jsonl"))
}

/// Why the log cannot be read or written. errno by its symbol: engines rewrite some errors by their words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    pub path: PathBuf,
    pub doing: &'static str,
    pub why: String,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the audit log: cannot {} {}: {}",
            self.doing,
            self.path.display(),
            self.why
        )
    }
}

/// For `map_err`.
pub fn trouble<E: Into<Why>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Trouble {
    let path = path.to_owned();
    move |why| Trouble {
        path,
        doing,
        why: why.into().0,
    }
}

/// A reason in words.
pub struct Why(String);

impl From<Errno> for Why {
    fn from(errno: Errno) -> Self {
        Self(format!("{errno:?}"))
    }
}

impl From<std::io::Error> for Why {
    fn from(error: std::io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Errno::from_raw(errno).into(),
            None => Self(error.to_string()),
        }
    }
}

impl From<String> for Why {
    fn from(why: String) -> Self {
        Self(why)
    }
}

/// Gives the directory that a log lies in.
pub fn parent(file: &Path) -> &Path {
    let parent = file.parent().filter(|p| !p.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Whoever can write to the log or its directory can rewrite records.
const fn rules(kind: Kind) -> Rules {
    Rules {
        kind,
        owner: Owner::CallerOrRoot,
        forbidden: 0o022,
        largest: u64::MAX,
        links: Links::Refuse,
    }
}

/// Opens the directory of the log; None where there is none.
///
/// # Errors
/// It cannot be opened, or others can write to it.
pub fn open_dir(file: &Path) -> Result<Option<File>, Trouble> {
    let path = parent(file);
    match vetted::open(path, &rules(Kind::Directory)) {
        Ok(dir) => Ok(Some(dir)),
        Err(Fault::Missing) => Ok(None),
        Err(fault) => Err(distrust(path, fault)),
    }
}

/// Opens the log itself, in that directory. Never a symlink, never a FIFO that would hang us.
///
/// # Errors
/// It cannot be opened, or others can write to it.
pub fn open(dir: &File, file: &Path, flags: OFlag) -> Result<File, Trouble> {
    vetted::open_with(Some(dir.as_fd()), Path::new(name(file)?), flags, &rules(Kind::File))
        .map_err(|fault| distrust(file, fault))
}

fn distrust(path: &Path, fault: Fault) -> Trouble {
    match fault {
        Fault::Missing => trouble("open", path)(Errno::ENOENT),
        Fault::Open(errno) => trouble("open", path)(errno),
        Fault::Symlink => trouble("open", path)(Errno::ELOOP),
        other => trouble("trust", path)(other.to_string()),
    }
}

/// Gives the log's name in its directory.
///
/// # Errors
/// It has none, or none that is UTF-8.
pub fn name(file: &Path) -> Result<&str, Trouble> {
    let name = file.file_name().and_then(|n| n.to_str());
    name.ok_or_else(|| trouble("use", file)("a log needs a file name".to_owned()))
}
