//! Where the log is, and opening it: a file that nobody else could have put there or can write to.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use crate::host::OwnUserNs;
use crate::policy::AuditPolicy;
use crate::policy::load::Reader;

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
pub(super) fn trouble<E: Into<Why>>(doing: &'static str, path: &Path) -> impl FnOnce(E) -> Trouble {
    let path = path.to_owned();
    move |why| Trouble {
        path,
        doing,
        why: why.into().0,
    }
}

/// A reason in words.
pub(super) struct Why(String);

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

/// The directory of the log, open. One that is missing is made, for its owner alone.
pub(super) fn open_dir(file: &Path) -> Result<File, Trouble> {
    let path = file
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let open = || {
        OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW)
            .open(path)
    };
    let dir = match open() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
            made.and_then(|()| open()).map_err(trouble("make", path))?
        }
        other => other.map_err(trouble("open", path))?,
    };
    vet(&dir, path)?;
    Ok(dir)
}

/// The log itself, in that directory. Never a symlink, never a FIFO that would hang us.
pub(super) fn open(dir: &File, file: &Path, flags: OFlag) -> Result<File, Trouble> {
    let name = name(file)?;
    let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let fd = nix::fcntl::openat(Some(dir.as_raw_fd()), name, flags, Mode::from_bits_truncate(0o600))
        .and_then(crate::sys::adopt)
        .map_err(trouble("open", file))?;
    let opened = File::from(fd);
    vet(&opened, file)?;
    Ok(opened)
}

pub(super) fn name(file: &Path) -> Result<&str, Trouble> {
    let name = file.file_name().and_then(|n| n.to_str());
    name.ok_or_else(|| trouble("use", file)("a log needs a file name".to_owned()))
}

/// Whoever can write here can rewrite records.
fn vet(opened: &File, path: &Path) -> Result<(), Trouble> {
    let meta = opened.metadata().map_err(trouble("look at", path))?;
    let euid = nix::unistd::geteuid().as_raw();
    let bad = |why: String| Err(trouble("trust", path)(why));
    if !meta.is_dir() && !meta.is_file() {
        return bad("not a regular file".to_owned());
    }
    if meta.uid() != euid && meta.uid() != 0 {
        return bad(format!("it belongs to uid {}", meta.uid()));
    }
    if meta.mode() & 0o022 != 0 {
        return bad(format!("others can write to it (mode {:04o})", meta.mode() & 0o7777));
    }
    Ok(())
}
