//! Binds: attached from the tree that was opened when it was judged, never from a path.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::MsFlags;
use nix::sys::stat::fstat;
use oci_spec::runtime::Mount;

use super::{attributes, place, root_propagation};
use crate::build::target::Point;
use crate::contract::setup::{Create, PointKind, Setup, Tree};
use gabion_core::request::mount_options::{self, MountOptions, Propagation};
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{MOUNT_ATTR_RDONLY, MountAttr, Reach};

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
    options: &MountOptions,
) -> Result<Option<OwnedFd>> {
    let reach = reach(options);
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
        propagation: propagation(setup, options).bits(),
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(tree.as_fd(), Reach::Tree, &propagation).map_err(failed)?;
    clear_attributes(&tree, options.one.clear)?;
    let mut attributes = attributes::of(options.one);
    let late = setup.hardened.plan().read_only_late.contains(&index) && attributes & MOUNT_ATTR_RDONLY != 0;
    if late {
        attributes &= !MOUNT_ATTR_RDONLY;
    }
    let set = MountAttr {
        set: attributes,
        clear: options.one.field_to_clear(),
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(tree.as_fd(), Reach::One, &set).map_err(failed)?;
    attributes::set_recursive(&tree, options.tree)?;
    gabion_sys::move_mount(tree.as_fd(), place.as_fd()).map_err(|e| {
        let errno = if e == Errno::EINVAL && one_is_a_directory(&tree, &place) {
            Errno::ENOTDIR
        } else {
            e
        };
        Error::step(Step::Mounts, "attach a bind mount", errno)
    })?;
    Ok(late.then_some(tree))
}

/// Whether a directory meets something else. move_mount(2) calls that invalid, mount(2) «not a directory»: engines look for those words.
fn one_is_a_directory(tree: &OwnedFd, place: &OwnedFd) -> bool {
    let is_directory = |fd: &OwnedFd| fstat(fd.as_raw_fd()).map(|s| s.st_mode & libc::S_IFMT == libc::S_IFDIR);
    matches!((is_directory(tree), is_directory(place)), (Ok(a), Ok(b)) if a != b)
}

/// What the spec says may be (`rw`, `exec`, `dev`, `suid`) is taken off the clone; what a user namespace locks stays on.
fn clear_attributes(tree: &OwnedFd, clear: u64) -> Result<()> {
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
pub(crate) fn reach(options: &MountOptions) -> Reach {
    match options.reach() {
        mount_options::Reach::One => Reach::One,
        mount_options::Reach::Tree => Reach::Tree,
    }
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
fn propagation(setup: &Setup<'_>, options: &MountOptions) -> MsFlags {
    match options.propagation {
        Some(Propagation::Private) => MsFlags::MS_PRIVATE,
        Some(Propagation::Slave) => MsFlags::MS_SLAVE,
        Some(Propagation::Shared) => MsFlags::MS_SHARED,
        Some(Propagation::Unbindable) => MsFlags::MS_UNBINDABLE,
        None if root_propagation(setup) == Some(Propagation::Private) => MsFlags::MS_PRIVATE,
        None => MsFlags::MS_SLAVE,
    }
}
