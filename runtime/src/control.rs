//! The shape of a control, and the one table of them.
//!
//! A control is decided purely (`decide`: spec in, spec and plan out) and verified purely (`facts`: what was decided beside
//! what the kernel shows). What lies between the two, the doing, is `container`'s and `executor`'s.

use serde::{Deserialize, Serialize};

use crate::decision::{Decision, Findings};
use crate::fact::Fact;
use crate::hardened::{Draft, Hardened};
use crate::host::Host;
use crate::observed::Observed;
use crate::policy::Effective;
use crate::request::Request;

pub mod capabilities;
pub mod cgroup;
pub mod devices;
pub mod exec;
pub mod fds;
pub mod holes;
pub mod hooks;
pub mod landlock;
pub mod lsm;
pub mod masked_paths;
pub mod mounts;
pub mod namespaces;
pub mod no_new_privs;
pub mod rlimits;
pub mod rootfs;
pub mod seccomp;
pub mod sysctl;
pub mod user;

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
    Lsm,
    Landlock,
    Seccomp,
    Exec,
}

impl ControlId {
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

/// All that a control may look at when it decides. No control reads anything else.
#[derive(Debug, Clone, Copy)]
pub struct Context<'a> {
    pub request: &'a Request,
    pub policy: &'a Effective,
    pub host: &'a Host,
}

/// One control: one file, one shape.
pub trait Control: Sync {
    fn id(&self) -> ControlId;
    fn about(&self) -> &'static About;
    /// Changes the draft as the policy says and records why. Pure: no file, clock, environment or kernel.
    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings);
    /// What was decided beside what the kernel shows. Pure: `Observed` was read before.
    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact>;
}

/// Every control, in the order in which they decide. `rootfs` comes before `holes` (holes are for roots that it closed),
/// `holes` before `mounts` and `landlock` (both must know what is writable).
pub static CONTROLS: [&dyn Control; 18] = [
    &namespaces::Namespaces,
    &user::User,
    &rootfs::Rootfs,
    &holes::Holes,
    &mounts::Mounts,
    &masked_paths::MaskedPaths,
    &devices::Devices,
    &cgroup::Cgroup,
    &sysctl::Sysctl,
    &rlimits::Rlimits,
    &hooks::Hooks,
    &fds::Fds,
    &capabilities::Capabilities,
    &no_new_privs::NoNewPrivs,
    &lsm::Lsm,
    &landlock::Landlock,
    &seccomp::Seccomp,
    &exec::Exec,
];

/// Runs one control on the draft and gives its one verdict.
pub(crate) fn decide(control: &dyn Control, draft: &mut Draft, cx: &Context<'_>) -> Decision {
    let mut findings = Findings::default();
    control.decide(draft, cx, &mut findings);
    findings.into_decision(control.id(), control.about())
}
