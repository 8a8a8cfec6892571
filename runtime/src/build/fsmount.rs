//! New file systems as detached mounts (fsopen(2), fsmount(2)): configured before anyone can see them.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use gabion_see::error::{Error, Result, Step};

/// Makes a file system. `options` are `key=value` or a flag.
pub(crate) fn create(fstype: &str, source: &str, options: &[String], attributes: u64) -> nix::Result<OwnedFd> {
    let text = |s: &str| CString::new(s).map_err(|_| Errno::EINVAL);
    let fs = gabion_sys::fsopen(&text(fstype)?)?;
    gabion_sys::fsconfig_string(fs.as_fd(), c"source", &text(source)?)?;
    for option in options.iter().filter(|o| !o.is_empty()) {
        match option.split_once('=') {
            Some((key, value)) => gabion_sys::fsconfig_string(fs.as_fd(), &text(key)?, &text(value)?)?,
            None => gabion_sys::fsconfig_flag(fs.as_fd(), &text(option)?)?,
        }
    }
    gabion_sys::fsconfig_create(fs.as_fd())?;
    gabion_sys::fsmount(fs.as_fd(), attributes)
}

/// SELinux: every file of this file system carries the label (mount(8), context=).
pub(crate) fn context(label: Option<&str>) -> Option<String> {
    label.map(|label| format!("context={label}"))
}

/// SELinux: the label of a file system's top, where `context=` cannot be had.
pub(crate) fn relabel(made: BorrowedFd<'_>, label: &str) -> nix::Result<()> {
    let top = gabion_sys::openat(
        made,
        c".",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    gabion_sys::fsetxattr(&top, c"security.selinux", label.as_bytes())
}

/// A tmpfs that is mounted nowhere, with room for two nodes.
pub(crate) fn detached_tmpfs() -> Result<OwnedFd> {
    let options = ["mode=0755".to_owned(), "nr_inodes=4".to_owned()];
    create("tmpfs", "probe", &options, gabion_sys::MOUNT_ATTR_NOEXEC)
        .map_err(|e| Error::step(Step::Verify, "make a place to try what must be denied", e))
}
