//! Is the floor alive? Asked of the kernel, by calls that only the floor answers as it does.

use std::collections::BTreeSet;
use std::fmt;

use gabion_core::policy::SeccompGroup;
use nix::errno::Errno;

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
pub(crate) fn probe_floor(opened: &BTreeSet<SeccompGroup>) -> Result<(), ProbeError> {
    let (number, errno) = MARKER;
    ask("the marker", Probe::Unknown(number), Errno::from_raw(errno))?;
    PROBES
        .iter()
        .filter(|(_, _, group)| group.is_none_or(|group| !opened.contains(&group)))
        .try_for_each(|(name, call, _)| ask(name, *call, Errno::EPERM))
}

fn ask(call: &'static str, probe: Probe, expected: Errno) -> Result<(), ProbeError> {
    let got = gabion_sys::probe(probe);
    if got == Some(expected) {
        Ok(())
    } else {
        Err(ProbeError { call, expected, got })
    }
}
