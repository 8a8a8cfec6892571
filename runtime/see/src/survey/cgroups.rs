//! How cgroups are mounted here, what may be used of them, and what the container's parent leaves it.

use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::{Component, Path, PathBuf};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};
use oci_spec::runtime::{LinuxMemory, LinuxPids};

use crate::cgroup::unit::{Unit, default_slice, manager, slice_path};
use crate::cgroup::{CgroupRecord, ROOT, default_place, own_v2};
use crate::neighbours::OwnCgroup;
use crate::state::STATE;
use gabion_core::caller::OwnUserNs;
use gabion_core::host::{CgroupDriver, CgroupNeighbour, CgroupVersion, Delegation, SwapAccounting};
use gabion_core::request::{Request, normalize};

/// Above this a v1 limit means none (page counter's maximum, rounded to pages).
const V1_UNLIMITED: u64 = 0x7fff_ffff_0000_0000;

pub(super) struct Facts {
    pub(super) version: CgroupVersion,
    pub(super) controllers: BTreeSet<String>,
    pub(super) delegation: Delegation,
    pub(super) swap: SwapAccounting,
    pub(super) memory: Option<u64>,
    pub(super) pids: Option<u64>,
    pub(super) memory_total: u64,
    pub(super) tasks_total: u64,
    pub(super) neighbour: Option<CgroupNeighbour>,
}

pub(super) fn facts(
    request: &Request,
    state_root: &Path,
    driver: CgroupDriver,
    euid: u32,
    user_ns: OwnUserNs,
) -> Facts {
    // Hybrid counts as v1: the controllers are there.
    let version = match statfs(ROOT) {
        Ok(fs) if fs.filesystem_type() == CGROUP2_SUPER_MAGIC => CgroupVersion::V2,
        _ => CgroupVersion::V1,
    };
    let rooted = euid == 0 && user_ns == OwnUserNs::Initial;
    let parent = parent(request, driver, rooted);
    let memory_total = nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total());
    let tasks_total = tasks();
    let (need_memory, need_pids) = needed(request, memory_total, tasks_total);
    let limit = |needed: bool, controller: &str, v1: &str, v2: &str| {
        let (base, file) = match version {
            CgroupVersion::V1 => (Path::new(ROOT).join(controller), v1),
            CgroupVersion::V2 => (PathBuf::from(ROOT), v2),
        };
        if needed { lowest(&base, &parent, file) } else { None }
    };
    let (delegation, controllers) = match (version, rooted) {
        (CgroupVersion::V1, true) => (Delegation::Whole, v1_controllers()),
        (CgroupVersion::V2, true) => (Delegation::Whole, v2_controllers()),
        (CgroupVersion::V1, false) => v1_delegated(driver, &parent),
        (CgroupVersion::V2, false) => v2_delegated(driver, &parent),
    };
    Facts {
        neighbour: neighbour(request, state_root, driver, rooted, &delegation),
        version,
        controllers,
        delegation,
        swap: swap(version),
        memory: limit(need_memory, "memory", "memory.limit_in_bytes", "memory.max"),
        pids: limit(need_pids, "pids", "pids.max", "pids.max"),
        memory_total,
        tasks_total,
    }
}

/// Whose cgroup the container's would be. One that is there already has its own error; what cannot be looked at create tells of.
fn neighbour(
    request: &Request,
    state_root: &Path,
    driver: CgroupDriver,
    rooted: bool,
    delegation: &Delegation,
) -> Option<CgroupNeighbour> {
    let own = state_root.join(request.id.as_str());
    if delegation.is_none() || own.join(STATE).exists() {
        return None;
    }
    let asked = request.spec.linux().as_ref().and_then(|l| l.cgroups_path().as_deref());
    let path = asked.filter(|p| !p.as_os_str().is_empty());
    // The root of a hierarchy, or a path that climbs, is refused for itself.
    let named = |p: &&Path| p.components().any(|c| matches!(c, Component::Normal(_)));
    let climbs = |p: &Path| p.components().any(|c| c == Component::ParentDir);
    if path.is_some_and(|p| climbs(p) || !named(&p)) {
        return None;
    }
    let record = CgroupRecord {
        path: path.map_or_else(|| default_place(driver, &request.id), Path::to_owned),
        driver,
        name: request.id.to_string(),
        manager: manager(driver, rooted),
        delegation: delegation.clone(),
    };
    let place = OwnCgroup {
        record: &record,
        own: &own,
    };
    place.neighbour().ok().flatten()
}

/// How many tasks there can be at once on this machine; 0 where it cannot be seen.
fn tasks() -> u64 {
    let read = |name: &str| {
        crate::small::read(Path::new("/proc/sys/kernel").join(name))
            .ok()?
            .trim()
            .parse()
            .ok()
    };
    let known: Option<u64> = ["pid_max", "threads-max"].into_iter().filter_map(read).min();
    known.unwrap_or(0)
}

/// Which limits of the parent are asked for: only a container that brings none that binds is clamped to its parent's.
fn needed(request: &Request, memory_total: u64, tasks_total: u64) -> (bool, bool) {
    let resources = request.spec.linux().as_ref().and_then(|l| l.resources().as_ref());
    let memory = resources.and_then(|r| r.memory().as_ref()).and_then(LinuxMemory::limit);
    let pids = resources.and_then(|r| r.pids().as_ref()).map(LinuxPids::limit);
    let binds = |limit: i64, machine: u64| u64::try_from(limit).is_ok_and(|l| l > 0 && (machine == 0 || l < machine));
    (
        !memory.is_some_and(|limit| binds(limit, memory_total)),
        !pids.is_some_and(|limit| binds(limit, tasks_total)),
    )
}

/// The parent of the container's cgroup, from the hierarchy's root.
fn parent(request: &Request, driver: CgroupDriver, rooted: bool) -> PathBuf {
    let asked = request.spec.linux().as_ref().and_then(|l| l.cgroups_path().as_deref());
    let asked = asked.unwrap_or(Path::new(""));
    match driver {
        CgroupDriver::Systemd => {
            let unit = Unit::named(asked, rooted);
            let slice = unit.as_ref().map_or(default_slice(rooted), |unit| &unit.slice);
            manager(driver, rooted).join(slice_path(slice))
        }
        // The path is the caller's: without `..` it cannot lead out.
        CgroupDriver::Cgroupfs => normalize(asked)
            .parent()
            .and_then(|p| p.strip_prefix("/").ok())
            .map(Path::to_owned)
            .unwrap_or_default(),
    }
}

/// The lowest limit in `file` on the way from `base/parent` up to `base`. What is not there yet limits nothing.
fn lowest(base: &Path, parent: &Path, file: &str) -> Option<u64> {
    parent
        .ancestors()
        .filter_map(|dir| crate::small::read(base.join(dir).join(file)).ok()?.trim().parse().ok())
        .filter(|limit| *limit < V1_UNLIMITED)
        .min()
}

fn writable(path: &Path) -> bool {
    access(path, AccessFlags::W_OK).is_ok()
}

/// Hierarchies that are mounted and in which this caller may make groups. One mount may have two (`cpu,cpuacct`).
fn v1_controllers() -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(ROOT) else {
        return BTreeSet::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name != "unified" && name != "systemd")
        .filter(|name| writable(&Path::new(ROOT).join(name).join("cgroup.procs")))
        .flat_map(|name| name.split(',').map(str::to_owned).collect::<Vec<_>>())
        .collect()
}

/// What a user may make of the container's cgroup on v1: hierarchies in which the directory above it is theirs. The systemd
/// driver knows no users there.
fn v1_delegated(driver: CgroupDriver, parent: &Path) -> (Delegation, BTreeSet<String>) {
    let entries = match driver {
        CgroupDriver::Cgroupfs => std::fs::read_dir(ROOT).ok(),
        CgroupDriver::Systemd => None,
    };
    let names: BTreeSet<String> = entries
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| given(&Path::new(ROOT).join(name), parent).is_some())
        .collect();
    let controllers = names
        .iter()
        .filter(|name| *name != "unified" && *name != "systemd")
        .flat_map(|name| name.split(',').map(str::to_owned))
        .collect();
    (Delegation::Parts(names), controllers)
}

/// The directory below `base` that the parent's missing levels, or the container's own, would be made in; if this caller may.
fn given(base: &Path, parent: &Path) -> Option<PathBuf> {
    let there = parent.ancestors().map(|dir| base.join(dir)).find(|dir| dir.is_dir())?;
    (there.join("cgroup.procs").exists() && writable(&there)).then_some(there)
}

/// Every controller of v2, as root.
fn v2_controllers() -> BTreeSet<String> {
    let mut found = listed(Path::new(ROOT));
    // Not files but a program of kind BPF_PROG_TYPE_CGROUP_DEVICE, which wants CAP_BPF on the host.
    found.insert("devices".to_owned());
    // Part of every v2 cgroup.
    found.insert("freezer".to_owned());
    found
}

/// As a user those that systemd delegated, or that whoever gave away the directory left enabled there.
fn v2_delegated(driver: CgroupDriver, parent: &Path) -> (Delegation, BTreeSet<String>) {
    let root = Path::new(ROOT);
    let place = match driver {
        CgroupDriver::Systemd => {
            let manager = root.join(manager(driver, false));
            writable(&manager.join("cgroup.procs")).then_some(manager)
        }
        CgroupDriver::Cgroupfs => given(root, parent).filter(|dir| movable(&own_v2(), dir)),
    };
    let Some(place) = place else {
        return (Delegation::Parts(BTreeSet::new()), BTreeSet::new());
    };
    let mut controllers = listed(&place);
    controllers.insert("freezer".to_owned());
    (Delegation::Parts(["unified".to_owned()].into()), controllers)
}

/// Processes move between two groups of v2 only for who may write to what they have in common (cgroup-v2.rst, Delegation
/// Containment).
fn movable(from: &Path, to: &Path) -> bool {
    let common = from.ancestors().find(|dir| to.starts_with(dir));
    common.is_some_and(|dir| writable(&dir.join("cgroup.procs")))
}

fn listed(dir: &Path) -> BTreeSet<String> {
    let text = read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
    text.split_whitespace().map(str::to_owned).collect()
}

fn swap(version: CgroupVersion) -> SwapAccounting {
    let there = match version {
        CgroupVersion::V1 => Path::new(ROOT).join("memory/memory.memsw.limit_in_bytes").exists(),
        // The root group has no such file; systemd's first slice does, where memory is on.
        CgroupVersion::V2 => ["init.scope", "system.slice"]
            .iter()
            .map(|dir| Path::new(ROOT).join(dir))
            .chain(std::iter::once_with(own_v2))
            .any(|dir| dir.join("memory.swap.max").exists()),
    };
    if there {
        SwapAccounting::Present
    } else {
        SwapAccounting::Absent
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_given_to_who_may_write_to_it() {
        let base = std::env::temp_dir().join(format!("gabion-given-{}", std::process::id()));
        std::fs::create_dir_all(base.join("user/1000")).unwrap();
        std::fs::write(base.join("user/1000/cgroup.procs"), "").unwrap();
        let at = |parent: &str| given(&base, Path::new(parent));
        assert_eq!(at("user/1000"), Some(base.join("user/1000")));
        assert_eq!(at("user/1000/not/yet"), Some(base.join("user/1000")));
        // The directories above it are no cgroups here.
        assert_eq!(at("user"), None);
        assert_eq!(at(""), None);
        std::fs::remove_dir_all(base).unwrap();
    }

    #[test]
    fn the_lowest_limit_on_the_way_up_counts() {
        let base = std::env::temp_dir().join(format!("gabion-cgroup-{}", std::process::id()));
        std::fs::create_dir_all(base.join("a/b")).unwrap();
        let write = |path: &str, text: &str| std::fs::write(base.join(path).join("memory.max"), text).unwrap();
        write("", "9223372036854771712\n");
        write("a", "4096\n");
        write("a/b", "max\n");
        assert_eq!(lowest(&base, Path::new("a/b/not-yet"), "memory.max"), Some(4096));
        assert_eq!(lowest(&base, Path::new(""), "memory.max"), None);
        std::fs::remove_dir_all(base).unwrap();
    }
}
