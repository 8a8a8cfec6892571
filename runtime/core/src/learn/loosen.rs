//! From what was seen to the smallest loosening that holds it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Change, Denied, Executable, Kind, Nameless, Seen, Socket};
use crate::control::holes::{DEFAULTS, forbidden};
use crate::policy::SeccompGroup;
use crate::size::Size;
use crate::sockets::{Opens, SocketWord};

/// A writable place below the root: memory, not executable, gone with the container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Hole {
    pub path: PathBuf,
    /// None: the policy's default holds it.
    #[serde(serialize_with = "super::ready::size")]
    pub size: Option<u64>,
    /// None: as in the image.
    #[serde(serialize_with = "super::ready::mode")]
    pub mode: Option<u32>,
    /// The path is one where programs keep what should outlive them: a volume there needs no hole.
    pub data: bool,
}

/// A mount that a hole cannot be in the place of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Volume {
    pub path: PathBuf,
    #[serde(serialize_with = "super::ready::mode")]
    pub mode: Option<u32>,
    /// Nothing of the image may be in it.
    pub empty: bool,
    pub exec: bool,
    /// The spec mounts it already: it only lacks a word.
    pub mounted: bool,
}

/// What no loosening can hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Impossible {
    pub path: PathBuf,
    pub why: String,
}

/// What has to be asked for, or allowed, beyond level hardened. Empty: it runs there as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Loosening {
    pub holes: Vec<Hole>,
    pub volumes: Vec<Volume>,
    pub capabilities: BTreeSet<String>,
    pub sysctls: BTreeMap<String, String>,
    pub seccomp: BTreeSet<SeccompGroup>,
    pub sockets: BTreeSet<SocketWord>,
    /// `sysctl.memfd_noexec = "observe"`.
    pub memfd: bool,
    /// `memory.mdwe = "observe"`, at level restricted alone.
    pub jit: bool,
    pub impossible: Vec<Impossible>,
    /// Written, and no program fails without it: caches beside the code.
    pub spared: BTreeSet<PathBuf>,
}

impl Loosening {
    /// Whether a denial is one that the outcome leaves: the program was seen to do without, or nothing can be done.
    pub fn leaves(&self, denied: &Denied) -> bool {
        let (Denied::ReadOnly { dir, .. } | Denied::Missing { dir, .. } | Denied::Foreign { dir, .. }) = denied else {
            return false;
        };
        cache_of(dir).is_some()
            || self.spared.iter().any(|cache| cache.starts_with(dir))
            || self
                .impossible
                .iter()
                .any(|other| other.path == *dir || other.path.parent() == Some(dir))
    }

    /// Whether nothing is needed at hardened.
    pub fn is_empty(&self) -> bool {
        let without = Self {
            jit: false,
            spared: BTreeSet::new(),
            ..self.clone()
        };
        without == Self::default()
    }
}

/// Directories that many programs share: what one creates there is its own, and the directory is not.
const SHARED: [&str; 27] = [
    "/",
    "/etc",
    "/home",
    "/media",
    "/mnt",
    "/opt",
    "/root",
    "/run",
    "/run/lock",
    "/srv",
    "/usr",
    "/usr/bin",
    "/usr/lib",
    "/usr/local",
    "/usr/local/bin",
    "/usr/local/etc",
    "/usr/local/lib",
    "/usr/local/share",
    "/usr/sbin",
    "/usr/share",
    "/var",
    "/var/cache",
    "/var/lib",
    "/var/log",
    "/var/mail",
    "/var/spool",
    "/var/local",
];

/// Where programs keep what should outlive them.
const DATA: [&str; 8] = [
    "/data",
    "/home",
    "/opt",
    "/root",
    "/srv",
    "/var/lib",
    "/var/mail",
    "/var/spool",
];

const LOW_PORTS: &str = "net.ipv4.ip_unprivileged_port_start";

/// Concludes. `default` and `largest` are the policy's sizes of a hole.
pub fn loosening(seen: &Seen, default: Size, largest: Size) -> Loosening {
    let mut found = Loosening {
        jit: seen.jit,
        memfd: seen.nameless.contains(&Nameless::Executed),
        ..Loosening::default()
    };
    let mut places = Places::default();
    written(seen, &mut places, &mut found);
    seen.needed
        .iter()
        .for_each(|denied| need(seen, denied, &mut places, &mut found));
    executed(seen, &mut places, &mut found);
    found.holes = places.holes(seen, default, largest, &found.volumes);
    found.capabilities.extend(seen.capabilities.keys().cloned());
    found.seccomp = seen.closed.iter().filter_map(|call| group(call)).collect();
    found.sockets = seen.sockets.iter().filter_map(word_for).collect();
    found.impossible.sort();
    found.impossible.dedup();
    found.volumes.sort();
    found.volumes.dedup();
    found
}

/// Directories that must be writable, with the mode that must be asked for.
#[derive(Debug, Default)]
struct Places(BTreeMap<PathBuf, Option<u32>>);

impl Places {
    fn add(&mut self, path: &Path, mode: Option<u32>) {
        let ours = self.0.entry(path.to_owned()).or_default();
        *ours = ours.or(mode);
    }

    /// Whether a path is within one of them, or a default hole.
    fn hold(&self, path: &Path) -> bool {
        self.0.keys().any(|place| path.starts_with(place)) || default_of(path).is_some()
    }

    fn holes(&self, seen: &Seen, default: Size, largest: Size, volumes: &[Volume]) -> Vec<Hole> {
        let mut holes: Vec<Hole> = Vec::new();
        for (path, mode) in &self.0 {
            let within = |place: &Path| path.starts_with(place) && path != place;
            let covered = holes
                .iter()
                .any(|hole| within(&hole.path) && (mode.is_none() || hole.mode == *mode))
                && !missing(seen, path)
                || volumes
                    .iter()
                    .any(|volume| !volume.mounted && path.starts_with(&volume.path));
            if covered {
                continue;
            }
            let usual = default_of(path);
            let room = match usual {
                Some((at, bytes)) if at == path => bytes,
                // It lies in that one, and is as good as any other directory there.
                Some(_) if mode.is_none() && !missing(seen, path) => continue,
                _ => default.0,
            };
            let size = size_for(seen.sizes.get(path).copied().unwrap_or(0), room, largest.0);
            if usual.is_some_and(|(at, _)| at == path) && size.is_none() && mode.is_none() {
                continue;
            }
            let data = DATA.iter().any(|tree| path.starts_with(tree));
            holes.push(Hole {
                path: path.clone(),
                size,
                mode: *mode,
                data,
            });
        }
        holes
    }
}

/// The default hole that a path lies in, and how large it is.
fn default_of(path: &Path) -> Option<(&'static Path, u64)> {
    let mut all = DEFAULTS.iter().map(|(at, size, _)| (Path::new(*at), *size));
    all.find(|(at, _)| path.starts_with(at))
}

fn missing(seen: &Seen, path: &Path) -> bool {
    let is = |denied: &Denied| matches!(denied, Denied::Missing { dir, .. } if dir == path);
    seen.needed.iter().any(is)
}

/// Twice what was there in the end, as a power of two of at least 1 MiB; none where the usual size holds that. What is removed meanwhile is not
/// seen: the other half is for it.
fn size_for(bytes: u64, room: u64, largest: u64) -> Option<u64> {
    let wanted = bytes
        .saturating_mul(2)
        .max(1 << 20)
        .checked_next_power_of_two()
        .unwrap_or(u64::MAX);
    // A bound of the policy's that is below what was seen does not become larger by asking; above it half as much again is better than a refusal.
    let wanted = if wanted > largest && bytes <= largest {
        largest
    } else {
        wanted
    };
    (wanted > room).then_some(wanted)
}

/// Whether a directory is no place for a hole, or not one program's.
pub fn is_shared(path: &Path) -> bool {
    SHARED.iter().any(|shared| path == Path::new(shared))
}

fn written(seen: &Seen, places: &mut Places, found: &mut Loosening) {
    // A directory comes before what is in it.
    for (path, what) in &seen.written {
        if places.0.keys().any(|place| path.starts_with(place)) {
            continue;
        }
        if let Some(cache) = cache_of(path) {
            found.spared.insert(cache);
            continue;
        }
        let parent = path.parent().unwrap_or(path);
        match (what.change, what.kind) {
            (Change::Entries, _) if only_caches(seen, path) => {}
            // Its own, in a directory that is not.
            (Change::Created, Kind::Directory) if is_shared(parent) => place(path, places, found, path),
            (Change::Entries, _) if is_shared(path) && explained(seen, path) => {}
            (Change::Entries, _) | (Change::Changed, Kind::Directory) => place(path, places, found, path),
            (Change::Created | Change::Deleted | Change::Changed, _) => place(parent, places, found, path),
        }
    }
}

/// Python keeps compiled modules beside their source where it may, and goes on where it may not.
pub(super) fn cache_of(path: &Path) -> Option<PathBuf> {
    path.ancestors()
        .find(|at| at.ends_with("__pycache__"))
        .map(Path::to_owned)
}

/// Whether all that was created in a directory are such caches.
fn only_caches(seen: &Seen, dir: &Path) -> bool {
    let mut below = seen
        .written
        .iter()
        .filter(|(path, what)| path.parent() == Some(dir) && what.change == Change::Created)
        .peekable();
    below.peek().is_some() && below.all(|(path, _)| cache_of(path).is_some())
}

/// Whether something is left of what was created or deleted in a directory: that says better what is needed.
fn explained(seen: &Seen, dir: &Path) -> bool {
    let left = |change| matches!(change, Change::Created | Change::Deleted);
    seen.written
        .iter()
        .any(|(path, what)| path.parent() == Some(dir) && left(what.change))
}

fn place(dir: &Path, places: &mut Places, found: &mut Loosening, what: &Path) {
    if forbidden(dir) {
        found.impossible.push(Impossible {
            path: what.to_owned(),
            why: format!(
                "it is written in {}, where no hole may be: build it into the image, or mount a file there",
                dir.display()
            ),
        });
        return;
    }
    places.add(dir, None);
}

/// The mode for a directory that is to be written by somebody who is not root.
fn mode_for(uid: u32) -> Option<u32> {
    (uid != 0).then_some(0o1777)
}

fn need(seen: &Seen, denied: &Denied, places: &mut Places, found: &mut Loosening) {
    match denied {
        Denied::Missing { dir, uid } | Denied::Foreign { dir, uid } if !forbidden(dir) => {
            places.add(dir, mode_for(*uid));
        }
        Denied::Missing { dir, .. } | Denied::Foreign { dir, .. } => found.impossible.push(Impossible {
            path: dir.clone(),
            why: "no hole may be there".to_owned(),
        }),
        Denied::ReadOnly { dir, .. } => {
            let own = dir.clone();
            place(dir, places, found, &own);
        }
        Denied::ForeignFile { file, .. } => found.volumes.push(Volume {
            path: file.parent().unwrap_or(file).to_owned(),
            mode: Some(0o1777),
            empty: true,
            exec: false,
            mounted: false,
        }),
        Denied::NoExec { path } => {
            let mounted = seen.volume_of(path).map(|(mount, _)| mount);
            let usual = default_of(path).map(|(at, _)| at);
            found.volumes.push(Volume {
                path: mounted.or(usual).or(path.parent()).unwrap_or(path).to_owned(),
                mode: None,
                empty: false,
                exec: true,
                mounted: mounted.is_some(),
            });
        }
        Denied::Port(_) => {
            found.sysctls.insert(LOW_PORTS.to_owned(), "0".to_owned());
        }
        Denied::Capability { name, .. } => {
            found.capabilities.insert(name.clone());
        }
    }
}

/// What is executed where it can be written: a hole is never executable, a mount where it says so.
fn executed(seen: &Seen, places: &mut Places, found: &mut Loosening) {
    for path in seen.programs.iter().chain(&seen.mapped) {
        let (at, mounted) = match seen.volume_of(path) {
            Some((_, Executable::Yes)) => continue,
            Some((mount, Executable::No)) => (mount.to_owned(), true),
            None if places.hold(path) => {
                let holder = places
                    .0
                    .keys()
                    .filter(|place| path.starts_with(place))
                    .max_by_key(|place| place.components().count());
                let usual = default_of(path).map(|(at, _)| at.to_owned());
                let Some(at) = holder.cloned().or(usual) else { continue };
                (at, false)
            }
            None => continue,
        };
        places.0.remove(&at);
        found.volumes.push(Volume {
            path: at,
            mode: None,
            empty: false,
            exec: true,
            mounted,
        });
    }
}

/// Refused with «the kernel has no such call», for which programs that use them have another way.
const WITHOUT: [&str; 13] = [
    "io_uring_setup",
    "io_uring_enter",
    "io_uring_register",
    "clone3",
    "get_mempolicy",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "mbind",
    "migrate_pages",
    "move_pages",
    "modify_ldt",
    "lookup_dcookie",
    "remap_file_pages",
];

/// The group that opens a call which gabion's filters refuse.
fn group(call: &str) -> Option<SeccompGroup> {
    match call {
        "unshare" | "clone" => Some(SeccompGroup::Userns),
        "ptrace" | "process_vm_readv" | "process_vm_writev" | "pidfd_getfd" | "kcmp" => Some(SeccompGroup::Ptrace),
        "keyctl" | "add_key" | "request_key" => Some(SeccompGroup::Keyring),
        "perf_event_open" => Some(SeccompGroup::Perf),
        _ => None,
    }
}

impl Seen {
    /// Gives the calls that were made, are refused at hardened, and that only a lower level opens.
    pub fn closed_for_good(&self) -> BTreeSet<&str> {
        let all = self.closed.iter().map(String::as_str);
        all.filter(|call| group(call).is_none() && !WITHOUT.contains(call))
            .collect()
    }

    /// Gives those that get an answer at hardened with which programs go another way.
    pub fn has_another_way(&self) -> BTreeSet<&str> {
        self.closed
            .iter()
            .map(String::as_str)
            .filter(|call| WITHOUT.contains(call))
            .collect()
    }
}

/// The word of the policy that a socket needs, if it needs one.
fn word_for(socket: &Socket) -> Option<SocketWord> {
    const INET: [u32; 2] = [2, 10];
    const NETLINK: u32 = 16;
    // Who asks for these takes TCP where there is none.
    let has_another_way = |word: &SocketWord| matches!(word, SocketWord::Mptcp | SocketWord::Smc);
    SocketWord::ALL
        .into_iter()
        .filter(|word| !has_another_way(word))
        .find(|word| {
            word.opens().iter().any(|opens| match *opens {
                Opens::Family(family) => socket.family == family,
                Opens::Inet(protocol) => INET.contains(&socket.family) && socket.protocol == protocol,
                Opens::Netlink(protocol) => socket.family == NETLINK && socket.protocol == protocol,
            })
        })
}
