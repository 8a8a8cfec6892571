//! The options that stand before the command, of gabion and of gabionctl alike.

use std::path::{Path, PathBuf};

use clap::{ArgAction, ValueEnum};
use gabion_core::caller::OwnUserNs;
use gabion_core::host::CgroupDriver;
use gabion_core::policy::{Level, Lock};
use gabion_see::caller;
use gabion_see::error::{Error, Result};
use gabion_see::policy::{self, Loaded};

use super::log;

/// Their names, as they are written. A test holds them beside the options.
pub const NAMES: [&str; 9] = [
    "--root",
    "--log",
    "--log-format",
    "--debug",
    "--systemd-cgroup",
    "--rootless",
    "--policy",
    "--level",
    "--audit-log",
];

/// Options that hold for every command.
#[derive(Debug, clap::Args)]
pub struct Global {
    /// Where state is kept [default: /run/gabion, for a user $XDG_RUNTIME_DIR/gabion]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Also write errors to this file
    #[arg(long, value_name = "FILE")]
    pub log: Option<PathBuf>,
    /// How --log is written: text is logfmt as runc's, json one object for each error
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: log::LogFormat,
    /// Print what is done, step by step, on stderr; with --log in that file
    #[arg(long)]
    pub debug: bool,
    /// Let systemd make cgroups: cgroupsPath is slice:prefix:name
    #[arg(long)]
    pub systemd_cgroup: bool,
    /// Taken for runc's sake; gabion sees by itself whether it is root
    #[arg(long, value_name = "true|false|auto")]
    pub rootless: Option<Rootless>,
    /// Policy file [default: of the name gabion-NAME /etc/gabion/runtimes/NAME.toml; else /etc/gabion/policy.toml, else built in]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Level in the place of the policy's: hardened, restricted or permissive
    #[arg(long, value_name = "LEVEL", value_parser = parse_level)]
    pub level: Option<Level>,
    /// Audit log in the place of the policy's; refused where the policy is locked
    #[arg(long, value_name = "FILE")]
    pub audit_log: Option<PathBuf>,
    /// Print the version
    #[arg(short = 'v', long, action = ArgAction::Version)]
    pub version: Option<bool>,
}

/// runc's `--rootless`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Rootless {
    True,
    False,
    Auto,
}

/// What holds for every command of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--root`: where gabion keeps its state.
    pub root: PathBuf,
    /// `--systemd-cgroup`.
    pub cgroup_driver: CgroupDriver,
    /// `--log`: for what fails without failing the command.
    pub log: log::Target,
}

impl Global {
    /// Gives what the options come to.
    pub fn settings(&self) -> Settings {
        Settings {
            root: self.root.clone().unwrap_or_else(default_root),
            cgroup_driver: if self.systemd_cgroup {
                CgroupDriver::Systemd
            } else {
                CgroupDriver::Cgroupfs
            },
            log: self.log_target(),
        }
    }

    /// Gives the log that errors are also written to.
    pub fn log_target(&self) -> log::Target {
        log::Target {
            file: self.log.clone(),
            format: self.log_format,
        }
    }

    /// Loads the policy that holds for this call.
    ///
    /// # Errors
    /// It cannot be believed or used, or a flag would loosen a locked one.
    pub fn policy(&self) -> Result<Loaded> {
        let program = std::env::args_os().next().unwrap_or_default();
        let mut loaded = match (&self.policy, policy::of_name(&program)?) {
            (None, Some(named)) => policy::load_of_name(&named, self.level, caller::reader())?,
            (given, _) => policy::load(given.as_deref(), self.level, caller::reader())?,
        };
        if let Some(file) = &self.audit_log {
            // A caller who may choose the log may lose it: no word of theirs where the file is locked.
            if loaded.policy.lock == Lock::Locked {
                return Err(Error::Usage(format!("--audit-log: {} is locked", loaded.source)));
            }
            let file = std::path::absolute(file).map_err(Error::file("find", file))?;
            loaded.policy.audit.file = Some(file);
            // The policy's head is that of its own log.
            loaded.policy.audit.head = None;
        }
        tracing::debug!(source = %loaded.source, level = %loaded.policy.level, digest = %loaded.digest, "policy");
        Ok(loaded)
    }
}

/// Root's place, or the user's own: in XDG_RUNTIME_DIR, or where a login session has it (pam_systemd(8)).
fn default_root() -> PathBuf {
    let reader = caller::reader();
    let system = PathBuf::from("/run/gabion");
    if reader.euid == 0 && reader.user_ns == OwnUserNs::Initial {
        return system;
    }
    let given = std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| Path::new(dir).is_absolute());
    if let Some(dir) = given {
        return Path::new(&dir).join("gabion");
    }
    let session = Path::new("/run/user").join(caller::host_uid().to_string());
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
