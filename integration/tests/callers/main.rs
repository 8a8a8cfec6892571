//! gabion as its callers call it: containerd's go-runc and CRI-O word for word, the real conmon by itself, and the real podman.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod conmon;
mod cri_o;
mod go_runc;
mod podman;
mod podman_build;
mod words;
