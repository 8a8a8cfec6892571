//! A container's cgroup as the kernel shows it, by cgroups-rs: independent of the code that wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cgroups_rs::{Cgroup, Controller, hierarchies};

use crate::container::cgroup::CgroupRecord;
use crate::error::Result;

/// The files that controls and `attest` look at.
const FILES: [&str; 12] = [
    "pids.max",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.max",
    "memory.swap.max",
    "cpu.max",
    "cpu.cfs_quota_us",
    "cpu.cfs_period_us",
    "cpu.shares",
    "memory.soft_limit_in_bytes",
    "memory.low",
    "devices.list",
];

/// The directories of the container's cgroup, one for each controller, as cgroups-rs finds them.
pub fn directories(record: &CgroupRecord) -> Result<Vec<PathBuf>> {
    let path = record.place();
    let relative = path.strip_prefix("/").unwrap_or(&path);
    if relative.to_string_lossy().contains(':') {
        // A name that libcontainer took as it is: looked for by directory.
        return by_hand(record);
    }
    let cgroup = Cgroup::load(hierarchies::auto(), relative);
    let controllers = cgroup.subsystems().iter().map(cgroups_rs::Subsystem::to_controller);
    let all = controllers.map(|c: &dyn Controller| c.path().to_path_buf());
    Ok(all.filter(|directory| record.owns(directory)).collect())
}

fn by_hand(record: &CgroupRecord) -> Result<Vec<PathBuf>> {
    crate::container::cgroup::Cgroup::open(record).directories()
}

/// Reads them; a file that is not there is left out.
pub fn read(record: &CgroupRecord) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for directory in directories(record)? {
        read_files(&directory, &mut found);
    }
    Ok(found)
}

fn read_files(directory: &Path, found: &mut BTreeMap<String, String>) {
    for file in FILES {
        if let Ok(text) = std::fs::read_to_string(directory.join(file)) {
            found.insert(file.to_owned(), text.trim_end().to_owned());
        }
    }
}
