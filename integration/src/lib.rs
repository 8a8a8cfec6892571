//! The harness of the tests that need root: bundles, containers, policies, and proof that nothing is left behind.
//!
//! Environment:
//! - `RUNTIME_UNDER_TEST`: another runtime (`runc`, `crun`) in gabion's place. It knows no policy, so tests of hardening
//!   only make sure there that the act itself succeeds where nothing forbids it.
//! - `GABION_BIN`, `GABION_SHIM`, `GABION_FAULTS_BIN`, `GABION_PROBE`: binaries built elsewhere; otherwise they are built once.
//! - `GABION_IT_SLOW`: a whole number every time limit is multiplied with (emulated machines).
//! - `GABION_IT_CGROUPS=systemd`: the containers' cgroups are scopes that systemd makes, on a machine with systemd and cgroup v2.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    reason = "test code: a panic is how a test fails"
)]

pub mod binaries;
pub mod bundle;
pub mod case;
pub mod cgroup;
pub mod command;
pub mod config;
pub mod container;
pub mod fdpass;
pub mod host;
pub mod leaks;
pub mod outcome;
pub mod podman;
pub mod policy;
pub mod user;

/// Says what is not tried on this machine. Past the harness, which shows nothing that a test says that passes: hack/test lists it at its end.
pub fn left_out(what: &str) {
    let mut out = std::io::stderr();
    // Who listens no longer is not told.
    std::io::Write::write_all(&mut out, format!("\nleft out: {what}\n").as_bytes()).ok();
}

pub use binaries::Runtime;
pub use bundle::Bundle;
pub use case::{Case, Expect};
pub use command::Done;
pub use config::Config;
pub use container::Container;
pub use host::{apparmor, disk, selinux, unified};
pub use outcome::Outcome;
pub use podman::Podman;
pub use policy::Policy;
pub use user::User;
