//! What the machine that the tests run on has: a node, or the host with cgroup v1 and no security module.

use std::path::Path;

/// Whether AppArmor is on.
pub fn apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Whether SELinux is on and enforces.
pub fn selinux() -> bool {
    std::fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1")
}

/// Whether cgroup v2 alone is mounted.
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}

/// The numbers of a disk of this machine, for limits of its reads and writes.
pub fn disk() -> Option<(u64, u64)> {
    let told = ["vda", "sda", "nvme0n1"]
        .iter()
        .find_map(|name| std::fs::read_to_string(format!("/sys/block/{name}/dev")).ok())?;
    let (major, minor) = told.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
