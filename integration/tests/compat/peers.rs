//! gabion, runc and crun, each ready to be called.

use integration::{Runtime, unified};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    Runc,
    Crun,
}

impl Peer {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Runc => "runc",
            Self::Crun => "crun",
        }
    }

    pub(crate) fn runtime(self) -> Runtime {
        let program = match self {
            Self::Runc => PathBuf::from("runc"),
            Self::Crun => crun(),
        };
        Runtime {
            program,
            hardens: false,
        }
    }

    /// Whether shares become the same weight on cgroup v2: runc before 1.3.2 and crun before 1.24 have a straight line, by which the
    /// default of one is not the default of the other.
    pub(crate) fn weighs_alike(self) -> bool {
        let since = match self {
            Self::Runc => [1, 3, 2],
            Self::Crun => [1, 24, 0],
        };
        !unified() || !self.is_there() || self.version() >= since.to_vec()
    }

    /// The first number that it tells of itself.
    pub(crate) fn version(self) -> Vec<u32> {
        let told = Command::new(self.name()).arg("--version").output().unwrap();
        let told = String::from_utf8_lossy(&told.stdout).into_owned();
        let words = told.split_whitespace().map(|word| word.split(['+', '-', '~']).next());
        let number = words
            .flatten()
            .find(|word| word.contains('.') && word.starts_with(|c: char| c.is_ascii_digit()));
        let parts = number
            .unwrap_or_default()
            .split('.')
            .map(|part| part.parse().unwrap_or(0));
        parts.collect()
    }

    pub(crate) fn is_there(self) -> bool {
        let dirs = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&dirs).any(|dir| dir.join(self.name()).is_file())
    }
}

/// On a hybrid host crun wants every controller on v1. The missing one is mounted for it alone, in a mount namespace of its own.
fn crun() -> PathBuf {
    static CRUN: OnceLock<PathBuf> = OnceLock::new();
    CRUN.get_or_init(|| {
        // Not by where the controller is now: another program on this machine may have it on v1 for a moment.
        let hybrid = Path::new("/sys/fs/cgroup/unified").is_dir();
        let known = fs::read_to_string("/proc/cgroups").is_ok_and(|all| all.contains("hugetlb"));
        if !hybrid || !known {
            return PathBuf::from("crun");
        }
        let path = std::env::temp_dir().join(format!("git-crun-{}", std::process::id()));
        // The host's /sys/fs/cgroup stays as it is: a directory there that is no mount misleads other runtimes.
        let script = "#!/bin/sh\n\
            if [ \"$1\" = --inside ]; then shift\n\
            mount -t tmpfs none /mnt && for d in /sys/fs/cgroup/*; do mkdir /mnt/${d##*/} && mount --rbind $d /mnt/${d##*/}; done\n\
            mkdir -p /mnt/hugetlb && mount -t cgroup -o hugetlb cgroup /mnt/hugetlb && mount --move /mnt /sys/fs/cgroup\n\
            [ \"$1\" = --sweep ] && exec find /sys/fs/cgroup/hugetlb -depth -type d -path '*git-compat-*' -exec rmdir {} ';'\n\
            exec crun \"$@\"\nfi\n\
            exec unshare -m --propagation private \"$0\" --inside \"$@\"\n";
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        path
    })
    .clone()
}

/// What crun left in the hierarchy that only it sees: as long as anything is there, the controller is missing elsewhere.
pub(crate) fn sweep() {
    let wrapper = crun();
    if wrapper.is_absolute() {
        std::process::Command::new(&wrapper).arg("--sweep").status().unwrap();
        fs::remove_file(wrapper).ok();
    }
}
