//! The command line, as runc's callers use it. Arguments → one call → output; `main` prints what went wrong, once.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::error::ErrorKind;
use clap::{ArgAction, Parser, Subcommand, ValueEnum};

use crate::container::{CgroupDriver, Diagnostics, Settings};
use crate::error::{Error, Result, Step};
use crate::host::OwnUserNs;
use crate::host::collect;
use crate::policy::load::{self, Loaded};
use crate::policy::{Level, Lock};
use crate::request::ContainerId;
use crate::selfprotect;

mod apparmor;
mod attest;
mod audit;
mod check;
mod create;
mod delete;
mod diagnostics;
mod events;
mod exec;
mod explain;
mod features;
mod kill;
mod list;
mod log;
mod output;
mod pause;
mod policy;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod unsupported;
mod update;

/// What `--version` prints after the name. podman and CRI-O show it as it is.
const VERSION: &str = concat!("version ", env!("CARGO_PKG_VERSION"), "\nspec: 1.3.0");

/// An OCI runtime that hardens every container it starts, or says why it does not start it.
#[derive(Debug, Parser)]
#[command(
    name = "gabion",
    version = VERSION,
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
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that hold for every command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// Where state is kept [default: /run/gabion, for a user $XDG_RUNTIME_DIR/gabion]
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Also write errors to this file
    #[arg(long, value_name = "FILE")]
    log: Option<PathBuf>,
    /// How --log is written: text is logfmt as runc's, json one object for each error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: log::Format,
    /// Print what is done, step by step, on stderr
    #[arg(long)]
    debug: bool,
    /// Let systemd make cgroups: cgroupsPath is slice:prefix:name
    #[arg(long)]
    systemd_cgroup: bool,
    /// Taken for runc's sake; gabion sees by itself whether it is root
    #[arg(long, value_name = "true|false|auto")]
    rootless: Option<Rootless>,
    /// Policy file [default: /etc/gabion/policy.toml, else built in]
    #[arg(long, value_name = "FILE")]
    policy: Option<PathBuf>,
    /// Level in the place of the policy's: hardened, restricted or permissive
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    level: Option<Level>,
    /// Audit log in the place of the policy's; refused where the policy is locked
    #[arg(long, value_name = "FILE")]
    audit_log: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,
}

/// runc's `--rootless`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Rootless {
    True,
    False,
    Auto,
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
    /// Show what would be changed or refused, without running anything
    Check(check::Args),
    /// Say what a refusal or a denial means, and the smallest loosening that helps
    Explain(explain::Args),
    /// Show the policy that holds, or check a policy file
    Policy(policy::Args),
    /// Load the bundled AppArmor profile, or show it
    Apparmor(apparmor::Args),
    /// Compare a running container with what was decided for it
    Attest(attest::Args),
    /// Check the audit log, or print its newest hash
    Audit(audit::Args),
    /// Not supported, by design
    Checkpoint(unsupported::Args),
    /// Not supported, by design
    Restore(unsupported::Args),
}

/// Before anything is read that others wrote.
fn settle() -> Result<()> {
    crate::sys::seal_constants()
        .map_err(|e| Error::file("make read-only the constants of", "/proc/self/exe")(e.into()))?;
    // Whoever ignores it has us ignore it, too: then the kernel reaps our children, and what we wait for never comes.
    crate::sys::default_signal(libc::SIGCHLD).map_err(|e| Error::step(Step::Clone, "reset SIGCHLD", e))
}

/// Runs one command line and gives the process's exit code. What went wrong is printed here and nowhere else.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    #[cfg(not(target_arch = "x86_64"))]
    protect_early(&args);
    if let Err(error) = settle() {
        log::report(&error, &log::Target::guess(&args));
        return 1;
    }
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            return u8::from(output::print(&error.render().to_string()).is_err());
        }
        Err(error) => {
            log::report(&Error::Usage(one_line(&error)), &log::Target::guess(&args));
            return 1;
        }
    };
    let target = log::Target {
        file: cli.global.log.clone(),
        format: cli.global.log_format,
    };
    if cli.global.debug {
        diagnostics::to_stderr();
    }
    // runc's code for an exec that could not start what it was asked to: callers tell it from the workload's own 1.
    let failed = if matches!(cli.command, Command::Exec(_)) {
        255
    } else {
        1
    };
    match cli.run() {
        Ok(code) => code,
        Err(error) => {
            log::report(&error, &target);
            failed
        }
    }
}

/// Runs again from where nobody can write before the arguments are parsed, not after: that would be done twice. A word that only looks
/// like one of these commands costs another start and nothing else. On x86_64 it has been done before libc was set up (`sys/first.rs`).
#[cfg(not(target_arch = "x86_64"))]
fn protect_early(args: &[OsString]) {
    let protected = |word: &OsString| word == "create" || word == "run" || word == "exec";
    if args.iter().skip(1).any(protected)
        && let Err(error) = selfprotect::ensure()
    {
        // `Cli::run` meets it again, knows where it is to be told, and ends there.
        tracing::debug!(%error, "protecting our own binary");
    }
}

impl Cli {
    fn run(self) -> Result<u8> {
        let global = &self.global;
        // Only these have a process that a container gets to see.
        if matches!(self.command, Command::Create(_) | Command::Run(_) | Command::Exec(_)) {
            selfprotect::ensure()?;
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
            Command::Check(args) => args.run(global),
            Command::Explain(args) => args.run(),
            Command::Policy(args) => args.run(global),
            Command::Apparmor(args) => args.run(),
            Command::Attest(args) => args.run(global),
            Command::Audit(args) => args.run(global),
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
            Self::Check(_) => "check",
            Self::Explain(_) => "explain",
            Self::Policy(_) => "policy",
            Self::Apparmor(_) => "apparmor",
            Self::Attest(_) => "attest",
            Self::Audit(_) => "audit",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
        }
    }
}

impl Global {
    pub(crate) fn settings(&self) -> Settings {
        Settings {
            root: self.root.clone().unwrap_or_else(default_root),
            systemd_cgroup: if self.systemd_cgroup {
                CgroupDriver::Systemd
            } else {
                CgroupDriver::Cgroupfs
            },
            debug: if self.debug { Diagnostics::On } else { Diagnostics::Off },
        }
    }

    pub(crate) fn policy(&self) -> Result<Loaded> {
        let mut loaded = load::load(self.policy.as_deref(), self.level, collect::reader())?;
        if let Some(file) = &self.audit_log {
            // A caller who may choose the log may lose it: no word of theirs where the file is locked.
            if loaded.policy.lock == Lock::Locked {
                return Err(Error::Usage(format!("--audit-log: {} is locked", loaded.source)));
            }
            let file = std::path::absolute(file).map_err(Error::file("find", file))?;
            loaded.policy.audit.file = Some(file);
        }
        tracing::debug!(source = %loaded.source, level = %loaded.policy.level, digest = %loaded.digest, "policy");
        Ok(loaded)
    }
}

/// Root's place, or the user's own: in XDG_RUNTIME_DIR, or where a login session has it (pam_systemd(8)).
fn default_root() -> PathBuf {
    let reader = collect::reader();
    let system = PathBuf::from("/run/gabion");
    if reader.euid == 0 && reader.user_ns == OwnUserNs::Initial {
        return system;
    }
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute());
    if let Some(dir) = given {
        return Path::new(&dir).join("gabion");
    }
    let session = Path::new("/run/user").join(collect::host_uid().to_string());
    // Root of a system container has the system's place.
    if reader.euid == 0 && !session.is_dir() {
        return system;
    }
    session.join("gabion")
}

fn parse_level(text: &str) -> std::result::Result<Level, String> {
    [Level::Permissive, Level::Hardened, Level::Restricted]
        .into_iter()
        .find(|level| level.as_str() == text)
        .ok_or_else(|| "use hardened, restricted or permissive".to_owned())
}

fn id(text: &str) -> Result<ContainerId> {
    Ok(text.parse::<ContainerId>()?)
}

/// clap's message without its usage and tips.
fn one_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let message = text.trim_start_matches("error: ");
    let message = message.split("\n\n").next().unwrap_or_default();
    let words: Vec<&str> = message.split_whitespace().collect();
    format!("{}; see --help", words.join(" "))
}

#[cfg(test)]
#[path = "cli/tests.rs"]
mod tests;
