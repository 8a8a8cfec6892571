//! The limits that bind a process, as the kernel shows them. Which cgroup the process is in is asked of the kernel (/proc/PID/cgroup), and
//! where that cgroup's files are of cgroups-rs, which finds the mounts of each controller. Neither hangs on what the writer believes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cgroups_rs::{Controllers, hierarchies};
use gabion_core::request::normalize;
use nix::errno::Errno;

use super::CgroupRecord;
use super::members::place_of;
use crate::error::{Error, Result, Step};
use crate::procfs::Proc;

/// The files that controls and `attest` look at, by the controller that shows them.
const SHOWN: [(Controllers, &str, &[&str]); 4] = [
    (Controllers::Pids, "pids", &["pids.max"]),
    (
        Controllers::Mem,
        "memory",
        &[
            "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes",
            "memory.max",
            "memory.swap.max",
            "memory.soft_limit_in_bytes",
            "memory.low",
        ],
    ),
    (
        Controllers::Cpu,
        "cpu",
        &[
            "cpu.max",
            "cpu.weight",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
            "cpu.shares",
        ],
    ),
    (Controllers::Devices, "devices", &["devices.list"]),
];

/// Reads the limits of the container that `who` is a living thread of the first process of, by its directory in procfs; a file that is not there is left out. `record` says only which
/// hierarchies were given to the container, and how far up its own cgroup is where the process has moved into one below.
///
/// # Errors
/// /proc/PID/cgroup cannot be read.
pub fn read(proc: &Proc, who: &str, record: &CgroupRecord) -> Result<BTreeMap<String, String>> {
    let listing = proc.read(&format!("{who}/cgroup")).map_err(|e| unreadable(who, e))?;
    let wanted = normalize(&record.place());
    // v2 has one tree for all controllers.
    let v1 = (!hierarchies::is_cgroup2_unified_mode()).then(hierarchies::V1::new);
    let mut found = BTreeMap::new();
    for (controller, name, files) in SHOWN {
        let mount = match &v1 {
            Some(v1) => v1.get_mount_point(controller),
            None => Some(PathBuf::from(hierarchies::UNIFIED_MOUNTPOINT)),
        };
        let (Some(mount), Some(shown)) = (mount, place_of(&listing, name)) else {
            continue;
        };
        let own = own_cgroup(shown, &wanted);
        let directory = mount.join(own.strip_prefix("/").unwrap_or(own));
        if record.owns(&directory) {
            read_files(&directory, files, &mut found);
        }
    }
    Ok(found)
}

fn unreadable(who: &str, errno: Errno) -> Error {
    Error::step(Step::Cgroup, format!("read /proc/{who}/cgroup"), errno)
}

/// The container's own cgroup: where the process is, or as far above that as the container's begins. A process somewhere else is bound by
/// what is there, so that is what is read: it differs from what was decided.
fn own_cgroup<'s>(shown: &'s Path, wanted: &Path) -> &'s Path {
    if !shown.starts_with(wanted) {
        return shown;
    }
    let below = shown.components().count() - wanted.components().count();
    shown.ancestors().nth(below).unwrap_or(shown)
}

fn read_files(directory: &Path, files: &[&str], found: &mut BTreeMap<String, String>) {
    for file in files {
        if let Ok(text) = crate::small::read(directory.join(file)) {
            found.insert((*file).to_owned(), text.trim_end().to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_which_cgroup_and_the_record_how_far_up() {
        let own = |shown: &'static str, wanted: &str| own_cgroup(Path::new(shown), Path::new(wanted));
        assert_eq!(own("/gabion/a", "/gabion/a"), Path::new("/gabion/a"));
        assert_eq!(own("/gabion/a/init.scope", "/gabion/a"), Path::new("/gabion/a"));
        assert_eq!(own("/gabion/a/b/c", "/gabion/a"), Path::new("/gabion/a"));
        // Moved out, or never in.
        assert_eq!(own("/gabion/ab", "/gabion/a"), Path::new("/gabion/ab"));
        assert_eq!(own("/", "/gabion/a"), Path::new("/"));
    }
}
