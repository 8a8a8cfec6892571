//! Binds: attached from the tree that was opened when it was judged, never from a path.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use libcontainer::rootfs::utils::MountOptionConfig;
use nix::errno::Errno;
use nix::mount::MsFlags;
use oci_spec::runtime::Mount;

use super::{attributes, place, root_propagation};
use crate::build::target::Point;
use crate::contract::setup::{Create, PointKind, Setup, Tree};
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MountAttr, Reach};

impl From<PointKind> for Point {
    fn from(kind: PointKind) -> Self {
        match kind {
            PointKind::Directory => Self::Directory,
            PointKind::File => Self::File,
        }
    }
}

/// Gives the mount back where it is to become read-only only when others are made in it.
pub(super) fn bind(
    setup: &Setup<'_>,
    create: &Create<'_>,
    root: &OwnedFd,
    index: usize,
    mount: &Mount,
    options: &MountOptionConfig,
) -> Result<Option<OwnedFd>> {
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
    gabion_sys::mount_setattr(tree.as_fd(), Reach::Tree, &propagation).map_err(failed)?;
    clear_attributes(&tree, mount)?;
    let mut attributes = attributes::of(options.flags) | attributes::no_symlinks(mount);
    let late = setup.hardened.plan().read_only_late.contains(&index) && attributes & MOUNT_ATTR_RDONLY != 0;
    if late {
        attributes &= !MOUNT_ATTR_RDONLY;
    }
    let set = MountAttr {
        set: attributes,
        clear: attributes::atime_clear(options.flags),
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(tree.as_fd(), Reach::One, &set).map_err(failed)?;
    attributes::set_recursive(&tree, options)?;
    gabion_sys::move_mount(tree.as_fd(), place.as_fd())
        .map_err(|e| Error::step(Step::Mounts, "attach a bind mount", e))?;
    Ok(late.then_some(tree))
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
    match gabion_sys::mount_setattr(
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
pub(crate) fn reach(mount: &Mount) -> Reach {
    let recursive = mount.options().iter().flatten().any(|o| o == "rbind");
    if recursive { Reach::Tree } else { Reach::One }
}

fn reopen(path: &Path, dev: u64, ino: u64, reach: Reach) -> Result<OwnedFd> {
    let failed = |e: Errno| Error::step(Step::Mounts, format!("open the source {}", path.display()), e);
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    let fd = gabion_sys::open(path, flags, nix::sys::stat::Mode::empty()).map_err(failed)?;
    let stat = nix::sys::stat::fstat(std::os::fd::AsRawFd::as_raw_fd(&fd)).map_err(failed)?;
    if (stat.st_dev, stat.st_ino) != (dev, ino) {
        let why = format!(
            "the source {} is not the file it was when it was checked",
            path.display()
        );
        return Err(Error::failed(Step::Mounts, why));
    }
    gabion_sys::open_tree_clone(fd.as_fd(), reach).map_err(failed)
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
