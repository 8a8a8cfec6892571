//! The command line, as runc's callers use it. Arguments → one call → output; `main` prints what went wrong, once.

use std::ffi::OsString;

use clap::{Parser, Subcommand};
use gabion_common::audit::Trail;
use gabion_common::cli::{Global, Settings, diagnostics, id, log, output};
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::StateView;

use crate::selfprotect;

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod hand_over;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod unsupported;
mod update;

/// An OCI runtime that hardens every container it starts, or says why it does not start it.
#[derive(Debug, Parser)]
#[command(
    name = "gabion",
    version = gabion_see::build::TOLD,
    disable_version_flag = true,
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = "Examples:\n  \
        gabion check ./bundle                 what would be changed or refused, before anything runs\n  \
        gabion run -b ./bundle web            run a bundle in the foreground\n  \
        gabion exec web sh -c 'id'            run a program in it\n  \
        podman --runtime gabion run alpine id\n\n\
        Global options stand before the command; a command's own options before or after the container's id."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// A command's own options are put together only where it is asked for.
#[derive(Debug, Subcommand)]
#[command(defer = true)]
enum Command {
    /// Create a container; its program waits for `start`
    Create(create::Args),
    /// Start the program of a created container
    Start(start::Args),
    /// Create and start a container, and wait for it unless detached
    Run(run::Args),
    /// Print a container's state as JSON
    State(state::Args),
    /// Send a signal to a container's first process
    Kill(kill::Args),
    /// Delete a stopped container and what it held
    Delete(delete::Args),
    /// Run a program in a running container
    Exec(exec::Args),
    /// List the processes of a container
    Ps(ps::Args),
    /// Stop every process of a container where it is
    Pause(pause::PauseArgs),
    /// Let a paused container go on
    Resume(pause::ResumeArgs),
    /// Set new limits for a running container, within the policy that it was made under
    Update(update::Args),
    /// Print what a container uses, and when it runs out of memory
    Events(events::Args),
    /// List the containers below --root, or in every root that is known
    List(list::Args),
    /// Write a config.json to start from
    Spec(spec::Args),
    /// Print what this runtime supports, as JSON
    Features(features::Args),
    /// Say whether a container may do something, and every layer that says no
    Can(hand_over::Args),
    /// Show what would be changed or refused, without running anything
    Check(hand_over::Args),
    /// Say what a refusal or a denial means, and the smallest loosening that helps
    Explain(hand_over::Args),
    /// Run a program, and say what it needs beyond level hardened
    Learn(hand_over::Args),
    /// Show the policy that holds, or check a policy file
    Policy(hand_over::Args),
    /// Load the bundled AppArmor profile, or show it
    Apparmor(hand_over::Args),
    /// Show the rules of gabion's seccomp filters, or what they answer to one call
    Seccomp(hand_over::Args),
    /// Compare a running container with what was decided for it
    Attest(hand_over::Args),
    /// Check the audit log, or print its newest hash
    Audit(hand_over::Args),
    /// Say what of this node weakens every container on it
    Doctor(hand_over::Args),
    /// Report on containers by framework, with evidence
    Report(hand_over::Args),
    /// Not supported, by design
    Checkpoint(unsupported::Args),
    /// Not supported, by design
    Restore(unsupported::Args),
}

/// Makes constants read-only and the caller's word on children void, before anything is read that others wrote.
fn settle() -> Result<gabion_sys::Sealed> {
    let sealed = gabion_sys::seal_constants()
        .map_err(|e| Error::file("make read-only the constants of", "/proc/self/exe")(e.into()))?;
    // If our caller ignores SIGCHLD we inherit that: the kernel reaps our children itself, and waitpid(2) never returns them.
    gabion_sys::default_signal(libc::SIGCHLD).map_err(|e| Error::step(Step::Clone, "reset SIGCHLD", e))?;
    Ok(sealed)
}

/// Runs one command line and gives the process's exit code. What made it fail is printed here and nowhere else.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    #[cfg(not(target_arch = "x86_64"))]
    protect_early(&args);
    let sealed = match settle() {
        Ok(sealed) => sealed,
        Err(error) => {
            log::report(&error, &log::Target::guess(&args));
            return 1;
        }
    };
    let cli: Cli = match gabion_common::cli::parse(&args) {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    let target = cli.global.log_target();
    if cli.global.debug {
        diagnostics::tell(&target);
    }
    if sealed == gabion_sys::Sealed::NoSuchPart {
        tracing::warn!("this gabion was linked without RELRO: its relocated constants stay writable");
    }
    // runc's code for an exec that could not start what it was asked to: callers tell it from the workload's own 1.
    let failed = if matches!(cli.command, Command::Exec(_)) {
        255
    } else {
        1
    };
    match cli.run(&args) {
        Ok(code) => code,
        Err(error) => {
            log::report(&error, &target);
            failed
        }
    }
}

/// Runs again from where nobody can write before the arguments are parsed, not after: that would be done twice. A word that only looks
/// like one of these commands costs another start and nothing else. On x86_64 it has been done before libc was set up (gabion-sys, `first.rs`).
#[cfg(not(target_arch = "x86_64"))]
fn protect_early(args: &[OsString]) {
    let protected = |word: &OsString| word == "create" || word == "run" || word == "exec";
    // What stands behind a command of gabionctl is for that.
    let handed_over = [
        "apparmor", "attest", "audit", "can", "check", "doctor", "explain", "learn", "policy", "report", "seccomp",
    ];
    let own = args
        .iter()
        .skip(1)
        .take_while(|word| !handed_over.iter().any(|name| word == name));
    if own.into_iter().any(protected)
        && let Err(error) = selfprotect::ensure()
    {
        // `Cli::run` meets it again, knows where it is to be told, and ends there.
        tracing::debug!(%error, "protecting our own binary");
    }
}

impl Cli {
    fn run(self, arguments: &[OsString]) -> Result<u8> {
        let global = &self.global;
        // Only these have a process that a container gets to see.
        if matches!(self.command, Command::Create(_) | Command::Run(_) | Command::Exec(_)) {
            selfprotect::ensure()?;
            // Not before: what we are then would take these for its caller's.
            gabion_common::limits::raise();
        }
        tracing::debug!(command = self.command.name(), rootless = ?global.rootless, "called");
        match self.command {
            Command::Create(args) => args.run(global),
            Command::Start(args) => args.run(global),
            Command::Run(args) => args.run(global),
            Command::State(args) => args.run(global),
            Command::Kill(args) => args.run(global),
            Command::Delete(args) => args.run(global),
            Command::Exec(args) => args.run(global),
            Command::Ps(args) => args.run(global),
            Command::Pause(args) => args.run(global),
            Command::Resume(args) => args.run(global),
            Command::Update(args) => args.run(global),
            Command::Events(args) => args.run(global),
            Command::List(args) => args.run(global),
            Command::Spec(args) => args.run(),
            Command::Features(args) => args.run(),
            Command::Can(_)
            | Command::Check(_)
            | Command::Explain(_)
            | Command::Learn(_)
            | Command::Policy(_)
            | Command::Apparmor(_)
            | Command::Seccomp(_)
            | Command::Attest(_)
            | Command::Audit(_)
            | Command::Doctor(_)
            | Command::Report(_) => Err(hand_over::to_gabionctl(self.command.name(), arguments)),
            Command::Checkpoint(_) => Err(unsupported::checkpoint()),
            Command::Restore(_) => Err(unsupported::restore()),
        }
    }
}

impl Command {
    const fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Start(_) => "start",
            Self::Run(_) => "run",
            Self::State(_) => "state",
            Self::Kill(_) => "kill",
            Self::Delete(_) => "delete",
            Self::Exec(_) => "exec",
            Self::Ps(_) => "ps",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Update(_) => "update",
            Self::Events(_) => "events",
            Self::List(_) => "list",
            Self::Spec(_) => "spec",
            Self::Features(_) => "features",
            Self::Can(_) => "can",
            Self::Check(_) => "check",
            Self::Explain(_) => "explain",
            Self::Learn(_) => "learn",
            Self::Policy(_) => "policy",
            Self::Apparmor(_) => "apparmor",
            Self::Seccomp(_) => "seccomp",
            Self::Attest(_) => "attest",
            Self::Audit(_) => "audit",
            Self::Doctor(_) => "doctor",
            Self::Report(_) => "report",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
        }
    }
}

/// Reads where a container's records go. None: there is no such container, or create has not finished it.
fn trail(settings: &Settings, id: &ContainerId) -> Result<Option<Trail>> {
    match StateView::open(&settings.root, id) {
        Ok(dir) => Trail::load(&dir),
        Err(Error::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[path = "cli/tests.rs"]
mod tests;
