//! Entering namespaces: which are new, which are joined, in which order.

use std::os::fd::{AsFd, OwnedFd};

use nix::sched::{CloneFlags, setns, unshare};

use crate::control::namespaces::Namespaces;
use crate::control::{Control, ControlId};
use crate::error::{Error, Result, Step};
use crate::executor::verify;
use crate::faults;
use crate::hardened::Hardened;
use crate::host::NsType;
use crate::init::{Kind, Setup};
use crate::observed::{self, Observed};
use crate::sys;

/// The user namespace first: it owns the others and gives the right to join them. The mount namespace last: joining it changes
/// the root, and /proc with it.
pub const JOIN_ORDER: [NsType; 8] = [
    NsType::User,
    NsType::Cgroup,
    NsType::Ipc,
    NsType::Uts,
    NsType::Network,
    NsType::Pid,
    NsType::Time,
    NsType::Mount,
];

/// The clone flag of a namespace (clone(2)).
pub const fn flag(typ: NsType) -> CloneFlags {
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

/// The namespaces that the spec wants made.
pub fn new_types(hardened: &Hardened) -> Vec<NsType> {
    listed(hardened)
        .filter(|(_, path)| path.is_none())
        .map(|(typ, _)| typ)
        .collect()
}

/// The namespaces that the spec wants joined.
pub fn joined_types(hardened: &Hardened) -> Vec<(NsType, std::path::PathBuf)> {
    listed(hardened)
        .filter_map(|(typ, path)| path.map(|p| (typ, p)))
        .collect()
}

fn listed(hardened: &Hardened) -> impl Iterator<Item = (NsType, Option<std::path::PathBuf>)> + '_ {
    let list = hardened.spec().linux().as_ref().and_then(|l| l.namespaces().as_ref());
    list.into_iter().flatten().map(|n| {
        let path = n.path().as_ref().filter(|p| !p.as_os_str().is_empty());
        (NsType::from(n.typ()), path.cloned())
    })
}

/// Joins the namespaces that are joined and makes the ones that clone could not.
pub fn enter(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Namespaces)?;
    for (typ, fd) in &setup.joins {
        join(*typ, fd)?;
    }
    // Only now, when we are in our cgroup, is the new cgroup namespace rooted there (cgroup_namespaces(7)).
    if matches!(setup.kind, Kind::Create(_)) && setup.enters_new(NsType::Cgroup) {
        unshare(CloneFlags::CLONE_NEWCGROUP)
            .map_err(|e| Error::step(Step::Namespaces, "make a new cgroup namespace", e))?;
    }
    verify(setup)?;
    // Nobody in a joined namespace may attach to us or read our memory while we hold the host's descriptors
    // (CVE-2016-9962). execve makes the workload dumpable again.
    sys::prctl(libc::PR_SET_DUMPABLE, 0)
        .map(drop)
        .map_err(|e| Error::step(Step::Namespaces, "become unreadable for other processes", e))
}

/// Where we are, before anything is written that belongs to a namespace: a sysctl or host name that lands in the host's
/// namespace changes the host.
fn verify(setup: &Setup<'_>) -> Result<()> {
    if !setup.hardened.enforces(ControlId::Namespaces) {
        return Ok(());
    }
    let seen = Observed {
        namespaces: observed::read::namespaces(&setup.proc, "self")?,
        ..Observed::default()
    };
    verify::all_hold(Namespaces.facts(setup.hardened, &seen))
}

/// In a user namespace of our own we are nobody until we say who (user_namespaces(7)): files made from here on are root's.
pub fn become_root(setup: &Setup<'_>) -> Result<()> {
    if !setup.enters_new(NsType::User) {
        return Ok(());
    }
    root_ids()
}

/// User and group 0 of the user namespace that we are in.
pub fn root_ids() -> Result<()> {
    let failed = |e| Error::step(Step::UserNamespace, "become root of the user namespace", e);
    let (uid, gid) = (nix::unistd::Uid::from_raw(0), nix::unistd::Gid::from_raw(0));
    nix::unistd::setresgid(gid, gid, gid).map_err(failed)?;
    nix::unistd::setresuid(uid, uid, uid).map_err(failed)
}

/// A new network namespace has a loopback interface that is down; runtimes bring it up (runc, crun), and services count on it.
pub fn loopback(setup: &Setup<'_>) -> Result<()> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    if !setup.enters_new(NsType::Network) || !setup.applies(ControlId::Namespaces) {
        return Ok(());
    }
    let failed = |e| Error::step(Step::Namespaces, "bring the loopback interface up", e);
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).map_err(failed)?;
    sys::interface_up(socket.as_fd(), c"lo").map_err(failed)
}

/// Joins one namespace by the descriptor that was vetted.
pub fn join(typ: NsType, fd: &OwnedFd) -> Result<()> {
    setns(fd.as_fd(), flag(typ))
        .map_err(|e| Error::step(Step::Namespaces, format!("join the {} namespace", typ.spec_name()), e))
}

/// Host and domain name, in a UTS namespace that is new or joined (runc). Elsewhere they would be the host's.
pub fn set_names(setup: &Setup<'_>) -> Result<()> {
    let spec = setup.hardened.spec();
    let joined = setup.joins.iter().any(|(t, _)| *t == NsType::Uts);
    if !(setup.enters_new(NsType::Uts) || joined) || !setup.applies(ControlId::Namespaces) {
        return Ok(());
    }
    if let Some(name) = spec.hostname().as_ref().filter(|n| !n.is_empty()) {
        nix::unistd::sethostname(name).map_err(|e| Error::step(Step::Namespaces, "set the host name", e))?;
    }
    if let Some(name) = spec.domainname().as_ref().filter(|n| !n.is_empty()) {
        sys::set_domain_name(name.as_bytes()).map_err(|e| Error::step(Step::Namespaces, "set the domain name", e))?;
    }
    Ok(())
}
