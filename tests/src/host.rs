//! A host for cases: everything there and in order, but for what `host.toml` says.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use gabion_core::caller::OwnUserNs;
use gabion_core::cdi::{self, Cdi};
use gabion_core::host::{
    Above, AppArmor, Backing, CgroupDriver, CgroupNeighbour, CgroupVersion, CriFiles, Delegation, FileKind, HoleTarget,
    HookFile, Host, Listener, Mdwe, MemfdNoexec, NeighbourIs, NsPath, Parser, SeLinux, Source, SourceFs, SourcePath,
    SwapAccounting,
};
use gabion_core::ids::{IdMap, JoinedUsers, Maps, OwnIds, SetGroups};
use gabion_core::namespace::{NsId, NsType};
use gabion_core::policy::Cri;
use gabion_core::reach::{Along, Guard, Guarded, OnFs, Spot};
use gabion_core::request::{Channel, Request};
use gabion_core::size::Size;
use gabion_core::testing::door_of;
use serde::Deserialize;

/// The device number of nsfs on this host.
const NSFS: u64 = 4;

/// `host.toml`.
#[allow(clippy::struct_excessive_bools)] // a file of test input
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HostFile {
    /// Namespace paths by path; a path that is not named is a namespace of another pod, of the type asked for.
    pub ns: BTreeMap<PathBuf, Ns>,
    /// Bind sources by the path of the spec; one that is not named is a directory of this name.
    pub source: BTreeMap<PathBuf, SourceFile>,
    /// Where holes lead: a path, or `missing`/`file`.
    pub hole: BTreeMap<PathBuf, HoleFile>,
    /// Where mount destinations lead in the image, by the destination as it is written.
    pub target: BTreeMap<PathBuf, PathBuf>,
    /// What the host has at the paths of `linux.devices`.
    pub device: BTreeMap<PathBuf, Kind>,
    pub thermal_throttle: Vec<PathBuf>,
    pub kept_by_selinux: BTreeSet<PathBuf>,
    pub hook: BTreeMap<PathBuf, Hook>,
    pub memory_total: Option<Size>,
    pub parent_memory: Option<Size>,
    pub parent_pids: Option<u64>,
    pub tasks_total: u64,
    /// What listens at the profile's listenerPath.
    pub listener: Option<PathBuf>,
    pub listener_uid: u32,
    /// The cgroup of somebody else, in which the container's would be.
    pub cgroup_inside: Option<PathBuf>,
    pub cgroup: CgroupVersion,
    pub cgroup_driver: CgroupDriver,
    /// The controllers that may be used; all where it is not given.
    pub controllers: Option<BTreeSet<String>>,
    /// The hierarchies of cgroups that were delegated; root's, all of them, where it is not given.
    pub hierarchies: Option<BTreeSet<String>>,
    pub no_swap_accounting: bool,
    pub landlock_abi: Option<u32>,
    pub kernel: Option<(u32, u32)>,
    pub no_memfd_noexec: bool,
    pub no_mdwe: bool,
    /// It may not be looked at.
    pub hidden_memfd_noexec: bool,
    /// Loaded AppArmor profiles. None: no AppArmor.
    pub apparmor: Option<BTreeSet<String>>,
    /// AppArmor is on, its profiles cannot be listed.
    pub apparmor_unlisted: bool,
    /// A fresh MCS pair. None: no SELinux.
    pub selinux: Option<String>,
    pub euid: u32,
    /// gabion runs inside a user namespace.
    pub rootless: bool,
    /// The maps of that user namespace, as lines of uid_map and gid_map; those of rootless podman where they are not given.
    pub own_map: Option<String>,
    /// The number that the host's root has in it.
    pub root_here: Option<u32>,
    /// gabion's supplementary groups.
    pub groups: Vec<u32>,
    /// Whether groups may be set there.
    pub set_groups: SetGroups,
    /// The maps of user namespaces that are joined, by path. Of one that is not named nothing is known.
    pub users: BTreeMap<PathBuf, String>,
    pub nofile: Option<u64>,
    pub nofile_soft: Option<u64>,
    /// What a container inherits.
    pub oom_score_adj: i32,
    /// Where root.path leads, symlinks followed.
    pub rootfs: Option<PathBuf>,
    pub state_dirs: Vec<PathBuf>,
    /// Where root.path is, as `8:1 /path`; there, under its own name, where it is not given.
    pub root_at: Option<String>,
    /// The layers of its overlay, likewise.
    pub layers: Vec<String>,
    /// What the host mounted below root.path: its path in there, and its type.
    pub root_along: Vec<(PathBuf, String)>,
    /// Other containers whose files are bound: of which of the namespaces that are joined theirs are.
    pub neighbour: BTreeMap<String, BTreeSet<NsType>>,
    /// Files that gabion goes by.
    pub believed: Vec<PathBuf>,
    /// CDI files, with their text.
    pub cdi: BTreeMap<PathBuf, String>,
    /// Paths that such files name and others than root can lead elsewhere. All others lead to themselves, and only root can exchange them.
    pub cdi_led_away: Vec<PathBuf>,
}

/// A namespace path.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ns {
    /// The host's own of this type.
    Host(NsType),
    /// Another one of this type.
    Other(NsType),
    NotANamespace,
    Errno(i32),
}

/// A bind source.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SourceFile {
    pub real: Option<PathBuf>,
    pub kind: Kind,
    pub fs: Fs,
    pub errno: Option<i32>,
    /// Where it is, as `8:1 /path`: there, under its own name, where it is not given.
    pub at: Option<String>,
    /// How many names it has beside the first.
    pub more_names: u64,
    /// What a recursive bind brings along: its path, type and place.
    pub along: Vec<(PathBuf, String, String)>,
    /// The layers of the overlay that it is on.
    pub layers: Vec<String>,
    /// Of a subPath: it is a part of a volume of its pod.
    pub of_volume: bool,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    #[default]
    Directory,
    Regular,
    Char(u64, u64),
    Block(u64, u64),
    Socket,
    Fifo,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fs {
    #[default]
    Ordinary,
    Proc,
    Sys,
    Cgroup,
    Kernel,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HoleFile {
    Directory(PathBuf),
    Missing(PathBuf),
    NotADirectory(PathBuf),
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hook {
    Executable { uid: u32, mode: u32 },
    NotAFile,
    Errno(i32),
}

impl Kind {
    fn file(self) -> FileKind {
        match self {
            Self::Directory => FileKind::Directory,
            Self::Regular => FileKind::Regular,
            Self::Char(major, minor) => FileKind::CharDevice(major, minor),
            Self::Block(major, minor) => FileKind::BlockDevice(major, minor),
            Self::Socket => FileKind::Socket,
            Self::Fifo => FileKind::Fifo,
        }
    }
}

/// Users and groups alike.
fn maps(text: &str) -> Option<Maps> {
    let map = IdMap::parse(text)?;
    Some(Maps {
        uids: map.clone(),
        gids: map,
    })
}

/// The host's namespace of a type.
pub fn host_ns(typ: NsType) -> NsId {
    NsId {
        dev: NSFS,
        ino: 1 + typ as u64,
    }
}

/// A namespace of a type that is somebody else's.
pub fn other_ns(typ: NsType) -> NsId {
    NsId {
        dev: NSFS,
        ino: 1001 + typ as u64,
    }
}

impl HostFile {
    /// The host that this request meets.
    pub fn build(&self, request: &Request) -> Host {
        Host {
            dockers_root: None,
            build: gabion_core::docker::Build::No,
            namespaces: NsType::ALL
                .into_iter()
                .map(|t| (t, BTreeSet::from([host_ns(t)])))
                .collect(),
            ns_paths: self.ns_paths(request),
            sources: self.sources(request),
            targets: self.targets(request),
            devices: self
                .device
                .iter()
                .map(|(path, kind)| (path.clone(), kind.file()))
                .collect(),
            listener: self.listener(request),
            thermal_throttle: self.thermal_throttle.clone(),
            kept_by_selinux: self.kept_by_selinux.clone(),
            hooks: self.hooks(request),
            holes: self.holes(),
            memory_total: self.memory_total.unwrap_or(Size(8 << 30)).0,
            tasks_total: self.tasks_total,
            cgroup_neighbour: self.cgroup_inside.clone().map(|path| CgroupNeighbour {
                path,
                is: NeighbourIs::Above,
                who: "process 4242".to_owned(),
            }),
            parent_memory: self.parent_memory.map(|s| s.0),
            parent_pids: self.parent_pids,
            cgroup: self.cgroup,
            cgroup_driver: self.cgroup_driver,
            delegation: self.hierarchies.clone().map_or(Delegation::Whole, Delegation::Parts),
            controllers: self.controllers.clone().unwrap_or_else(|| {
                ["blkio", "cpu", "cpuset", "memory", "pids", "devices", "io", "hugetlb"]
                    .map(str::to_owned)
                    .into()
            }),
            swap_accounting: if self.no_swap_accounting {
                SwapAccounting::Absent
            } else {
                SwapAccounting::Present
            },
            landlock_abi: self.landlock_abi.unwrap_or(7),
            landlock_errata: 0b111,
            kernel: self.kernel.unwrap_or((6, 12)),
            mdwe: if self.no_mdwe { Mdwe::Absent } else { Mdwe::Present },
            memfd_noexec: match (self.no_memfd_noexec, self.hidden_memfd_noexec) {
                (true, _) => MemfdNoexec::Absent,
                (_, true) => MemfdNoexec::Hidden,
                _ => MemfdNoexec::Present,
            },
            apparmor: self.apparmor(),
            selinux: self
                .selinux
                .clone()
                .map_or(SeLinux::Absent, |mcs| SeLinux::Enabled { mcs }),
            euid: self.euid,
            user_ns: if self.rootless {
                OwnUserNs::Nested
            } else {
                OwnUserNs::Initial
            },
            own_ids: self.own_ids(),
            egid: self.euid,
            groups: self.groups.clone(),
            set_groups: self.set_groups,
            joined_users: self.joined_users(),
            nofile: self.nofile.unwrap_or(1_048_576),
            nofile_soft: self.nofile_soft,
            oom_score_adj: self.oom_score_adj,
            rootfs: self.rootfs.clone(),
            cri: match request.channel {
                Channel::Shim { .. } => door_of(Cri::Containerd).1,
                _ => CriFiles::default(),
            },
            state_dirs: self.state_dirs.clone(),
            root: self.root(request),
            layers: self.layers.iter().map(|at| spot(at)).collect(),
            root_along: (self.root_along.iter())
                .map(|(path, fstype)| Along {
                    path: path.clone(),
                    fstype: fstype.clone(),
                    spot: Spot::default(),
                })
                .collect(),
            guarded: self.guarded(),
            cdi: self.cdi(),
            neighbours: self.neighbours(),
        }
    }

    fn cdi(&self) -> Cdi {
        let file = |(path, text): (&PathBuf, &String)| cdi::File {
            path: path.clone(),
            says: cdi::parse(text.as_bytes()),
        };
        let read = Cdi {
            files: self.cdi.iter().map(file).collect(),
            ..Cdi::default()
        };
        let named = read.each().flat_map(|(_, _, _, edits)| {
            let mounts = edits.mounts.iter().map(|mount| mount.host_path.clone());
            mounts.chain(edits.hooks.iter().map(|hook| hook.path.clone()))
        });
        let ways = named.filter(|path| !self.cdi_led_away.contains(path)).map(|path| {
            let leads = path.clone();
            let above = Above::Closed;
            (path, cdi::Way { leads, above })
        });
        Cdi {
            ways: ways.collect(),
            nodes: self
                .device
                .iter()
                .map(|(path, kind)| (path.clone(), kind.file()))
                .collect(),
            ..read
        }
    }

    fn root(&self, request: &Request) -> Spot {
        match &self.root_at {
            Some(at) => spot(at),
            None => own_spot(&self.rootfs.clone().or_else(|| request.rootfs()).unwrap_or_default()),
        }
    }

    fn guarded(&self) -> Vec<Guarded> {
        let policy = gabion_core::policy::Policy::default();
        let trees = gabion_core::control::mounts::guarded(&policy).map(|path| (path.to_owned(), Guard::Tree));
        let files = self.believed.iter().map(|path| (path.clone(), Guard::File));
        trees
            .chain(files)
            .map(|(path, guard)| Guarded {
                spot: own_spot(&path),
                path,
                guard,
            })
            .collect()
    }

    fn neighbours(&self) -> BTreeMap<String, BTreeSet<(NsType, NsId)>> {
        let of = |types: &BTreeSet<NsType>| types.iter().map(|t| (*t, other_ns(*t))).collect();
        self.neighbour
            .iter()
            .map(|(id, types)| (id.clone(), of(types)))
            .collect()
    }

    fn own_ids(&self) -> OwnIds {
        if !self.rootless {
            return OwnIds::default();
        }
        let podman = "0 1000 1\n1 100000 65536\n";
        OwnIds {
            maps: maps(self.own_map.as_deref().unwrap_or(podman)),
            root_user: self.root_here,
            root_group: self.root_here,
        }
    }

    fn joined_users(&self) -> BTreeMap<PathBuf, JoinedUsers> {
        let joined = |text| {
            Some(JoinedUsers {
                maps: maps(text)?,
                set_groups: self.set_groups,
            })
        };
        let all = self.users.iter();
        all.filter_map(|(path, text)| Some((path.clone(), joined(text)?)))
            .collect()
    }

    fn apparmor(&self) -> AppArmor {
        if self.apparmor_unlisted {
            return AppArmor::Enabled {
                loaded: None,
                parser: Parser::Here,
            };
        }
        match &self.apparmor {
            None => AppArmor::Absent,
            loaded => AppArmor::Enabled {
                loaded: loaded.clone(),
                parser: Parser::Here,
            },
        }
    }

    fn ns_paths(&self, request: &Request) -> BTreeMap<PathBuf, NsPath> {
        let asked = request
            .spec
            .linux()
            .iter()
            .flat_map(|l| l.namespaces().iter().flatten());
        asked
            .filter_map(|ns| Some((ns.path().clone()?, NsType::from(ns.typ()))))
            .map(|(path, asked)| {
                let seen = match self.ns.get(&path) {
                    None => open(asked, other_ns(asked)),
                    Some(Ns::Host(typ)) => open(*typ, host_ns(*typ)),
                    Some(Ns::Other(typ)) => open(*typ, other_ns(*typ)),
                    Some(Ns::NotANamespace) => NsPath::NotANamespace,
                    Some(Ns::Errno(errno)) => NsPath::Unreadable(*errno),
                };
                (path, seen)
            })
            .collect()
    }

    fn sources(&self, request: &Request) -> BTreeMap<usize, SourcePath> {
        let mounts = request.spec.mounts().iter().flatten().enumerate();
        mounts
            .filter(|(_, m)| {
                let bind = |o: &String| o == "bind" || o == "rbind";
                m.typ().as_deref() == Some("bind") || m.options().iter().flatten().any(bind)
            })
            .filter_map(|(i, m)| Some((i, m.source().clone()?)))
            .map(|(i, path)| (i, self.source(&path)))
            .collect()
    }

    /// The socket that the profile names, in order where the host does not say otherwise.
    fn listener(&self, request: &Request) -> Option<Listener> {
        let profile = request.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
        let asked = self.listener.clone().or_else(|| profile?.listener_path().clone())?;
        let mut path = self.source(&asked);
        if let SourcePath::Open(source) = &mut path
            && self.listener.is_none()
        {
            source.kind = FileKind::Socket;
        }
        Some(Listener {
            path,
            uid: self.listener_uid,
        })
    }

    fn targets(&self, request: &Request) -> BTreeMap<usize, PathBuf> {
        let mounts = request.spec.mounts().iter().flatten().enumerate();
        mounts
            .filter_map(|(i, m)| Some((i, self.target.get(m.destination())?.clone())))
            .collect()
    }

    fn source(&self, path: &Path) -> SourcePath {
        let file = self.source.get(path).cloned().unwrap_or_default();
        if let Some(errno) = file.errno {
            return SourcePath::Unreadable(errno);
        }
        let real = file.real.unwrap_or_else(|| path.to_owned());
        let along = file.along.iter().map(|(path, fstype, at)| Along {
            path: path.clone(),
            fstype: fstype.clone(),
            spot: spot(at),
        });
        SourcePath::Open(Source {
            spot: file.at.as_deref().map_or_else(|| own_spot(&real), spot),
            links: 1 + file.more_names,
            along: along.collect(),
            layers: file.layers.iter().map(|at| spot(at)).collect(),
            connects: gabion_core::host::Connects::default(),
            backing: if file.of_volume {
                Backing::Volume
            } else {
                Backing::Unknown
            },
            real,
            kind: file.kind.file(),
            filesystem: match file.fs {
                Fs::Ordinary => SourceFs::Ordinary,
                Fs::Proc => SourceFs::Proc,
                Fs::Sys => SourceFs::Sys,
                Fs::Cgroup => SourceFs::Cgroup,
                Fs::Kernel => SourceFs::Kernel,
            },
        })
    }

    fn hooks(&self, request: &Request) -> BTreeMap<PathBuf, HookFile> {
        let Some(hooks) = request.spec.hooks() else {
            return BTreeMap::new();
        };
        let good = Hook::Executable { uid: 0, mode: 0o755 };
        #[allow(deprecated)] // prestart is what engines still write
        let all = [
            hooks.prestart(),
            hooks.create_runtime(),
            hooks.create_container(),
            hooks.start_container(),
            hooks.poststart(),
            hooks.poststop(),
        ];
        all.into_iter()
            .flatten()
            .flatten()
            .map(|h| {
                let seen = match self.hook.get(h.path()).unwrap_or(&good) {
                    Hook::Executable { uid, mode } => HookFile::Executable { uid: *uid, mode: *mode },
                    Hook::NotAFile => HookFile::NotAFile,
                    Hook::Errno(errno) => HookFile::Unreadable(*errno),
                };
                (h.path().clone(), seen)
            })
            .collect()
    }

    fn holes(&self) -> BTreeMap<PathBuf, HoleTarget> {
        let mut all: BTreeMap<PathBuf, HoleTarget> = ["/tmp", "/var/tmp", "/run"]
            .map(|p| (p.into(), HoleTarget::Directory(p.into())))
            .into();
        all.extend(self.hole.iter().map(|(path, target)| {
            let target = match target {
                HoleFile::Directory(p) => HoleTarget::Directory(p.clone()),
                HoleFile::Missing(p) => HoleTarget::Missing(p.clone()),
                HoleFile::NotADirectory(p) => HoleTarget::NotADirectory(p.clone()),
            };
            (path.clone(), target)
        }));
        all
    }
}

fn open(typ: NsType, id: NsId) -> NsPath {
    NsPath::Namespace { typ, id }
}

/// `8:1 /path`: a file system by its numbers, and a place in it.
fn spot(text: &str) -> Spot {
    let parts = text
        .split_once(' ')
        .and_then(|(fs, path)| Some((fs.split_once(':')?, path)));
    let Some(((major, minor), path)) = parts else {
        unreachable!("not `8:1 /path`: {text}")
    };
    Spot {
        chain: Vec::new(),
        on: Some(OnFs {
            fs: (major.parse().unwrap_or(0), minor.parse().unwrap_or(0)),
            path: path.into(),
        }),
    }
}

/// One file system for the whole host, mounted once.
fn own_spot(path: &Path) -> Spot {
    spot(&format!("8:1 {}", path.display()))
}
