//! A container's cgroup as the kernel shows it, by cgroups-rs: independent of the code that wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cgroups_rs::{Cgroup, Controller, hierarchies};

use crate::container::cgroup::directories as by_hand;
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
pub fn directories(path: &Path) -> Result<Vec<PathBuf>> {
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.to_string_lossy().contains(':') {
        // A name that libcontainer took as it is: looked for by directory.
        return by_hand(path);
    }
    let cgroup = Cgroup::load(hierarchies::auto(), relative);
    let controllers = cgroup.subsystems().iter().map(cgroups_rs::Subsystem::to_controller);
    Ok(controllers.map(|c: &dyn Controller| c.path().to_path_buf()).collect())
}

/// Reads them; a file that is not there is left out.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    for directory in directories(path)? {
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
