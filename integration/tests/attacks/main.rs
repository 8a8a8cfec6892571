//! Known escapes, tried. Permissive: nothing else may stand in for the runtime's own care. docs/CVES.md says which is which.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod binary;
mod caller;
mod cgroup;
mod dev;
mod newcomers;
mod proc;
mod race;
mod reach;
mod root;
mod targets;
mod threads;
