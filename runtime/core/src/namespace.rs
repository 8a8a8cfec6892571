//! Kinds of namespaces, and which of them a spec makes or joins.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxNamespaceType, Spec};
use serde::{Deserialize, Serialize};

/// A kind of namespace (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NsType {
    User,
    Mount,
    Pid,
    Ipc,
    Uts,
    Network,
    Cgroup,
    Time,
}

impl NsType {
    pub const ALL: [Self; 8] = [
        Self::User,
        Self::Mount,
        Self::Pid,
        Self::Ipc,
        Self::Uts,
        Self::Network,
        Self::Cgroup,
        Self::Time,
    ];

    /// Its file below /proc/PID/ns.
    pub const fn proc_name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Mount => "mnt",
            Self::Pid => "pid",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Network => "net",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }

    /// Its name in config.json.
    pub const fn spec_name(self) -> &'static str {
        match self {
            Self::Mount => "mount",
            Self::Network => "network",
            _ => self.proc_name(),
        }
    }
}

impl From<NsType> for LinuxNamespaceType {
    fn from(typ: NsType) -> Self {
        match typ {
            NsType::User => Self::User,
            NsType::Mount => Self::Mount,
            NsType::Pid => Self::Pid,
            NsType::Ipc => Self::Ipc,
            NsType::Uts => Self::Uts,
            NsType::Network => Self::Network,
            NsType::Cgroup => Self::Cgroup,
            NsType::Time => Self::Time,
        }
    }
}

impl From<LinuxNamespaceType> for NsType {
    fn from(typ: LinuxNamespaceType) -> Self {
        match typ {
            LinuxNamespaceType::User => Self::User,
            LinuxNamespaceType::Mount => Self::Mount,
            LinuxNamespaceType::Pid => Self::Pid,
            LinuxNamespaceType::Ipc => Self::Ipc,
            LinuxNamespaceType::Uts => Self::Uts,
            LinuxNamespaceType::Network => Self::Network,
            LinuxNamespaceType::Cgroup => Self::Cgroup,
            LinuxNamespaceType::Time => Self::Time,
        }
    }
}

/// The identity of a namespace: two paths with the same one are the same namespace (namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NsId {
    pub dev: u64,
    pub ino: u64,
}

impl std::fmt::Display for NsId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:[{}]", self.dev, self.ino)
    }
}

/// The order in which namespaces are joined. The user namespace comes first: it owns the others and gives the right to join them. The
/// mount namespace comes last: joining it changes the root, and /proc with it.
pub const JOIN_ORDER: [NsType; 8] = [
    NsType::User,
    NsType::Cgroup,
    NsType::Ipc,
    NsType::Uts,
    NsType::Network,
    NsType::Pid,
    NsType::Time,
    NsType::Mount,
];

/// Lists the namespaces that the spec wants made.
pub fn made(spec: &Spec) -> impl Iterator<Item = NsType> + '_ {
    listed(spec).filter_map(|(typ, path)| path.is_none().then_some(typ))
}

/// Lists the namespaces that the spec wants joined, with their paths.
pub fn joined(spec: &Spec) -> impl Iterator<Item = (NsType, PathBuf)> + '_ {
    listed(spec).filter_map(|(typ, path)| path.map(|path| (typ, path)))
}

/// Engines written in Go write an absent path as "".
fn listed(spec: &Spec) -> impl Iterator<Item = (NsType, Option<PathBuf>)> + '_ {
    let list = spec.linux().as_ref().and_then(|linux| linux.namespaces().as_ref());
    list.into_iter().flatten().map(|namespace| {
        let path = namespace.path().as_ref().filter(|path| !path.as_os_str().is_empty());
        (NsType::from(namespace.typ()), path.cloned())
    })
}
