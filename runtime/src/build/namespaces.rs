//! Entering namespaces: which are new, which are joined, in which order.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::stat::Mode;
use oci_spec::runtime::LinuxTimeOffset;

use crate::contract::setup::{Arrival, Kind, Setup};
use crate::faults;
use gabion_core::control::Control;
use gabion_core::control::namespaces::Namespaces;
use gabion_core::hardened::Hardened;
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
fn join_others(setup: &Setup<'_>) -> Result<()> {
    setup.joins.iter().try_for_each(|(typ, fd)| join(*typ, fd))
}

/// Joins those of them that may be joined from where we are, and gives the rest.
pub(crate) fn join_those_allowed<'a>(setup: &'a Setup<'_>) -> Result<Vec<&'a (NsType, OwnedFd)>> {
    let mut left = Vec::new();
    for pair in &setup.joins {
        match setns(pair.1.as_fd(), flag(pair.0)) {
            Ok(()) => {}
            Err(Errno::EPERM) => left.push(pair),
            Err(e) => return Err(cannot_join(pair.0, e)),
        }
    }
    Ok(left)
}

/// Makes the time namespace of a container that has a user namespace of its own, and enters it. It belongs to the user namespace in which it is made, and whoever joins the
/// container's (exec) may join it only if that is the container's own. Its clocks are set while nobody is in it (time_namespaces(7)), and before our
/// ids change: after that the file of its offsets is not ours to write.
pub(crate) fn clocks(setup: &Setup<'_>) -> Result<()> {
    let makes = matches!(setup.kind, Kind::Create(_));
    if !(makes && setup.enters_new(NsType::User) && setup.enters_new(NsType::Time)) {
        return Ok(());
    }
    unshare(flag(NsType::Time)).map_err(|e| Error::step(Step::Namespaces, "make a time namespace", e))?;
    let offsets = clock_offsets(setup.hardened);
    if !offsets.is_empty() {
        let written = setup.proc.write("self/timens_offsets", &offsets.concat());
        written.map_err(|e| Error::step(Step::Namespaces, "set the clocks of the time namespace", e))?;
    }
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    let made = gabion_sys::open("/proc/self/ns/time_for_children", flags, Mode::empty())
        .map_err(|e| Error::step(Step::Namespaces, "open the time namespace", e))?;
    join(NsType::Time, &made)
}

/// Gives `linux.timeOffsets` as the kernel takes them, a line for each clock.
pub(crate) fn clock_offsets(hardened: &Hardened) -> Vec<String> {
    let offsets = hardened.spec().linux().as_ref().and_then(|l| l.time_offsets().as_ref());
    let line = |(clock, offset): (&String, &LinuxTimeOffset)| {
        let (seconds, nanoseconds) = (offset.secs().unwrap_or(0), offset.nanosecs().unwrap_or(0));
        format!("{clock} {seconds} {nanoseconds}\n")
    };
    offsets.into_iter().flatten().map(line).collect()
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
    setns(fd.as_fd(), flag(typ)).map_err(|e| cannot_join(typ, e))
}

fn cannot_join(typ: NsType, errno: Errno) -> Error {
    Error::step(
        Step::Namespaces,
        format!("join the {} namespace", typ.spec_name()),
        errno,
    )
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
