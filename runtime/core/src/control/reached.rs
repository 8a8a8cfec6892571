//! The model as the kernel shows it: every mount of the container, with who brought it.
//!
//! Nothing is left out because it lies below something that the spec names. A mount is gabion's own where it stands exactly at a place
//! that gabion mounted at, and is what gabion puts there; all others are judged.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Mount;

use super::hooks::runs_on_host;
use super::mounts::options::{Flag, Options};
use crate::fact::{Fact, Holds};
use crate::hardened::Hardened;
use crate::id::ControlId;
use crate::observed::{MountPoint, Observed};
use crate::reach::OnFs;
use crate::request::mount_options::is_bind;
use crate::request::normalize;

/// File systems whose files are the kernel's interfaces, not data. In a container there are only those that gabion mounted.
const KERNEL: [&str; 22] = [
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "fusectl",
    "mqueue",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

pub(crate) fn is_kernel(mount: &MountPoint) -> bool {
    is_kernel_type(&mount.fstype)
}

pub(crate) fn is_kernel_type(fstype: &str) -> bool {
    KERNEL.contains(&fstype)
}

/// Who brought a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// The root itself.
    Root,
    /// A mount of the spec, by index: it stands exactly where the spec wants it.
    Mount(usize),
    /// It came along below a mount of the spec, or is a clone of a part of it.
    Within(usize),
    /// gabion's own: a hole, a device node, a mask.
    Gabion,
    /// It came along with the root.
    Below,
}

/// What gabion mounted, and what the kernel shows.
pub(crate) struct Model<'a> {
    hardened: &'a Hardened,
    seen: &'a Observed,
    targets: Vec<PathBuf>,
    masks: BTreeSet<PathBuf>,
    nodes: BTreeSet<PathBuf>,
    /// Mounts that are wholly covered by another at the same place: nobody reaches them by a path.
    covered: BTreeSet<u64>,
}

impl<'a> Model<'a> {
    pub(crate) fn new(hardened: &'a Hardened, seen: &'a Observed) -> Self {
        let spec = hardened.spec();
        let mounts = spec.mounts().as_deref().unwrap_or_default();
        let planned = &hardened.plan().targets;
        let targets = mounts.iter().enumerate().map(|(i, m)| match planned.get(&i) {
            Some(target) => target.clone(),
            None => normalize(m.destination()),
        });
        let linux = spec.linux().as_ref();
        let masks = linux.and_then(|l| l.masked_paths().as_ref()).into_iter().flatten();
        let devices = linux.and_then(|l| l.devices().as_ref()).into_iter().flatten();
        let by_id: BTreeMap<u64, &MountPoint> = seen.mounts.iter().map(|m| (m.id, m)).collect();
        let covered = seen.mounts.iter().filter_map(|m| {
            let below = by_id.get(&m.parent)?;
            (below.id != m.id && below.target == m.target).then_some(below.id)
        });
        Self {
            hardened,
            seen,
            targets: targets.collect(),
            masks: masks.map(|p| normalize(Path::new(p))).collect(),
            nodes: devices.map(|d| normalize(d.path())).collect(),
            covered: covered.collect(),
        }
    }

    fn mounts(&self) -> &[Mount] {
        self.hardened.spec().mounts().as_deref().unwrap_or_default()
    }

    /// Tells whether programs of the host ran in the container's mount namespace: they may mount there, and the policy named them.
    fn hooked(&self) -> bool {
        self.hardened.spec().hooks().as_ref().is_some_and(runs_on_host)
    }

    /// Gives the mounts that can be reached, and who brought them.
    pub(crate) fn reached(&self) -> impl Iterator<Item = (&'a MountPoint, Owner)> {
        let mounts = self.seen.mounts.iter();
        mounts
            .filter(|m| !self.covered.contains(&m.id))
            .map(|m| (m, self.owner(m)))
    }

    fn owner(&self, mount: &MountPoint) -> Owner {
        let target = mount.target.as_path();
        if target == Path::new("/") {
            return Owner::Root;
        }
        if self.is_mask(mount) || self.is_node(mount) {
            return Owner::Gabion;
        }
        if let Some(index) = self.targets.iter().rposition(|t| t == target) {
            return Owner::Mount(index);
        }
        let holes = &self.hardened.plan().holes;
        if holes.iter().any(|h| h.target == target) {
            return Owner::Gabion;
        }
        // Of those that it lies below, the nearest; of two at one place the later.
        let above = self.targets.iter().enumerate().filter(|(_, t)| target.starts_with(t));
        match above.max_by_key(|(index, t)| (t.components().count(), *index)) {
            Some((index, _)) => Owner::Within(index),
            None => Owner::Below,
        }
    }

    /// The null device, or the empty tmpfs that only gabion makes, exactly at a masked path.
    fn is_mask(&self, mount: &MountPoint) -> bool {
        let null = matches!(mount.fstype.as_str(), "tmpfs" | "devtmpfs") && mount.root == Path::new("/null");
        let empty = mount.fstype == "tmpfs" && mount.super_options.contains("nr_inodes=2");
        (null || empty) && self.masks.contains(&mount.target)
    }

    /// A single file of a device file system: nodes are bound where they cannot be made, and the terminal is.
    fn is_node(&self, mount: &MountPoint) -> bool {
        let typ = matches!(mount.fstype.as_str(), "tmpfs" | "devtmpfs" | "devpts");
        let place = mount.target.parent() == Some(Path::new("/dev")) || self.nodes.contains(&mount.target);
        typ && place && mount.root != Path::new("/")
    }

    /// Tells of each file system of the kernel that nobody meant to be there, whatever the spec says of its place.
    pub(crate) fn kernel_file_systems(&self, control: ControlId) -> Vec<Fact> {
        let foreign = self
            .reached()
            .filter(|(m, owner)| is_kernel(m) && !self.is_meant(m, *owner));
        foreign
            .map(|(m, _)| {
                let path = m.target.display();
                let expected = format!("{path}: no kernel file system but those that were mounted for this container");
                let shown = format!("{path} is a {} that was brought along", m.fstype);
                Fact::judged(control, expected, shown, Holds::No)
            })
            .collect()
    }

    fn is_meant(&self, mount: &MountPoint, owner: Owner) -> bool {
        match owner {
            Owner::Gabion => true,
            Owner::Root => false,
            Owner::Below => self.hooked(),
            Owner::Mount(index) => self.is_asked_for(index, &mount.fstype) || self.is_let_in(index, mount),
            Owner::Within(index) => {
                let clone = || {
                    let top = self.targets.get(index).and_then(|t| self.seen.mount_at(t));
                    top.is_some_and(|top| top.dev == mount.dev) && self.is_asked_for(index, &mount.fstype)
                };
                let bind = self.mounts().get(index).is_some_and(is_recursive);
                clone() || self.is_cgroup(index, mount) || self.is_let_in(index, mount) || (self.hooked() && !bind)
            }
        }
    }

    /// Tells whether the spec's mount is a new file system of this type; what is bound never is.
    fn is_asked_for(&self, index: usize, fstype: &str) -> bool {
        let Some(mount) = self.mounts().get(index) else {
            return false;
        };
        let typ = mount.typ().as_deref().unwrap_or_default();
        !is_bind(mount) && (typ == fstype || (typ.starts_with("cgroup") && fstype.starts_with("cgroup")))
    }

    /// Each hierarchy of v1 is a mount of its own.
    fn is_cgroup(&self, index: usize, mount: &MountPoint) -> bool {
        mount.fstype == "cgroup" && self.is_asked_for(index, "cgroup")
    }

    /// Tells whether a bind was judged as what it is: by the policy's word, the /sys of rootless engines, a single device.
    fn is_let_in(&self, index: usize, mount: &MountPoint) -> bool {
        // It comes with all that the host has mounted there, also below what the spec mounts over a part of it.
        let sys = |(index, target): (usize, &PathBuf)| {
            target == Path::new("/sys") && self.mounts().get(index).is_some_and(is_bind)
        };
        if mount.target.starts_with("/sys") && self.targets.iter().enumerate().any(sys) {
            return true;
        }
        let device = mount.root != Path::new("/") && matches!(mount.fstype.as_str(), "devtmpfs" | "devpts");
        let exactly = self.targets.get(index).is_some_and(|t| *t == mount.target);
        self.mounts().get(index).is_some_and(is_bind)
            && (self.hardened.plan().sensitive.contains(&index) || (device && exactly))
    }

    /// Tells of each mount that came along below a bind and has not the bind's flags: nobody else looks at it.
    pub(crate) fn brought_by_binds(&self) -> Vec<Fact> {
        let along = self.reached().filter_map(|(m, owner)| match owner {
            Owner::Within(index) => Some((m, self.mounts().get(index)?)),
            _ => None,
        });
        along
            .filter(|(_, mount)| is_bind(mount) && (is_recursive(mount) || !self.hooked()))
            .map(|(m, mount)| {
                let options = Options::of(mount);
                let wanted = Flag::ALL.into_iter().filter(|f| options.is(*f)).map(Flag::name);
                let wanted: Vec<&str> = wanted.collect();
                let held: Vec<&str> = wanted.iter().copied().filter(|f| m.has(f)).collect();
                let path = m.target.display();
                let holds = if held == wanted { Holds::Yes } else { Holds::No };
                let expected = format!("{path} {}", wanted.join(" "));
                Fact::judged(ControlId::Mounts, expected, format!("{path} {}", held.join(" ")), holds)
            })
            .collect()
    }

    /// Tells of all that can be written at one place and executed at the same or another: one file system, and one of both places in the
    /// other. What was excepted when it was decided may be.
    pub(crate) fn writable_and_executable(&self) -> Vec<Fact> {
        // Nothing of the kernel's can be written and run; a root that stays writable is another control's matter, with its clones.
        let reached: Vec<_> = self.reached().filter(|(m, _)| !is_kernel(m)).collect();
        let root = reached.iter().find(|(_, owner)| *owner == Owner::Root).map(|(m, _)| *m);
        let open_root = |m: &MountPoint| root.is_some_and(|root| !root.has("ro") && meet(root, m));
        let mut found = Vec::new();
        // Holes, nodes and masks have controls of their own.
        let run = reached
            .iter()
            .filter(|(m, owner)| !m.has("noexec") && *owner != Owner::Gabion);
        for (x, owner) in run {
            let written = reached.iter().map(|(m, _)| *m).find(|w| is_writable(w) && meet(w, x));
            let Some(w) = written.filter(|w| !self.is_excepted(*owner) && !open_root(w)) else {
                continue;
            };
            let (path, other) = (x.target.display(), w.target.display());
            let expected = format!("{path}: nothing executable that is writable at {other}");
            let shown = format!("{path}: executable, and its files are writable at {other}");
            found.push(Fact::judged(ControlId::Mounts, expected, shown, Holds::No));
        }
        found
    }

    /// Tells of each mount by which a layer of the image could be written.
    pub(crate) fn writable_layers(&self) -> Vec<Fact> {
        let layers = &self.hardened.plan().layers;
        let of_layer = |m: &MountPoint| {
            let meets = |l: &OnFs| l.fs == m.dev && (l.path.starts_with(&m.root) || m.root.starts_with(&l.path));
            layers.iter().any(meets)
        };
        let written = self.reached().filter(|(m, _)| is_writable(m) && of_layer(m));
        written
            .map(|(m, _)| {
                let path = m.target.display();
                let expected = format!("{path}: no layer of the image is written");
                Fact::judged(
                    ControlId::Mounts,
                    expected,
                    format!("{path} lets one be written"),
                    Holds::No,
                )
            })
            .collect()
    }

    /// Tells whether a mount was decided to be both, or to be executable beside a writable one.
    fn is_excepted(&self, owner: Owner) -> bool {
        let (Owner::Mount(index) | Owner::Within(index)) = owner else {
            return false;
        };
        let options = |mount: &Mount| Options::of(mount);
        let both = |o: Options| !o.is(Flag::Ro) && !o.is(Flag::Noexec);
        let asked = self.mounts().get(index).map(options).is_some_and(both);
        asked || self.hardened.plan().twins_excepted.contains(&index)
    }

    /// Tells of each mount that came along with the root: it must be read-only, and no file system of the kernel.
    pub(crate) fn brought_by_root(&self) -> Vec<Fact> {
        if self.hooked() {
            return Vec::new();
        }
        let along = self.reached().filter(|(_, owner)| *owner == Owner::Below);
        along
            .map(|(m, _)| {
                let holds = if m.has("ro") && !is_kernel(m) {
                    Holds::Yes
                } else {
                    Holds::No
                };
                let (path, how) = (m.target.display(), if m.has("ro") { "ro" } else { "rw" });
                let expected = format!("{path}, mounted below root.path by the host: ro, no kernel file system");
                let shown = format!("{path}: {how}, {}", m.fstype);
                Fact::judged(ControlId::Rootfs, expected, shown, holds)
            })
            .collect()
    }
}

fn is_recursive(mount: &Mount) -> bool {
    is_bind(mount) && Options::of(mount).is_recursive()
}

fn is_writable(mount: &MountPoint) -> bool {
    !mount.has("ro") && !mount.super_options.contains("ro")
}

/// Tells whether two mounts show the same files: of one file system, one at or below the other.
fn meet(a: &MountPoint, b: &MountPoint) -> bool {
    a.dev == b.dev && (a.root.starts_with(&b.root) || b.root.starts_with(&a.root))
}
