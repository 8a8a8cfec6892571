//! gabion for a user without privileges: called directly, and by podman.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod direct;
mod podman;
