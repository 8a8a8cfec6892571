//! Is the floor alive? Asked of the kernel, by calls that only the floor answers as it does.

use std::collections::BTreeSet;
use std::fmt;

use gabion_core::policy::{MemoryRule, SeccompGroup};
use nix::errno::Errno;

use gabion_core::sockets::{May, SocketRules};
use gabion_see::seccomp::tables::MARKER;
use gabion_sys::Probe;

/// A probe did not give the floor's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProbeError {
    /// The call that was made.
    pub(crate) call: &'static str,
    /// The floor's errno.
    pub(crate) expected: Errno,
    /// What came; `None` is success.
    pub(crate) got: Option<Errno>,
}

impl fmt::Display for ProbeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let got = self
            .got
            .map_or_else(|| "success".to_owned(), |errno| format!("{errno:?}"));
        write!(
            f,
            "the seccomp floor is not in force: {} gave {got} in the place of {:?}",
            self.call, self.expected
        )
    }
}

impl std::error::Error for ProbeError {}

/// Real calls that the floor answers with EPERM and the kernel with something else, and the group that opens them.
const PROBES: [(&str, Probe, Option<SeccompGroup>); 4] = [
    ("setns(-1)", Probe::Setns, None),
    (
        "ptrace(PTRACE_ATTACH, no process)",
        Probe::Attach,
        Some(SeccompGroup::Ptrace),
    ),
    ("umount2(NULL, unknown flag)", Probe::Umount, None),
    (
        "unshare(CLONE_NEWUSER|unknown flag)",
        Probe::Unshare,
        Some(SeccompGroup::Userns),
    ),
];

/// See that the floor answers in this thread: its marker, a call that exists in no kernel and that an outer filter cannot answer
/// so, and four refusals by which its two kinds of rules show, those by number and those by argument; but for what was opened.
///
/// To be called after the floor and *before* a profile is installed: a profile may answer first, or kill.
///
/// # Errors
/// The first call that was answered otherwise.
pub(crate) fn probe_floor(opened: &BTreeSet<SeccompGroup>, sockets: &SocketRules) -> Result<(), ProbeError> {
    let (number, errno) = MARKER;
    ask("the marker", Probe::Unknown(number), Errno::from_raw(errno))?;
    PROBES
        .iter()
        .filter(|(_, _, group)| group.is_none_or(|group| !opened.contains(&group)))
        .try_for_each(|(name, call, _)| ask(name, *call, Errno::EPERM))?;
    SOCKETS.iter().try_for_each(|(name, family, protocol, errno)| {
        let (family, protocol) = (*family, *protocol);
        ask(name, Probe::Socket { family, protocol }, *errno)
    })?;
    if sockets.listen == May::No {
        ask("listen(-1)", Probe::Listen, Errno::EACCES)?;
    }
    if sockets.fast_open == May::No {
        ask("sendto(-1, MSG_FASTOPEN)", Probe::FastOpen, Errno::EOPNOTSUPP)?;
    }
    Ok(())
}

/// Sockets of which no word of a policy knows: family, protocol, and the floor's errno, where the kernel says EINVAL.
const SOCKETS: [(&str, u32, u32, Errno); 3] = [
    ("socket(family 127)", 127, 0, Errno::EAFNOSUPPORT),
    ("socket(AF_INET, protocol 254)", 2, 254, Errno::EPROTONOSUPPORT),
    ("socket(AF_NETLINK, protocol 31)", 16, 31, Errno::EPROTONOSUPPORT),
];

/// Sees that the filter of `memory` answers in this thread. To be called before any other filter of ours is installed: they may answer the same.
///
/// # Errors
/// The first call that was answered otherwise.
pub(crate) fn probe_memory(rules: &BTreeSet<MemoryRule>) -> Result<(), ProbeError> {
    rules.iter().try_for_each(|rule| match rule {
        MemoryRule::Mdwe => ask("mmap(nothing, PROT_EXEC, MAP_SHARED)", Probe::SharedExec, Errno::EACCES),
        MemoryRule::Memfd => ask("memfd_create(NULL, unknown flag)", Probe::Memfd, Errno::ENOSYS),
        MemoryRule::ShmExec => ask("shmat(-1, SHM_EXEC)", Probe::ShmExec, Errno::EACCES),
        MemoryRule::Ptrace => ask("ptrace(PTRACE_ATTACH, no process)", Probe::Attach, Errno::EPERM),
        MemoryRule::Proc => Ok(()),
    })
}

fn ask(call: &'static str, probe: Probe, expected: Errno) -> Result<(), ProbeError> {
    let got = gabion_sys::probe(probe);
    if got == Some(expected) {
        Ok(())
    } else {
        Err(ProbeError { call, expected, got })
    }
}
