//! Pods by the container runtime interface, on a real containerd with its CRI plugin and real network plugins.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, unreachable_pub)]

mod base64;
#[path = "../common/mod.rs"]
mod common;
mod config;
mod grpc;
mod kubelet;
mod pods;
mod stream;

mod attacks;
mod cdi;
mod installed;
mod life;
mod narrow;
mod node;
mod users;
mod verdicts;
mod volumes;
