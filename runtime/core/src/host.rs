//! What is known of the host when a request is judged. Collected before (the crate gabion-see, `survey`), so that `harden` is pure.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oci_spec::runtime::Spec;
use serde::{Deserialize, Serialize};

use crate::caller::OwnUserNs;
use crate::cdi::Cdi;
use crate::docker::Build;
pub use crate::file::{Above, FileKind};
use crate::ids::{ContainerIds, IdMap, JoinedUsers, Maps, OwnIds, SetGroups, Users, users};
use crate::namespace::{NsId, NsType};
use crate::reach::{Along, Guarded, Spot};

/// What a namespace path of the spec is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NsPath {
    /// Open: its kind (NS_GET_NSTYPE, ioctl_ns(2)) and identity.
    Namespace {
        typ: NsType,
        id: NsId,
    },
    NotANamespace,
    /// Could not be opened.
    Unreadable(i32),
}

/// What stands behind the source of a bind mount. It was opened once; the mount is made from that descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The path without symlinks, as the kernel names the open file.
    pub real: PathBuf,
    pub kind: FileKind,
    /// The file is on a procfs, sysfs, cgroup or device file system, wherever it is mounted.
    pub filesystem: SourceFs,
    pub spot: Spot,
    /// How many names it has: a file with a second one may be written by that.
    pub links: u64,
    /// What a recursive bind brings along.
    pub along: Vec<Along>,
    /// The layers of the overlay that it lies on: what is written to them may show in it, and the other way round.
    pub layers: Vec<Spot>,
    pub backing: Backing,
    pub connects: Connects,
}

/// Who may connect to a source that is a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Connects {
    /// Everybody, or some user; what is no socket has this, too.
    #[default]
    Others,
    /// It is the host's root's, and its mode lets nobody else in but a group: an engine's, whatever it is called.
    RootAlone,
}

/// Whether a subPath of a pod is a part of what was looked up as one of its volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// Not asked, of what is no subPath; or a part of something else.
    #[default]
    Unknown,
    /// A part of a volume of this pod, or of what the policy allows.
    Volume,
}

/// What `linux.seccomp.listenerPath` leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub path: SourcePath,
    /// Whose it is; 0 where it could not be opened.
    pub uid: u32,
}

/// File systems whose files are kernel interfaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SourceFs {
    Ordinary,
    Proc,
    Sys,
    Cgroup,
    /// debugfs, tracefs, securityfs, bpffs, efivarfs, configfs.
    Kernel,
}

/// What a bind mount's source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourcePath {
    Open(Source),
    /// Could not be opened.
    Unreadable(i32),
}

/// A file that will be run as root on the host (a hook).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookFile {
    Executable {
        uid: u32,
        mode: u32,
    },
    NotAFile,
    Unreadable(i32),
    /// `/proc/<pid>/exe`: the program of a process, which is how dockerd names its own.
    OfProcess(ProcessExe),
    /// The path leads through another link of procfs (`/proc/<pid>/root`, `/proc/<pid>/fd/3`): what it leads to is a process's choice.
    MagicLink,
}

/// The program of a process, by `/proc/<pid>/exe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessExe {
    /// Where it lies here; None where the file at that path is another: the program was exchanged, or is one of a container's.
    pub program: Option<PathBuf>,
    pub uid: u32,
    pub mode: u32,
    /// Whether somebody else than its owner could exchange it: who can write to a directory above.
    pub above: Above,
    pub process: RunBy,
}

/// Whose a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunBy {
    /// The caller's own user, in the caller's user and pid namespaces: no container's.
    Caller,
    Another,
}

/// How cgroups are mounted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupVersion {
    #[default]
    V1,
    V2,
}

/// Who makes cgroups (`--systemd-cgroup`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CgroupDriver {
    #[default]
    Cgroupfs,
    /// systemd: the path is `slice:prefix:name`.
    Systemd,
}

/// In which hierarchies of cgroups this caller can make the container's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delegation {
    /// The host's root: in all of them. One that fails is an error.
    #[default]
    Whole,
    /// Anybody else: in those (named as below /sys/fs/cgroup; v2's tree is `unified`) where a directory was given to them.
    Parts(BTreeSet<String>),
}

impl Delegation {
    pub fn has(&self, hierarchy: &str) -> bool {
        match self {
            Self::Whole => true,
            Self::Parts(names) => names.contains(hierarchy),
        }
    }

    /// No cgroup at all.
    pub fn is_none(&self) -> bool {
        matches!(self, Self::Parts(names) if names.is_empty())
    }

    pub fn is_whole(&self) -> bool {
        *self == Self::Whole
    }
}

/// Where somebody else's cgroup is, seen from a container's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NeighbourIs {
    Above,
    Same,
    Below,
}

/// A cgroup that is not the container's own and lies above it, below it, or is the same one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CgroupNeighbour {
    /// From the hierarchy's root.
    pub path: PathBuf,
    pub is: NeighbourIs,
    /// For people.
    pub who: String,
}

/// What AppArmor is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum AppArmor {
    #[default]
    Absent,
    /// On; these profiles of interest are known to be loaded **in enforce mode** (a profile in mode `complain` or
    /// `unconfined` confines nothing). The list may be unreadable to us: then `None`.
    Enabled {
        loaded: Option<BTreeSet<String>>,
        parser: Parser,
    },
}

/// Whether there is a program that loads AppArmor profiles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Parser {
    #[default]
    Here,
    Missing,
}

/// What SELinux is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SeLinux {
    #[default]
    Absent,
    /// On, with a fresh MCS pair for a container that names no label (`s0:c1,c2`).
    Enabled { mcs: String },
}

/// Where a hole's path leads inside the image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HoleTarget {
    Directory(PathBuf),
    Missing(PathBuf),
    NotADirectory(PathBuf),
}

/// Whether containerd's CRI plugin made something: it is there, root's, and nobody else can write to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MadeByCri {
    #[default]
    No,
    Yes,
}

/// What containerd's CRI plugin has on this host for the ids that a request names. Looked at only where the call came by the shim.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CriFiles {
    /// The request's bundle is the one that containerd made for this id in the plugin's namespace.
    pub bundle: MadeByCri,
    /// The plugin's directory of the sandbox that the annotations name.
    pub sandbox: MadeByCri,
    /// The plugin's directory of a container of this id.
    pub container: MadeByCri,
}

/// The host, as far as a decision needs it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The runtime's own namespaces, and init's where readable: «the host's».
    pub namespaces: BTreeMap<NsType, BTreeSet<NsId>>,
    pub ns_paths: BTreeMap<PathBuf, NsPath>,
    /// User namespaces of `ns_paths` into which could be looked.
    pub joined_users: BTreeMap<PathBuf, JoinedUsers>,
    /// By index in the spec's mounts: the sources of bind mounts.
    pub sources: BTreeMap<usize, SourcePath>,
    /// By index in the spec's mounts: where the destination leads inside the image, symlinks followed; absent where it
    /// could not be looked at.
    pub targets: BTreeMap<usize, PathBuf>,
    /// The socket that a seccomp profile wants to be asked by.
    pub listener: Option<Listener>,
    /// What stands on this host at the paths of `linux.devices` (not following a symlink at the end).
    pub devices: BTreeMap<PathBuf, FileKind>,
    /// The `/sys/devices/system/cpu/cpuN/thermal_throttle` directories of this host: readable counters that tell a
    /// container of its neighbours' load.
    pub thermal_throttle: Vec<PathBuf>,
    /// Of the files that are masked in every container: what SELinux keeps from the runtime itself. It can be covered by nobody in its domain.
    pub kept_by_selinux: BTreeSet<PathBuf>,
    pub hooks: BTreeMap<PathBuf, HookFile>,
    /// Where default and declared holes lead in the image; absent where it could not be looked at.
    pub holes: BTreeMap<PathBuf, HoleTarget>,
    /// Bytes.
    pub memory_total: u64,
    /// How many tasks there can be on the machine; 0 where nobody asked, or it is not known.
    pub tasks_total: u64,
    /// The lowest memory limit on the way from the container's parent cgroup to the root, bytes.
    pub parent_memory: Option<u64>,
    /// The same for tasks.
    pub parent_pids: Option<u64>,
    pub cgroup: CgroupVersion,
    /// Who makes the container's cgroup: it decides what `linux.cgroupsPath` means.
    pub cgroup_driver: CgroupDriver,
    /// Controllers that this caller may use.
    pub controllers: BTreeSet<String>,
    /// Where this caller can make the container's cgroup.
    pub delegation: Delegation,
    /// Whose cgroup that would be, or what it would be inside of.
    pub cgroup_neighbour: Option<CgroupNeighbour>,
    /// The kernel accounts for swap (v1 `memory.memsw`, v2 `memory.swap.max`).
    pub swap_accounting: SwapAccounting,
    pub landlock_abi: u32,
    /// Which of Landlock's errata are fixed: bit 0 for the first.
    pub landlock_errata: u32,
    /// Kernel version, major and minor.
    pub kernel: (u32, u32),
    /// `vm.memfd_noexec` exists.
    pub memfd_noexec: MemfdNoexec,
    /// Whether it has PR_SET_MDWE.
    pub mdwe: Mdwe,
    pub apparmor: AppArmor,
    pub selinux: SeLinux,
    pub euid: u32,
    pub user_ns: OwnUserNs,
    /// What our own ids are on the host.
    pub own_ids: OwnIds,
    /// Our own group.
    pub egid: u32,
    /// Our own supplementary groups: they stay where a user namespace does not let its processes set any.
    pub groups: Vec<u32>,
    /// Whether groups may be set in our own user namespace.
    pub set_groups: SetGroups,
    /// RLIMIT_NOFILE's hard value as the container would inherit it.
    pub nofile: u64,
    /// And its soft value: a bound that gabion adds must not raise it.
    pub nofile_soft: Option<u64>,
    /// Our own oom_score_adj, which a container inherits where its spec says nothing.
    pub oom_score_adj: i32,
    /// The root file system's path without symlinks; None where it could not be opened.
    pub rootfs: Option<PathBuf>,
    /// Where gabion and its caller keep what no container may see.
    pub state_dirs: Vec<PathBuf>,
    /// Docker's data-root, where dockerd asks.
    pub dockers_root: Option<PathBuf>,
    /// What Docker's own files of the container say of a build.
    pub build: Build,
    /// Where the root file system is.
    pub root: Spot,
    /// The layers of the root's overlay.
    pub layers: Vec<Spot>,
    /// What the host mounted below the root, by its path in there: it comes along.
    pub root_along: Vec<Along>,
    /// The places of this host that mean something, as objects. Not collected where nobody's own files are bound.
    pub guarded: Vec<Guarded>,
    /// The namespaces of other containers whose files are bound, by the id that their engine gives them.
    pub neighbours: BTreeMap<String, BTreeSet<(NsType, NsId)>>,
    pub cri: CriFiles,
    /// What the CDI files say. Not read where neither the policy nor the spec has to do with any.
    pub cdi: Cdi,
}

impl Host {
    /// Whether a list of devices can be put on the container's cgroup.
    pub fn lists_devices(&self) -> bool {
        self.delegation.is_whole() || self.controllers.contains("devices")
    }
}

/// Whether swap can be limited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SwapAccounting {
    #[default]
    Absent,
    Present,
}

/// Whether the kernel has PR_SET_MDWE (6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Mdwe {
    #[default]
    Absent,
    Present,
}

/// Whether the kernel has `vm.memfd_noexec` (6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MemfdNoexec {
    #[default]
    Absent,
    Present,
    /// It may not be looked at: a security module keeps it from gabion.
    Hidden,
}

/// Here and not beside the type: what the host is depends on ids, and not the other way round.
impl ContainerIds {
    /// Tells what a spec's container will have on this host.
    pub fn planned(spec: &Spec, host: &Host) -> Self {
        let linux = spec.linux().as_ref();
        let here = match users(spec) {
            Users::Runtime => Some(Maps::whole()),
            Users::New => Some(Maps {
                uids: IdMap::of(linux.and_then(|l| l.uid_mappings().as_deref()).unwrap_or_default()),
                gids: IdMap::of(linux.and_then(|l| l.gid_mappings().as_deref()).unwrap_or_default()),
            }),
            // What a spec writes down of a namespace that it joins is a claim; the kernel's maps are not.
            Users::Joined(path) => host.joined_users.get(path).map(|joined| joined.maps.clone()),
        };
        Self {
            here,
            own: host.own_ids.clone(),
        }
    }
}
