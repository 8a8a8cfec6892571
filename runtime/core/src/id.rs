//! Names of controls. Everything else may depend on them; they depend on nothing.

use serde::{Deserialize, Serialize};

/// The stable name of a control: file, docs section, test and message code share it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ControlId {
    Namespaces,
    User,
    Rootfs,
    Holes,
    Mounts,
    MaskedPaths,
    Devices,
    Cgroup,
    Sysctl,
    Rlimits,
    Hooks,
    Fds,
    Capabilities,
    NoNewPrivs,
    Memory,
    Lsm,
    Landlock,
    Seccomp,
    Exec,
}

impl ControlId {
    /// Lists every control, in the order of [`crate::control::CONTROLS`]; a test holds the two together.
    pub const ALL: [Self; 19] = [
        Self::Namespaces,
        Self::User,
        Self::Rootfs,
        Self::Holes,
        Self::Mounts,
        Self::MaskedPaths,
        Self::Devices,
        Self::Cgroup,
        Self::Sysctl,
        Self::Rlimits,
        Self::Hooks,
        Self::Fds,
        Self::Capabilities,
        Self::NoNewPrivs,
        Self::Memory,
        Self::Lsm,
        Self::Landlock,
        Self::Seccomp,
        Self::Exec,
    ];

    /// The id as it is written in policy, messages, records and docs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Namespaces => "namespaces",
            Self::User => "user",
            Self::Rootfs => "rootfs",
            Self::Holes => "holes",
            Self::Mounts => "mounts",
            Self::MaskedPaths => "masked_paths",
            Self::Devices => "devices",
            Self::Cgroup => "cgroup",
            Self::Sysctl => "sysctl",
            Self::Rlimits => "rlimits",
            Self::Hooks => "hooks",
            Self::Fds => "fds",
            Self::Capabilities => "capabilities",
            Self::NoNewPrivs => "no_new_privs",
            Self::Memory => "memory",
            Self::Lsm => "lsm",
            Self::Landlock => "landlock",
            Self::Seccomp => "seccomp",
            Self::Exec => "exec",
        }
    }
}

impl std::fmt::Display for ControlId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a control is for. docs/CONTROLS.md is checked against these words.
#[derive(Debug, Clone, Copy)]
pub struct About {
    pub threat: &'static str,
    pub rule: &'static str,
    pub enforced_by: &'static str,
    /// The oldest kernel on which it is enforced in full.
    pub kernel_floor: &'static str,
    /// Pod Security Standards, CIS benchmark and NIST SP 800-190 references.
    pub refs: &'static [&'static str],
}
