//! podman's day, pods, and `kube play` of two Pods that differ in one line. With systemd where it runs, and nginx where it is
//! installed: on a node all of it; elsewhere the rest is left out aloud.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod day;
mod engine;
mod image;
mod kube;
