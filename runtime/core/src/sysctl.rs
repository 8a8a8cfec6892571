//! Names of sysctls, and whose they are.

use crate::namespace::NsType;

/// Whether memfd_create(2) makes executable files (kernel 6.3).
pub const MEMFD: &str = "vm.memfd_noexec";

/// The namespace that a sysctl belongs to; None: the whole machine's.
pub fn namespace(name: &str) -> Option<NsType> {
    let ipc = ["kernel.sem", "kernel.msg", "kernel.shm", "fs.mqueue."];
    if name == MEMFD {
        Some(NsType::Pid)
    } else if name.starts_with("net.") {
        Some(NsType::Network)
    } else if ipc.iter().any(|prefix| name.starts_with(prefix)) {
        Some(NsType::Ipc)
    } else if name == "kernel.hostname" || name == "kernel.domainname" {
        Some(NsType::Uts)
    } else {
        None
    }
}

/// A name that cannot climb out of /proc/sys: dots become slashes when it is written.
pub fn is_name(name: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || "_-.".contains(c);
    !name.is_empty() && name.chars().all(good) && name.split('.').all(|part| !part.is_empty())
}
