//! A container's cgroup as the kernel shows it, by cgroups-rs: independent of the code that wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cgroups_rs::{Cgroup, Controller, Controllers, hierarchies};

use crate::container::cgroup::CgroupRecord;
use crate::error::Result;

/// The files that controls and `attest` look at, by the controller that shows them.
const SHOWN: [(Controllers, &[&str]); 4] = [
    (Controllers::Pids, &["pids.max"]),
    (
        Controllers::Mem,
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
        &[
            "cpu.max",
            "cpu.weight",
            "cpu.cfs_quota_us",
            "cpu.cfs_period_us",
            "cpu.shares",
        ],
    ),
    (Controllers::Devices, &["devices.list"]),
];

/// The directories of the container's cgroup, one for each controller, as cgroups-rs finds them.
pub fn directories(record: &CgroupRecord) -> Result<Vec<PathBuf>> {
    let path = record.place();
    let relative = relative(&path);
    if as_written(relative) {
        return by_hand(record);
    }
    let cgroup = Cgroup::load(hierarchies::auto(), relative);
    let controllers = cgroup.subsystems().iter().map(cgroups_rs::Subsystem::to_controller);
    let all = controllers.map(|c: &dyn Controller| c.path().to_path_buf());
    Ok(all.filter(|directory| record.owns(directory)).collect())
}

fn relative(path: &Path) -> &Path {
    path.strip_prefix("/").unwrap_or(path)
}

/// A name that libcontainer took as it is: looked for by directory.
fn as_written(relative: &Path) -> bool {
    relative.to_string_lossy().contains(':')
}

fn by_hand(record: &CgroupRecord) -> Result<Vec<PathBuf>> {
    crate::container::cgroup::Cgroup::open(record).directories()
}

/// Reads them; a file that is not there is left out.
pub fn read(record: &CgroupRecord) -> Result<BTreeMap<String, String>> {
    let mut found = BTreeMap::new();
    let path = record.place();
    let relative = relative(&path);
    if as_written(relative) {
        for directory in by_hand(record)? {
            for (_, files) in &SHOWN {
                read_files(&directory, files, &mut found);
            }
        }
        return Ok(found);
    }
    // The four controllers by name, not `Cgroup::load`: its one for huge pages compiles a regular expression, which takes longer than
    // all that is read here.
    let v1 = (!hierarchies::is_cgroup2_unified_mode()).then(hierarchies::V1::new);
    for (controller, files) in SHOWN {
        let top = match &v1 {
            Some(v1) => v1.get_mount_point(controller),
            None => Some(PathBuf::from(hierarchies::UNIFIED_MOUNTPOINT)),
        };
        let directory = top.map(|top| top.join(relative));
        if let Some(directory) = directory.filter(|directory| record.owns(directory)) {
            read_files(&directory, files, &mut found);
        }
    }
    Ok(found)
}

fn read_files(directory: &Path, files: &[&str], found: &mut BTreeMap<String, String>) {
    for file in files {
        if let Ok(text) = crate::small::read(directory.join(file)) {
            found.insert((*file).to_owned(), text.trim_end().to_owned());
        }
    }
}
