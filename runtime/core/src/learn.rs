//! `learn`: what a program was seen to do, and the smallest loosening of level hardened that holds it.
//!
//! Pure: gabionctl looks ([`Seen`]), this room concludes ([`loosening`]) and words it ([`ready`]).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

mod loosen;
pub mod ready;
pub mod watch;
pub mod words;

pub use loosen::{Hole, Impossible, Loosening, Volume, is_shared, loosening};

/// The form of a record: another one is not merged.
pub const VERSION: u32 = 1;

/// What was seen of one run, or of several.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Seen {
    pub version: u32,
    pub runs: u32,
    /// Below the root and on none of the spec's mounts: what its writable layer has in the end.
    pub written: BTreeMap<PathBuf, Written>,
    /// The bytes below a directory when the program had ended, those of the image among them.
    pub sizes: BTreeMap<PathBuf, u64>,
    /// What was tried and could not be, whatever the runtime, in runs that ended well: the program does without.
    pub denied: BTreeSet<Denied>,
    /// What failed last before a run ended with an error.
    pub needed: BTreeSet<Denied>,
    /// Programs that were started, by the path that they lie at.
    pub programs: BTreeSet<PathBuf>,
    /// Files that were mapped executable.
    pub mapped: BTreeSet<PathBuf>,
    /// Executed or mapped executable without a name in any directory (memfd_create).
    pub nameless: BTreeSet<Nameless>,
    pub sockets: BTreeSet<Socket>,
    pub binds: BTreeSet<Port>,
    pub connects: BTreeSet<Port>,
    /// Capabilities beyond what hardened keeps that a call needed and the process had, by the call.
    pub capabilities: BTreeMap<String, BTreeSet<String>>,
    /// Files of /proc/sys that were opened for writing.
    pub sysctls: BTreeSet<String>,
    /// Calls that gabion's own filters refuse.
    pub closed: BTreeSet<String>,
    /// Every system call by name; None where the kernel does not tell.
    pub calls: Option<BTreeSet<String>>,
    /// Memory that was written became executable: a JIT compiler.
    pub jit: bool,
    /// The mounts of the spec that may be written, and whether programs may be executed there.
    pub volumes: BTreeMap<PathBuf, Executable>,
    pub memory_peak: Option<u64>,
    pub tasks_peak: Option<u64>,
    /// What could not be looked at in some run, in words.
    pub unseen: BTreeSet<String>,
}

/// What happened at a path of the root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    pub change: Change,
    pub kind: Kind,
    pub size: u64,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
    /// What the image has there.
    pub before: Option<Before>,
}

/// What was there before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Before {
    pub kind: Kind,
    pub size: u64,
    pub uid: u32,
    pub gid: u32,
    pub mode: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// The image has nothing there.
    Created,
    /// Opened for writing, or its owner, mode or times were set.
    Changed,
    Deleted,
    /// A directory of the image in which something was created or deleted, even if nothing is left of it.
    Entries,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Directory,
    File,
    Link,
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Executable {
    No,
    Yes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Nameless {
    Executed,
    Mapped,
}

/// Something that a process tried and could not do, as far as the permissions at that moment tell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Denied {
    /// There is no such directory to write to.
    Missing { dir: PathBuf, uid: u32 },
    /// The directory is another user's.
    Foreign { dir: PathBuf, uid: u32 },
    /// The file is another user's.
    ForeignFile { file: PathBuf, uid: u32 },
    /// The file system is read-only. `dir` is the directory that would be written.
    ReadOnly { dir: PathBuf, uid: u32 },
    /// Nothing may be executed there.
    NoExec { path: PathBuf },
    /// A port below the first one that users without NET_BIND_SERVICE may bind.
    Port(u16),
    /// The call needs a capability that the process has not.
    Capability { name: String, call: String },
}

impl Denied {
    /// The directory that could not be written, whatever the reason; None for another kind of act.
    pub fn place(&self) -> Option<&Path> {
        match self {
            Self::Missing { dir, .. } | Self::Foreign { dir, .. } | Self::ReadOnly { dir, .. } => Some(dir),
            Self::ForeignFile { file, .. } => file.parent(),
            Self::NoExec { .. } | Self::Port(_) | Self::Capability { .. } => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Socket {
    /// `AF_*` as a number.
    pub family: u32,
    /// Without the flags.
    pub kind: u32,
    pub protocol: u32,
}

/// An address that was bound or connected to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Port {
    /// IPv4 or IPv6, whatever the protocol.
    Inet(u16),
    Unix(String),
}

/// Why two records are not merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherVersion(pub u32);

impl Seen {
    pub fn new() -> Self {
        Self {
            version: VERSION,
            ..Self::default()
        }
    }

    /// Adds what another run showed: the union, and the larger of two numbers.
    ///
    /// # Errors
    /// The other record has another form.
    pub fn merge(&mut self, other: Self) -> Result<(), OtherVersion> {
        if other.version != self.version {
            return Err(OtherVersion(other.version));
        }
        self.runs = self.runs.saturating_add(other.runs);
        for (path, theirs) in other.written {
            self.written
                .entry(path)
                .and_modify(|ours| ours.size = ours.size.max(theirs.size))
                .or_insert(theirs);
        }
        for (path, size) in other.sizes {
            let ours = self.sizes.entry(path).or_default();
            *ours = size.max(*ours);
        }
        self.denied.extend(other.denied);
        self.needed.extend(other.needed);
        self.programs.extend(other.programs);
        self.mapped.extend(other.mapped);
        self.nameless.extend(other.nameless);
        self.sockets.extend(other.sockets);
        self.binds.extend(other.binds);
        self.connects.extend(other.connects);
        for (name, calls) in other.capabilities {
            self.capabilities.entry(name).or_default().extend(calls);
        }
        self.sysctls.extend(other.sysctls);
        self.closed.extend(other.closed);
        self.calls = match (self.calls.take(), other.calls) {
            (Some(mut ours), Some(theirs)) => {
                ours.extend(theirs);
                Some(ours)
            }
            // A record without runs has nothing to say against it.
            (None, Some(theirs)) if self.runs == other.runs => Some(theirs),
            _ => None,
        };
        self.jit |= other.jit;
        for (path, exec) in other.volumes {
            let ours = self.volumes.entry(path).or_insert(exec);
            *ours = exec.min(*ours);
        }
        self.memory_peak = self.memory_peak.max(other.memory_peak);
        self.tasks_peak = self.tasks_peak.max(other.tasks_peak);
        self.unseen.extend(other.unseen);
        Ok(())
    }

    /// Whether the program did well although it could not do this, or for another reason could not do it.
    pub fn had(&self, denied: &Denied) -> bool {
        let same = |other: &Denied| other == denied || (other.place().is_some() && other.place() == denied.place());
        self.denied.iter().any(same)
    }

    /// Gives the writable mount of the spec that a path lies on.
    pub fn volume_of(&self, path: &Path) -> Option<(&Path, Executable)> {
        let above = self.volumes.iter().filter(|(mount, _)| path.starts_with(mount));
        above
            .max_by_key(|(mount, _)| mount.components().count())
            .map(|(mount, exec)| (mount.as_path(), *exec))
    }
}

#[cfg(test)]
#[path = "learn/tests.rs"]
mod tests;
