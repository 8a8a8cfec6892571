//! gabion: an OCI runtime that hardens every container it starts, or says why it does not start it.
//!
//! The walk of one container through the code is in docs/ARCHITECTURE.md.

pub mod apparmor;
pub mod attest;
pub mod audit;
pub mod cli;
pub mod container;
pub mod control;
pub mod dbus;
pub mod decision;
pub mod digest;
pub mod error;
pub mod executor;
pub mod explain;
pub mod fact;
pub mod faults;
pub mod harden;
pub mod hardened;
pub mod host;
pub mod init;
pub mod json;
pub mod netlink;
pub mod observed;
pub mod policy;
pub mod printable;
pub mod request;
pub mod seccomp;
pub mod selfprotect;
pub mod size;
pub mod small;
pub mod sys;
#[cfg(test)]
pub(crate) mod testing;
pub mod time;

pub use error::{Error, Result};
