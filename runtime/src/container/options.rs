//! What callers of the life cycle choose. Enums, so that a call reads as what it does.

use std::path::PathBuf;

use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use crate::audit::Trail;
pub use crate::host::CgroupDriver;
use crate::request::{ContainerId, Leave};

/// Whether diagnostics go to stderr.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Diagnostics {
    #[default]
    Off,
    On,
}

/// What holds for every command of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// `--root`: where gabion keeps its state.
    pub root: PathBuf,
    pub systemd_cgroup: CgroupDriver,
    pub debug: Diagnostics,
}

/// Which session keyring the workload has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Keyring {
    #[default]
    New,
    /// `--no-new-keyring`.
    Inherit,
}

/// create's and run's choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateOptions {
    pub id: ContainerId,
    pub bundle: PathBuf,
    pub pid_file: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub leave: Leave,
    pub keyring: Keyring,
    /// How many descriptors above stdio the workload keeps.
    pub preserve_fds: u32,
    /// Where its records go, now and later.
    pub audit: Trail,
}

/// Whether the call waits for the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Detach {
    #[default]
    Foreground,
    Detached,
}

/// What becomes of a container whose workload has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keep {
    #[default]
    Remove,
    /// `--keep`.
    Keep,
}

/// Whether `run` adopts the workload's orphans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subreaper {
    #[default]
    Reap,
    /// `--no-subreaper`.
    Leave,
}

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum KillScope {
    #[default]
    Init,
    /// `--all`: every process of the container's cgroup.
    All,
}

/// What `delete` does to a container that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Force {
    /// Says that it runs.
    #[default]
    Refuse,
    /// `--force`: kills it first.
    Kill,
}

/// Whether exec enters a paused container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Paused {
    #[default]
    Refuse,
    /// `--ignore-paused`: wait until it is resumed.
    Ignore,
}

/// Whether exec asks for a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Terminal {
    /// As the container's process, where process.json does not say.
    #[default]
    None,
    Tty,
}

/// `--user UID[:GID]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    pub uid: u32,
    pub gid: Option<u32>,
}

/// What exec runs.
#[derive(Clone, Debug, PartialEq)]
pub enum ExecProcess {
    /// `--process FILE`, already read and checked.
    File(Box<Process>),
    /// From the command line; what is not given is the container's own.
    Line(Box<ExecLine>),
}

/// exec's process as flags give it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecLine {
    pub args: Vec<String>,
    /// `NAME=VALUE`, added to the container's.
    pub env: Vec<String>,
    pub cwd: Option<PathBuf>,
    pub user: Option<User>,
    pub additional_gids: Vec<u32>,
    pub terminal: Terminal,
    /// Capabilities beyond the container's: refused where the stored process does not have them.
    pub caps: Vec<String>,
    pub apparmor: Option<String>,
    pub process_label: Option<String>,
    pub privileged: AskPrivileged,
    pub no_new_privs: AskNoNewPrivs,
}

/// `--privileged`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AskPrivileged {
    #[default]
    AsContainer,
    All,
}

/// `--no-new-privs`. It can only be asked for, never taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AskNoNewPrivs {
    #[default]
    AsContainer,
    Set,
}

/// exec's choices.
#[derive(Clone, Debug, PartialEq)]
pub struct ExecOptions {
    pub process: ExecProcess,
    pub detach: Detach,
    pub pid_file: Option<PathBuf>,
    pub console_socket: Option<PathBuf>,
    pub preserve_fds: u32,
    /// `--cgroup`: a cgroup below the container's.
    pub cgroup: Option<String>,
    pub paused: Paused,
}

/// A container as `list` shows it; runc's fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListEntry {
    pub oci_version: String,
    pub id: String,
    /// 0: stopped.
    pub pid: i32,
    pub status: String,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub annotations: std::collections::BTreeMap<String, String>,
    /// The name of the user who created it, or the uid where it has none.
    pub owner: String,
}
