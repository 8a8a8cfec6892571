//! The workload's environment and the program it names.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::unistd::AccessFlags;

use crate::build::ids::c_string;
use crate::contract::setup::Setup;
use gabion_see::error::{Error, Result, Step};

/// Where programs are looked for when the environment has no PATH (runc's and execvp(3)'s).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of the image's /etc/passwd is read, bytes.
const MAX_PASSWD: u64 = 1 << 20;

/// The spec's environment, with HOME and LISTEN_* as runc adds them.
pub(crate) fn build(setup: &Setup<'_>) -> Result<Vec<CString>> {
    let asked = setup.process.env().as_deref().unwrap_or_default();
    // The last of a name wins, at the first one's place (runc).
    let mut env: Vec<(&str, &str)> = Vec::with_capacity(asked.len() + 1);
    let mut places: BTreeMap<&str, usize> = BTreeMap::new();
    for pair in asked {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Error::failed(
                Step::Execve,
                format!("environment entry {pair:?} is not NAME=VALUE"),
            ));
        };
        let at = *places.entry(name).or_insert(env.len());
        match env.get_mut(at) {
            Some(entry) => entry.1 = value,
            None => env.push((name, value)),
        }
    }
    let home;
    if !env.iter().any(|(name, value)| *name == "HOME" && !value.is_empty()) {
        home = home_of(setup.process.user().uid());
        env.retain(|(name, _)| *name != "HOME");
        env.push(("HOME", &home));
    }
    let mut out = Vec::with_capacity(env.len() + 2);
    for (name, value) in env {
        out.push(c_string("the environment", &format!("{name}={value}"))?);
    }
    // Socket activation: descriptors from 3 on are the workload's (sd_listen_fds(3)).
    if let Some(count) = setup.preserved.listen {
        out.push(c_string("LISTEN_FDS", &format!("LISTEN_FDS={count}"))?);
        out.push(c_string("LISTEN_PID", "LISTEN_PID=1")?);
    }
    Ok(out)
}

/// The user's home by the image's /etc/passwd, else `/`. The file is the image's: it is read in bounds.
fn home_of(uid: u32) -> String {
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC | nix::fcntl::OFlag::O_NONBLOCK;
    let Ok(fd) = gabion_sys::open("/etc/passwd", flags, nix::sys::stat::Mode::empty()) else {
        return "/".to_owned();
    };
    let lines = BufReader::new(std::fs::File::from(fd).take(MAX_PASSWD)).lines();
    lines
        .map_while(std::result::Result::ok)
        .find_map(|line| {
            let mut fields = line.split(':');
            let matches = fields.nth(2)?.parse() == Ok(uid);
            let home = fields.nth(2)?;
            (matches && !home.is_empty()).then(|| home.to_owned())
        })
        .unwrap_or_else(|| "/".to_owned())
}

/// The program that args[0] names, found as the user. Engines know runc's words for what is missing.
pub(crate) fn find_program(setup: &Setup<'_>, env: &[CString]) -> Result<CString> {
    let name = setup
        .process
        .args()
        .as_ref()
        .and_then(|a| a.first())
        .ok_or_else(|| Error::failed(Step::Execve, "process.args is empty"))?;
    if name.is_empty() {
        return Err(Error::failed(Step::Execve, "the first argument is empty"));
    }
    let own = setup
        .proc
        .own_program()
        .map_err(|e| Error::step(Step::Execve, "look at our own binary", e))?;
    if name.contains('/') {
        return match usable(Path::new(name), own) {
            Ok(()) => c_string("the program's path", name),
            Err(unusable) => Err(not_runnable(name, unusable)),
        };
    }
    let path = env
        .iter()
        .find_map(|e| e.to_bytes().strip_prefix(b"PATH="))
        .unwrap_or(DEFAULT_PATH.as_bytes());
    let mut found_unusable = None;
    for directory in path.split(|b| *b == b':') {
        let directory = if directory.is_empty() {
            b".".as_slice()
        } else {
            directory
        };
        let candidate = PathBuf::from(std::ffi::OsStr::from_bytes(directory)).join(name);
        match usable(&candidate, own) {
            Ok(()) => {
                return CString::new(candidate.as_os_str().as_bytes())
                    .map_err(|_| Error::failed(Step::Execve, "PATH holds a NUL byte"));
            }
            Err(unusable @ (Unusable::Ours | Unusable::Kernel(Errno::EACCES))) => found_unusable = Some(unusable),
            Err(_) => {}
        }
    }
    Err(found_unusable.map_or_else(
        || Error::NoProgram {
            name: name.clone(),
            why: "executable file not found in $PATH",
        },
        |unusable| not_runnable(name, unusable),
    ))
}

/// Why a file cannot be the workload's program.
enum Unusable {
    Kernel(Errno),
    /// It is our own binary: an image's `/proc/self/exe` would start the runtime inside (CVE-2019-5736 began so), and a
    /// static one runs anywhere.
    Ours,
}

fn not_runnable(name: &str, unusable: Unusable) -> Error {
    let why = match unusable {
        Unusable::Ours => "it is the runtime itself",
        Unusable::Kernel(Errno::ENOENT) => "no such file or directory",
        Unusable::Kernel(Errno::ENOTDIR) => "not a directory",
        Unusable::Kernel(Errno::EISDIR) => "is a directory",
        Unusable::Kernel(_) => "permission denied",
    };
    Error::NoProgram {
        name: name.to_owned(),
        why,
    }
}

/// `own` is the device and inode of our own binary.
fn usable(path: &Path, own: (u64, u64)) -> std::result::Result<(), Unusable> {
    // Not eaccess(3): where real and effective ids are one, glibc asks without capabilities.
    nix::unistd::faccessat(None, path, AccessFlags::X_OK, AtFlags::AT_EACCESS).map_err(Unusable::Kernel)?;
    let failed = |e: std::io::Error| Unusable::Kernel(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)));
    let meta = std::fs::metadata(path).map_err(failed)?;
    if meta.is_dir() {
        return Err(Unusable::Kernel(Errno::EISDIR));
    }
    if (meta.dev(), meta.ino()) == own {
        return Err(Unusable::Ours);
    }
    Ok(())
}
