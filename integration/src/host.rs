//! What the machine that the tests run on has: a node, or the host with cgroup v1 and no security module.

use std::path::Path;

/// Whether AppArmor is on.
pub fn apparmor() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.starts_with('Y'))
}

/// Whether cgroup v2 alone is mounted.
pub fn unified() -> bool {
    Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
}
