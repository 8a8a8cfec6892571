//! What the options of a mount are in mount_setattr(2)'s words.

use std::os::fd::{AsFd, OwnedFd};

use gabion_core::id::ControlId;
use gabion_core::request::mount_options::Attributes;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{MountAttr, Reach};

/// The attributes of this one mount.
pub(super) fn of(one: Attributes) -> u64 {
    if crate::faults::not_skipped_by_a_test(ControlId::Mounts) {
        one.to_set()
    } else {
        0
    }
}

/// `rro`, `rnosuid`, … (runtime-spec, config.md, Linux mount options).
pub(super) fn set_recursive(made: &OwnedFd, tree: Attributes) -> Result<()> {
    if tree == Attributes::default() {
        return Ok(());
    }
    let attr = MountAttr {
        set: tree.to_set(),
        clear: tree.clear | tree.field_to_clear(),
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(made.as_fd(), Reach::Tree, &attr)
        .map_err(|e| Error::step(Step::Mounts, "set recursive mount attributes", e))
}

#[cfg(test)]
mod tests {
    use gabion_core::request::mount_options::attr;

    /// The table's numbers, which need no system call, beside the fence's.
    #[test]
    fn the_table_s_numbers_are_the_kernel_s() {
        let table = [
            attr::RDONLY,
            attr::NOSUID,
            attr::NODEV,
            attr::NOEXEC,
            attr::ATIME,
            attr::NOATIME,
            attr::STRICTATIME,
            attr::NODIRATIME,
            attr::NOSYMFOLLOW,
        ];
        let fence = [
            gabion_sys::MOUNT_ATTR_RDONLY,
            gabion_sys::MOUNT_ATTR_NOSUID,
            gabion_sys::MOUNT_ATTR_NODEV,
            gabion_sys::MOUNT_ATTR_NOEXEC,
            gabion_sys::MOUNT_ATTR_ATIME,
            gabion_sys::MOUNT_ATTR_NOATIME,
            gabion_sys::MOUNT_ATTR_STRICTATIME,
            gabion_sys::MOUNT_ATTR_NODIRATIME,
            gabion_sys::MOUNT_ATTR_NOSYMFOLLOW,
        ];
        assert_eq!(table, fence);
    }
}
