//! Any other process of the container: it has what the first one has, or less.

use nix::errno::Errno;

use super::cgroup::Place;
use super::{Findings, numbers, root, visible};
use gabion_core::caller::OwnUserNs;
use gabion_core::control::{CONTROLS, user};
use gabion_core::fact::{Fact, Holds};
use gabion_core::id::ControlId;
use gabion_core::namespace::NsType;
use gabion_core::observed::Observed;
use gabion_core::policy::Level;
use gabion_see::error::{Error, Result};
use gabion_see::procfs::Proc;
use gabion_see::state::Record;

/// Controls whose facts are a process's own. The others' are the container's: mounts and masks come with the mount
/// namespace, which is compared, limits with the cgroup.
pub(super) const fn is_of_process(control: ControlId) -> bool {
    matches!(
        control,
        ControlId::Capabilities
            | ControlId::NoNewPrivs
            | ControlId::Lsm
            | ControlId::Landlock
            | ControlId::Seccomp
            | ControlId::Rlimits
            | ControlId::Namespaces
            | ControlId::User
    )
}

/// Looks at one. A process that has ended meanwhile is no part of the container.
pub(super) fn other(
    proc: &Proc,
    record: &Record,
    (init, first): (i32, &Observed),
    (pid, place): (i32, Place),
    findings: &mut Findings,
) -> Result<()> {
    let who = pid.to_string();
    let seen = match gabion_see::readback::of(proc, &who) {
        Ok(mut seen) => {
            seen.label_on_exec = None;
            seen.ids = numbers(record).unwrap_or_default();
            seen
        }
        Err(Error::Step { errno, .. }) if ended(proc, &who, errno) => return Ok(()),
        Err(Error::Step { errno, .. }) => {
            findings.partial(format!("process {pid} cannot be read: {errno:?}"));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let hardened = &record.hardened;
    for control in CONTROLS {
        let id = control.id();
        if !hardened.enforces(id) || !is_of_process(id) || matches!(id, ControlId::Namespaces | ControlId::User) {
            continue;
        }
        for fact in control.facts(hardened, &seen) {
            findings.push(fact, Some(pid));
        }
    }
    if hardened.enforces(ControlId::Namespaces) {
        for fact in namespaces(init, first, &seen) {
            findings.push(fact, Some(pid));
        }
    }
    if hardened.enforces(ControlId::Rootfs) {
        findings.push(own_root(proc, init, &who), Some(pid));
    }
    if hardened.enforces(ControlId::Cgroup) {
        findings.push(in_cgroup(place), Some(pid));
    }
    if hardened.enforces(ControlId::User) {
        for fact in user(record, &seen) {
            findings.push(visible(fact, record), Some(pid));
        }
    }
    Ok(())
}

/// A zombie has lost what is looked at here, and waits for its parent only.
fn ended(proc: &Proc, who: &str, errno: Errno) -> bool {
    match proc.read(&format!("{who}/stat")) {
        Err(_) => errno == Errno::ENOENT || errno == Errno::ESRCH,
        Ok(stat) => stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| matches!(rest.trim_start().as_bytes().first(), Some(b'Z' | b'X'))),
    }
}

/// In every namespace of the first process.
fn namespaces(init: i32, first: &Observed, seen: &Observed) -> Vec<Fact> {
    let one = |typ: NsType| {
        let theirs = first.namespaces.get(&typ)?;
        let name = typ.proc_name();
        let expected = format!("{name} namespace of process {init}");
        Some(match seen.namespaces.get(&typ) {
            None => Fact::unknown(ControlId::Namespaces, expected, format!("{name} namespace not shown")),
            Some(own) if own == theirs => Fact::judged(ControlId::Namespaces, expected.clone(), expected, Holds::Yes),
            Some(own) => {
                let observed = format!("another {name} namespace ({}:{})", own.dev, own.ino);
                Fact::judged(ControlId::Namespaces, expected, observed, Holds::No)
            }
        })
    };
    NsType::ALL.into_iter().filter_map(one).collect()
}

/// A root on a mount that is not the container's is a way out of it. One deeper inside (chroot) is not.
fn own_root(proc: &Proc, init: i32, who: &str) -> Fact {
    let expected = "root on a mount of the container";
    let mounts = root::mount_ids(proc, &init.to_string());
    match root::mount_id(proc, who) {
        Some(id) if mounts.contains(&id) => Fact::judged(ControlId::Rootfs, expected, expected, Holds::Yes),
        Some(id) if !mounts.is_empty() => {
            let observed = format!("root on mount {id}, which the container has not");
            Fact::judged(ControlId::Rootfs, expected, observed, Holds::No)
        }
        _ => Fact::unknown(ControlId::Rootfs, expected, "root not shown"),
    }
}

/// By its pid namespace the process is the container's: its limits must be, too.
fn in_cgroup(place: Place) -> Fact {
    let expected = "every process in the container's cgroup";
    match place {
        Place::Inside => Fact::judged(ControlId::Cgroup, expected, expected, Holds::Yes),
        Place::NoCgroup => Fact::unknown(ControlId::Cgroup, expected, "no cgroup was delegated to who made it"),
        Place::Outside => Fact::judged(
            ControlId::Cgroup,
            expected,
            "in the container's pid namespace and in another cgroup",
            Holds::No,
        ),
    }
}

/// exec may name another user, but at level restricted none that is root on the host.
fn user(record: &Record, seen: &Observed) -> Vec<Fact> {
    if record.hardened.level() != Level::Restricted {
        return Vec::new();
    }
    // What an older gabion made in a user namespace of its own it wrote down no maps of.
    if record.hardened.plan().ids.is_none() && record.user_ns != OwnUserNs::Initial {
        return Vec::new();
    }
    user::not_root(&user::of(&record.hardened), seen)
}
