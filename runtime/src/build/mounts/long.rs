//! File systems whose options are longer than fsconfig(2) takes (255 bytes a value: an overlay's layers): made by mount(2), which takes a page.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::mount::MsFlags;

use gabion_sys::{MountAttr, Reach};

/// Bytes of a value of fsconfig(2), with its NUL.
const MOST: usize = 256;

/// Bytes that mount(2) takes of all options, with a NUL. It would cut off the rest in silence.
const PAGE: usize = 4096;

/// Options that mount(2) has as flags.
const FLAGS: [(&str, MsFlags); 4] = [
    ("dirsync", MsFlags::MS_DIRSYNC),
    ("lazytime", MsFlags::MS_LAZYTIME),
    ("mand", MsFlags::MS_MANDLOCK),
    ("sync", MsFlags::MS_SYNCHRONOUS),
];
/// Their opposites, and the default: nothing is done.
const NO_FLAGS: [&str; 3] = ["async", "nolazytime", "nomand"];

/// Tells whether fsconfig(2) would not take these.
pub(super) fn is_long(source: &str, options: &[String]) -> bool {
    source.len() >= MOST
        || options
            .iter()
            .any(|o| o.split_once('=').map_or(o.as_str(), |(_, v)| v).len() >= MOST)
}

/// Makes a file system as [`crate::build::fsmount::create`] does: it is mounted on `place` for as long as it takes to clone the mount.
pub(super) fn create(
    fstype: &str,
    source: &str,
    options: &[String],
    attributes: u64,
    place: &OwnedFd,
    look: impl Fn() -> nix::Result<OwnedFd>,
) -> nix::Result<OwnedFd> {
    let flags = FLAGS.iter().filter(|(word, _)| options.iter().any(|o| o == word));
    let flags = flags.fold(MsFlags::empty(), |all, (_, flag)| all | *flag);
    let data = options.iter().map(String::as_str);
    let data: Vec<&str> = data
        .filter(|o| !NO_FLAGS.contains(o) && FLAGS.iter().all(|(word, _)| word != o))
        .collect();
    let data = data.join(",");
    if data.len() >= PAGE {
        return Err(Errno::E2BIG);
    }
    // By descriptor: the path may have been led elsewhere since it was opened.
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    nix::mount::mount(Some(source), path.as_str(), Some(fstype), flags, Some(data.as_str()))?;
    let made = look()?;
    let (before, now) = (
        gabion_sys::identity(place.as_fd(), c"")?,
        gabion_sys::identity(made.as_fd(), c"")?,
    );
    if before.mount == now.mount {
        return Err(Errno::ESTALE);
    }
    let tree = gabion_sys::open_tree_clone(made.as_fd(), Reach::One)?;
    nix::mount::umount2(
        format!("/proc/self/fd/{}", made.as_raw_fd()).as_str(),
        nix::mount::MntFlags::MNT_DETACH,
    )?;
    let set = MountAttr {
        set: attributes,
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(tree.as_fd(), Reach::One, &set)?;
    Ok(tree)
}
