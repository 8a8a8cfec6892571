//! `events`: what a container uses, again and again, and the kernel's word that it ran out of memory.

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::Pid;
use serde::Serialize;
use serde_json::Value;

use crate::cgroup::stats::{self, Files};
use crate::container::options::Settings;
use crate::state::StateDir;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::Status;

/// One event of type `stats`.
///
/// # Errors
/// «container not running».
pub(crate) fn once(settings: &Settings, id: &ContainerId) -> Result<Event> {
    let (dir, _) = running(settings, id)?;
    let files = Files::of(&dir.record()?.cgroup)?;
    Ok(event("stats", id, Some(stats::read(&files))))
}

/// Gives every event to `tell` until the container ends, or `tell` fails (nobody listens any more).
///
/// # Errors
/// «container not running»; what `tell` says.
pub(crate) fn follow(
    settings: &Settings,
    id: &ContainerId,
    interval: Duration,
    mut tell: impl FnMut(&Event) -> Result<()>,
) -> Result<()> {
    let (dir, pidfd) = running(settings, id)?;
    let files = Files::of(&dir.record()?.cgroup)?;
    let mut oom = Oom::watch(&files)?;
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let ended = wait(pidfd.as_fd(), oom.descriptor(), left)?;
        for _ in 0..oom.news(&files)? {
            tell(&event("oom", id, None))?;
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            tell(&event("stats", id, Some(stats::read(&files))))?;
            next = Instant::now() + interval;
        }
    }
}

/// One line of output. Callers of runc look for how it begins: `{"type":"oom","id":"web"`.
#[derive(Debug, Serialize)]
pub(crate) struct Event {
    #[serde(rename = "type")]
    kind: &'static str,
    id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
}

impl std::fmt::Display for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = serde_json::to_string(self).map_err(|_| std::fmt::Error)?;
        f.write_str(&text)
    }
}

fn event(kind: &'static str, id: &ContainerId, data: Option<Value>) -> Event {
    Event {
        kind,
        id: id.to_string(),
        data,
    }
}

fn running(settings: &Settings, id: &ContainerId) -> Result<(StateDir, OwnedFd)> {
    let dir = StateDir::open(&settings.root, id)?;
    let status = gabion_see::status::status(&dir)?;
    let not_running = || Error::NotRunning { id: id.to_string() };
    match (status, dir.init()?) {
        (Status::Creating | Status::Stopped, _) | (_, None) => Err(not_running()),
        (_, Some(init)) => match gabion_sys::pidfd_open(Pid::from_raw(init.pid)) {
            Ok(fd) if init.lives() => Ok((dir, fd)),
            Ok(_) | Err(Errno::ESRCH) => Err(not_running()),
            Err(e) => Err(Step::Cgroup.failing("open the process")(e)),
        },
    }
}

/// Waits for the process's end, the kernel's notice or the time. Whether it has ended.
fn wait(pidfd: BorrowedFd<'_>, notice: Option<BorrowedFd<'_>>, time: Duration) -> Result<bool> {
    let mut fds = vec![PollFd::new(pidfd, PollFlags::POLLIN)];
    fds.extend(notice.map(|fd| PollFd::new(fd, PollFlags::POLLIN | PollFlags::POLLPRI)));
    let time = PollTimeout::try_from(time).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, time) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(Step::Cgroup.failing("wait for events")(e)),
    }
    Ok(fds.first().is_some_and(|fd| fd.any().unwrap_or(false)))
}

/// How we hear of a container that ran out of memory.
#[derive(Debug)]
enum Oom {
    /// An eventfd on memory.oom_control (cgroup-v1/memory.rst, 10). The control file must stay open.
    V1 { notice: EventFd, _control: File },
    /// The counter `oom_kill` of memory.events, whose every change is told to who polls it (cgroup-v2.rst, memory.events).
    V2 { events: File, seen: u64 },
    /// No memory controller.
    None,
}

impl Oom {
    fn watch(files: &Files) -> Result<Self> {
        if let Some(control) = files.path("memory.oom_control") {
            return Self::register(&control);
        }
        let Some(path) = files.path("memory.events") else {
            return Ok(Self::None);
        };
        let mut events = File::open(&path).map_err(Error::file("open", &path))?;
        let seen = kills(&mut events)?;
        Ok(Self::V2 { events, seen })
    }

    fn register(control: &Path) -> Result<Self> {
        let notice = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(Step::Cgroup.failing("make an eventfd"))?;
        let file = File::open(control).map_err(Error::file("open", control))?;
        let register = control.with_file_name("cgroup.event_control");
        let text = format!("{} {}", notice.as_fd().as_raw_fd(), file.as_raw_fd());
        fs::write(&register, text).map_err(Error::file("write", register))?;
        Ok(Self::V1 { notice, _control: file })
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::V1 { notice, .. } => Some(notice.as_fd()),
            Self::V2 { events, .. } => Some(events.as_fd()),
            Self::None => None,
        }
    }

    /// How many times since we last asked.
    fn news(&mut self, files: &Files) -> Result<u64> {
        match self {
            Self::V1 { notice, .. } => match notice.read() {
                // The cgroup's end is told by the same eventfd.
                Ok(_) if files.path("memory.oom_control").is_none() => Ok(0),
                Ok(_) => Ok(1),
                Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
                Err(e) => Err(Step::Cgroup.failing("read the eventfd")(e)),
            },
            Self::V2 { events, seen } => {
                let now = kills(events)?.max(*seen);
                let new = now - *seen;
                *seen = now;
                Ok(new)
            }
            Self::None => Ok(0),
        }
    }
}

/// Read by the descriptor that is polled: what is not read from it is told of again at once. A group that is gone killed nobody.
fn kills(events: &mut File) -> Result<u64> {
    let mut text = String::new();
    let read = events.rewind().and_then(|()| events.read_to_string(&mut text));
    match read {
        Err(e) if e.raw_os_error() != Some(libc::ENODEV) => Err(Error::file("read", "memory.events")(e)),
        _ => {
            let count = text
                .lines()
                .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok());
            Ok(count.unwrap_or(0))
        }
    }
}
