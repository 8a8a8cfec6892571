//! Making processes: forks, with new namespaces or without, and the one helper that shares our descriptors.
//!
//! A child goes on with a copy of all that its parent has, as after fork(2), so it may do all that the parent may, where the parent has one
//! thread: another one's locks would stay taken in the child for ever. gabion starts none, and debug builds look (`one_thread`).

use std::io::IoSlice;
use std::ops::BitOr;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::Result;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use nix::unistd::Pid;

use super::exit_now;

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Cloned {
    Child,
    Parent(Pid),
}

/// New namespaces for a child. Nothing else can be in here: a flag like CLONE_VM would have it run on our own stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewNamespaces(u64);

impl NewNamespaces {
    pub const NONE: Self = Self(0);
    pub const CGROUP: Self = Self(0x0200_0000);
    pub const IPC: Self = Self(0x0800_0000);
    pub const MOUNT: Self = Self(0x0002_0000);
    pub const NETWORK: Self = Self(0x4000_0000);
    pub const PID: Self = Self(0x2000_0000);
    pub const TIME: Self = Self(0x0000_0080);
    pub const USER: Self = Self(0x1000_0000);
    pub const UTS: Self = Self(0x0400_0000);
}

impl BitOr for NewNamespaces {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

/// Whose child a clone is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildOf {
    Us,
    /// Our sibling (CLONE_PARENT): its end is told to our own parent.
    OurParent,
}

/// `struct clone_args` (clone3(2)), version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

impl CloneArgs {
    fn of(whose: ChildOf) -> Self {
        const CLONE_PARENT: u64 = 0x8000;
        let (flags, exit_signal) = match whose {
            ChildOf::Us => (0, SIGCHLD),
            // The signal must be unset: it is the parent's (clone3(2)).
            ChildOf::OurParent => (CLONE_PARENT, 0),
        };
        Self {
            flags,
            exit_signal,
            ..Self::default()
        }
    }
}

const SIGCHLD: u64 = libc::SIGCHLD.cast_unsigned() as u64;

/// Forks into new namespaces (clone3(2)), and into the cgroup v2 directory given, if any.
pub fn clone3(new: NewNamespaces, whose: ChildOf, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let mut args = CloneArgs::of(whose);
    args.flags |= new.0;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    clone(&args)
}

/// Forks (clone3(2) without any flag; clone(2) where a filter answers that there is no clone3, as most profiles do).
pub fn fork() -> Result<Cloned> {
    match clone3(NewNamespaces::NONE, ChildOf::Us, None) {
        Err(Errno::ENOSYS) => old_fork(),
        cloned => cloned,
    }
}

fn old_fork() -> Result<Cloned> {
    let none: libc::c_long = 0;
    // SAFETY: no CLONE_VM and no stack: the child runs on a copy of our memory, and we have one thread. What follows the flags is null,
    // in whatever order the architecture has it.
    let pid = unsafe { libc::syscall(libc::SYS_clone, SIGCHLD, none, none, none, none) };
    cloned(pid)
}

fn cloned(pid: libc::c_long) -> Result<Cloned> {
    match Errno::result(pid)? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(Pid::from_raw(
            i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?,
        ))),
    }
}

/// The callers here pass neither CLONE_VM nor a stack, a thread area or an address to write to.
fn clone(args: &CloneArgs) -> Result<Cloned> {
    #[cfg(all(debug_assertions, not(any(test, feature = "testing"))))]
    one_thread();
    let size = size_of::<CloneArgs>();
    // SAFETY: args is a clone_args of the size given; the child runs on a copy of our memory, and we have one thread.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_ref(args), size) };
    cloned(pid)
}

/// Panics where this process has more than one thread.
#[cfg(any(test, all(debug_assertions, not(feature = "testing"))))]
fn one_thread() {
    assert_eq!(threads().unwrap_or(1), 1, "gabion makes processes from its one thread");
}

/// The number of this process's threads; None where no procfs says it (the image's /proc may be anything).
#[cfg(any(test, all(debug_assertions, not(feature = "testing"))))]
fn threads() -> Option<usize> {
    let proc = nix::sys::statfs::statfs("/proc").ok()?;
    if proc.filesystem_type() != nix::sys::statfs::PROC_SUPER_MAGIC {
        return None;
    }
    std::fs::read_dir("/proc/self/task").ok().map(Iterator::count)
}

/// What a helper says when it is done, and where. Nothing is said where the text is empty.
#[derive(Clone, Copy, Debug)]
pub struct Words<'a> {
    pub socket: BorrowedFd<'a>,
    pub sent: &'a [u8],
    pub failed: &'a [u8],
}

/// Forks a helper that sends, with `message`, the descriptor that this process is about to open as `number`. It waits until that is open, not
/// longer than `patience`, says how that went, and ends with 0 where all was sent. `whose` child it is, is the caller's choice.
///
/// It shares our table of descriptors (CLONE_FILES), so what it closed would be closed for us, too: that is why all it does is done here, and
/// its caller gets no child to go on in.
pub fn send_when_open(
    whose: ChildOf,
    number: RawFd,
    (socket, message): (BorrowedFd<'_>, &[u8]),
    patience: Duration,
    words: Words<'_>,
) -> Result<Pid> {
    const CLONE_FILES: u64 = 0x400;
    let mut args = CloneArgs::of(whose);
    args.flags |= CLONE_FILES;
    match clone(&args)? {
        Cloned::Child => {
            let delivered = deliver(number, socket, message, patience);
            let word = if delivered.is_ok() { words.sent } else { words.failed };
            exit_now(i32::from(delivered.and(say(words.socket, word)).is_err()))
        }
        Cloned::Parent(pid) => Ok(pid),
    }
}

/// In the helper. Closes nothing.
fn deliver(number: RawFd, socket: BorrowedFd<'_>, message: &[u8], patience: Duration) -> Result<()> {
    let deadline = Instant::now() + patience;
    while fcntl(number, FcntlArg::F_GETFD).is_err() {
        if Instant::now() > deadline {
            return Err(Errno::ETIMEDOUT);
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    let fds = [number];
    let rights = [ControlMessage::ScmRights(&fds)];
    let parts = [IoSlice::new(message)];
    let sent = sendmsg::<()>(socket.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)?;
    // A socket with a time for sending takes a part where that is over.
    if sent == message.len() {
        Ok(())
    } else {
        Err(Errno::ETIMEDOUT)
    }
}

/// In the helper.
fn say(socket: BorrowedFd<'_>, word: &[u8]) -> Result<()> {
    if word.is_empty() {
        return Ok(());
    }
    let parts = [IoSlice::new(word)];
    sendmsg::<()>(socket.as_raw_fd(), &parts, &[], MsgFlags::MSG_NOSIGNAL, None).map(drop)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;

    /// All that can be asked for are the CLONE_NEW* bits of sched.h.
    #[test]
    fn nothing_but_namespaces_is_a_flag() {
        let all = [
            (NewNamespaces::CGROUP, libc::CLONE_NEWCGROUP),
            (NewNamespaces::IPC, libc::CLONE_NEWIPC),
            (NewNamespaces::MOUNT, libc::CLONE_NEWNS),
            (NewNamespaces::NETWORK, libc::CLONE_NEWNET),
            (NewNamespaces::PID, libc::CLONE_NEWPID),
            (NewNamespaces::TIME, 0x80),
            (NewNamespaces::USER, libc::CLONE_NEWUSER),
            (NewNamespaces::UTS, libc::CLONE_NEWUTS),
        ];
        for (ours, theirs) in all {
            assert_eq!(ours.0, u64::from(theirs.cast_unsigned()));
        }
        let together = all.iter().fold(NewNamespaces::NONE, |set, (one, _)| set | *one);
        let shared = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_SETTLS | libc::CLONE_THREAD | libc::CLONE_FILES;
        assert_eq!(together.0 & u64::from(shared.cast_unsigned()), 0);
    }

    /// The measure of the assertion: what it says of this test, which has threads, and of a child, which has one.
    #[test]
    fn threads_are_counted() {
        let more = threads().unwrap();
        assert!(more > 1, "{more}");
        match fork().unwrap() {
            Cloned::Child => exit_now(i32::from(threads() != Some(1))),
            Cloned::Parent(pid) => assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 0)),
        }
    }

    #[test]
    #[should_panic(expected = "from its one thread")]
    fn a_second_thread_is_noticed() {
        std::thread::scope(|scope| {
            let (_hold, wait) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || wait.recv());
            one_thread();
        });
    }

    #[test]
    fn the_old_way_forks_too() {
        match old_fork().unwrap() {
            Cloned::Child => exit_now(7),
            Cloned::Parent(pid) => assert_eq!(waitpid(pid, None).unwrap(), WaitStatus::Exited(pid, 7)),
        }
    }

    #[test]
    fn a_sibling_is_our_parents_child() {
        use std::os::fd::AsFd;
        let (read, write) = nix::unistd::pipe().unwrap();
        let middle = match fork().unwrap() {
            Cloned::Parent(pid) => pid,
            Cloned::Child => match clone3(NewNamespaces::NONE, ChildOf::OurParent, None) {
                Ok(Cloned::Child) => exit_now(7),
                Ok(Cloned::Parent(pid)) => {
                    let told = nix::unistd::write(write.as_fd(), &pid.as_raw().to_ne_bytes());
                    exit_now(i32::from(waitpid(pid, None) != Err(Errno::ECHILD) || told.is_err()))
                }
                Err(_) => exit_now(2),
            },
        };
        let mut number = [0; 4];
        assert_eq!(nix::unistd::read(read.as_raw_fd(), &mut number), Ok(4));
        let sibling = Pid::from_raw(i32::from_ne_bytes(number));
        assert_eq!(waitpid(middle, None).unwrap(), WaitStatus::Exited(middle, 0));
        assert_eq!(waitpid(sibling, None).unwrap(), WaitStatus::Exited(sibling, 7));
    }

    /// What is opened after the helper is made comes to the other end, and we still have it.
    #[test]
    fn a_descriptor_is_sent_when_it_is_open() {
        use std::os::fd::AsFd;
        let (ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let (hears, says) = std::os::unix::net::UnixStream::pair().unwrap();
        let words = Words {
            socket: says.as_fd(),
            sent: b"sent",
            failed: b"failed",
        };
        let number = 777;
        let to = (theirs.as_fd(), b"state".as_slice());
        let helper = send_when_open(ChildOf::Us, number, to, Duration::from_secs(10), words).unwrap();
        let opened = crate::duplicate_above(theirs.as_fd(), number).unwrap();
        assert_eq!(opened.as_raw_fd(), number);
        let mut buffer = [0; 16];
        let (length, fds) = crate::receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!((&buffer[..length], fds.len()), (b"state".as_slice(), 1));
        assert_eq!(waitpid(helper, None).unwrap(), WaitStatus::Exited(helper, 0));
        assert!(fcntl(number, FcntlArg::F_GETFD).is_ok());
        let heard = |buffer: &mut [u8]| nix::unistd::read(hears.as_raw_fd(), buffer).unwrap();
        let length = heard(&mut buffer);
        assert_eq!(&buffer[..length], b"sent");
        // One that never opens ends the helper, not us.
        let late = send_when_open(ChildOf::Us, 778, to, Duration::from_millis(5), words).unwrap();
        assert_eq!(waitpid(late, None).unwrap(), WaitStatus::Exited(late, 1));
        let length = heard(&mut buffer);
        assert_eq!(&buffer[..length], b"failed");
        // Nor does one that nobody hears; and who says nothing says nothing.
        drop(ours);
        let unheard = send_when_open(
            ChildOf::Us,
            number,
            to,
            Duration::from_secs(10),
            Words { failed: b"", ..words },
        )
        .unwrap();
        assert_eq!(waitpid(unheard, None).unwrap(), WaitStatus::Exited(unheard, 1));
        drop(says);
        assert_eq!(heard(&mut buffer), 0);
    }
}
