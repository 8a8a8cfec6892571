//! What is known of a node: texts as the kernel and the engines have them, and what was asked of the kernel. The judging is the table's.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::policy::Policy;

/// What was looked at. The three are never mixed: what is not there is a fact, what could not be seen is none.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Seen<T> {
    Is(T),
    Absent,
    /// Why it could not be seen.
    Unknown(String),
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self::Unknown("nobody looked".to_owned())
    }
}

/// What the kernel says of Landlock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Landlock {
    /// 0: none.
    pub abi: u32,
    /// Bit 0 for the first erratum that is mended.
    pub errata: u32,
}

/// Whether the kernel's audit writes down what is denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KernelAudit {
    On,
    Off,
}

/// The settings of the kernel that are looked at, as below /proc/sys.
pub const SYSCTLS: [&str; 11] = [
    "vm/memfd_noexec",
    "kernel/io_uring_disabled",
    "kernel/unprivileged_bpf_disabled",
    "vm/unprivileged_userfaultfd",
    "kernel/yama/ptrace_scope",
    "kernel/core_pattern",
    "kernel/kptr_restrict",
    "kernel/dmesg_restrict",
    "kernel/perf_event_paranoid",
    "kernel/modules_disabled",
    "kernel/modprobe",
];

/// How cgroups are here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cgroups {
    /// The root's `cgroup.controllers`: v2. Absent: v1, or none.
    pub controllers: Seen<String>,
    /// The hierarchies below /sys/fs/cgroup: of v1 the names of controllers.
    pub hierarchies: Seen<Vec<String>>,
    /// What systemd hands on to users: a user's cgroup, and its `cgroup.controllers`.
    pub users: Seen<Vec<(String, Seen<String>)>>,
    /// Whether a group has a file that limits swap.
    pub swap_limit: Seen<()>,
    /// /proc/swaps.
    pub swaps: Seen<String>,
}

/// How the kernel's modules are loaded here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Modules {
    /// /proc/modules. Absent: the kernel has no modules.
    pub loaded: Seen<String>,
    /// `modules.alias` of the kernel that runs.
    pub aliases: Seen<String>,
    /// The files of modprobe.d.
    pub configuration: Seen<Vec<String>>,
}

/// An engine that may be on a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Engine {
    Containerd,
    Docker,
    Podman,
    CriO,
}

impl Engine {
    pub const ALL: [Self; 4] = [Self::Containerd, Self::Docker, Self::Podman, Self::CriO];

    /// Gives the program whose `--version` tells its version.
    pub const fn program(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Docker => "dockerd",
            Self::Podman => "podman",
            Self::CriO => "crio",
        }
    }
}

/// Whose a file is, and who may do what with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Owned {
    pub uid: u32,
    /// Permission bits alone.
    pub mode: u32,
}

impl Owned {
    /// Whether only root can change it.
    pub(super) const fn is_roots(self) -> bool {
        self.uid == 0 && self.mode & 0o022 == 0
    }
}

/// A policy file of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyFile {
    /// Its path, or `built-in`.
    pub source: String,
    /// What it says, or why it cannot be used.
    pub policy: Result<Policy, String>,
    /// The reasons of exceptions that are past their day.
    pub expired: Vec<String>,
}

/// Where gabion's records go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    pub file: PathBuf,
    /// Who asks, and may own it: 0, or a user whose containers are to be looked after.
    pub reader: u32,
    /// Its directory.
    pub directory: Seen<Owned>,
    pub log: Seen<Owned>,
    /// Bytes that are free there for root.
    pub free: Seen<u64>,
    /// Whether what is written there is gone after a boot.
    pub keeps: Seen<Keeps>,
}

/// Whether a file system keeps what is written over a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    Yes,
    /// tmpfs.
    UntilBoot,
}

/// How a directory's file system is mounted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Executes {
    Yes,
    /// `noexec`.
    No,
}

/// A program of gabion's, and who can exchange it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    pub path: PathBuf,
    pub owned: Owned,
}

/// One machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `6.12.3-amd64`.
    pub release: Seen<String>,
    pub cmdline: Seen<String>,
    pub landlock: Seen<Landlock>,
    /// The list of security modules, by commas.
    pub lsm: Seen<String>,
    /// SELinux' `enforce`.
    pub selinux: Seen<String>,
    /// AppArmor's profiles, a line each.
    pub profiles: Seen<String>,
    pub audit: Seen<KernelAudit>,
    /// What the processor is vulnerable to, in the kernel's words.
    pub vulnerabilities: Seen<Vec<(String, String)>>,
    /// Samepage merging: `/sys/kernel/mm/ksm/run`.
    pub ksm: Seen<String>,
    pub cgroups: Cgroups,
    pub sysctls: BTreeMap<&'static str, Seen<String>>,
    pub modules: Modules,
    /// Handlers of binfmt_misc: name and text.
    pub binfmt: Seen<Vec<(String, String)>>,
    /// What each engine that is here says of its version.
    pub engines: BTreeMap<Engine, Seen<String>>,
    /// containerd's configuration: its files in the order in which they are read, with their texts.
    pub containerd: Seen<Vec<(PathBuf, String)>>,
    pub policies: Vec<PolicyFile>,
    pub log: Log,
    /// How the file system of the kubelet's volumes is mounted.
    pub kubelet: Seen<Executes>,
    /// Where a service finds the shim, or where a handler names it.
    pub shim: Seen<Program>,
    /// gabion and gabionctl themselves.
    pub programs: Vec<(&'static str, Seen<Program>)>,
}

impl Node {
    pub(super) fn sysctl(&self, name: &'static str) -> Seen<&str> {
        match self.sysctls.get(name) {
            Some(seen) => super::trimmed(seen),
            None => Seen::Unknown(format!("nobody looked at {name}")),
        }
    }
}
