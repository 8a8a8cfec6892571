//! Descriptors that come as numbers: received, opened, or placed for a child.

use std::io::{self, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, openat2};
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::stat::fstat;
use nix::unistd::dup2;

/// Receives a message and the descriptor that it carries (`SCM_RIGHTS`); the last one, if there are more. Does not wait.
pub fn receive_fd(stream: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut name = [0; 4096];
    let mut space = cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut name)];
    let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
    let message = recvmsg::<()>(stream.as_raw_fd(), &mut parts, Some(&mut space), flags)?;
    let mut received = None;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control {
            // Every one is owned at once, so that one too many is closed and not leaked.
            for fd in fds {
                // SAFETY: the kernel made this descriptor for us when it delivered the message above, which nobody else can read.
                received = Some(unsafe { OwnedFd::from_raw_fd(fd) });
            }
        }
    }
    Ok(received)
}

/// Opens `path`, relative to `directory`, as a place only (`O_PATH`), resolved as `resolve` says.
pub fn open_below(directory: BorrowedFd<'_>, path: &Path, resolve: ResolveFlag) -> io::Result<OwnedFd> {
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(resolve);
    let fd = openat2(directory.as_raw_fd(), path, how)?;
    // SAFETY: openat2 has just made this descriptor, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Marks every descriptor but stdio to be closed on exec: those that a careless caller left open for us included.
///
/// Best effort: a kernel before 5.11 does not know the flag.
pub fn close_inherited_on_exec() {
    // SAFETY: close_range takes three numbers; with CLOEXEC alone it closes nothing and changes no descriptor's use in this process.
    unsafe { libc::close_range(3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC.cast_signed()) };
}

/// The descriptors that a log driver is given: container's stdout, its stderr, and where to say that it is ready.
pub const LOGGER_FDS: [RawFd; 3] = [3, 4, 5];

/// Gives the child `fds` as its descriptors 3, 4 and 5.
///
/// Spawning fails (EBUSY) where one of the three numbers holds anything but `fds` and /dev/null by then: it could be the pipe by which
/// `Command` reports a failed exec. A caller that holds /dev/null at all three is safe from that.
pub fn pass_logger_fds(command: &mut Command, fds: [OwnedFd; 3]) {
    let place = move || {
        for target in LOGGER_FDS {
            if fds.iter().all(|fd| fd.as_raw_fd() != target) && !is_free(target) {
                return Err(Errno::EBUSY.into());
            }
        }
        // First all of them out of the way, since a source may be another's target; the copies close on exec.
        let mut high = LOGGER_FDS;
        for (copy, fd) in high.iter_mut().zip(&fds) {
            *copy = fcntl(fd.as_raw_fd(), FcntlArg::F_DUPFD_CLOEXEC(64))?;
        }
        for (copy, target) in high.iter().zip(LOGGER_FDS) {
            dup2(*copy, target)?;
        }
        Ok(())
    };
    // SAFETY: the closure runs between fork and exec; it makes system calls only, allocates nothing and takes no lock. It replaces
    // no descriptor that the code around it uses: it has looked.
    unsafe { command.pre_exec(place) };
}

/// Whether a number holds nothing, or /dev/null, which nobody misses. Makes one system call: it runs between fork and exec.
fn is_free(fd: RawFd) -> bool {
    match fstat(fd) {
        Ok(meta) => meta.st_mode & libc::S_IFMT == libc::S_IFCHR && meta.st_rdev == libc::makedev(1, 3),
        Err(errno) => errno == Errno::EBADF,
    }
}
