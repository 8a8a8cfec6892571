//! Cloning the first process into its namespaces.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use nix::unistd::Pid;

use crate::birth;
use crate::build::namespaces;
use crate::contract::channel::{Channel, Message, Report};
use crate::contract::setup::Setup;
use crate::faults;
use gabion_core::namespace::NsType;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{ChildOf, Cloned, NewNamespaces};

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

    /// Whether the way there changes what is forked later: a pid or time namespace for children.
    fn is_one_way(&self) -> bool {
        self.pid.is_some() || self.new.contains(&NsType::Time)
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

fn failed(doing: &'static str) -> impl Fn(nix::errno::Errno) -> Error {
    move |e| Error::step(Step::Clone, doing, e)
}

/// What `spawn` made.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) pid: Pid,
    pub(crate) born: Born,
    /// The runtime's end of the channel.
    pub(crate) channel: Channel,
}

/// Clones; the child never returns from here. `cradle` is the cgroup to be born in.
///
/// `ours`, the runtime's end of the channel, is taken and given back, so that the child can close its copy: while the child held it
/// itself, it would never hear that the runtime has died, and wait for it for ever, privileged.
pub(crate) fn spawn(entry: Entry, setup: Setup<'_>, ours: Channel, cradle: Option<OwnedFd>) -> Result<Spawned> {
    faults::at(Step::Clone)?;
    // What enters namespaces where others already live must not be readable for them, not even for an instant
    // (CVE-2016-9962). An ordinary user's child does it itself: it still has files of /proc/self to write.
    if (entry.user.is_some() || entry.pid.is_some()) && nix::unistd::geteuid().is_root() {
        gabion_sys::set_readable(gabion_sys::Readable::No).map_err(failed("become unreadable for other processes"))?;
    }
    if entry.user.is_some() || (entry.is_one_way() && !returns()) {
        return spawn_through_intermediate(entry, setup, ours);
    }
    let home = match &entry.pid {
        Some(pid_ns) => Some(enter_pid_ns(pid_ns)?),
        None => None,
    };
    let clocks = new_clocks(&entry)?;
    let cloned = clone_into(entry.made_by_clone(), cradle.as_ref());
    if let Ok((Cloned::Child, _)) = cloned {
        drop((ours, cradle));
        birth::run(&setup);
    }
    if let Some(clocks) = clocks {
        setns(clocks.as_fd(), namespaces::flag(NsType::Time)).map_err(failed("return to our time namespace"))?;
    }
    // Hooks and helpers that we fork later belong to the host's pid namespace again.
    if let Some(home) = home {
        setns(home.as_fd(), CloneFlags::CLONE_NEWPID).map_err(failed("return to our pid namespace"))?;
    }
    match cloned {
        Ok((Cloned::Parent(pid), born)) => Ok(Spawned {
            pid,
            born,
            channel: ours,
        }),
        Ok((Cloned::Child, _)) => Err(Error::failed(Step::Clone, "the child came back")),
        // pid_namespaces(7).
        Err(Errno::ENOMEM) if entry.pid.is_some() => Err(Error::step(
            Step::Clone,
            "clone into the pid namespace, whose own first process may have ended,",
            Errno::ENOMEM,
        )),
        Err(errno) => Err(failed("clone the first process")(errno)),
    }
}

/// A new time namespace is for children only, and its clocks are set while it is empty (time_namespaces(7)). Gives back our own,
/// for those that are forked later.
fn new_clocks(entry: &Entry) -> Result<Option<OwnedFd>> {
    if !entry.new.contains(&NsType::Time) {
        return Ok(None);
    }
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let own =
        gabion_sys::open("/proc/self/ns/time", flags, Mode::empty()).map_err(failed("open our time namespace"))?;
    unshare(namespaces::flag(NsType::Time)).map_err(failed("make a time namespace"))?;
    if !entry.offsets.is_empty() {
        let path = "/proc/self/timens_offsets";
        std::fs::write(path, entry.offsets.concat()).map_err(Error::file("set the clocks in", path))?;
    }
    Ok(Some(own))
}

fn enter_pid_ns(pid_ns: &OwnedFd) -> Result<OwnedFd> {
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let home = gabion_sys::open("/proc/self/ns/pid", flags, Mode::empty()).map_err(failed("open our pid namespace"))?;
    setns(pid_ns.as_fd(), CloneFlags::CLONE_NEWPID).map_err(failed("enter the pid namespace"))?;
    Ok(home)
}

/// What cannot be undone is done by a child, which then clones the first process as our child (CLONE_PARENT) and ends.
fn spawn_through_intermediate(entry: Entry, setup: Setup<'_>, ours: Channel) -> Result<Spawned> {
    match gabion_sys::fork().map_err(failed("clone the intermediate process"))? {
        Cloned::Child => {
            drop(ours);
            intermediate(&entry, &setup)
        }
        Cloned::Parent(middle) => {
            drop(setup);
            let first = ours.receive()?;
            nix::sys::wait::waitpid(middle, None).map_err(failed("wait for the intermediate process"))?;
            match first {
                Some((Message::Pid(pid), _)) => Ok(Spawned {
                    pid: Pid::from_raw(pid),
                    born: Born::Outside,
                    channel: ours,
                }),
                Some((Message::Failed(report), _)) => Err(report.into()),
                _ => Err(Error::failed(
                    Step::Clone,
                    "the intermediate process ended without a word",
                )),
            }
        }
    }
}

fn intermediate(entry: &Entry, setup: &Setup<'_>) -> ! {
    let cloned = join_first(entry).and_then(|()| new_clocks(entry)).and_then(|_| {
        gabion_sys::clone3(entry.made_by_clone(), ChildOf::OurParent, None).map_err(failed("clone the first process"))
    });
    let told = match cloned {
        Ok(Cloned::Child) => birth::run(setup),
        Ok(Cloned::Parent(pid)) => setup.channel.send(&Message::Pid(pid.as_raw())),
        Err(error) => setup.channel.send(&Message::Failed(Report::from(&error))),
    };
    gabion_sys::exit_now(i32::from(told.is_err()))
}

fn join_first(entry: &Entry) -> Result<()> {
    if let Some(user) = &entry.user {
        namespaces::join(NsType::User, user)?;
        namespaces::root_ids()?;
    }
    match &entry.pid {
        Some(pid) => setns(pid.as_fd(), CloneFlags::CLONE_NEWPID).map_err(failed("enter the pid namespace")),
        None => Ok(()),
    }
}
