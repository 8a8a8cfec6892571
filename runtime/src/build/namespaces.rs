//! Entering namespaces: which are new, which are joined, in which order.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};

use crate::contract::setup::{Arrival, Kind, Setup};
use crate::faults;
use gabion_core::control::Control;
use gabion_core::control::namespaces::Namespaces;
use gabion_core::id::ControlId;
use gabion_core::namespace::NsType;
use gabion_core::observed::Observed;
use gabion_see::error::{Error, Result, Step};

/// The clone flag of a namespace (clone(2)).
pub(crate) const fn flag(typ: NsType) -> CloneFlags {
    match typ {
        NsType::User => CloneFlags::CLONE_NEWUSER,
        NsType::Mount => CloneFlags::CLONE_NEWNS,
        NsType::Pid => CloneFlags::CLONE_NEWPID,
        NsType::Ipc => CloneFlags::CLONE_NEWIPC,
        NsType::Uts => CloneFlags::CLONE_NEWUTS,
        NsType::Network => CloneFlags::CLONE_NEWNET,
        NsType::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        // CLONE_NEWTIME, not in nix 0.29.
        NsType::Time => CloneFlags::from_bits_retain(0x80),
    }
}

/// Joins the namespaces that are joined, unless that was done before, and makes the ones that clone could not.
pub(crate) fn enter(setup: &Setup<'_>, arrival: Arrival) -> Result<()> {
    faults::at(Step::Namespaces)?;
    if arrival == Arrival::Outside {
        join_others(setup)?;
    }
    // Only now, when we are in our cgroup, is the new cgroup namespace rooted there (cgroup_namespaces(7)).
    if matches!(setup.kind, Kind::Create(_)) && setup.enters_new(NsType::Cgroup) {
        unshare(CloneFlags::CLONE_NEWCGROUP)
            .map_err(|e| Error::step(Step::Namespaces, "make a new cgroup namespace", e))?;
    }
    verify(setup)
}

/// Joins all but user and pid namespace, by the descriptors that were vetted.
pub(crate) fn join_others(setup: &Setup<'_>) -> Result<()> {
    setup.joins.iter().try_for_each(|(typ, fd)| join(*typ, fd))
}

/// Lets nobody in a joined namespace attach to us or read our memory while we hold the host's descriptors (CVE-2016-9962). execve makes
/// the workload dumpable again. A change of ids puts in place what fs.suid_dumpable says, so this is said again after each.
pub(crate) fn unreadable() -> Result<()> {
    gabion_sys::set_readable(gabion_sys::Readable::No)
        .map_err(|e| Error::step(Step::Namespaces, "become unreadable for other processes", e))
}

/// Takes our command line and environment, which are the host's, out of what /proc shows of us.
pub(crate) fn wordless(setup: &Setup<'_>) -> Result<()> {
    gabion_sys::blank_words(setup.proc.as_fd())
        .map_err(|e| Error::step(Step::Namespaces, "blank our command line and environment", e))
}

/// Where we are, before anything is written that belongs to a namespace: a sysctl or host name that lands in the host's
/// namespace changes the host.
fn verify(setup: &Setup<'_>) -> Result<()> {
    if !setup.hardened.enforces(ControlId::Namespaces) {
        return Ok(());
    }
    let seen = Observed {
        namespaces: gabion_see::readback::namespaces(&setup.proc, "self")?,
        ..Observed::default()
    };
    gabion_see::readback::all_hold(Namespaces.facts(setup.hardened, &seen))
}

/// In a user namespace of our own we are nobody until we say who (user_namespaces(7)): files made from here on are root's.
pub(crate) fn become_root(setup: &Setup<'_>) -> Result<()> {
    if !setup.enters_new(NsType::User) {
        return Ok(());
    }
    root_ids()
}

/// User and group 0 of the user namespace that we are in.
pub(crate) fn root_ids() -> Result<()> {
    let failed = |e| Error::step(Step::UserNamespace, "become root of the user namespace", e);
    let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid).map_err(failed)?;
    nix::unistd::setresuid(uid, uid, uid).map_err(failed)
}

/// A new network namespace has a loopback interface that is down; runtimes bring it up (runc, crun), and services count on it.
pub(crate) fn loopback(setup: &Setup<'_>) -> Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    if !setup.enters_new(NsType::Network) || !crate::faults::not_skipped_by_a_test(ControlId::Namespaces) {
        return Ok(());
    }
    let failed = |e| Error::step(Step::Namespaces, "bring the loopback interface up", e);
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    gabion_sys::interface_up(socket.as_fd(), c"lo").map_err(failed)
}

/// Joins one namespace by the descriptor that was vetted.
pub(crate) fn join(typ: NsType, fd: &OwnedFd) -> Result<()> {
    setns(fd.as_fd(), flag(typ))
        .map_err(|e| Error::step(Step::Namespaces, format!("join the {} namespace", typ.spec_name()), e))
}

/// Host and domain name, in a UTS namespace that is new or joined (runc). Elsewhere they would be the host's.
pub(crate) fn set_names(setup: &Setup<'_>) -> Result<()> {
    let spec = setup.hardened.spec();
    let joined = setup.joins.iter().any(|(t, _)| *t == NsType::Uts);
    if !(setup.enters_new(NsType::Uts) || joined) || !crate::faults::not_skipped_by_a_test(ControlId::Namespaces) {
        return Ok(());
    }
    if let Some(name) = spec.hostname().as_ref().filter(|n| !n.is_empty()) {
        nix::unistd::sethostname(name).map_err(|e| Error::step(Step::Namespaces, "set the host name", e))?;
    }
    if let Some(name) = spec.domainname().as_ref().filter(|n| !n.is_empty()) {
        gabion_sys::set_domain_name(name.as_bytes())
            .map_err(|e| Error::step(Step::Namespaces, "set the domain name", e))?;
    }
    Ok(())
}
