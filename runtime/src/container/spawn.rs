//! Cloning the first process into its namespaces.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use nix::sched::{setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::birth;
use crate::build::namespaces;
use crate::contract::channel::Channel;
use crate::contract::setup::{Arrival, Setup};
use crate::faults;
use gabion_core::namespace::NsType;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{ChildOf, Cloned, NewNamespaces};

mod middle;

/// Which namespaces the clone makes, and which have to be joined before it.
#[derive(Debug, Default)]
pub(crate) struct Entry {
    pub(crate) new: Vec<NsType>,
    /// A user namespace to join: only a child may, we would lose our hold on the host.
    pub(crate) user: Option<OwnedFd>,
    /// A pid namespace to join: it is for children only (pid_namespaces(7)).
    pub(crate) pid: Option<OwnedFd>,
    /// Lines for timens_offsets of a new time namespace: clock, seconds, nanoseconds.
    pub(crate) offsets: Vec<String>,
}

impl Entry {
    /// Whether a time namespace is made before the clone. With a user namespace it is the first process that makes it, in there
    /// (`namespaces::clocks`): made here it would belong to our user namespace, and nobody in the container's could join it.
    fn makes_clocks(&self) -> bool {
        self.new.contains(&NsType::Time) && !self.new.contains(&NsType::User)
    }

    /// Those that clone makes. The cgroup namespace is left out: it is rooted where the process is when it is made.
    /// The time namespace is, too: its offsets are written before anyone is in it.
    fn made_by_clone(&self) -> NewNamespaces {
        self.new.iter().fold(NewNamespaces::NONE, |set, typ| {
            set | match typ {
                NsType::Cgroup | NsType::Time => NewNamespaces::NONE,
                NsType::Ipc => NewNamespaces::IPC,
                NsType::Mount => NewNamespaces::MOUNT,
                NsType::Network => NewNamespaces::NETWORK,
                NsType::Pid => NewNamespaces::PID,
                NsType::User => NewNamespaces::USER,
                NsType::Uts => NewNamespaces::UTS,
            }
        })
    }
}

/// Whether we may enter our own namespaces again: they are the host's, and so is the right to (setns(2)).
fn returns() -> bool {
    gabion_see::caller::is_host_root()
}

/// Where a process finds itself when it comes to be.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Born {
    /// In the container's cgroup: at no moment was it outside of its limits.
    Inside,
    /// In the runtime's own, and has to be moved.
    Outside,
}

/// Clones into the cgroup, where there is one to be born in.
fn clone_into(new: NewNamespaces, cradle: Option<&OwnedFd>) -> nix::Result<(Cloned, Born)> {
    if let Some(cgroup) = cradle {
        match gabion_sys::clone3(new, ChildOf::Us, Some(cgroup.as_fd())) {
            // The container has made groups of its own, and nobody may be in the one above them; or it is at its limit of
            // processes, and who comes to look at it is let in beyond that, which a move is. Or a user's process would leave
            // what is not theirs, a login's cgroup, and their systemd is asked for that.
            Err(Errno::EBUSY | Errno::EOPNOTSUPP | Errno::EAGAIN | Errno::EACCES) => {}
            cloned => return Ok((cloned?, Born::Inside)),
        }
    }
    Ok((gabion_sys::clone3(new, ChildOf::Us, None)?, Born::Outside))
}

/// What `spawn` made.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) born: Born,
    /// The runtime's end of the channel.
    pub(crate) channel: Channel,
}

/// The runtime's end of the channel, as long as this process is the runtime. A child takes it out and drops it: while the child held it
/// itself, it would never hear that the runtime has died, and wait for it for ever, privileged.
type OurEnd = Option<Channel>;

/// Clones; the child never returns from here. `cradle` is the cgroup to be born in; `settle` puts a process into the cgroup that could not
/// be born there. `ours`, the runtime's end of the channel, is taken and given back.
pub(crate) fn spawn(
    entry: &Entry,
    setup: Setup<'_>,
    ours: Channel,
    cradle: Option<OwnedFd>,
    settle: &dyn Fn(Pid) -> Result<()>,
) -> Result<Spawned> {
    faults::at(Step::Clone)?;
    let mut ours = Some(ours);
    let (pid, born) = if entry.user.is_some() || entry.pid.is_some() || (entry.makes_clocks() && !returns()) {
        middle::spawn(entry, setup, &mut ours, cradle, settle)?
    } else {
        directly(entry, setup, &mut ours, cradle)?
    };
    let channel = ours.ok_or_else(|| Error::failed(Step::Clone, "the channel to the first process is gone"))?;
    Ok(Spawned { pid, born, channel })
}

fn directly(entry: &Entry, setup: Setup<'_>, ours: &mut OurEnd, cradle: Option<OwnedFd>) -> Result<(Pid, Born)> {
    let clocks = new_clocks(entry)?;
    let cloned = clone_into(entry.made_by_clone(), cradle.as_ref());
    if let Ok((Cloned::Child, _)) = cloned {
        drop((ours.take(), cradle));
        birth::run(&setup, Arrival::Outside);
    }
    if let Some(clocks) = clocks {
        setns(clocks.as_fd(), namespaces::flag(NsType::Time))
            .map_err(Step::Clone.failing("return to our time namespace"))?;
    }
    match cloned {
        Ok((Cloned::Parent(pid), born)) => Ok((pid, born)),
        Ok((Cloned::Child, _)) => Err(Error::failed(Step::Clone, "the child came back")),
        Err(errno) => Err(Step::Clone.failing("clone the first process")(errno)),
    }
}

/// A new time namespace is for children only, and its clocks are set while it is empty (time_namespaces(7)). Gives back our own,
/// for those that are forked later.
fn new_clocks(entry: &Entry) -> Result<Option<OwnedFd>> {
    if !entry.makes_clocks() {
        return Ok(None);
    }
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let own = gabion_sys::open("/proc/self/ns/time", flags, Mode::empty())
        .map_err(Step::Clone.failing("open our time namespace"))?;
    unshare(namespaces::flag(NsType::Time)).map_err(Step::Clone.failing("make a time namespace"))?;
    if !entry.offsets.is_empty() {
        let path = "/proc/self/timens_offsets";
        std::fs::write(path, entry.offsets.concat()).map_err(Error::file("set the clocks in", path))?;
    }
    Ok(Some(own))
}
