//! What callers of the life cycle choose. Enums, so that a call reads as what it does.

use std::path::PathBuf;

use crate::cgroup::Below;
use gabion_common::audit::Trail;
pub(crate) use gabion_common::cli::Settings;
pub(crate) use gabion_core::hardened::Keyring;
use gabion_core::request::{ContainerId, Leave, Read};
use gabion_see::named::Named;
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

/// create's and run's choices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CreateOptions {
    pub(crate) id: ContainerId,
    pub(crate) bundle: PathBuf,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) leave: Leave,
    pub(crate) keyring: Keyring,
    /// How many descriptors above stdio the workload keeps.
    pub(crate) preserve_fds: u32,
    /// Where its records go, now and later.
    pub(crate) audit: Trail,
}

/// Whether the call waits for the workload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Detach {
    #[default]
    Foreground,
    Detached,
}

/// What becomes of a container whose workload has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Keep {
    #[default]
    Remove,
    /// `--keep`.
    Keep,
}

/// Whom a signal reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum KillScope {
    #[default]
    Init,
    /// `--all`: every process of the container's cgroup.
    All,
}

/// What `delete` does to a container that runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Force {
    /// Says that it runs.
    #[default]
    Refuse,
    /// `--force`: kills it first.
    Kill,
}

/// Whether exec enters a paused container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Paused {
    #[default]
    Refuse,
    /// `--ignore-paused`: wait until it is resumed.
    Ignore,
}

/// Whether exec asks for a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Terminal {
    /// As the container's process, where process.json does not say.
    #[default]
    None,
    Tty,
}

/// `--user UID[:GID]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: Option<u32>,
}

/// What exec runs.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ExecProcess {
    /// `--process FILE`, already read and checked.
    File(Box<Read<Process>>),
    /// From the command line; what is not given is the container's own.
    Line(Box<ExecLine>),
}

/// exec's process as flags give it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ExecLine {
    pub(crate) args: Vec<String>,
    /// `NAME=VALUE`, added to the container's.
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<PathBuf>,
    pub(crate) user: Option<User>,
    pub(crate) additional_gids: Vec<u32>,
    pub(crate) terminal: Terminal,
    /// Capabilities beyond the container's: refused where the stored process does not have them.
    pub(crate) caps: Vec<String>,
    pub(crate) apparmor: Option<String>,
    pub(crate) process_label: Option<String>,
    pub(crate) privileged: AskPrivileged,
    pub(crate) no_new_privs: AskNoNewPrivs,
}

/// `--privileged`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AskPrivileged {
    #[default]
    AsContainer,
    All,
}

/// `--no-new-privs`. It can only be asked for, never taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum AskNoNewPrivs {
    #[default]
    AsContainer,
    Set,
}

/// exec's choices.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct ExecOptions {
    pub(crate) process: ExecProcess,
    pub(crate) detach: Detach,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
    pub(crate) pidfd_socket: Option<PathBuf>,
    pub(crate) preserve_fds: u32,
    /// `--cgroup`: cgroups below the container's.
    pub(crate) cgroup: Below,
    pub(crate) paused: Paused,
}

/// A container as `list` shows it; runc's fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListEntry {
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// 0: stopped.
    pub(crate) pid: i32,
    pub(crate) status: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    /// RFC 3339.
    pub(crate) created: String,
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub(crate) annotations: std::collections::BTreeMap<String, String>,
    /// The name of the user who created it, or the uid where it has none.
    pub(crate) owner: String,
    /// What its engine calls it, behind runc's fields; `list` alone looks for it.
    #[serde(default, flatten)]
    pub(crate) named: Option<Named>,
}
