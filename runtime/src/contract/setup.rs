//! The contract between the runtime and the container's first process: what the one hands to the other.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use gabion_core::digest::sha256_hex;
use gabion_core::hardened::Hardened;
use gabion_core::namespace::{self, NsType};
use gabion_core::request::Leave;
use gabion_core::sockets::SocketRules;
use gabion_see::error::{Error, Result, Step};
use gabion_see::procfs::Proc;
use gabion_see::seccomp::{Compiled, Program};
use oci_spec::runtime::Process;

use super::channel::Channel;

/// Where a bind mount comes from.
#[derive(Debug)]
pub(crate) enum Tree {
    /// A detached clone, made by the runtime from the descriptor that was vetted.
    Detached { fd: OwnedFd, point: PointKind },
    /// The runtime may not clone mounts (an ordinary user): opened again in our own namespace, and the same file it must be.
    Reopen {
        path: PathBuf,
        dev: u64,
        ino: u64,
        point: PointKind,
    },
}

/// Whether a source is a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PointKind {
    Directory,
    File,
}

/// Sources of all binds, for the runtime to open before the clone.
pub(crate) type Trees = BTreeMap<usize, Tree>;

/// What the first process is handed by the runtime. Every descriptor is close-on-exec.
#[derive(Debug)]
pub(crate) struct Setup<'a> {
    pub(crate) hardened: &'a Hardened,
    pub(crate) kind: Kind<'a>,
    pub(crate) process: &'a Process,
    pub(crate) channel: Channel,
    /// The host's procfs: reading back what is in force does not depend on the image's /proc.
    pub(crate) proc: Proc,
    /// Namespaces to join, in the order of `namespace::JOIN_ORDER`.
    pub(crate) joins: Vec<(NsType, OwnedFd)>,
    pub(crate) console: Option<Console>,
    /// Descriptors above stdio that outlive execve.
    pub(crate) preserved: Preserved,
    pub(crate) filters: Filters,
    pub(crate) annotations_state: Option<libcontainer::container::State>,
}

/// Where the terminal's master goes, and how the terminal is to be.
#[derive(Debug)]
pub(crate) struct Console {
    pub(crate) socket: OwnedFd,
    pub(crate) newline: Newline,
}

impl Console {
    /// A socket of our caller's, who does with the terminal as they please.
    pub(crate) fn of_callers(socket: OwnedFd) -> Self {
        Self {
            socket,
            newline: Newline::Unchanged,
        }
    }
}

/// What a terminal makes of the workload's `\n`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Newline {
    /// As the kernel makes terminals: `\r\n`.
    Unchanged,
    /// It stays what it is: our output may be a pipe or a file, and where it is a terminal, that one adds the `\r` (runc, the same).
    Plain,
}

/// The seccomp programs to install, ready made.
#[derive(Debug, Default)]
pub(crate) struct Filters {
    /// That of the control `memory`, installed and probed before all others.
    pub(crate) memory: Option<Program>,
    /// Installed and probed first: a profile may kill for the calls that the probe makes.
    pub(crate) floor: Option<Floor>,
    /// The spec's own profile.
    pub(crate) profile: Option<Compiled>,
    pub(crate) notify: Option<NotifyTarget>,
}

impl Filters {
    /// Gives the digest of each program, in the order in which they are installed: by these attest knows them again.
    pub(crate) fn digests(&self) -> Vec<String> {
        let floor = self.floor.as_ref().map(|floor| &floor.program);
        let profile = self.profile.as_ref().map(|profile| &profile.program);
        let programs = self.memory.iter().chain(floor).chain(profile);
        programs.map(|program| sha256_hex(program.as_bytes())).collect()
    }
}

/// The filter that is gabion's own: the floor, or the default profile with the floor in it.
#[derive(Debug)]
pub(crate) struct Floor {
    pub(crate) program: Program,
    /// What it lets be made, for the probe.
    pub(crate) sockets: SocketRules,
}

/// Where the descriptor of a notify filter goes.
#[derive(Debug)]
pub(crate) struct NotifyTarget {
    /// Connected before the pivot, while its path can be reached.
    pub(crate) socket: OwnedFd,
    /// The container's OCI state; without a pid where this is its first process.
    pub(crate) state: serde_json::Value,
    /// `listenerMetadata`.
    pub(crate) metadata: String,
}

impl NotifyTarget {
    /// What is sent beside the descriptor (runtime-spec, config-linux.md, containerProcessState).
    pub(crate) fn state_of(&self, pid: &str) -> Result<Vec<u8>> {
        let number: i64 = pid
            .parse()
            .map_err(|_| Error::failed(Step::Seccomp, "our pid is not a number"))?;
        let mut state = self.state.clone();
        if state["pid"].is_null() {
            state["pid"] = number.into();
        }
        let mut whole = serde_json::json!({
            "ociVersion": state["ociVersion"],
            "fds": ["seccompFd"],
            "pid": number,
            "state": state,
        });
        if !self.metadata.is_empty() {
            whole["metadata"] = self.metadata.as_str().into();
        }
        serde_json::to_vec(&whole).map_err(|e| Error::failed(Step::Seccomp, e.to_string()))
    }
}

/// Whether a container is made, or a process added to one.
#[derive(Debug)]
pub(crate) enum Kind<'a> {
    Create(Create<'a>),
    Exec,
}

/// Where the process stands when its walk begins.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// In every namespace that it joins, unreadable and wordless: it came to be where others could see it.
    Joined,
    /// In the new namespaces alone, where nobody else is. It joins the others on its way.
    Outside,
}

/// What only a new container needs.
#[derive(Debug)]
pub(crate) struct Create<'a> {
    /// A detached clone of the root file system's mounts, made while the runtime still saw them; None where that needs
    /// privileges that only the new user namespace gives.
    pub(crate) rootfs_tree: Option<OwnedFd>,
    pub(crate) rootfs: PathBuf,
    /// Detached clones of bind sources, by index in the spec's mounts; the vetted descriptors stand behind them.
    pub(crate) trees: Trees,
    pub(crate) leave: Leave,
    /// `start` connects here.
    pub(crate) listener: OwnedFd,
    pub(crate) hooks: &'a Option<oci_spec::runtime::Hooks>,
    /// SELinux: what files of file systems that are made for the container are labelled.
    pub(crate) mount_label: Option<String>,
}

/// What the steps before the credentials leave for those after.
#[derive(Debug)]
pub(crate) struct Prepared {
    /// A directory outside everything that Landlock allows: opening it must fail once Landlock is in force.
    pub(crate) landlock_probe: Option<OwnedFd>,
}

/// Descriptors above stdio that the workload keeps: those that the caller preserves, then socket activation's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Preserved {
    pub(crate) count: u32,
    /// What the workload's LISTEN_FDS says (sd_listen_fds(3)); None where it is not told any.
    pub(crate) listen: Option<u32>,
}

impl Setup<'_> {
    /// Tells whether the container gets a namespace of this kind of its own.
    pub(crate) fn enters_new(&self, typ: NsType) -> bool {
        namespace::made(self.hardened.spec()).any(|made| made == typ)
    }

    /// Gives the SELinux label of the workload and of its keyring.
    pub(crate) fn selinux_label(&self) -> Option<&str> {
        let by_plan = self.hardened.plan().lsm.selinux.as_deref();
        by_plan
            .or(self.process.selinux_label().as_deref())
            .filter(|l| !l.is_empty())
    }
}
