//! A container's cgroup as the kernel shows it, by cgroups-rs: independent of the code that wrote it.

use std::collections::BTreeMap;
use std::path::Path;

use cgroups_rs::{Cgroup, Controller, hierarchies};

use crate::container::cgroup::directories;
use crate::error::Result;

/// The files that controls and `attest` look at.
const FILES: [&str; 8] = [
    "pids.max",
    "memory.limit_in_bytes",
    "memory.memsw.limit_in_bytes",
    "memory.max",
    "memory.swap.max",
    "cpu.max",
    "cpu.cfs_quota_us",
    "devices.list",
];

/// Reads them; a file that is not there is left out.
pub fn read(path: &Path) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let relative = path.strip_prefix("/").unwrap_or(path);
    if relative.to_string_lossy().contains(':') {
        // systemd's slice:prefix:name: looked for by directory.
        read_directories(path, &mut found)?;
        return Ok(found);
    }
    let cgroup = Cgroup::load(hierarchies::auto(), relative);
    for subsystem in cgroup.subsystems() {
        let controller: &dyn Controller = subsystem.to_controller();
        read_files(controller.path(), &mut found);
    }
    Ok(found)
}

fn read_directories(path: &Path, found: &mut BTreeMap<String, String>) -> Result<()> {
    for directory in directories(path)? {
        read_files(&directory, found);
    }
    Ok(())
}

fn read_files(directory: &Path, found: &mut BTreeMap<String, String>) {
    for file in FILES {
        if let Ok(text) = std::fs::read_to_string(directory.join(file)) {
            found.insert(file.to_owned(), text.trim_end().to_owned());
        }
    }
}
