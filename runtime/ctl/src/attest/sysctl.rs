//! Sysctls of the container's namespaces. /proc/sys shows those of whoever looks, so a process of ours goes in, reads, and comes to its end.
//!
//! It has nothing of the container's but namespaces: the host's procfs by a descriptor, no mount, no cgroup, no program of the image. It
//! cannot be attached to, it dies with us, and it is waited for not longer than [`PATIENCE`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use gabion_sys::{Cloned, ParentsEnd, Readable};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;

use gabion_core::hardened::Hardened;
use gabion_see::caller;
use gabion_see::procfs::Proc;
use gabion_see::readback;

/// How long the look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The namespaces that sysctls are of, in the order in which they are entered. A pid namespace is for children only (pid_namespaces(7)).
const NAMESPACES: [(&str, CloneFlags); 4] = [
    ("net", CloneFlags::CLONE_NEWNET),
    ("ipc", CloneFlags::CLONE_NEWIPC),
    ("uts", CloneFlags::CLONE_NEWUTS),
    ("pid", CloneFlags::CLONE_NEWPID),
];

/// Reads those that facts are about, as a process in the namespaces of `who` has them. What cannot be read is left out: its fact is unknown.
///
/// # Errors
/// The namespaces cannot be entered, or the look does not end in time.
pub(super) fn read(proc: &Proc, who: &str, hardened: &Hardened) -> Result<BTreeMap<String, String>, Errno> {
    let names = readback::sysctl_names(hardened);
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let inside = open(proc, who)?;
    let (ours, theirs) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
    match gabion_sys::fork()? {
        Cloned::Child => {
            drop(ours);
            gabion_sys::exit_now(i32::from(look(proc, &inside, &names, theirs).is_err()))
        }
        Cloned::Parent(pid) => {
            drop(theirs);
            let text = until_closed(ours);
            if text.is_err() {
                kill(pid, Signal::SIGKILL)?;
            }
            waitpid(pid, None)?;
            Ok(parse(&text?))
        }
    }
}

/// The namespaces, held open: a process that ends meanwhile takes none of them away.
fn open(proc: &Proc, who: &str) -> Result<Vec<(OwnedFd, CloneFlags)>, Errno> {
    let one = |name: &str| {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        gabion_sys::openat(proc.as_fd(), format!("{who}/ns/{name}").as_str(), flags, Mode::empty())
    };
    let mut all = Vec::new();
    // Host root has its rights in every namespace; a user has them in the container's user namespace only.
    if !caller::is_host_root() && differs(proc, who) {
        all.push((one("user")?, CloneFlags::CLONE_NEWUSER));
    }
    for (name, flag) in NAMESPACES {
        all.push((one(name)?, flag));
    }
    Ok(all)
}

/// Whether its user namespace is another one than ours: our own may not be entered again (setns(2)).
fn differs(proc: &Proc, who: &str) -> bool {
    use gabion_core::namespace::NsType;
    let user = |who: &str| readback::namespaces(proc, who).ok()?.remove(&NsType::User);
    user(who) != user("self")
}

/// In the child: enters, and has a child of its own look, which alone is in the pid namespace. It is waited for here: an orphan would be the
/// container's first process's to reap.
fn look(proc: &Proc, inside: &[(OwnedFd, CloneFlags)], names: &[String], to: OwnedFd) -> Result<(), Errno> {
    gabion_sys::at_parents_end(ParentsEnd::Kills)?;
    gabion_sys::set_readable(Readable::No)?;
    for (namespace, flag) in inside {
        setns(namespace.as_fd(), *flag)?;
    }
    match gabion_sys::fork()? {
        Cloned::Child => gabion_sys::exit_now(i32::from(tell(proc, names, to).is_err())),
        Cloned::Parent(pid) => {
            drop(to);
            waitpid(pid, None).map(drop)
        }
    }
}

/// In the child's child: a line for each that can be read.
fn tell(proc: &Proc, names: &[String], to: OwnedFd) -> std::io::Result<()> {
    gabion_sys::at_parents_end(ParentsEnd::Kills)?;
    gabion_sys::set_readable(Readable::No)?;
    let mut text = String::new();
    for name in names {
        if let Ok(value) = proc.read(&format!("sys/{}", name.replace('.', "/"))) {
            text.push_str(&format!("{name}\t{}\n", readback::words(&value)));
        }
    }
    File::from(to).write_all(text.as_bytes())
}

/// What comes until the other end is closed, which both processes hold.
fn until_closed(from: OwnedFd) -> Result<String, Errno> {
    /// More than all sysctls of a spec that was read have.
    const MOST: usize = 8 << 20;
    let deadline = Instant::now() + PATIENCE;
    let mut from = File::from(from);
    let (mut text, mut part) = (Vec::new(), [0; 4096]);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).map_err(|_| Errno::EOVERFLOW)?;
        let mut watched = [PollFd::new(from.as_fd(), PollFlags::POLLIN)];
        match nix::poll::poll(&mut watched, left) {
            Err(Errno::EINTR) => continue,
            Ok(0) => return Err(Errno::ETIMEDOUT),
            other => other?,
        };
        let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
        match from.read(&mut part).map_err(errno)? {
            0 => return String::from_utf8(text).map_err(|_| Errno::EILSEQ),
            read if text.len() + read > MOST => return Err(Errno::EFBIG),
            read => text.extend_from_slice(part.get(..read).unwrap_or_default()),
        }
    }
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        line.split_once('\t')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}
