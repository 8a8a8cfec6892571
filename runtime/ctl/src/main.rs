//! gabionctl: gabion's commands for people. It decides by the same code as gabion and starts no container.
#![forbid(unsafe_code)]

use std::process::ExitCode;

mod attest;
mod cli;
mod doctor;
mod manifest;
mod origin;

fn main() -> ExitCode {
    gabion_common::limits::raise();
    ExitCode::from(cli::main(std::env::args_os()))
}
