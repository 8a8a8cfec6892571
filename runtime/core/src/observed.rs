//! What the kernel shows of a process: parsed text, no opinions. The crate gabion-see reads it (`readback`).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::namespace::{NsId, NsType};

pub mod parse;

/// One line of /proc/PID/mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountPoint {
    pub id: u64,
    /// The mount that it is attached to. One that is stacked on another at the same place has that as its parent.
    pub parent: u64,
    /// The file system that it shows (major and minor number): the same for every mount of it, wherever and however often.
    pub dev: (u32, u32),
    pub target: PathBuf,
    /// The root of the mount within its file system.
    pub root: PathBuf,
    pub fstype: String,
    /// Per-mount options: ro, nosuid, nodev, noexec, …
    pub options: BTreeSet<String>,
    /// Options of the superblock: size=…, ro, …
    pub super_options: BTreeSet<String>,
    /// `shared:N`, `master:N`: propagation. Empty: private.
    pub propagation: Vec<String>,
}

impl MountPoint {
    pub fn has(&self, option: &str) -> bool {
        self.options.contains(option)
    }

    /// Whether what is mounted or unmounted on it is so elsewhere, too.
    pub fn is_shared(&self) -> bool {
        self.propagation.iter().any(|word| word.starts_with("shared:"))
    }
}

/// How a masked path looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masked {
    /// The null device, by number (1:3).
    NullDevice,
    /// An empty read-only tmpfs.
    EmptyTmpfs,
    Absent,
    /// Something else is there.
    Open,
    /// Could not be looked at: this errno. Not the same as absent.
    Unreadable(i32),
}

/// The kernel shows ids as the user namespace of the reader has them (user_namespaces(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IdsSeen {
    /// Those of the namespace that the container was made from.
    #[default]
    Outside,
    /// The container's own.
    Inside,
    /// The host's: those of the initial namespace, where the container was made from another.
    Host,
}

/// The state of one process, as far as controls look at it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// /proc/PID/status, key to value, of the keys that controls look at.
    pub status: BTreeMap<String, String>,
    pub mounts: Vec<MountPoint>,
    pub namespaces: BTreeMap<NsType, NsId>,
    /// Resource name («Max open files») to soft and hard value; None is unlimited.
    pub limits: BTreeMap<String, (Option<u64>, Option<u64>)>,
    /// Files of the container's cgroup by name (`pids.max`, `memory.max`, `memory.limit_in_bytes`, `devices.list`).
    pub cgroup: BTreeMap<String, String>,
    /// Sysctl name to value, for those that the plan or the spec sets.
    pub sysctls: BTreeMap<String, String>,
    pub masked: BTreeMap<PathBuf, Masked>,
    /// /proc/PID/attr/current and, before execve, attr/exec.
    pub label: Option<String>,
    pub label_on_exec: Option<String>,
    /// What PR_GET_MDWE gives, which a process can ask of itself alone.
    pub mdwe: Option<u32>,
    /// Whose numbers the ids in `status` are.
    pub ids: IdsSeen,
    /// What each open descriptor above stdio is, for those that execve would pass on.
    pub inherited_fds: BTreeMap<i32, String>,
}

/// How the keys of /proc/PID/status begin that `status` may be asked for: no others are kept.
pub const STATUS_KEYS: [&str; 6] = ["Uid", "Gid", "Groups", "Cap", "NoNewPrivs", "Seccomp"];

impl Observed {
    /// A field of /proc/PID/status.
    pub fn status(&self, key: &str) -> Option<&str> {
        debug_assert!(
            STATUS_KEYS.iter().any(|begin| key.starts_with(begin)),
            "{key} is not kept"
        );
        self.status.get(key).map(String::as_str)
    }

    /// A capability set of /proc/PID/status (`CapEff`, …) as a bit mask.
    pub fn caps(&self, key: &str) -> Option<u64> {
        u64::from_str_radix(self.status(key)?, 16).ok()
    }

    /// The mount that `path` itself is the mount point of: the uppermost, where several are stacked. The order of the
    /// lines tells nothing of that since mounts are listed by id (kernel 6.8).
    pub fn mount_at(&self, path: &Path) -> Option<&MountPoint> {
        // As the kernel writes them: then bytes can be compared, which is a tenth of the work.
        let path: PathBuf = path.components().collect();
        let here = || self.mounts.iter().filter(|m| m.target.as_os_str() == path.as_os_str());
        here()
            .rev()
            .find(|m| !here().any(|above| above.parent == m.id && above.id != m.id))
    }

    /// The mount that a file at `path` lies on.
    pub fn mount_of(&self, path: &Path) -> Option<&MountPoint> {
        path.ancestors().find_map(|p| self.mount_at(p))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(id: u64, parent: u64, fstype: &str) -> MountPoint {
        MountPoint {
            id,
            parent,
            dev: (0, 1),
            target: "/dev/shm".into(),
            root: "/".into(),
            fstype: fstype.to_owned(),
            options: BTreeSet::new(),
            super_options: BTreeSet::new(),
            propagation: Vec::new(),
        }
    }

    #[test]
    fn the_uppermost_of_a_stack_counts_whatever_the_order_of_the_lines() {
        // A bind of an older mount (lower id) on top of a newer tmpfs.
        let mut seen = Observed {
            mounts: vec![point(40, 90, "bind"), point(90, 7, "tmpfs")],
            ..Observed::default()
        };
        for _ in 0..2 {
            let top = seen.mount_at(Path::new("/dev/shm")).map(|m| m.fstype.as_str());
            assert_eq!(top, Some("bind"));
            seen.mounts.reverse();
        }
    }
}
