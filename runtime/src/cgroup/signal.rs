//! Signals to every process of a cgroup.

use std::collections::BTreeSet;
use std::os::fd::AsFd;
use std::path::Path;

use gabion_see::cgroup::members::{below, pids};
use nix::errno::Errno;
use nix::unistd::Pid;

/// How many processes are held at once: each takes a descriptor.
const CHUNK: usize = 128;

/// Sends a signal to each process of this one directory: by descriptors that are checked to be still in it, so that a number
/// which was given out again reaches nobody else.
pub(crate) fn signal(directory: &Path, number: i32) -> nix::Result<()> {
    signal_those(|| pids(directory), number)
}

/// The same for whoever `members` tells of, and still tells of once they are held.
pub(crate) fn signal_those(members: impl Fn() -> nix::Result<BTreeSet<i32>>, number: i32) -> nix::Result<()> {
    let found: Vec<i32> = members()?.into_iter().filter(|pid| *pid > 0).collect();
    for chunk in found.chunks(CHUNK) {
        let mut held = Vec::with_capacity(chunk.len());
        for pid in chunk {
            match gabion_sys::pidfd_open(Pid::from_raw(*pid)) {
                Ok(fd) => held.push((*pid, fd)),
                // A thread's number (EINVAL), or gone.
                Err(Errno::ESRCH | Errno::EINVAL) => {}
                Err(e) => return Err(e),
            }
        }
        let still = members()?;
        for (_, fd) in held.iter().filter(|(pid, _)| still.contains(pid)) {
            match gabion_sys::pidfd_send_signal(fd.as_fd(), number) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}

/// The same for a directory and all below it.
pub(crate) fn signal_tree(directory: &Path, number: i32) -> nix::Result<()> {
    signal(directory, number)?;
    for child in below(directory)? {
        signal_tree(&child, number)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn who_has_left_is_not_signalled() {
        let dir = std::env::temp_dir().join(format!("gabion-signal-{}", std::process::id()));
        fs::create_dir_all(dir.join("below")).unwrap();
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        fs::write(dir.join("below/cgroup.procs"), format!("{}\n0\n", child.id())).unwrap();
        signal(&dir, libc::SIGKILL).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        signal_tree(&dir, libc::SIGKILL).unwrap();
        assert!(!child.wait().unwrap().success());
        signal_tree(&dir, libc::SIGKILL).unwrap();
        fs::remove_dir_all(&dir).unwrap();
    }
}
