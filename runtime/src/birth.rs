//! The container's first process, from clone to execve. Every step stands here in its order, with the reason for the order.
//!
//! It runs in a copy of the runtime's memory, in new namespaces, and trusts nothing that lies in the image.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::confine::Workload;
use crate::faults::{self};
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};

pub(crate) mod channel;
pub(crate) mod hooks;
pub(crate) mod setup;

use crate::build::{console, devices, fsmount, ids, limits, masks, memory_policy, mounts, namespaces, pivot};
use channel::{Message, Report};
use setup::{Arrival, Create, Kind, Prepared, Setup};

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
fn die_with_the_runtime(so: bool) -> Result<()> {
    let signal = if so { libc::SIGKILL.unsigned_abs() } else { 0 };
    gabion_sys::prctl(libc::PR_SET_PDEATHSIG, signal.into())
        .map(drop)
        .map_err(|e| Error::step(Step::Clone, "say what happens when the runtime dies", e))
}

fn walk(setup: &Setup<'_>, arrival: Arrival) -> Result<std::convert::Infallible> {
    // A runtime that has died before this is heard of at the next line.
    die_with_the_runtime(true)?;
    // Until the parent has put us into the cgroup and mapped our ids, nothing is charged or owned rightly.
    setup.channel.expect(&Message::Go)?;
    if arrival == Arrival::Outside {
        limits::score(setup)?;
        namespaces::wordless(setup)?;
    }
    namespaces::become_root(setup)?;
    // A change of ids takes both back (prctl(2)); nothing of ours in /proc is written any more that would have to be ours.
    namespaces::unreadable()?;
    die_with_the_runtime(true)?;
    // Mount points are for every user of the container, whatever our caller's umask; the workload's is runc's.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let prepared = match &setup.kind {
        Kind::Create(create) => prepare_create(setup, create, arrival)?,
        Kind::Exec => prepare_exec(setup, arrival)?,
    };
    let workload = Workload::validate(setup, prepared)?;
    faults::at(Step::Ready)?;
    // From here on it ends, and we do not.
    die_with_the_runtime(false)?;
    setup.channel.send(&Message::Ready)?;
    match &setup.kind {
        Kind::Create(create) => {
            let starter = wait_for_start(create.listener.as_fd())?;
            // From here on `start` hears of failures, not `create`, which has returned.
            workload.exec(setup, Some(starter))
        }
        Kind::Exec => workload.exec(setup, None),
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
    run_hooks_before_pivot(setup, create)?;
    pivot::leave(&root, create.leave)?;
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
    die_with_the_runtime(true)?;
    ids::enter_cwd_again(setup, entered)?;
    ids::verify_cwd(setup)?;
    Ok(Prepared {
        landlock_probe: place.filter(|_| landlock),
    })
}

fn run_hooks_before_pivot(setup: &Setup<'_>, create: &Create<'_>) -> Result<()> {
    let Some(hooks) = create.hooks else { return Ok(()) };
    faults::at(Step::Hooks)?;
    setup.channel.send(&Message::RunHooks)?;
    setup.channel.expect(&Message::HooksRan)?;
    hooks::run(
        hooks.create_container().as_ref(),
        setup.annotations_state.as_ref(),
        None,
    )
}

/// Waits for `start`: it connects, and stays connected until execve closes our end.
fn wait_for_start(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt};
    use std::os::fd::AsRawFd;
    loop {
        let fd = match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EINTR) => continue,
            other => other.map_err(|e| Error::step(Step::Start, "wait for start", e))?,
        };
        let fd = gabion_sys::adopt(fd).map_err(|e| Error::step(Step::Start, "take start's connection", e))?;
        let peer = getsockopt(&fd, sockopt::PeerCredentials)
            .map_err(|e| Error::step(Step::Start, "look at who starts us", e))?;
        // The socket lies in a directory of the owner's alone; seen from a user namespace of ours, an unmapped root is 65534.
        let mapped_root = peer.uid() == 0 || peer.uid() == 65534 || peer.uid() == nix::unistd::getuid().as_raw();
        if mapped_root {
            return Ok(fd);
        }
    }
}
