//! The container's file system tree: root, holes, the spec's mounts, devices, in that order.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::MsFlags;
use oci_spec::runtime::Mount;

use crate::build::target::{self, Point};
use crate::build::{cgroup_mount, console, devices, fsmount, holes};
use crate::contract::setup::{Create, Setup};
use crate::faults;
use gabion_core::id::ControlId;
use gabion_core::request::mount_options::{MountOptions, Propagation, is_bind};
use gabion_core::request::normalize;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{MOUNT_ATTR_RDONLY, MountAttr, Reach};

mod attributes;
mod bind;
mod long;

pub(crate) use bind::reach;

/// Builds the tree and gives its root.
pub(crate) fn build(setup: &Setup<'_>, create: &Create<'_>) -> Result<OwnedFd> {
    faults::at(Step::Rootfs)?;
    close_propagation(setup)?;
    let root = attach_root(create)?;
    // Below the spec's own mounts: a token mounted in /run stays visible.
    if crate::faults::not_skipped_by_a_test(ControlId::Holes) {
        holes::dig(setup, create, root.as_fd())?;
    }
    faults::at(Step::Mounts)?;
    let mut late = Vec::new();
    for (index, mount) in setup.hardened.spec().mounts().iter().flatten().enumerate() {
        let attached =
            mount_one(setup, create, &root, index, mount).map_err(|e| at_destination(e, mount.destination()))?;
        late.extend(attached);
    }
    devices::make(setup, &root)?;
    console::make_place(setup, root.as_fd())?;
    // Read-only only now: mount points and device nodes had to be made inside.
    for (fd, reach) in late {
        let read_only = MountAttr {
            set: MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        gabion_sys::mount_setattr(fd.as_fd(), reach, &read_only)
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
        Some(Propagation::Private) => MsFlags::MS_PRIVATE,
        _ => MsFlags::MS_SLAVE,
    };
    nix::mount::mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | how, None::<&str>)
        .map_err(|e| Error::step(Step::Rootfs, "close mount propagation to the host", e))
}

pub(crate) fn root_propagation(setup: &Setup<'_>) -> Option<Propagation> {
    let linux = setup.hardened.spec().linux().as_ref()?;
    Propagation::named(linux.rootfs_propagation().as_deref()?)
}

fn attach_root(create: &Create<'_>) -> Result<OwnedFd> {
    let path = &create.rootfs;
    let failed = |doing: &'static str| move |e: Errno| Error::step(Step::Rootfs, doing, e);
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    let place =
        gabion_sys::open(path, flags, nix::sys::stat::Mode::empty()).map_err(failed("open the root file system"))?;
    let tree = match &create.rootfs_tree {
        Some(tree) => tree
            .try_clone()
            .map_err(|e| Error::failed(Step::Rootfs, e.to_string()))?,
        None => {
            gabion_sys::open_tree_clone(place.as_fd(), Reach::Tree).map_err(failed("clone the root file system"))?
        }
    };
    // A clone of a shared mount would still pass mounts on to the host.
    let private = MountAttr {
        propagation: MsFlags::MS_PRIVATE.bits(),
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(tree.as_fd(), Reach::Tree, &private)
        .map_err(failed("make the root file system private"))?;
    gabion_sys::move_mount(tree.as_fd(), place.as_fd()).map_err(failed("attach the root file system"))?;
    Ok(tree)
}

/// Mounts one entry; gives back what must still be made read-only at the end, and how far.
fn mount_one(
    setup: &Setup<'_>,
    create: &Create<'_>,
    root: &OwnedFd,
    index: usize,
    mount: &Mount,
) -> Result<Option<(OwnedFd, Reach)>> {
    let options = MountOptions::of(mount);
    if is_bind(mount) {
        let late = bind::bind(setup, create, root, index, mount, &options)?;
        return Ok(late.map(|tree| (tree, Reach::One)));
    }
    let typ = mount.typ().as_deref().unwrap_or("none");
    if typ == "cgroup" || typ == "cgroup2" {
        let place = place(setup, root, index, mount, Point::Directory)?;
        return cgroup_mount::attach(setup, create, &place).map(|top| {
            let read_only = options.holds(MOUNT_ATTR_RDONLY) && crate::faults::not_skipped_by_a_test(ControlId::Cgroup);
            read_only.then_some((top, Reach::Tree))
        });
    }
    let was_there = there(setup, root, index, mount);
    let place = place(setup, root, index, mount, Point::Directory)?;
    let mut attributes = attributes::of(options.one);
    let mut tree = options.tree;
    let is_read_only = options.holds(MOUNT_ATTR_RDONLY) && crate::faults::not_skipped_by_a_test(ControlId::Mounts);
    let late = typ == "tmpfs" && is_read_only;
    if late {
        attributes &= !MOUNT_ATTR_RDONLY;
        tree.set &= !MOUNT_ATTR_RDONLY;
    }
    let mut data = options.data.clone();
    if typ == "tmpfs" && was_there && !data.iter().any(|o| o.starts_with("mode=")) {
        data.push(mode_of(&place)?);
    }
    let source = mount
        .source()
        .as_ref()
        .map_or_else(|| typ.to_owned(), |s| s.display().to_string());
    let label = create.mount_label.as_deref();
    data.extend(fsmount::context(label.filter(|_| takes_context(typ))));
    let made = if long::is_long(&source, &data) {
        let look = || mount_point(setup, root, index, mount);
        long::create(typ, &source, &data, attributes, &place, look)
    } else {
        fsmount::create(typ, &source, &data, attributes)
    };
    let made = made.map_err(|e| Error::step(Step::Mounts, format!("make a {typ}"), e))?;
    if let Some(label) = label
        && typ == "mqueue"
    {
        fsmount::relabel(made.as_fd(), label)
            .map_err(|e| Error::step(Step::Mounts, format!("label a {typ} {label}"), e))?;
    }
    if options.copy_up && was_there {
        holes::copy_up(place.as_fd(), made.as_fd(), mount.destination())?;
        holes::as_asked(made.as_fd(), &data).map_err(|e| Error::step(Step::Mounts, "set owner and mode", e))?;
    }
    attributes::set_recursive(&made, tree)?;
    gabion_sys::move_mount(made.as_fd(), place.as_fd())
        .map_err(|e| Error::step(Step::Mounts, format!("attach a {typ}"), e))?;
    Ok(late.then_some((made, Reach::One)))
}

/// The mount point: the one that was judged, or what the destination leads to where nothing was.
fn place(setup: &Setup<'_>, root: &OwnedFd, index: usize, mount: &Mount, point: Point) -> Result<OwnedFd> {
    let written = mount.destination();
    match vetted(setup, index, mount) {
        Some(vetted) => target::open_vetted(Step::Mounts, root.as_fd(), written, &vetted, point),
        None => target::open(Step::Mounts, root.as_fd(), written, point),
    }
}

/// Tells whether something is at the mount point before it is made.
fn there(setup: &Setup<'_>, root: &OwnedFd, index: usize, mount: &Mount) -> bool {
    mount_point(setup, root, index, mount).is_ok()
}

/// Opens the mount point as it is now; nothing is made.
fn mount_point(setup: &Setup<'_>, root: &OwnedFd, index: usize, mount: &Mount) -> nix::Result<OwnedFd> {
    match vetted(setup, index, mount) {
        Some(vetted) => target::resolve_vetted(root.as_fd(), &vetted),
        None => target::resolve(root.as_fd(), mount.destination()),
    }
}

/// Where the destination was found to lead when it was judged; None where nothing was.
fn vetted(setup: &Setup<'_>, index: usize, mount: &Mount) -> Option<PathBuf> {
    // What could not be looked up in the image was judged as it is written.
    let vetted = setup.hardened.plan().targets.get(&index);
    let vetted = || vetted.cloned().unwrap_or_else(|| normalize(mount.destination()));
    setup.hardened.enforces(ControlId::Mounts).then(vetted)
}

/// A tmpfs looks as the directory that it covers (runc): /tmp stays 1777, /var/lib/x stays 0700. Where there was none it has a tmpfs's
/// own mode, 1777: whoever runs may write there.
fn mode_of(place: &OwnedFd) -> Result<String> {
    let stat = nix::sys::stat::fstat(std::os::fd::AsRawFd::as_raw_fd(place))
        .map_err(|e| Error::step(Step::Mounts, "look at the mount point", e))?;
    Ok(format!("mode={:04o}", stat.st_mode & 0o7777))
}

/// A file system's own mount of the kernel cannot take another context: message queues have one for each IPC namespace.
fn takes_context(typ: &str) -> bool {
    !matches!(typ, "proc" | "sysfs" | "mqueue")
}
