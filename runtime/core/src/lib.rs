//! What gabion decides, and the words and facts that it decides by. Pure: no file, no clock, no environment, no kernel. What has to be
//! known of a host is collected before (the crate gabion-see), and what was decided is done afterwards (the crate gabion).
#![forbid(unsafe_code)]

pub mod attest;
pub mod caller;
pub mod can;
pub mod capability;
pub mod cdi;
pub mod control;
pub mod decision;
pub mod digest;
pub mod docker;
pub mod doctor;
pub mod engines;
pub mod errno;
pub mod explain;
pub mod fact;
mod file;
pub mod harden;
pub mod hardened;
pub mod host;
pub mod id;
pub mod ids;
pub mod learn;
pub mod list;
pub mod named;
pub mod namespace;
pub mod observed;
pub mod policy;
pub mod printable;
pub mod reach;
pub mod report;
pub mod request;
pub mod size;
pub mod sockets;
pub mod sysctl;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod time;
pub mod valid;
