//! The container's first process, from clone to execve. Every step stands here in its order, with the reason for the order.
//!
//! It runs in a copy of the runtime's memory, in new namespaces, and trusts nothing that lies in the image.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use libcontainer::container::ContainerStatus;
use nix::errno::Errno;

use crate::build::{console, devices, fsmount, ids, limits, masks, memory_policy, mounts, namespaces, pivot};
use crate::confine::{Confined, Workload};
use crate::contract::channel::{Message, Report};
use crate::contract::hooks;
use crate::contract::setup::{Arrival, Create, Kind, Prepared, Setup};
use crate::faults;
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::ParentsEnd;

/// Runs the whole walk; ends in execve or in an error that was reported.
pub(crate) fn run(setup: &Setup<'_>, arrival: Arrival) -> ! {
    let error = match walk(setup, arrival) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let report = Message::Failed(Report::from(&error));
    // The parent may be gone (start was reached long ago): nobody is left to hear it, and the exit code says the rest.
    let told = setup.channel.send(&report);
    gabion_sys::exit_now(if told.is_ok() { 1 } else { 255 })
}

/// Has the kernel kill us when the runtime dies, or not any more. Others in the container may have stopped us: then we would not hear
/// from the channel that it is gone.
fn at_the_runtimes_end(what: ParentsEnd) -> Result<()> {
    gabion_sys::at_parents_end(what).map_err(|e| Error::step(Step::Clone, "say what happens when the runtime dies", e))
}

fn walk(setup: &Setup<'_>, arrival: Arrival) -> Result<std::convert::Infallible> {
    // A runtime that has died before this is heard of at the next line.
    at_the_runtimes_end(ParentsEnd::Kills)?;
    // Until the parent has put us into the cgroup and mapped our ids, nothing is charged or owned rightly.
    setup.channel.expect(&Message::Go)?;
    if arrival == Arrival::Outside {
        limits::score(setup)?;
        namespaces::wordless(setup)?;
    }
    namespaces::clocks(setup)?;
    namespaces::become_root(setup)?;
    // A change of ids takes both back (prctl(2)); nothing of ours in /proc is written any more that would have to be ours.
    namespaces::unreadable()?;
    at_the_runtimes_end(ParentsEnd::Kills)?;
    // Mount points are for every user of the container, whatever our caller's umask; the workload's is runc's.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let prepared = match &setup.kind {
        Kind::Create(create) => prepare_create(setup, create, arrival)?,
        Kind::Exec => prepare_exec(setup, arrival)?,
    };
    let workload = Workload::validate(setup, prepared)?;
    faults::at(Step::Ready)?;
    // From here on it ends, and we do not.
    at_the_runtimes_end(ParentsEnd::Unheard)?;
    match &setup.kind {
        Kind::Create(create) => {
            // Seen from a user namespace of ours, the host's root is unmapped, which is 65534. Learnt before any filter.
            let own = nix::unistd::getuid().as_raw();
            // Before the workload's filter, which may lie around the wait already.
            ended_by_signals()?;
            let confined = workload.ready(setup)?;
            let starter = wait_for(create.listener.as_fd(), |uid| uid == 0 || uid == 65534 || uid == own)?;
            // From here on `start` hears of failures, not `create`, which has returned.
            workload.exec(setup, Some(starter), confined)
        }
        Kind::Exec => {
            setup.channel.send(&Message::Ready)?;
            workload.exec(setup, None, Confined::Not)
        }
    }
}

fn prepare_create(setup: &Setup<'_>, create: &Create<'_>, arrival: Arrival) -> Result<Prepared> {
    nix::unistd::setsid().map_err(|e| Error::step(Step::Clone, "start a session", e))?;
    // Rank in the host's scheduler and limits need the host's privileges: before any credential changes.
    limits::apply(setup)?;
    memory_policy::apply(setup)?;
    namespaces::enter(setup, arrival)?;
    namespaces::set_names(setup)?;
    namespaces::loopback(setup)?;
    // All mounts while we are still fully privileged and before the root is left, since sources lie outside.
    let root = mounts::build(setup, create)?;
    run_hooks_before_pivot(setup, create, &root)?;
    pivot::leave(&setup.proc, &root, create.leave)?;
    ids::make_cwd(setup)?;
    // /proc/sys is still writable: the masks below close it.
    limits::sysctls(setup)?;
    console::attach(setup, console::Bind::Console)?;
    // Last of the mounts: everything above may still need to write below them.
    pivot::finish_root(setup)?;
    masks::apply(setup, create)?;
    finish_identity(setup)
}

fn prepare_exec(setup: &Setup<'_>, arrival: Arrival) -> Result<Prepared> {
    nix::unistd::setsid().map_err(|e| Error::step(Step::Clone, "start a session", e))?;
    limits::apply(setup)?;
    memory_policy::apply(setup)?;
    namespaces::enter(setup, arrival)?;
    console::attach(setup, console::Bind::Nothing)?;
    finish_identity(setup)
}

/// What both have in common between the mounts and the credentials.
fn finish_identity(setup: &Setup<'_>) -> Result<Prepared> {
    // A mount needs privileges, so it is made before they go. One for both who try there what must be denied.
    let landlock = setup.hardened.plan().landlock.is_some();
    let place = if landlock || setup.hardened.enforces(ControlId::Devices) {
        let place = fsmount::detached_tmpfs()?;
        devices::probe(setup, &place)?;
        Some(place)
    } else {
        None
    };
    ids::keyring(setup)?;
    ids::stdio_owner(setup)?;
    // Before the ids change: runc's rule, some directories may be entered by root only.
    let entered = ids::enter_cwd(setup)?;
    ids::close_inherited(setup)?;
    ids::become_user(setup)?;
    // The change of ids has taken both back (prctl(2)).
    namespaces::unreadable()?;
    at_the_runtimes_end(ParentsEnd::Kills)?;
    ids::enter_cwd_again(setup, entered)?;
    ids::verify_cwd(setup)?;
    Ok(Prepared {
        landlock_probe: place.filter(|_| landlock),
    })
}

fn run_hooks_before_pivot(setup: &Setup<'_>, create: &Create<'_>, root: &OwnedFd) -> Result<()> {
    let Some(hooks) = create.hooks else { return Ok(()) };
    faults::at(Step::Hooks)?;
    setup.channel.send(&Message::RunHooks)?;
    setup.channel.expect(&Message::HooksRan)?;
    let list = hooks.create_container().as_ref();
    if list.is_some_and(|list| !list.is_empty()) {
        // They see the host by path, and the container's root as their directory (runc, the same).
        nix::unistd::fchdir(root.as_raw_fd()).map_err(|e| Error::step(Step::Hooks, "enter the root file system", e))?;
    }
    let state = setup.annotations_state.as_ref();
    let state = state.map(|state| hooks::state_inside(state, ContainerStatus::Creating, nix::unistd::getpid()));
    let scene = hooks::Scene::of_process(setup.process);
    hooks::run(hooks::Kind::CreateContainer, list, state.as_ref(), &scene)
}

/// Lets the signals that ask a program to end it do so while it waits for its start, with 128 and the signal's number, as runc's does. A pid namespace's
/// init hears none for which it has no handler (pid_namespaces(7)), and the runtime, which holds some back, has given that to its child.
fn ended_by_signals() -> Result<()> {
    use nix::sys::signal::{SigSet, Signal};
    let failing = |e| Error::step(Step::Ready, "let signals end the wait for start", e);
    let mut ending = SigSet::empty();
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT] {
        gabion_sys::exit_on(signal).map_err(failing)?;
        ending.add(signal);
    }
    ending.thread_unblock().map_err(failing)
}

/// How many connections of strangers a container that waits for its start bears.
const MOST_STRANGERS: u32 = 64;

/// Waits for `start`: it connects, and stays connected until execve closes our end.
///
/// The socket lies in a directory that its owner alone may enter, so nobody else should ever come: who does has got around that, or holds
/// a capability that the host's administrator gave them. They are refused and told of, and after `MOST_STRANGERS` the container ends:
/// somebody is trying to keep it from its start.
fn wait_for(listener: BorrowedFd<'_>, may_start: impl Fn(u32) -> bool) -> Result<OwnedFd> {
    use nix::sys::socket::{getsockopt, sockopt};
    for _ in 0..=MOST_STRANGERS {
        let fd = loop {
            match gabion_sys::accept(listener) {
                Err(Errno::EINTR) => {}
                other => break other.map_err(|e| Error::step(Step::Start, "wait for start", e))?,
            }
        };
        let peer = getsockopt(&fd, sockopt::PeerCredentials)
            .map_err(|e| Error::step(Step::Start, "look at who starts us", e))?;
        if may_start(peer.uid()) {
            return Ok(fd);
        }
        tracing::warn!(
            uid = peer.uid(),
            pid = peer.pid(),
            "refused a start by neither root nor the container's owner"
        );
    }
    Err(Error::failed(
        Step::Start,
        format!("more than {MOST_STRANGERS} others than its owner tried to start the container"),
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::unix::net::{UnixListener, UnixStream};

    use super::*;

    fn listener() -> (std::path::PathBuf, UnixListener) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("gabion-start-{}-{number}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        (path, listener)
    }

    /// Strangers cannot hold a container for ever between create and start; its owner, who comes after some of them, starts it.
    #[test]
    fn strangers_are_refused_and_counted() {
        let (path, listener) = listener();
        let calls: Vec<_> = (0..=MOST_STRANGERS)
            .map(|_| UnixStream::connect(&path).unwrap())
            .collect();
        let error = wait_for(listener.as_fd(), |_| false).unwrap_err().to_string();
        assert!(error.contains("64 others than its owner"), "{error}");
        drop(calls);
        let calls: Vec<_> = (0..3).map(|_| UnixStream::connect(&path).unwrap()).collect();
        let seen = std::cell::Cell::new(0);
        let third = |_| {
            seen.set(seen.get() + 1);
            seen.get() == 3
        };
        assert!(wait_for(listener.as_fd(), third).is_ok());
        drop(calls);
        std::fs::remove_file(path).unwrap();
    }
}
