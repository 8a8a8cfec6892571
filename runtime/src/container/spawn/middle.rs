//! The way into namespaces where others already live: through a process of ours that they never see.
//!
//! What is cloned into a container's pid namespace is in the container's /proc at once: mountinfo, net and cmdline can be read there by
//! anybody in it, whatever else protects the process (CVE-2016-9962 and its kind). So everything that can be seen there is the
//! container's before: a process in the middle, outside of the pid namespace, becomes unreadable and wordless, is put into the
//! cgroup, joins every namespace, the pid namespace last and only for its children, clones the process as our child (CLONE_PARENT), and ends.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};
use nix::unistd::Pid;

use super::{Born, Entry, OurEnd, clone_into, new_clocks};
use crate::birth;
use crate::build::{limits, namespaces};
use crate::contract::channel::{Channel, Message, Report};
use crate::contract::setup::{Arrival, Setup};
use crate::wait;
use gabion_core::namespace::NsType;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{ChildOf, Cloned, NewNamespaces};

/// Spawns through it. Both are in the cgroup from their first moment, but where it is at its limit of processes: one more has to be let in
/// then, which a move is and a clone is not, and the second try leaves the move to the caller.
pub(super) fn spawn(
    entry: &Entry,
    setup: Setup<'_>,
    ours: &mut OurEnd,
    cradle: Option<OwnedFd>,
    settle: &dyn Fn(Pid) -> Result<()>,
) -> Result<(Pid, Born)> {
    let spawned = match attempt(entry, &setup, ours, Some((cradle.as_ref(), settle)))? {
        Attempt::Spawned(pid) => Ok((pid, Born::Inside)),
        Attempt::Full => match attempt(entry, &setup, ours, None)? {
            Attempt::Spawned(pid) => Ok((pid, Born::Outside)),
            Attempt::Full => Err(Step::Clone.failing("clone the first process")(Errno::EAGAIN)),
        },
    };
    // Ours no longer: the end of the channel is heard when the process's own end is gone.
    drop(setup);
    spawned
}

/// What came of a try.
#[must_use]
enum Attempt {
    Spawned(Pid),
    /// The cgroup takes no further process.
    Full,
}

/// A cgroup to be born in, and what to do for a process that could not be.
type Cradle<'a> = (Option<&'a OwnedFd>, &'a dyn Fn(Pid) -> Result<()>);

fn attempt(entry: &Entry, setup: &Setup<'_>, ours: &mut OurEnd, place: Option<Cradle<'_>>) -> Result<Attempt> {
    let (own, theirs) = Channel::pair()?;
    let cloned = match place {
        Some((cradle, _)) => clone_into(NewNamespaces::NONE, cradle),
        None => gabion_sys::fork().map(|cloned| (cloned, Born::Outside)),
    };
    let (middle, born) = match cloned.map_err(Step::Clone.failing("clone the intermediate process"))? {
        (Cloned::Child, _) => {
            drop((ours.take(), own));
            pass(entry, setup, theirs)
        }
        (Cloned::Parent(middle), born) => (middle, born),
    };
    drop(theirs);
    let settled = match place {
        Some((_, settle)) if born == Born::Outside => settle(middle),
        _ => Ok(()),
    };
    let attempt = settled.and_then(|()| hear(&own));
    match &attempt {
        Ok(_) => wait::reap(middle, wait::STEP)?,
        Err(_) => wait::end(middle),
    }
    attempt
}

fn hear(own: &Channel) -> Result<Attempt> {
    let sent = own.send(&Message::Go);
    let heard = own.hear(Some(wait::STEP))?;
    // One that failed ended before it was told to go on: what it said of that counts, not that nobody listened.
    if !matches!(heard, Some((Message::Failed(_), _))) {
        sent?;
    }
    match heard {
        Some((Message::Pid(pid), _)) => Ok(Attempt::Spawned(Pid::from_raw(pid))),
        Some((Message::Full, _)) => Ok(Attempt::Full),
        Some((Message::Failed(report), _)) => Err(report.into()),
        _ => Err(Error::failed(
            Step::Clone,
            "the intermediate process ended without a word",
        )),
    }
}

/// In the intermediate process.
fn pass(entry: &Entry, setup: &Setup<'_>, channel: Channel) -> ! {
    let cloned = join(entry, setup)
        .and_then(|()| channel.expect(&Message::Go))
        .map(|()| gabion_sys::clone3(entry.made_by_clone(), ChildOf::OurParent, None));
    let word = match cloned {
        Ok(Ok(Cloned::Child)) => {
            drop(channel);
            birth::run(setup, Arrival::Joined)
        }
        Ok(Ok(Cloned::Parent(pid))) => Message::Pid(pid.as_raw()),
        Ok(Err(Errno::EAGAIN)) => Message::Full,
        // pid_namespaces(7).
        Ok(Err(Errno::ENOMEM)) if entry.pid.is_some() => Message::Failed(Report::from(&Error::step(
            Step::Clone,
            "clone into the pid namespace, whose own first process may have ended,",
            Errno::ENOMEM,
        ))),
        Ok(Err(errno)) => Message::Failed(Report::from(&Step::Clone.failing("clone the first process")(errno))),
        Err(error) => Message::Failed(Report::from(&error)),
    };
    gabion_sys::exit_now(i32::from(channel.send(&word).is_err()))
}

/// Goes everywhere but into the pid namespace, which is for children only (pid_namespaces(7)).
fn join(entry: &Entry, setup: &Setup<'_>) -> Result<()> {
    limits::score(setup)?;
    // Before the first namespace: where the pid namespace is not one of them, its processes see us already.
    namespaces::unreadable()?;
    namespaces::wordless(setup)?;
    let left = match &entry.user {
        Some(user) => {
            // What belongs to another user namespace can be joined from ours only, what belongs to that one from there as well.
            let left = namespaces::join_those_allowed(setup)?;
            namespaces::join(NsType::User, user)?;
            namespaces::root_ids()?;
            namespaces::unreadable()?;
            left
        }
        None => setup.joins.iter().collect(),
    };
    // Ours are not needed again: we end.
    new_clocks(entry).map(drop)?;
    left.into_iter().try_for_each(|(typ, fd)| namespaces::join(*typ, fd))?;
    match &entry.pid {
        Some(pid) => {
            setns(pid.as_fd(), CloneFlags::CLONE_NEWPID).map_err(Step::Clone.failing("enter the pid namespace"))
        }
        None => Ok(()),
    }
}
