//! What `state.json` holds, and what a container's status may be.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::VERSION;
use crate::container::cgroup::CgroupRecord;
use crate::hardened::Hardened;
use crate::host::OwnUserNs;
use crate::request::ContainerId;

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub(super) version: u32,
    pub id: ContainerId,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    pub owner: u32,
    /// Whether the runtime itself ran in a user namespace that is not the host's.
    pub user_ns: OwnUserNs,
    pub cgroup: CgroupRecord,
    pub hardened: Hardened,
}

impl Record {
    pub fn new(
        id: ContainerId,
        bundle: PathBuf,
        rootfs: PathBuf,
        created: String,
        user_ns: OwnUserNs,
        cgroup: CgroupRecord,
        hardened: Hardened,
    ) -> Self {
        let owner = nix::unistd::geteuid().as_raw();
        Self {
            version: VERSION,
            id,
            bundle,
            rootfs,
            created,
            owner,
            user_ns,
            cgroup,
            hardened,
        }
    }

    /// The same container under new decisions.
    #[must_use]
    pub fn with(&self, hardened: Hardened) -> Self {
        Self {
            hardened,
            ..self.clone()
        }
    }
}

/// OCI status (runtime-spec, runtime.md#state), with runc's `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}
