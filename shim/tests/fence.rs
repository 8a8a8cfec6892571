//! The promises of `sys` that need a process of their own: its descriptors are nobody else's. One test, so that no other is beside it.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;

use containerd_shim_gabion::sys::{LOGGER_FDS, pass_logger_fds};
use nix::errno::Errno;

/// Descriptors of /dev/null: those at a log driver's numbers, and three beyond them.
fn nulls() -> (Vec<OwnedFd>, [OwnedFd; 3]) {
    let all = (0..8).map(|_| OwnedFd::from(File::open("/dev/null").unwrap()));
    let (low, high): (Vec<_>, Vec<_>) = all.partition(|fd| LOGGER_FDS.contains(&fd.as_raw_fd()));
    let mut high = high.into_iter();
    (low, std::array::from_fn(|_| high.next().unwrap()))
}

#[test]
fn a_failed_exec_is_told_whatever_the_log_drivers_descriptors_hold() {
    let spawn = |program: &str, fds| {
        let mut command = Command::new(program);
        pass_logger_fds(&mut command, fds);
        command.spawn().map(|mut child| child.wait().unwrap().success())
    };
    // The numbers are free: `Command` may put its own pipe there.
    let (low, high) = nulls();
    drop(low);
    let told = spawn("/nonexistent", high);
    assert!(told.is_err(), "{told:?}");
    // They are another's.
    let (low, high) = nulls();
    drop(low);
    let others = nix::unistd::pipe().unwrap();
    let busy = spawn("true", high).unwrap_err();
    assert_eq!(busy.raw_os_error(), Some(Errno::EBUSY as i32));
    drop(others);
    // Held by /dev/null, as the shim does it.
    let (low, high) = nulls();
    let told = spawn("/nonexistent", high).unwrap_err();
    assert_eq!(told.kind(), std::io::ErrorKind::NotFound);
    let (more, high) = nulls();
    assert!(spawn("true", high).unwrap());
    drop((low, more));
}
