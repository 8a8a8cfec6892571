//! Leaving the host's root.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::mount::{MntFlags, MsFlags};
use nix::sys::stat::Mode;

use crate::build::mounts;
use crate::contract::setup::Setup;
use crate::faults;
use gabion_core::id::ControlId;
use gabion_core::request::Leave;
use gabion_core::request::mount_options::Propagation;
use gabion_see::error::{Result, Step};
use gabion_sys::{MOUNT_ATTR_RDONLY, MountAttr, Reach};

/// Makes `root` our root and drops the old one.
pub(crate) fn leave(root: &OwnedFd, how: Leave) -> Result<()> {
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
            nix::mount::mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)
                .map_err(Step::Pivot.failing("move the root file system to /"))?;
            nix::unistd::chroot(".").map_err(Step::Pivot.failing("change root"))?;
        }
    }
    nix::unistd::chdir("/").map_err(Step::Pivot.failing("enter /"))
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
