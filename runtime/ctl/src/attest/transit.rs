//! Processes of gabion's own on their way into the container: `exec` and `start` are at work beside us. Such a one is in the container's
//! namespaces before it is confined, and runs nothing of the container's until it is. It is waited for, not judged.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd};

use nix::fcntl::{AtFlags, readlinkat};
use nix::sys::stat::fstatat;

use gabion_see::procfs::Proc;

/// The programs that bring processes in: gabion, and gabionctl itself, which reads sysctls there. By device and inode: what a process calls
/// itself is its own word.
#[derive(Debug)]
pub(super) struct Ours(BTreeSet<(u64, u64)>);

impl Ours {
    pub(super) fn find() -> Self {
        use std::os::unix::fs::MetadataExt;
        let own = std::env::current_exe().ok();
        let beside = own.as_ref().map(|own| own.with_file_name("gabion"));
        let programs = [own, beside].into_iter().flatten();
        let ids = programs.filter_map(|path| std::fs::metadata(path).ok());
        Self(ids.map(|meta| (meta.dev(), meta.ino())).collect())
    }

    /// Tells whether this task runs one of them.
    pub(super) fn runs(&self, proc: &Proc, who: &str) -> bool {
        let exe = format!("{who}/exe");
        let dir = Some(proc.as_fd().as_raw_fd());
        let known = fstatat(dir, exe.as_str(), AtFlags::empty()).is_ok_and(|s| self.0.contains(&(s.st_dev, s.st_ino)));
        // The sealed copy by which a user's own gabion is kept from being overwritten.
        known || readlinkat(dir, exe.as_str()).is_ok_and(|link| link == "/memfd:gabion (deleted)")
    }
}
