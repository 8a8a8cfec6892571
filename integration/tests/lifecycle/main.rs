//! The life of a container as callers of runc know it. What is common to both can be run with `RUNTIME_UNDER_TEST=runc`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod agree;
mod bad_input;
mod broken_policy;
mod callers_own;
mod can;
mod cgroups;
mod closed;
mod console;
mod edges;
mod events;
mod exec;
mod foreground;
mod hooks;
mod life;
mod names;
mod pid_file;
mod pidfd_socket;
mod run;
mod systemd;
mod tell;

use integration::{Bundle, Container, Policy, Runtime};

/// A container that does nothing until it is told, hardened where the runtime can.
fn container(test: &str) -> Container {
    Container::new(Bundle::new(test)).policy(&Policy::hardened())
}

/// The same with a shell script as workload.
fn script(test: &str, commands: &str) -> Container {
    let mut bundle = Bundle::with_busybox(test);
    bundle.config.args(&["/bin/sh", "-c", commands]);
    Container::new(bundle).policy(&Policy::hardened())
}

/// Tests of words and codes that are gabion's own are left out under a stand-in, aloud.
fn gabion() -> bool {
    let hardens = Runtime::under_test().hardens;
    if !hardens {
        integration::left_out(&format!("{} is not gabion", Runtime::under_test().program.display()));
    }
    hardens
}
