//! Leaving the host's root.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::Mode;

use crate::build::mounts;
use crate::contract::setup::Setup;
use crate::faults;
use gabion_core::id::ControlId;
use gabion_core::observed::MountPoint;
use gabion_core::observed::parse::parse_mount;
use gabion_core::request::Leave;
use gabion_core::request::mount_options::Propagation;
use gabion_see::error::{Error, Result, Step};
use gabion_see::procfs::Proc;
use gabion_sys::{MOUNT_ATTR_RDONLY, MountAttr, Reach};

/// Makes `root` our root and drops the old one.
pub(crate) fn leave(proc: &Proc, root: &OwnedFd, how: Leave) -> Result<()> {
    faults::at(Step::Pivot)?;
    // Through the descriptor: the path may have been swapped since.
    nix::unistd::fchdir(root.as_raw_fd()).map_err(Step::Pivot.failing("enter the root file system"))?;
    match how {
        Leave::PivotRoot => {
            // Old root stacked on the new one at the same place, then let go: no directory for it is needed in the image.
            nix::unistd::pivot_root(".", ".").map_err(Step::Pivot.failing("make it the root"))?;
            nix::mount::umount2(".", MntFlags::MNT_DETACH).map_err(Step::Pivot.failing("let go of the host's root"))?;
        }
        Leave::MoveRoot => {
            hide_kernel_mounts(proc, root)?;
            nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
                .map_err(Step::Pivot.failing("move the root file system to /"))?;
            nix::unistd::chroot(".").map_err(Step::Pivot.failing("change root"))?;
        }
    }
    nix::unistd::chdir("/").map_err(Step::Pivot.failing("enter /"))
}

/// What the kernel lets nobody in a user namespace mount afresh, unless they see a whole one already (`mount_too_revealing` in its fs/namespace.c).
const KERNEL_S: [&str; 2] = ["proc", "sysfs"];

/// Takes away the host's own /proc and /sys before the root is moved. All mounts of the host stay below a moved root, where no path leads to
/// them and the kernel still counts them: whoever made a user namespace in the container could mount a /proc without any mask.
fn hide_kernel_mounts(proc: &Proc, root: &OwnedFd) -> Result<()> {
    let ours = gabion_sys::identity(root.as_fd(), c"").map_err(Step::Pivot.failing("look at the root file system"))?;
    let text = proc
        .read("self/mountinfo")
        .map_err(Step::Pivot.failing("list the host's mounts"))?;
    let all: Vec<MountPoint> = text.lines().filter_map(parse_mount).collect();
    let whole = |mount: &&MountPoint| KERNEL_S.contains(&mount.fstype.as_str()) && mount.root == Path::new("/");
    // The newest first: what is stacked on another has the same path.
    for mount in all
        .iter()
        .rev()
        .filter(whole)
        .filter(|m| !is_below(&all, m, ours.mount))
    {
        if let Some(above) = all.iter().find(|m| m.id == mount.parent && m.is_shared()) {
            // Or it would go from the host, too.
            nix::mount::mount(
                None::<&str>,
                &above.target,
                None::<&str>,
                MsFlags::MS_SLAVE,
                None::<&str>,
            )
            .map_err(Step::Pivot.failing("keep the host's mounts as they are"))?;
        }
        hide(&mount.target)?;
    }
    Ok(())
}

/// Whether a mount lies on the mount `top`, or on one that does.
fn is_below(all: &[MountPoint], mount: &MountPoint, top: u64) -> bool {
    let mut at = mount.id;
    // No chain is longer than there are mounts.
    for _ in 0..=all.len() {
        if at == top {
            return true;
        }
        match all.iter().find(|m| m.id == at) {
            Some(found) if found.parent != at => at = found.parent,
            _ => return false,
        }
    }
    false
}

/// Unmounts it, or covers it where the kernel has locked it (we are in a user namespace ourselves).
fn hide(target: &Path) -> Result<()> {
    match nix::mount::umount2(target, MntFlags::MNT_DETACH) {
        // Gone with what it lay on.
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(_) => nix::mount::mount(
            Some("tmpfs"),
            target,
            Some("tmpfs"),
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC,
            Some("size=0k,nr_inodes=1"),
        )
        .map_err(|errno| Error::step(Step::Pivot, format!("cover the host's {}", target.display()), errno)),
    }
}

/// Read-only root and propagation, once nothing has to be made in it any more.
pub(crate) fn finish_root(setup: &Setup<'_>) -> Result<()> {
    let spec = setup.hardened.spec();
    let read_only = spec
        .root()
        .as_ref()
        .and_then(oci_spec::runtime::Root::readonly)
        .unwrap_or(false);
    if read_only && crate::faults::not_skipped_by_a_test(ControlId::Rootfs) {
        let root = open(Path::new("/"))?;
        let attr = MountAttr {
            set: MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        };
        gabion_sys::mount_setattr(root.as_fd(), Reach::One, &attr)
            .map_err(Step::Pivot.failing("make the root read-only"))?;
    }
    let propagation = match mounts::root_propagation(setup) {
        Some(Propagation::Shared) => MsFlags::MS_SHARED,
        Some(Propagation::Slave) => MsFlags::MS_SLAVE,
        Some(Propagation::Unbindable) => MsFlags::MS_UNBINDABLE,
        Some(Propagation::Private) | None => return Ok(()),
    };
    nix::mount::mount(None::<&str>, "/", None::<&str>, propagation, None::<&str>)
        .map_err(Step::Pivot.failing("set the root's propagation"))
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_CLOEXEC;
    gabion_sys::open(path, flags, Mode::empty()).map_err(Step::Pivot.failing("open /"))
}
