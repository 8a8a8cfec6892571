//! The workload's environment and the program it names.

use std::ffi::CString;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::AccessFlags;

use crate::error::{Error, Result, Step};
use crate::init::Setup;
use crate::init::ids::c_string;

/// Where programs are looked for when the environment has no PATH (runc's and execvp(3)'s).
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How much of the image's /etc/passwd is read, bytes.
const MAX_PASSWD: u64 = 1 << 20;

/// The spec's environment, with HOME and LISTEN_* as runc adds them.
pub fn build(setup: &Setup<'_>) -> Result<Vec<CString>> {
    let asked = setup.process.env().as_deref().unwrap_or_default();
    // The last of a name wins, at the first one's place (runc).
    let mut env: Vec<(&str, &str)> = Vec::with_capacity(asked.len() + 1);
    for pair in asked {
        let Some((name, value)) = pair.split_once('=') else {
            return Err(Error::failed(
                Step::Execve,
                format!("environment entry {pair:?} is not NAME=VALUE"),
            ));
        };
        match env.iter_mut().find(|(n, _)| *n == name) {
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
    let Ok(fd) = nix::fcntl::open("/etc/passwd", flags, nix::sys::stat::Mode::empty()).and_then(crate::sys::adopt)
    else {
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
pub fn find_program(setup: &Setup<'_>, env: &[CString]) -> Result<CString> {
    let name = setup
        .process
        .args()
        .as_ref()
        .and_then(|a| a.first())
        .ok_or_else(|| Error::failed(Step::Execve, "process.args is empty"))?;
    if name.is_empty() {
        return Err(Error::failed(Step::Execve, "the first argument is empty"));
    }
    if name.contains('/') {
        return match usable(Path::new(name)) {
            Ok(()) => c_string("the program's path", name),
            Err(errno) => Err(not_runnable(name, errno)),
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
        match usable(&candidate) {
            Ok(()) => {
                return CString::new(candidate.as_os_str().as_bytes())
                    .map_err(|_| Error::failed(Step::Execve, "PATH holds a NUL byte"));
            }
            Err(Errno::EACCES) => found_unusable = Some(Errno::EACCES),
            Err(_) => {}
        }
    }
    Err(found_unusable.map_or_else(
        || Error::NoProgram {
            name: name.clone(),
            why: "executable file not found in $PATH",
        },
        |errno| not_runnable(name, errno),
    ))
}

fn not_runnable(name: &str, errno: Errno) -> Error {
    let why = match errno {
        Errno::ENOENT | Errno::ENOTDIR => "no such file or directory",
        Errno::EISDIR => "is a directory",
        _ => "permission denied",
    };
    Error::NoProgram {
        name: name.to_owned(),
        why,
    }
}

fn usable(path: &Path) -> std::result::Result<(), Errno> {
    nix::unistd::eaccess(path, AccessFlags::X_OK)?;
    let meta = std::fs::metadata(path).map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))?;
    if meta.is_dir() { Err(Errno::EISDIR) } else { Ok(()) }
}
