//! Any other process of the container, and any other thread: it has what the first one has, or less.

use nix::errno::Errno;

use super::cgroup::Membership;
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

/// A thread: seccomp, capabilities, no_new_privs, label, namespaces and root are each thread's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Task {
    pub(super) pid: i32,
    pub(super) tid: i32,
}

impl Task {
    /// Its directory in procfs.
    pub(super) fn directory(self) -> String {
        format!("{}/task/{}", self.pid, self.tid)
    }
}

/// The threads of a process, its first one among them, whether it lives or not. None where the process is gone.
pub(super) fn tasks(pid: i32) -> std::io::Result<Vec<Task>> {
    let names = || -> std::io::Result<Vec<_>> {
        let entries = std::fs::read_dir(format!("/proc/{pid}/task"))?;
        entries.map(|entry| Ok(entry?.file_name())).collect()
    };
    let names = match names() {
        // It ended before, or while, its threads were listed.
        Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH)) => Vec::new(),
        other => other?,
    };
    let tids = names.iter().filter_map(|name| name.to_str()?.parse().ok());
    Ok(tids.map(|tid| Task { pid, tid }).collect())
}

/// Looks at one. A thread that has ended meanwhile is no part of the container; others of its process may live on.
pub(super) fn other(
    proc: &Proc,
    record: &Record,
    (init, first): (&str, &Observed),
    (task, place): (Task, Membership),
    findings: &mut Findings,
) -> Result<()> {
    let who = task.directory();
    let before = findings.ours.runs(proc, &who);
    let seen = match gabion_see::readback::of(proc, &who) {
        Ok(mut seen) => {
            seen.label_on_exec = None;
            seen.ids = numbers(record).unwrap_or_default();
            seen
        }
        Err(Error::Step { .. }) if ended(proc, &who) => return Ok(()),
        // Somebody else's until it is confined: it is looked at again.
        Err(Error::Step { errno, .. }) => {
            findings.partial(format!(
                "thread {} of process {} cannot be read: {errno:?}",
                task.tid, task.pid
            ));
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let hardened = &record.hardened;
    let mut facts = Vec::new();
    for control in CONTROLS {
        let id = control.id();
        if !hardened.enforces(id) || !is_of_process(id) || matches!(id, ControlId::Namespaces | ControlId::User) {
            continue;
        }
        facts.extend(control.facts(hardened, &seen));
    }
    if hardened.enforces(ControlId::Namespaces) {
        facts.extend(namespaces(init, first, &seen));
    }
    if hardened.enforces(ControlId::Rootfs) {
        facts.push(own_root(proc, init, &who));
    }
    if hardened.enforces(ControlId::Cgroup) {
        facts.push(in_cgroup(place));
    }
    if hardened.enforces(ControlId::User) {
        facts.extend(user(record, &seen).into_iter().map(|fact| visible(fact, record)));
    }
    findings.task(proc, (&who, before), task, facts);
    Ok(())
}

/// Whether it is gone, or waits as a zombie, which has lost what is looked at here.
pub(super) fn ended(proc: &Proc, who: &str) -> bool {
    match proc.read(&format!("{who}/stat")) {
        Err(errno) => matches!(errno, Errno::ENOENT | Errno::ESRCH),
        Ok(stat) => stat
            .rsplit_once(')')
            .is_some_and(|(_, rest)| matches!(rest.trim_start().as_bytes().first(), Some(b'Z' | b'X'))),
    }
}

/// In every namespace of the first process.
fn namespaces(init: &str, first: &Observed, seen: &Observed) -> Vec<Fact> {
    let init = init.split('/').next().unwrap_or(init);
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
fn own_root(proc: &Proc, init: &str, who: &str) -> Fact {
    let expected = "root on a mount of the container";
    let mounts = root::mount_ids(proc, init);
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
fn in_cgroup(place: Membership) -> Fact {
    let expected = "every process in the container's cgroup";
    match place {
        Membership::Inside => Fact::judged(ControlId::Cgroup, expected, expected, Holds::Yes),
        Membership::NoCgroup => Fact::absent(ControlId::Cgroup, expected, "no cgroup was delegated to who made it"),
        Membership::Outside => Fact::judged(
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
