//! Sysctls of the container's namespaces. /proc/sys shows those of whoever looks, so a process of ours goes in, reads, and comes to its end.
//!
//! It has nothing of the container's but namespaces: the host's procfs by a descriptor, no mount, no cgroup, no program of the image.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use gabion_sys::Cloned;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::Mode;
use nix::sys::wait::waitpid;

use super::helper::{self, Teller};
use gabion_core::hardened::Hardened;
use gabion_core::namespace::NsType;
use gabion_core::sysctl::namespace;
use gabion_see::caller;
use gabion_see::procfs::Proc;
use gabion_see::readback;

/// How long the look may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The namespaces that sysctls are of, in the order in which they are entered. A pid namespace is for children only (pid_namespaces(7)).
const NAMESPACES: [(NsType, CloneFlags); 4] = [
    (NsType::Network, CloneFlags::CLONE_NEWNET),
    (NsType::Ipc, CloneFlags::CLONE_NEWIPC),
    (NsType::Uts, CloneFlags::CLONE_NEWUTS),
    (NsType::Pid, CloneFlags::CLONE_NEWPID),
];

/// Reads those that facts are about, as a process in the namespaces of `who` has them. What cannot be read is left out: its fact is unknown.
///
/// # Errors
/// The namespaces cannot be entered, or the look does not end in time.
pub(super) fn read(proc: &Proc, who: &str, hardened: &Hardened) -> Result<BTreeMap<String, String>, Errno> {
    let names = readback::sysctl_names(hardened);
    // Those of no namespace's are left out: they would be the host's.
    let kinds: BTreeSet<NsType> = names.iter().filter_map(|name| namespace(name)).collect();
    if kinds.is_empty() {
        return Ok(BTreeMap::new());
    }
    let inside = open(proc, who, &kinds)?;
    let text = helper::run(PATIENCE, |teller| look(proc, &inside, &names, teller))?;
    Ok(parse(&text))
}

/// The namespaces, held open: a process that ends meanwhile takes none of them away.
fn open(proc: &Proc, who: &str, kinds: &BTreeSet<NsType>) -> Result<Vec<(OwnedFd, CloneFlags)>, Errno> {
    let one = |name: &str| {
        let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC;
        gabion_sys::openat(proc.as_fd(), format!("{who}/ns/{name}").as_str(), flags, Mode::empty())
    };
    let mut all = Vec::new();
    // Host root has its rights in every namespace; a user has them in the container's user namespace only.
    if !caller::is_host_root() && differs(proc, who) {
        all.push((one("user")?, CloneFlags::CLONE_NEWUSER));
    }
    for (typ, flag) in NAMESPACES {
        if kinds.contains(&typ) {
            all.push((one(typ.proc_name())?, flag));
        }
    }
    Ok(all)
}

/// Whether its user namespace is another one than ours: our own may not be entered again (setns(2)).
fn differs(proc: &Proc, who: &str) -> bool {
    let user = |who: &str| readback::namespaces(proc, who).ok()?.remove(&NsType::User);
    user(who) != user("self")
}

/// In the helper: enters, and has a child of its own look, which alone is in the pid namespace. It is waited for here: an orphan would be the
/// container's first process's to reap.
fn look(proc: &Proc, inside: &[(OwnedFd, CloneFlags)], names: &[String], teller: Teller) -> Result<(), Errno> {
    for (namespace, flag) in inside {
        setns(namespace.as_fd(), *flag)?;
    }
    match gabion_sys::fork()? {
        Cloned::Child => {
            let told = helper::alone().and_then(|()| tell(proc, names, teller));
            gabion_sys::exit_now(i32::from(told.is_err()))
        }
        Cloned::Parent(pid) => {
            drop(teller);
            waitpid(pid, None).map(drop)
        }
    }
}

/// In the helper's child: a line for each that can be read.
fn tell(proc: &Proc, names: &[String], teller: Teller) -> Result<(), Errno> {
    let mut text = String::new();
    for name in names.iter().filter(|name| namespace(name).is_some()) {
        if let Ok(value) = proc.read(&format!("sys/{}", name.replace('.', "/"))) {
            writeln!(text, "{name}\t{}", readback::words(&value)).map_err(|_| Errno::EINVAL)?;
        }
    }
    teller.tell(&text)
}

fn parse(text: &str) -> BTreeMap<String, String> {
    let pair = |line: &str| {
        line.split_once('\t')
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    text.lines().filter_map(pair).collect()
}
