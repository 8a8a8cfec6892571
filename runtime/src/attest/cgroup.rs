//! Which processes are the container's, and where its limits are read.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use nix::fcntl::AtFlags;
use nix::sys::stat::fstatat;

use crate::container::cgroup::Cgroup;
use crate::container::state::Record;
use crate::control::ControlId;
use crate::control::namespaces;
use crate::error::Result;
use crate::fact::{Fact, Holds};
use crate::host::{NsId, NsType};
use crate::init::Proc;
use crate::observed::{self, Observed};

/// Whether a process of the container is in its cgroup.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Inside,
    Outside,
}

/// Every process in the cgroup, in any of v1's hierarchies, and every process that has the container's own pid namespace.
pub(super) fn members(proc: &Proc, record: &Record, init: i32, seen: &Observed) -> Result<BTreeMap<i32, Place>> {
    let mut members = BTreeMap::new();
    let own_pids = namespaces::is_new(record.hardened.spec(), NsType::Pid);
    if let (true, Some(theirs)) = (own_pids, seen.namespaces.get(&NsType::Pid)) {
        for pid in pids_of(proc, *theirs)? {
            members.insert(pid, Place::Outside);
        }
    }
    for directory in Cgroup::open(&record.cgroup).directories()? {
        walk(&directory, &mut members);
    }
    members.insert(init, Place::Inside);
    Ok(members)
}

/// A process that ends meanwhile is left out; one that may not be looked at is not ours.
fn pids_of(proc: &Proc, namespace: NsId) -> Result<Vec<i32>> {
    let mut found = Vec::new();
    let all = fs::read_dir("/proc").map_err(crate::error::Error::file("list", "/proc"))?;
    for pid in all.filter_map(|e| e.ok()?.file_name().to_str()?.parse::<i32>().ok()) {
        let stat = fstatat(
            Some(proc.as_fd().as_raw_fd()),
            format!("{pid}/ns/pid").as_str(),
            AtFlags::empty(),
        );
        if stat.is_ok_and(|s| (s.st_dev, s.st_ino) == (namespace.dev, namespace.ino)) {
            found.push(pid);
        }
    }
    Ok(found)
}

/// Below the container's cgroup, too: it may have made some of its own.
fn walk(directory: &Path, members: &mut BTreeMap<i32, Place>) {
    let procs = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    for pid in procs
        .lines()
        .filter_map(|line| line.parse().ok())
        .filter(|pid| *pid > 0)
    {
        members.insert(pid, Place::Inside);
    }
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&entry.path(), members);
        }
    }
}

/// The limits, as the kernel shows them.
pub(super) fn files(record: &Record) -> Result<BTreeMap<String, String>> {
    observed::cgroup::read(&record.cgroup.place())
}

/// /proc/PID/cgroup (cgroups(7)): `hierarchy:controllers:path`.
fn lines(proc: &Proc, pid: i32) -> Vec<(String, PathBuf)> {
    let text = proc.read(&format!("{pid}/cgroup")).unwrap_or_default();
    let parse = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let controllers = fields.nth(1)?.to_owned();
        Some((controllers, PathBuf::from(fields.next()?)))
    };
    text.lines().filter_map(parse).collect()
}

/// The hierarchies that limits are in: v1's by name, v2's only one.
fn counts(controllers: &str) -> bool {
    controllers.is_empty() || controllers.split(',').any(|c| c == "pids" || c == "memory")
}

/// Whether the first process still is in the container's cgroup. Somewhere else no limit holds it.
pub(super) fn place(proc: &Proc, record: &Record, init: i32) -> Option<Fact> {
    if !record.hardened.enforces(ControlId::Cgroup) {
        return None;
    }
    let wanted = crate::request::normalize(&record.cgroup.place());
    let expected = format!("process {init} in {}", wanted.display());
    let lines = lines(proc, init);
    let v1 = lines
        .iter()
        .any(|(controllers, _)| !controllers.is_empty() && counts(controllers));
    // Beside v1 controllers, v2's line says where systemd put it.
    let mut places = lines
        .iter()
        .filter(|(controllers, _)| counts(controllers) && (!v1 || !controllers.is_empty()))
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
