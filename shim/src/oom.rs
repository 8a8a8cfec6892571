//! Notices when the kernel's OOM killer was in a container: an eventfd on cgroup v1, inotify on v2.

use std::fs::{self, File};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use cgroups_rs::hierarchies::is_cgroup2_unified_mode;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::watched::Watched;

/// Watches one container's memory cgroup.
pub struct Watch {
    events: Watched,
    /// The file that counts kills. It goes with the cgroup, and its going is an event as well.
    counter: PathBuf,
    /// The count so far. Only on v2, where other things change the file too; on v1 the event comes before the count.
    seen: Option<u64>,
    _control: Option<File>,
}

impl Watch {
    /// Watches the cgroup that `pid` is in.
    pub fn new(pid: Pid) -> Result<Self> {
        if is_cgroup2_unified_mode() {
            Self::v2(pid)
        } else {
            Self::v1(pid)
        }
    }

    fn v1(pid: Pid) -> Result<Self> {
        let directory = cgroup_of(pid, Path::new("/sys/fs/cgroup/memory"), |keys| {
            keys.split(',').any(|key| key == "memory")
        })?;
        let counter = directory.join("memory.oom_control");
        let control = File::open(&counter).map_err(|error| Error::at("opening", &counter, error))?;
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)
            .map_err(|errno| Error::system("making an eventfd", errno))?;
        let register = directory.join("cgroup.event_control");
        fs::write(
            &register,
            format!("{} {}", event.as_fd().as_raw_fd(), control.as_raw_fd()),
        )
        .map_err(|error| Error::at("writing", &register, error))?;
        Self::counting(event.into(), counter, Some(control))
    }

    fn v2(pid: Pid) -> Result<Self> {
        let counter = cgroup_of(pid, Path::new("/sys/fs/cgroup"), str::is_empty)?.join("memory.events");
        let failed = |errno: nix::Error| Error::at("watching", &counter, errno);
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(failed)?;
        inotify.add_watch(&counter, AddWatchFlags::IN_MODIFY).map_err(failed)?;
        let fd = inotify
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::at("watching", &counter, error))?;
        Self::counting(fd, counter, None)
    }

    fn counting(fd: OwnedFd, counter: PathBuf, control: Option<File>) -> Result<Self> {
        let events = Watched::new(fd).map_err(|error| Error::system("watching a descriptor", error))?;
        let seen = if control.is_some() {
            None
        } else {
            Some(kills(&counter).unwrap_or_default())
        };
        Ok(Self {
            events,
            counter,
            seen,
            _control: control,
        })
    }

    /// Waits for the next kill. `None` when the cgroup is gone.
    pub async fn next(&mut self) -> Option<()> {
        loop {
            let mut buffer = [0; 512];
            let read = self
                .events
                .ready(|fd| Ok(nix::unistd::read(fd.as_raw_fd(), &mut buffer)?))
                .await;
            read.ok()?;
            let kills = kills(&self.counter)?;
            match self.seen {
                None => return Some(()),
                Some(seen) if kills > seen => {
                    self.seen = Some(kills);
                    return Some(());
                }
                Some(_) => {}
            }
        }
    }
}

/// The directory below `root` of the hierarchy whose controllers `wanted` accepts.
fn cgroup_of(pid: Pid, root: &Path, wanted: impl Fn(&str) -> bool) -> Result<PathBuf> {
    let path = PathBuf::from(format!("/proc/{pid}/cgroup"));
    let text = fs::read_to_string(&path).map_err(|error| Error::at("reading", &path, error))?;
    let mut lines = text.lines().map(|line| line.splitn(3, ':'));
    let found = lines.find_map(|mut fields| match (fields.next(), fields.next(), fields.next()) {
        (Some(_), Some(keys), Some(cgroup)) if wanted(keys) => Some(root.join(cgroup.trim_start_matches('/'))),
        _ => None,
    });
    found.ok_or(Error::Content {
        path,
        expected: "a memory cgroup",
    })
}

fn kills(counter: &Path) -> Option<u64> {
    let text = fs::read_to_string(counter).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse().ok())
}
