//! `binary://` log drivers: a process that gets the container's stdout as descriptor 3 and its stderr as 4, and closes 5 when ready.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::exits::{Exit, Exits};
use crate::log;
use crate::pipe::pipe;
use crate::reactor::within;
use crate::sync::Once;
use crate::sys;
use crate::watched::Watched;

/// How long a driver may take until it is ready.
const READY: Duration = Duration::from_secs(10);

/// How long a killed driver may take to die.
const KILLED: Duration = Duration::from_secs(2);

/// What lies between a process's last open file and its end, with room to spare.
const DEATH: Duration = Duration::from_millis(5);

/// A driver and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub struct Driver {
    binary: PathBuf,
    arguments: Vec<String>,
}

/// Whose output it is.
pub struct Owner<'a> {
    /// The container's id.
    pub id: &'a str,
    /// containerd's namespace.
    pub namespace: &'a str,
}

impl Driver {
    /// Takes apart what follows `binary://`: a path, and keys and values that become arguments.
    pub fn parse(uri: &str) -> Result<Self> {
        let (path, query) = uri.split_once('?').unwrap_or((uri, ""));
        let binary = PathBuf::from(decode(path)?);
        if !binary.is_absolute() {
            return Err(Error::BadPath {
                path: binary,
                why: "a log driver is an absolute path",
            });
        }
        let mut arguments = Vec::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            arguments.push(decode(key)?);
            if !value.is_empty() {
                arguments.push(decode(value)?);
            }
        }
        Ok(Self { binary, arguments })
    }

    /// Starts the driver and waits until it is ready. It ends by itself, when the container's output does.
    pub async fn start(&self, owner: &Owner<'_>, stdout: OwnedFd, stderr: OwnedFd, exits: &Exits) -> Result<()> {
        let (ready, signal) = pipe()?;
        let mut command = Command::new(&self.binary);
        command.args(&self.arguments).env_clear();
        command
            .env("CONTAINER_ID", owner.id)
            .env("CONTAINER_NAMESPACE", owner.namespace);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0);
        sys::pass_logger_fds(&mut command, [stdout, stderr, signal]);
        let child = command
            .spawn()
            .map_err(|error| Error::at("running log driver", &self.binary, error))?;
        // Our copies of its descriptors go with the command.
        drop(command);
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        let exit = exits.child(pid);
        match self.wait_until_ready(pid, ready, &exit).await {
            Ok(()) => Ok(()),
            Err(error) => {
                end(pid, &exit).await;
                Err(error)
            }
        }
    }

    async fn wait_until_ready(&self, pid: Pid, ready: OwnedFd, exit: &Once<Exit>) -> Result<()> {
        let ready = Watched::new(ready).map_err(|error| Error::system("watching a descriptor", error))?;
        let mut byte = [0; 1];
        let closed = ready.ready(|fd| Ok(nix::unistd::read(fd.as_raw_fd(), &mut byte)?));
        let binary = || self.binary.clone();
        if within(READY, closed).await.is_none() {
            return Err(Error::LoggerTimeout { binary: binary() });
        }
        // An end of file comes both from a driver that is ready and from one that dies: its end follows at once, or on a busy machine
        // after a while.
        let limit = if holds_nothing(pid) { READY } else { DEATH };
        if within(limit, exit.wait()).await.is_some_and(|exit| exit.status != 0) {
            return Err(Error::Logger { binary: binary() });
        }
        Ok(())
    }
}

/// Kills a driver that nobody will log to, with what it started, and waits until it is reaped.
async fn end(pid: Pid, exit: &Once<Exit>) {
    if exit.get().is_some() {
        return;
    }
    // Not yet reaped, so the number is still its own, and its group's.
    if let Err(errno) = killpg(pid, Signal::SIGKILL) {
        log::warning!("killing a log driver: {errno}");
    }
    if within(KILLED, exit.wait()).await.is_none() {
        log::warning!("a log driver did not die of SIGKILL: {pid}");
    }
}

/// Whether a process has no descriptors any more: so it is as soon as it ends, before any of them is closed.
fn holds_nothing(pid: Pid) -> bool {
    match std::fs::read_dir(format!("/proc/{pid}/fd")) {
        Ok(mut descriptors) => descriptors.next().is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

/// Undoes a URL's `%` and `+`.
fn decode(text: &str) -> Result<String> {
    let bad = Error::BadRequest("a log driver's URL is not encoded as URLs are");
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let digits = [rest.next().unwrap_or(b'?'), rest.next().unwrap_or(b'?')];
                let value = std::str::from_utf8(&digits)
                    .ok()
                    .and_then(|hex| u8::from_str_radix(hex, 16).ok());
                match value {
                    Some(value) if value != 0 => bytes.push(value),
                    _ => return Err(bad),
                }
            }
            b'+' => bytes.push(b' '),
            0 => return Err(bad),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).map_err(|_| bad)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_become_a_command() {
        let driver = Driver::parse("/bin/log%20it?id=a+b&flag&n=%3d").unwrap();
        assert_eq!(driver.binary, PathBuf::from("/bin/log it"));
        assert_eq!(driver.arguments, ["id", "a b", "flag", "n", "="]);
        for bad in ["bin/x", "/x%0", "/x%00", "/x?a=%zz"] {
            assert!(Driver::parse(bad).is_err(), "{bad}");
        }
    }
}
