//! What the options of a mount are in mount_setattr(2)'s words.

use std::os::fd::{AsFd, OwnedFd};

use libcontainer::rootfs::utils::MountOptionConfig;
use nix::mount::MsFlags;
use oci_spec::runtime::Mount;

use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{
    MOUNT_ATTR_ATIME, MOUNT_ATTR_NOATIME, MOUNT_ATTR_NODEV, MOUNT_ATTR_NODIRATIME, MOUNT_ATTR_NOEXEC,
    MOUNT_ATTR_NOSUID, MOUNT_ATTR_NOSYMFOLLOW, MOUNT_ATTR_RDONLY, MOUNT_ATTR_STRICTATIME, MountAttr, Reach,
};

/// mount(2) flags as mount_setattr(2) bits.
pub(super) fn of(flags: MsFlags) -> u64 {
    if !crate::faults::not_skipped_by_a_test(ControlId::Mounts) {
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
pub(super) fn no_symlinks(mount: &Mount) -> u64 {
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
pub(super) fn atime_clear(flags: MsFlags) -> u64 {
    let any = MsFlags::MS_NOATIME | MsFlags::MS_STRICTATIME | MsFlags::MS_RELATIME;
    if flags.intersects(any) { MOUNT_ATTR_ATIME } else { 0 }
}

/// `rro`, `rnosuid`, … (runtime-spec, config.md, Linux mount options).
pub(super) fn set_recursive(tree: &OwnedFd, options: &MountOptionConfig) -> Result<()> {
    let Some(attr) = &options.rec_attr else { return Ok(()) };
    let attr = MountAttr {
        set: attr.attr_set,
        clear: attr.attr_clr,
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(tree.as_fd(), Reach::Tree, &attr)
        .map_err(|e| Error::step(Step::Mounts, "set recursive mount attributes", e))
}
