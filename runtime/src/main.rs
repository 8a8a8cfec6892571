//! gabion: an OCI runtime that hardens every container it starts, or says why it does not start it.
//!
//! The walk of one container through the code is in docs/ARCHITECTURE.md.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use nix::sys::stat::Mode;

mod birth;
mod build;
mod cgroup;
mod cli;
mod confine;
mod container;
mod contract;
mod dbus;
mod faults;
mod filter;
mod netlink;
mod selfprotect;
mod state;
mod wait;

/// musl's own allocator, which the shipped binary would have, takes a fifth of a millisecond more for each command. The same one in
/// every build: what is tested is what is shipped.
#[global_allocator]
static HEAP: gabion_sys::Heap = gabion_sys::Heap::new();

const WRITE_OF_OTHERS: Mode = Mode::S_IWGRP.union(Mode::S_IWOTH);

fn main() -> ExitCode {
    // What is made here nobody else may write to, whatever a caller's umask lets: cgroups, sockets and state have the modes that are
    // given, less this.
    let callers = nix::sys::stat::umask(WRITE_OF_OTHERS);
    nix::sys::stat::umask(callers | WRITE_OF_OTHERS);
    ExitCode::from(cli::main(std::env::args_os()))
}
