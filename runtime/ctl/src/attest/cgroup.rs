//! Which processes are the container's, and where its limits are read.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use gabion_core::control::namespaces;
use gabion_core::fact::{Fact, Holds};
use gabion_core::host::Delegation;
use gabion_core::id::ControlId;
use gabion_core::namespace::NsType;
use gabion_core::observed::Observed;
use gabion_see::error::{Error, Result, Step};
use gabion_see::pid_namespace;
use gabion_see::procfs::Proc;
use gabion_see::state::Record;

/// Whether a process of the container is in its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Membership {
    Inside,
    Outside,
    /// The container has none.
    NoCgroup,
}

/// Every process in the cgroup, in any of v1's hierarchies, and every process that has the container's own pid namespace.
pub(super) fn members(proc: &Proc, record: &Record, init: i32, seen: &Observed) -> Result<BTreeMap<i32, Membership>> {
    let mut members = BTreeMap::new();
    let own_pids = namespaces::is_new(record.hardened.spec(), NsType::Pid);
    if let (true, Some(theirs)) = (own_pids, seen.namespaces.get(&NsType::Pid)) {
        let pids =
            pid_namespace::within(proc, *theirs).map_err(|e| Error::step(Step::Namespaces, "list processes", e))?;
        let place = if record.cgroup.delegation.is_none() {
            Membership::NoCgroup
        } else {
            Membership::Outside
        };
        members.extend(pids.into_iter().map(|pid| (pid, place)));
    }
    for directory in record.cgroup.directories()? {
        walk(&directory, &mut members);
    }
    members.insert(init, Membership::Inside);
    Ok(members)
}

/// Below the container's cgroup, too: it may have made some of its own.
fn walk(directory: &Path, members: &mut BTreeMap<i32, Membership>) {
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in procs
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
    {
        members.insert(pid, Membership::Inside);
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), members);
        }
    }
}

/// The limits, as the kernel shows them.
pub(super) fn files(proc: &Proc, record: &Record, who: &str) -> Result<BTreeMap<String, String>> {
    gabion_see::cgroup::limits::read(proc, who, &record.cgroup)
}

/// /proc/PID/cgroup (cgroups(7)): `hierarchy:controllers:path`.
fn lines(proc: &Proc, who: &str) -> Vec<(String, PathBuf)> {
    let text = proc.read(&format!("{who}/cgroup")).unwrap_or_default();
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let controllers = fields.nth(1)?.to_owned();
        Some((controllers, PathBuf::from(fields.next()?)))
    };
    text.lines().filter_map(parse).collect()
}

/// The hierarchies that limits are in: v1's by name, v2's only one.
fn counts(controllers: &str, delegation: &Delegation) -> bool {
    let limits = |c: &str| (c == "pids" || c == "memory") && delegation.has(c);
    controllers.is_empty() || controllers.split(',').any(limits)
}

/// Whether the first process, by a thread of it that lives, still is in the container's cgroup. Somewhere else no limit holds it.
pub(super) fn place(proc: &Proc, record: &Record, (init, who): (i32, &str)) -> Option<Fact> {
    if !record.hardened.enforces(ControlId::Cgroup) {
        return None;
    }
    if record.cgroup.delegation.is_none() {
        let expected = format!("process {init} in a cgroup of its own");
        let observed = "no cgroup was delegated to who made it";
        return Some(Fact::absent(ControlId::Cgroup, expected, observed));
    }
    let wanted = gabion_core::request::normalize(&record.cgroup.place());
    let expected = format!("process {init} in {}", wanted.display());
    let lines = lines(proc, who);
    let limiting = |controllers: &str| counts(controllers, &record.cgroup.delegation);
    let v1 = lines
        .iter()
        .any(|(controllers, _)| !controllers.is_empty() && limiting(controllers));
    // Beside v1 controllers, v2's line says where systemd put it.
    let mut places = lines
        .iter()
        .filter(|(controllers, _)| limiting(controllers) && (!v1 || !controllers.is_empty()))
        .map(|(_, path)| path)
        .peekable();
    if places.peek().is_none() {
        return Some(Fact::unknown(ControlId::Cgroup, expected, "/proc/PID/cgroup not shown"));
    }
    Some(match places.find(|path| !path.starts_with(&wanted)) {
        None => Fact::judged(ControlId::Cgroup, expected.clone(), expected, Holds::Yes),
        Some(path) => {
            let observed = format!("process {init} in {}", path.display());
            Fact::judged(ControlId::Cgroup, expected, observed, Holds::No)
        }
    })
}
