//! Names and numbers of capabilities (capabilities(7)).

use std::sync::LazyLock;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities, Process};

/// The kernel's capabilities; the place is the number (linux/capability.h). The crate gabion holds this beside another list in a test.
pub const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// Finds a capability by its name, `CAP_CHOWN` or `CHOWN`.
pub fn parse(name: &str) -> Option<Capability> {
    name.strip_prefix("CAP_").unwrap_or(name).parse().ok()
}

/// The kernel's bit of each capability that a spec can name, by its place in oci-spec's enum.
static BITS: LazyLock<[u64; 64]> = LazyLock::new(|| {
    let mut bits = [0; 64];
    for (index, name) in NAMES.iter().enumerate() {
        if let Some(bit) = parse(name).and_then(|cap| bits.get_mut(cap as usize)) {
            *bit = 1 << index;
        }
    }
    bits
});

/// Gives the bit of a capability in the kernel's masks; none for one that it does not know.
pub fn bit(cap: Capability) -> u64 {
    BITS.get(cap as usize).copied().unwrap_or(0)
}

/// Gives the ambient capabilities of a process that cannot be raised: only what is permitted and inheritable can (capabilities(7)).
pub fn not_raised(process: &Process) -> Vec<Capability> {
    let caps = process.capabilities().as_ref();
    let set = |of: fn(&LinuxCapabilities) -> &Option<Capabilities>| caps.and_then(|caps| of(caps).as_ref());
    let has = |set: Option<&Capabilities>, cap| set.is_some_and(|set| set.contains(&cap));
    let (permitted, inheritable) = (set(LinuxCapabilities::permitted), set(LinuxCapabilities::inheritable));
    let ambient = set(LinuxCapabilities::ambient).into_iter().flatten().copied();
    let mut all: Vec<Capability> = ambient
        .filter(|cap| !has(permitted, *cap) || !has(inheritable, *cap))
        .collect();
    all.sort_by_key(|cap| bit(*cap));
    all
}

/// Writes a kernel's mask by name; bits that have none as a number.
pub fn shown(mask: u64) -> String {
    let mut left = mask;
    let mut names = Vec::new();
    for (index, name) in NAMES.iter().enumerate().filter(|(index, _)| mask & (1 << index) != 0) {
        left &= !(1 << index);
        names.push((*name).to_owned());
    }
    if left != 0 {
        names.push(format!("{left:#x}"));
    }
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    }
}
