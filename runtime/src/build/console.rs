//! The container's terminal: a pseudo-terminal of its own devpts, whose master goes to the caller (runc, docs/terminals.md).

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::sys::stat::Mode;
use nix::sys::termios::{self, OutputFlags, SetArg};

use crate::build::target::{self, Point};
use crate::contract::setup::{Console, Newline, Setup};
use crate::faults;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::Reach;

/// Whether the terminal is also bound to /dev/console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    Console,
    /// exec: the container's console is its first process's.
    Nothing,
}

/// Makes the terminal and puts it on stdio, if the process wants one.
pub(crate) fn attach(setup: &Setup<'_>, bind: Bind) -> Result<()> {
    let Some(Console { socket, newline }) = &setup.console else {
        return Ok(());
    };
    faults::at(Step::Console)?;
    // Inside the container, after the pivot: /dev/pts/ptmx, never the image's own idea of /dev/ptmx.
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let master =
        gabion_sys::open("/dev/pts/ptmx", flags, Mode::empty()).map_err(Step::Console.failing("open /dev/pts/ptmx"))?;
    is_terminal_master(&master)?;
    gabion_sys::pty_unlock(master.as_fd()).map_err(Step::Console.failing("unlock the terminal"))?;
    // Not by its name: an image cannot put another file there (CVE-2025-52565).
    let peer = gabion_sys::pty_peer(master.as_fd()).map_err(Step::Console.failing("open the terminal"))?;
    if let Some((rows, columns)) = size(setup) {
        gabion_sys::set_window_size(peer.as_fd(), rows, columns)
            .map_err(Step::Console.failing("set the terminal's size"))?;
    }
    if *newline == Newline::Plain {
        plain_newline(&peer)?;
    }
    own(setup, &peer)?;
    if bind == Bind::Console {
        bind_console(&peer)?;
    }
    send(socket, &master)?;
    gabion_sys::set_controlling_terminal(peer.as_fd())
        .map_err(Step::Console.failing("make it the controlling terminal"))?;
    gabion_sys::become_stdio(peer.as_fd()).map_err(Step::Console.failing("put the terminal on stdio"))
}

/// Before the workload can write anything.
fn plain_newline(peer: &OwnedFd) -> Result<()> {
    let mut settings = termios::tcgetattr(peer).map_err(Step::Console.failing("read the terminal's settings"))?;
    settings.output_flags.remove(OutputFlags::ONLCR);
    termios::tcsetattr(peer, SetArg::TCSANOW, &settings).map_err(Step::Console.failing("set the terminal's newline"))
}

/// The size that the spec asks for, else that of the caller's terminal, which still is our stdin: the workload must not see
/// another one first.
fn size(setup: &Setup<'_>) -> Option<(u16, u16)> {
    let short = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    let asked = setup
        .process
        .console_size()
        .map(|s| (short(s.height()), short(s.width())));
    asked.or_else(|| gabion_sys::window_size(std::io::stdin().as_fd()).ok())
}

/// /dev/pts/ptmx is the multiplexer of a devpts, by number and file system: without that mount the image may have anything
/// there.
fn is_terminal_master(master: &OwnedFd) -> Result<()> {
    let stat = nix::sys::stat::fstat(master.as_raw_fd()).map_err(Step::Console.failing("look at /dev/pts/ptmx"))?;
    let fs = nix::sys::statfs::fstatfs(master).map_err(Step::Console.failing("look at /dev/pts"))?;
    let is_ptmx = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(5, 2);
    if is_ptmx && fs.filesystem_type() == nix::sys::statfs::DEVPTS_SUPER_MAGIC {
        return Ok(());
    }
    Err(Error::failed(
        Step::Console,
        "/dev/pts/ptmx is not a devpts's: a terminal needs a mount of type devpts at /dev/pts",
    ))
}

/// The terminal belongs to the user that will run (group stays devpts's).
fn own(setup: &Setup<'_>, peer: &OwnedFd) -> Result<()> {
    let uid = nix::unistd::Uid::from_raw(setup.process.user().uid());
    nix::unistd::fchown(peer.as_raw_fd(), Some(uid), None)
        .map_err(Step::Console.failing("give the terminal to the user"))
}

/// Makes the place of the terminal's own file, if there is to be one, as long as /dev can be written.
pub(crate) fn make_place(setup: &Setup<'_>, root: BorrowedFd<'_>) -> Result<()> {
    if setup.console.is_none() {
        return Ok(());
    }
    target::open(Step::Console, root, Path::new("/dev/console"), Point::File).map(drop)
}

fn bind_console(peer: &OwnedFd) -> Result<()> {
    let root = gabion_sys::open_path("/", OFlag::empty()).map_err(Step::Console.failing("open /"))?;
    let place = target::open(Step::Console, root.as_fd(), Path::new("/dev/console"), Point::File)?;
    let tree = gabion_sys::open_tree_clone(peer.as_fd(), Reach::One)
        .map_err(Step::Console.failing("clone the terminal's mount"))?;
    gabion_sys::move_mount(tree.as_fd(), place.as_fd())
        .map_err(Step::Console.failing("bind the terminal to /dev/console"))
}

/// One message: the terminal's name, and its master (SCM_RIGHTS).
fn send(socket: &OwnedFd, master: &OwnedFd) -> Result<()> {
    let fds = [master.as_raw_fd()];
    let name = IoSlice::new(b"/dev/ptmx");
    let rights = [ControlMessage::ScmRights(&fds)];
    sendmsg::<()>(socket.as_raw_fd(), &[name], &rights, MsgFlags::MSG_NOSIGNAL, None)
        .map(drop)
        .map_err(Step::Console.failing("send the terminal to the console socket"))
}
