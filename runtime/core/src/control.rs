//! The shape of a control, and the one table of them.
//!
//! A control is decided purely (`decide`: spec in, spec and plan out) and verified purely (`facts`: what was decided beside
//! what the kernel shows). What lies between the two, the doing, is the crate gabion's.

use crate::decision::{Decision, Findings};
use crate::fact::Fact;
use crate::hardened::{Draft, Hardened};
use crate::host::Host;
use crate::id::{About, ControlId};
use crate::observed::Observed;
use crate::policy::Effective;
use crate::request::Request;

pub mod capabilities;
mod cdi;
pub mod cgroup;
pub mod devices;
pub mod exec;
pub mod fds;
pub mod holes;
pub mod hooks;
pub mod landlock;
pub mod lsm;
pub mod masked_paths;
pub mod memory;
pub mod mounts;
pub mod namespaces;
pub mod no_new_privs;
mod privileged;
mod reached;
mod remedy;
pub mod rlimits;
pub mod rootfs;
pub mod seccomp;
pub mod sysctl;
pub mod user;

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
/// `holes` before `mounts` and `landlock` (both must know what is writable),
/// `mounts` before `memory`, which makes each procfs read-only.
pub static CONTROLS: [&dyn Control; 19] = [
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
    &memory::Memory,
    &lsm::Lsm,
    &landlock::Landlock,
    &seccomp::Seccomp,
    &exec::Exec,
];

/// Decides one control on the draft and gives its one verdict.
pub(crate) fn decide(control: &dyn Control, draft: &mut Draft, cx: &Context<'_>) -> Decision {
    let mut findings = Findings::default();
    control.decide(draft, cx, &mut findings);
    findings.into_decision(control.id(), control.about())
}
