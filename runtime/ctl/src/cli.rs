//! The command line of gabion for people.

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use gabion_common::cli::{Global, diagnostics, log};
use gabion_see::error::Result;

mod apparmor;
mod attest;
mod audit;
mod can;
mod check;
mod doctor;
mod explain;
mod learn;
mod policy;
mod report;
mod seccomp;

/// gabion's commands for people: what would be refused and why, what holds, what was written down.
#[derive(Debug, Parser)]
#[command(
    name = "gabionctl",
    version = gabion_see::build::TOLD,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Each of these is also a command of gabion: `gabion check` runs `gabionctl check`.\n\n\
        Global options stand before the command."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Say whether a container may do something, and every layer that says no
    Can(can::Args),
    /// Show what would be changed or refused, without running anything
    Check(check::Args),
    /// Say what a refusal or a denial means, and the smallest loosening that helps
    Explain(explain::Args),
    /// Run a program, and say what it needs beyond level hardened
    Learn(learn::Args),
    /// Show the policy that holds, or check a policy file
    Policy(policy::Args),
    /// Load the bundled AppArmor profile, or show it
    Apparmor(apparmor::Args),
    /// Show the rules of gabion's seccomp filters, or what they answer to one call
    Seccomp(seccomp::Args),
    /// Compare a running container with what was decided for it
    Attest(attest::Args),
    /// Check the audit log, or print its newest hash
    Audit(audit::Args),
    /// Say what of this node weakens every container on it
    Doctor(doctor::Args),
    /// Report on containers by framework (PSS, CIS, NIST), with evidence
    Report(report::Args),
}

/// Runs one command line and gives the process's exit code. What went wrong is printed here and nowhere else.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    let cli: Cli = match gabion_common::cli::parse(&args) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let target = cli.global.log_target();
    if cli.global.debug {
        diagnostics::tell(&target);
    }
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            log::report(&error, &target);
            1
        }
    }
}

impl Cli {
    fn run(self) -> Result<u8> {
        let global = &self.global;
        match self.command {
            Command::Can(args) => args.run(global),
            Command::Check(args) => args.run(global),
            Command::Explain(args) => args.run(),
            Command::Learn(args) => args.run(global),
            Command::Policy(args) => args.run(global),
            Command::Apparmor(args) => args.run(),
            Command::Seccomp(args) => args.run(),
            Command::Attest(args) => args.run(global),
            Command::Audit(args) => args.run(global),
            Command::Doctor(args) => args.run(),
            Command::Report(args) => args.run(global),
        }
    }
}
