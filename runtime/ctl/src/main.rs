//! gabionctl: gabion's commands for people. It decides by the same code as gabion, and starts no container by itself: `learn` has gabion run one.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod anchors;
mod ask;
mod attest;
mod calls;
mod cli;
mod doctor;
mod learn;
mod manifest;
mod origin;
mod page;
mod report;

fn main() -> ExitCode {
    gabion_common::limits::raise();
    ExitCode::from(cli::main(std::env::args_os()))
}
