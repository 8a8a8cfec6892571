//! podman's day as root and as a user with a systemd session, `kube play`, and gabion by itself in that session. On a node all of
//! it; elsewhere what the machine has, and the rest is left out aloud.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod day;
mod direct;
mod engine;
mod image;
mod kube;
mod readme;
mod session;

/// What this machine lacks is said aloud; a node has all of it.
fn left_out(why: &str) {
    assert!(std::env::var_os("GABION_NODE").is_none(), "on a node: {why}");
    integration::left_out(why);
}
