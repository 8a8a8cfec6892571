//! The container's file system tree: root, holes, the spec's mounts, devices, in that order.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use libcontainer::rootfs::utils::{MountOptionConfig, is_bind, parse_mount};
use nix::errno::Errno;
use nix::mount::MsFlags;
use oci_spec::runtime::Mount;

use crate::control::ControlId;
use crate::error::{Error, Result, Step};
use crate::faults;
use crate::init::target::{self, Point};
use crate::init::{Create, Setup, cgroup_mount, devices, fsmount, holes};
use crate::request::normalize;
use crate::sys::{
    self, MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME, MountAttr, Reach,
};

/// Where a bind mount comes from.
#[derive(Debug)]
pub enum Tree {
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
pub enum PointKind {
    Directory,
    File,
}

impl From<PointKind> for Point {
    fn from(kind: PointKind) -> Self {
        match kind {
            PointKind::Directory => Self::Directory,
            PointKind::File => Self::File,
        }
    }
}

/// Builds the tree and gives its root.
pub fn build(setup: &Setup<'_>, create: &Create<'_>) -> Result<OwnedFd> {
    faults::at(Step::Rootfs)?;
    close_propagation(setup)?;
    let root = attach_root(create)?;
    // Below the spec's own mounts: a token mounted in /run stays visible.
    if setup.applies(ControlId::Holes) {
        holes::dig(setup, root.as_fd())?;
    }
    faults::at(Step::Mounts)?;
    let mut late = Vec::new();
    for (index, mount) in setup.hardened.spec().mounts().iter().flatten().enumerate() {
        let attached =
            mount_one(setup, create, &root, index, mount).map_err(|e| at_destination(e, mount.destination()))?;
        late.extend(attached);
    }
    devices::make(setup, &root)?;
    // Read-only only now: mount points and device nodes had to be made inside.
    for fd in late {
        let read_only = MountAttr {
            set: MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        sys::mount_setattr(fd.as_fd(), Reach::Tree, &read_only)
            .map_err(|e| Error::step(Step::Mounts, "make a mount read-only", e))?;
    }
    Ok(root)
}

fn at_destination(error: Error, destination: &Path) -> Error {
    match error {
        Error::Step { step, doing, errno } => Error::Step {
            step,
            doing: format!("{doing} (mount at {})", destination.display()),
            errno,
        },
        other => other,
    }
}

/// No mount of ours reaches the host, and none of the host's reaches us unless the spec says so.
fn close_propagation(setup: &Setup<'_>) -> Result<()> {
    let how = match root_propagation(setup) {
        Some("private" | "rprivate") => MsFlags::MS_PRIVATE,
        _ => MsFlags::MS_SLAVE,
    };
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | how, None::<&str>)
        .map_err(|e| Error::step(Step::Rootfs, "close mount propagation to the host", e))
}

pub fn root_propagation<'a>(setup: &'a Setup<'_>) -> Option<&'a str> {
    setup.hardened.spec().linux().as_ref()?.rootfs_propagation().as_deref()
}

fn attach_root(create: &Create<'_>) -> Result<OwnedFd> {
    let path = &create.rootfs;
    let failed = |doing: &'static str| move |e: Errno| Error::step(Step::Rootfs, doing, e);
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    let place = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())
        .and_then(sys::adopt)
        .map_err(failed("open the root file system"))?;
    let tree = match &create.rootfs_tree {
        Some(tree) => tree
            .try_clone()
            .map_err(|e| Error::failed(Step::Rootfs, e.to_string()))?,
        None => sys::open_tree_clone(place.as_fd(), Reach::Tree).map_err(failed("clone the root file system"))?,
    };
    // A clone of a shared mount would still pass mounts on to the host.
    let private = MountAttr {
        propagation: MsFlags::MS_PRIVATE.bits(),
        ..MountAttr::default()
    };
    sys::mount_setattr(tree.as_fd(), Reach::Tree, &private).map_err(failed("make the root file system private"))?;
    sys::move_mount(tree.as_fd(), place.as_fd()).map_err(failed("attach the root file system"))?;
    Ok(tree)
}

/// Mounts one entry; gives back what must still be made read-only at the end.
fn mount_one(
    setup: &Setup<'_>,
    create: &Create<'_>,
    root: &OwnedFd,
    index: usize,
    mount: &Mount,
) -> Result<Option<OwnedFd>> {
    let options = parse_mount(mount).map_err(|e| Error::failed(Step::Mounts, e.to_string()))?;
    if is_bind(mount) {
        bind(setup, create, root, index, mount, &options)?;
        return Ok(None);
    }
    let typ = mount.typ().as_deref().unwrap_or("none");
    if typ == "cgroup" || typ == "cgroup2" {
        let place = place(setup, root, index, mount, Point::Directory)?;
        return cgroup_mount::attach(setup, &place).map(|top| {
            let read_only = options.flags.contains(MsFlags::MS_RDONLY) && setup.applies(ControlId::Cgroup);
            read_only.then_some(top)
        });
    }
    let place = place(setup, root, index, mount, Point::Directory)?;
    let mut attributes = attributes(setup, options.flags) | no_symlinks(mount);
    let late = typ == "tmpfs" && attributes & MOUNT_ATTR_RDONLY != 0;
    if late {
        attributes &= !MOUNT_ATTR_RDONLY;
    }
    let copy_up = options.data.iter().any(|o| o == "tmpcopyup");
    let mut data: Vec<String> = options
        .data
        .iter()
        .filter(|o| !matches!(o.as_str(), "tmpcopyup" | "nosymfollow" | "symfollow"))
        .cloned()
        .collect();
    if typ == "tmpfs" && !data.iter().any(|o| o.starts_with("mode=")) {
        data.push(mode_of(&place)?);
    }
    let source = mount
        .source()
        .as_ref()
        .map_or_else(|| typ.to_owned(), |s| s.display().to_string());
    let made = fsmount::create(typ, &source, &with_label(setup, typ, data), attributes)
        .map_err(|e| Error::step(Step::Mounts, format!("make a {typ}"), e))?;
    if copy_up {
        holes::copy_up(place.as_fd(), made.as_fd(), mount.destination())?;
    }
    set_recursive(&made, &options)?;
    sys::move_mount(made.as_fd(), place.as_fd())
        .map_err(|e| Error::step(Step::Mounts, format!("attach a {typ}"), e))?;
    Ok(late.then_some(made))
}

/// The mount point: the one that was judged, or what the destination leads to where nothing was.
fn place(setup: &Setup<'_>, root: &OwnedFd, index: usize, mount: &Mount, point: Point) -> Result<OwnedFd> {
    let written = mount.destination();
    if !setup.hardened.enforces(ControlId::Mounts) {
        return target::open(Step::Mounts, root.as_fd(), written, point);
    }
    // What could not be looked up in the image was judged as it is written.
    let vetted = match setup.hardened.plan().targets.get(&index) {
        Some(target) => target.clone(),
        None => normalize(written),
    };
    target::open_vetted(Step::Mounts, root.as_fd(), written, &vetted, point)
}

/// A tmpfs looks as the directory that it covers (runc): /tmp stays 1777, /var/lib/x stays 0700.
fn mode_of(place: &OwnedFd) -> Result<String> {
    let stat = nix::sys::stat::fstat(std::os::fd::AsRawFd::as_raw_fd(place))
        .map_err(|e| Error::step(Step::Mounts, "look at the mount point", e))?;
    Ok(format!("mode={:04o}", stat.st_mode & 0o7777))
}

/// SELinux: files of these mounts carry the container's label (mount(8), context=).
fn with_label(setup: &Setup<'_>, typ: &str, mut data: Vec<String>) -> Vec<String> {
    let label = setup
        .hardened
        .spec()
        .linux()
        .as_ref()
        .and_then(|l| l.mount_label().as_ref());
    if let Some(label) = label.filter(|l| !l.is_empty())
        && !matches!(typ, "proc" | "sysfs")
        && Path::new("/sys/fs/selinux/enforce").exists()
    {
        data.push(format!("context={label}"));
    }
    data
}

fn bind(
    setup: &Setup<'_>,
    create: &Create<'_>,
    root: &OwnedFd,
    index: usize,
    mount: &Mount,
    options: &MountOptionConfig,
) -> Result<()> {
    let reach = reach(mount);
    let source = create
        .trees
        .get(&index)
        .ok_or_else(|| Error::failed(Step::Mounts, "a bind mount has no source"))?;
    let (tree, point) = match source {
        Tree::Detached { fd, point } => (
            fd.try_clone().map_err(|e| Error::failed(Step::Mounts, e.to_string()))?,
            *point,
        ),
        Tree::Reopen { path, dev, ino, point } => (reopen(path, *dev, *ino, reach)?, *point),
    };
    let place = place(setup, root, index, mount, point.into())?;
    let failed = |e| Error::step(Step::Mounts, "set the attributes of a bind mount", e);
    let propagation = MountAttr {
        propagation: propagation(setup, mount).bits(),
        ..MountAttr::default()
    };
    sys::mount_setattr(tree.as_fd(), Reach::Tree, &propagation).map_err(failed)?;
    clear_attributes(&tree, mount)?;
    let set = MountAttr {
        set: attributes(setup, options.flags) | no_symlinks(mount),
        clear: atime_clear(options.flags),
        ..MountAttr::default()
    };
    sys::mount_setattr(tree.as_fd(), Reach::One, &set).map_err(failed)?;
    set_recursive(&tree, options)?;
    sys::move_mount(tree.as_fd(), place.as_fd()).map_err(|e| Error::step(Step::Mounts, "attach a bind mount", e))
}

/// What the spec says may be (`rw`, `exec`, `dev`, `suid`) is taken off the clone; what a user namespace locks stays on.
fn clear_attributes(tree: &OwnedFd, mount: &Mount) -> Result<()> {
    let options = mount.options().as_deref().unwrap_or_default();
    let clear = [
        ("rw", MOUNT_ATTR_RDONLY),
        ("exec", MOUNT_ATTR_NOEXEC),
        ("dev", MOUNT_ATTR_NODEV),
        ("suid", MOUNT_ATTR_NOSUID),
    ]
    .into_iter()
    .filter(|(name, _)| options.iter().any(|o| o == name))
    .fold(0, |bits, (_, bit)| bits | bit);
    if clear == 0 {
        return Ok(());
    }
    match sys::mount_setattr(
        tree.as_fd(),
        Reach::One,
        &MountAttr {
            clear,
            ..MountAttr::default()
        },
    ) {
        // Locked by a user namespace (mount_namespaces(7)): it stays tighter than asked, as with runc.
        Ok(()) | Err(Errno::EPERM) => Ok(()),
        Err(e) => Err(Error::step(Step::Mounts, "clear the attributes of a bind mount", e)),
    }
}

/// How far a bind reaches.
pub fn reach(mount: &Mount) -> Reach {
    let recursive = mount.options().iter().flatten().any(|o| o == "rbind");
    if recursive { Reach::Tree } else { Reach::One }
}

fn reopen(path: &Path, dev: u64, ino: u64, reach: Reach) -> Result<OwnedFd> {
    let failed = |e: Errno| Error::step(Step::Mounts, format!("open the source {}", path.display()), e);
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let fd = nix::fcntl::open(path, flags, nix::sys::stat::Mode::empty())
        .and_then(sys::adopt)
        .map_err(failed)?;
    let stat = nix::sys::stat::fstat(std::os::fd::AsRawFd::as_raw_fd(&fd)).map_err(failed)?;
    if (stat.st_dev, stat.st_ino) != (dev, ino) {
        let why = format!(
            "the source {} is not the file it was when it was checked",
            path.display()
        );
        return Err(Error::failed(Step::Mounts, why));
    }
    sys::open_tree_clone(fd.as_fd(), reach).map_err(failed)
}

/// A bind's own propagation option, else the root's: private at hardened, slave as runc has it.
fn propagation(setup: &Setup<'_>, mount: &Mount) -> MsFlags {
    let named = mount.options().iter().flatten().rev().find_map(|o| match o.as_str() {
        "private" | "rprivate" => Some(MsFlags::MS_PRIVATE),
        "slave" | "rslave" => Some(MsFlags::MS_SLAVE),
        "shared" | "rshared" => Some(MsFlags::MS_SHARED),
        "unbindable" | "runbindable" => Some(MsFlags::MS_UNBINDABLE),
        _ => None,
    });
    named.unwrap_or(match root_propagation(setup) {
        Some("private" | "rprivate") => MsFlags::MS_PRIVATE,
        _ => MsFlags::MS_SLAVE,
    })
}

/// mount(2) flags as mount_setattr(2) bits.
fn attributes(setup: &Setup<'_>, flags: MsFlags) -> u64 {
    if !setup.applies(ControlId::Mounts) {
        return 0;
    }
    [
        (MsFlags::MS_RDONLY, MOUNT_ATTR_RDONLY),
        (MsFlags::MS_NOSUID, MOUNT_ATTR_NOSUID),
        (MsFlags::MS_NODEV, MOUNT_ATTR_NODEV),
        (MsFlags::MS_NOEXEC, MOUNT_ATTR_NOEXEC),
        (MsFlags::MS_NOATIME, MOUNT_ATTR_NOATIME),
        (MsFlags::MS_NODIRATIME, MOUNT_ATTR_NODIRATIME),
        (MsFlags::MS_STRICTATIME, MOUNT_ATTR_STRICTATIME),
    ]
    .into_iter()
    .filter(|(ms, _)| flags.contains(*ms))
    .fold(0, |bits, (_, bit)| bits | bit)
}

/// `nosymfollow`, which libcontainer knows only in its recursive form.
fn no_symlinks(mount: &Mount) -> u64 {
    let last = mount
        .options()
        .iter()
        .flatten()
        .rfind(|o| matches!(o.as_str(), "symfollow" | "nosymfollow"));
    if last.is_some_and(|o| o == "nosymfollow") {
        MOUNT_ATTR_NOSYMFOLLOW
    } else {
        0
    }
}

/// The access-time field is an enumeration: to set it, it must be cleared in the same call.
fn atime_clear(flags: MsFlags) -> u64 {
    let any = MsFlags::MS_NOATIME | MsFlags::MS_STRICTATIME | MsFlags::MS_RELATIME;
    if flags.intersects(any) { MOUNT_ATTR_ATIME } else { 0 }
}

/// `rro`, `rnosuid`, … (runtime-spec, config.md, Linux mount options).
fn set_recursive(tree: &OwnedFd, options: &MountOptionConfig) -> Result<()> {
    let Some(attr) = &options.rec_attr else { return Ok(()) };
    let attr = MountAttr {
        set: attr.attr_set,
        clear: attr.attr_clr,
        ..MountAttr::default()
    };
    sys::mount_setattr(tree.as_fd(), Reach::Tree, &attr)
        .map_err(|e| Error::step(Step::Mounts, "set recursive mount attributes", e))
}

/// Sources of all binds, for the runtime to open before the clone.
pub type Trees = BTreeMap<usize, Tree>;
