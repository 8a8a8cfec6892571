//! Where things are: sources, the root and what of the host means something, as objects.
//!
//! A few calls for each: what it is, the directories above it, and its line of mountinfo. What cannot be looked at stays unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::read_link;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use gabion_core::control::{mounts, rootfs};
use gabion_core::host::{Backing, Listener, Source, SourcePath};
use gabion_core::namespace::{NsId, NsType};
use gabion_core::observed::MountPoint;
use gabion_core::policy::Policy;
use gabion_core::reach::{Along, Guard, Guarded, Object, OnFs, Spot};
use gabion_core::request::Request;
use gabion_core::request::mount_options::{MountOptions, Reach};
use gabion_sys::Identity;

use super::files::Opened;
use super::table::Table;
use crate::vetted::{self, Kind, Links, Owner, Rules};

/// How many directories above one are looked at: beyond that its place in the file system still tells.
const MAX_DEPTH: usize = 128;

/// How many layers of an overlay are looked at; the kernel takes 500.
const MAX_LAYERS: usize = 512;

const fn object(identity: Identity) -> Object {
    Object {
        dev: identity.dev,
        ino: identity.ino,
    }
}

/// What an O_PATH descriptor leads to, and where that is.
struct Found {
    spot: Spot,
    identity: Identity,
    mount: Option<MountPoint>,
}

fn find(fd: BorrowedFd<'_>, real: &Path, table: &Table) -> Option<Found> {
    let identity = gabion_sys::identity(fd, c"").ok()?;
    let mut chain = vec![object(identity)];
    if identity.directory {
        climb(fd, &mut chain);
    } else if let Some(parent) = real.parent()
        && let Ok(dir) = gabion_sys::open_path(parent, OFlag::O_DIRECTORY)
        && let Ok(above) = gabion_sys::identity(dir.as_fd(), c"")
    {
        chain.push(object(above));
        climb(dir.as_fd(), &mut chain);
    }
    let mount = table.by_id(identity.mount);
    let on = mount.as_ref().and_then(|m| Table::spot_of(m, real));
    Some(Found {
        spot: Spot { chain, on },
        identity,
        mount,
    })
}

/// The directories above, up to the root, which is above itself.
fn climb(fd: BorrowedFd<'_>, chain: &mut Vec<Object>) {
    let mut path = Vec::new();
    while chain.len() < MAX_DEPTH {
        path.extend_from_slice(b"../");
        let Ok(name) = CString::new(path.as_slice()) else {
            return;
        };
        let Ok(above) = gabion_sys::identity(fd, &name).map(object) else {
            return;
        };
        if chain.last() == Some(&above) {
            return;
        }
        chain.push(above);
    }
}

fn real(fd: &impl AsFd) -> Option<PathBuf> {
    read_link(format!("/proc/self/fd/{}", fd.as_fd().as_raw_fd())).ok()
}

/// Everything that is known of where the container's files are.
#[derive(Default)]
pub(super) struct Places {
    pub(super) root: Spot,
    pub(super) layers: Vec<Spot>,
    pub(super) root_along: Vec<Along>,
    pub(super) guarded: Vec<Guarded>,
    pub(super) neighbours: BTreeMap<String, BTreeSet<(NsType, NsId)>>,
}

/// Fills in where the sources are, and gives the rest.
pub(super) fn collect(
    request: &Request,
    policy: &Policy,
    rootfs: Option<BorrowedFd<'_>>,
    sources: (&mut BTreeMap<usize, SourcePath>, &Opened<usize>),
    listener: Option<(&mut Listener, &OwnedFd)>,
    believed: &[(PathBuf, Guard)],
) -> Places {
    let table = Table::read();
    let (facts, fds) = sources;
    let mut ordinary = listener.is_some();
    if let Some((
        Listener {
            path: SourcePath::Open(source),
            ..
        },
        fd,
    )) = listener
    {
        locate(source, fd, false, &table);
    }
    for (index, fact) in facts.iter_mut() {
        let (SourcePath::Open(source), Some(fd)) = (fact, fds.get(index)) else {
            continue;
        };
        let alias = locate(source, fd, is_recursive(request, *index), &table);
        source.backing = backing(source, policy, &table);
        ordinary |= alias || !mounts::is_engines_own(&source.real, request, policy);
    }
    let found = rootfs.and_then(|fd| find(fd, &real(&fd)?, &table).map(|found| (fd, found)));
    let mut places = Places {
        neighbours: neighbours(request, facts),
        ..Places::default()
    };
    let Some((fd, found)) = found else { return places };
    let root = real(&fd).unwrap_or_default();
    places.root_along = along(&root, &table);
    for along in &mut places.root_along {
        let inside = along.path.strip_prefix(&root).map(|rest| Path::new("/").join(rest));
        along.path = inside.unwrap_or_default();
    }
    ordinary |= !root.starts_with(&request.bundle) && !rootfs::is_engines_shape(&root, request);
    if ordinary {
        places.layers = found.mount.map(|m| layers(&m, &table)).unwrap_or_default();
        let known = mounts::guarded(policy).map(|path| (path.to_owned(), Guard::Tree));
        let mut guards = Guards {
            table: &table,
            above: BTreeMap::new(),
            found: Vec::new(),
        };
        for (path, guard) in known.chain(believed.iter().cloned()) {
            guards.add(&path, guard);
        }
        places.guarded = guards.found;
    }
    places.root = found.spot;
    places
}

fn is_recursive(request: &Request, index: usize) -> bool {
    let mount = request.spec.mounts().as_ref().and_then(|m| m.get(index));
    mount.is_some_and(|m| MountOptions::of(m).reach() == Reach::Tree)
}

/// Fills in where a source is; true where what it is called may be an alias: it was reached by a mount of a part of a file system.
fn locate(source: &mut Source, fd: &OwnedFd, recursive: bool, table: &Table) -> bool {
    let Some(found) = find(fd.as_fd(), &source.real, table) else {
        return true;
    };
    source.spot = found.spot;
    source.links = found.identity.links;
    if recursive && found.identity.directory {
        source.along = along(&source.real, table);
    }
    // The host's own root may be an overlay, as on a live medium: nothing beside it is bound of that.
    if let Some(mount) = found.mount.as_ref().filter(|m| m.target != Path::new("/")) {
        source.layers = layers(mount, table);
    }
    let part = |m: &MountPoint| m.target != Path::new("/") && (m.root != Path::new("/") || table.has_another(m));
    found.mount.as_ref().is_none_or(part)
}

/// Tells of a subPath whether it is a part of a volume of its pod: of what lies or is mounted in the directory of its volumes, or of what
/// the policy allows. A hostPath is neither.
fn backing(source: &Source, policy: &Policy, table: &Table) -> Backing {
    let (Some(pod), Some(own)) = (mounts::pod_of_sub_path(&source.real, policy), &source.spot.on) else {
        return Backing::Unknown;
    };
    let volumes = pod.join("volumes");
    let mounted = table.below(&volumes).filter_map(|m| Table::spot_of(&m, &m.target));
    let opened = std::iter::once(&volumes)
        .chain(&policy.mounts.allow)
        .filter_map(|path| {
            let fd = gabion_sys::open_path(path.as_path(), OFlag::empty()).ok()?;
            find(fd.as_fd(), &real(&fd)?, table)?.spot.on
        });
    let holds = |place: OnFs| place.fs == own.fs && own.path.starts_with(&place.path);
    if mounted.chain(opened).any(holds) {
        Backing::Volume
    } else {
        Backing::Unknown
    }
}

/// What is mounted below a place of the host.
fn along(real: &Path, table: &Table) -> Vec<Along> {
    let below = table.below(real).map(|m| Along {
        spot: Spot {
            chain: Vec::new(),
            on: Table::spot_of(&m, &m.target),
        },
        path: m.target,
        fstype: m.fstype,
    });
    below.collect()
}

/// The guarded places. Many lie in one directory, so what is above each directory is asked once.
struct Guards<'a> {
    table: &'a Table,
    above: BTreeMap<PathBuf, Vec<Object>>,
    found: Vec<Guarded>,
}

impl Guards<'_> {
    /// A place as it is now: where it leads, and, of a file that can be exchanged, where the link to it stands.
    fn add(&mut self, path: &Path, guard: Guard) {
        let Some(real) = self.add_one(path, guard, OFlag::empty()) else {
            return;
        };
        if guard == Guard::File && real != path {
            self.add_one(path, guard, OFlag::O_NOFOLLOW);
        }
    }

    fn add_one(&mut self, path: &Path, guard: Guard, more: OFlag) -> Option<PathBuf> {
        let fd = gabion_sys::open_path(path, more).ok()?;
        let real = real(&fd)?;
        let identity = gabion_sys::identity(fd.as_fd(), c"").ok()?;
        let mut chain = vec![object(identity)];
        chain.extend(real.parent().map(|parent| self.directory(parent)).unwrap_or_default());
        let mount = self.table.by_id(identity.mount);
        let spot = Spot {
            on: mount.and_then(|m| Table::spot_of(&m, &real)),
            chain,
        };
        self.found.push(Guarded {
            path: path.to_owned(),
            guard,
            spot,
        });
        Some(real)
    }

    /// A directory and those above it.
    fn directory(&mut self, real: &Path) -> Vec<Object> {
        if let Some(known) = self.above.get(real) {
            return known.clone();
        }
        let mut chain = Vec::new();
        if let Ok(dir) = gabion_sys::open_path(real, OFlag::O_DIRECTORY)
            && let Ok(identity) = gabion_sys::identity(dir.as_fd(), c"")
        {
            chain.push(object(identity));
            climb(dir.as_fd(), &mut chain);
        }
        self.above.insert(real.to_owned(), chain.clone());
        chain
    }
}

/// The layers of an overlay, as its options name them: absolute, or from where the engine's other layers are.
fn layers(root: &MountPoint, table: &Table) -> Vec<Spot> {
    if root.fstype != "overlay" {
        return Vec::new();
    }
    let home = root.target.parent().and_then(Path::parent).unwrap_or(Path::new("/"));
    let mut named: Vec<PathBuf> = Vec::new();
    for option in &root.super_options {
        let Some((name, value)) = option.split_once('=') else {
            continue;
        };
        match name {
            "lowerdir" => named.extend(value.split(':').filter(|l| !l.is_empty()).map(|l| home.join(l))),
            "lowerdir+" | "datadir+" | "upperdir" | "workdir" => named.push(home.join(value)),
            _ => {}
        }
    }
    named.truncate(MAX_LAYERS);
    let spot = |path: &PathBuf| {
        let fd = gabion_sys::open_path(path.as_path(), OFlag::empty()).ok()?;
        Some(find(fd.as_fd(), &real(&fd)?, table)?.spot)
    };
    named.iter().filter_map(spot).collect()
}

/// The namespaces of containers whose files are bound: of the process that their engine's pidfile names.
fn neighbours(request: &Request, sources: &BTreeMap<usize, SourcePath>) -> BTreeMap<String, BTreeSet<(NsType, NsId)>> {
    let open = sources.values().filter_map(|s| match s {
        SourcePath::Open(source) => mounts::engines_file(&source.real, request),
        SourcePath::Unreadable(_) => None,
    });
    let files: Vec<(&Path, &str)> = open.collect();
    let others = files.iter().map(|(_, id)| *id).filter(|id| *id != request.id.as_str());
    // The engine's own directory first: the others are the caller's word. They are asked since --runroot may be anywhere, and shm lies in
    // the other root than the pidfile.
    let fixed = Path::new("/run/containers/storage/overlay-containers");
    let homes: BTreeSet<&Path> = files.iter().map(|(home, _)| *home).collect();
    let found = others.collect::<BTreeSet<_>>().into_iter().filter_map(|id| {
        let homes = std::iter::once(fixed).chain(homes.iter().copied());
        let docker = request
            .is_dockers()
            .then(|| request.bundle.with_file_name(id))
            .as_deref()
            .and_then(pid_of_task);
        let pid = docker.or_else(|| homes.map(|home| home.join(id)).find_map(|dir| pid_of(&dir)))?;
        let namespaces = NsType::ALL.into_iter().filter_map(|typ| {
            let stat = nix::sys::stat::stat(format!("/proc/{pid}/ns/{}", typ.proc_name()).as_str()).ok()?;
            let id = NsId {
                dev: stat.st_dev,
                ino: stat.st_ino,
            };
            Some((typ, id))
        });
        Some((id.to_owned(), namespaces.collect()))
    });
    found.collect()
}

/// The process that an engine's pidfile names: podman's and CRI-O's in the container's files.
fn pid_of(container: &Path) -> Option<u32> {
    read_pid(&container.join("userdata/pidfile"))
}

/// The process that a shim's pidfile names, in the task of another container of the same engine.
fn pid_of_task(bundle: &Path) -> Option<u32> {
    read_pid(&bundle.join("init.pid"))
}

/// Reads a file that nobody else can have written.
fn read_pid(path: &Path) -> Option<u32> {
    const PIDFILE: Rules = Rules {
        kind: Kind::File,
        owner: Owner::CallerOrRoot,
        forbidden: 0o022,
        largest: 64,
        links: Links::Refuse,
    };
    let file = vetted::open(path, &PIDFILE).ok()?;
    let text = String::from_utf8(vetted::read(file, &PIDFILE).ok()?).ok()?;
    text.trim().parse().ok()
}

/// Our own program, by the name that it was called by, and those that are installed beside it.
pub(super) fn own_programs() -> Vec<PathBuf> {
    let Some(own) = own_program() else { return Vec::new() };
    let beside = ["gabion", "gabionctl", "containerd-shim-gabion-v2"].map(|name| own.with_file_name(name));
    std::iter::once(own).chain(beside).collect()
}

fn own_program() -> Option<PathBuf> {
    let name = PathBuf::from(std::env::args_os().next()?);
    if name.as_os_str().as_bytes().contains(&b'/') {
        return std::path::absolute(name).ok();
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(&name))
        .find(|p| p.is_file())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// What this process sees of itself: the same directory by another name is the same.
    #[test]
    fn a_directory_is_found_with_what_is_above_it() {
        let table = Table::read();
        let look = |path: &Path| {
            let fd = gabion_sys::open_path(path, OFlag::empty()).unwrap();
            find(fd.as_fd(), &real(&fd).unwrap(), &table).unwrap().spot
        };
        let dir = std::env::temp_dir().join(format!("gabion-spot-{}", std::process::id()));
        std::fs::create_dir_all(dir.join("a/b")).unwrap();
        std::fs::write(dir.join("a/f"), "").unwrap();
        std::os::unix::fs::symlink(dir.join("a"), dir.join("l")).unwrap();
        let (a, b, f, l) = (
            look(&dir.join("a")),
            look(&dir.join("a/b")),
            look(&dir.join("a/f")),
            look(&dir.join("l/b")),
        );
        assert_eq!(b, l);
        assert!(a.holds(&b) && a.holds(&f) && !b.holds(&a) && look(Path::new("/")).holds(&f));
        assert!(a.on.is_some());
        std::fs::remove_dir_all(dir).unwrap();
    }
}
