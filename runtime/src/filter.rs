//! Seccomp filters in use: installed, probed, kept compiled.

use std::os::fd::OwnedFd;

use gabion_see::seccomp::{Flags, Program};
use nix::errno::Errno;

mod cache;
mod probe;

pub(crate) use cache::load_or_compile;
pub(crate) use probe::{ProbeError, probe_floor, probe_memory};

/// Put `program` on this thread (with TSYNC: on the process), for good. Returns the listener where `flags` ask for one.
///
/// # Errors
/// Of seccomp(2): EACCES without `no_new_privs` and `CAP_SYS_ADMIN`, EBUSY for a second listener, EINVAL for a flag that the kernel
/// does not know, ESRCH where TSYNC met a thread with other filters.
pub(crate) fn install(program: &Program, flags: Flags) -> Result<Option<OwnedFd>, Errno> {
    let listener = flags.has(Flags::NEW_LISTENER);
    let flags = if listener && flags.has(Flags::TSYNC) {
        flags.with(Flags::TSYNC_ESRCH)
    } else {
        flags
    };
    gabion_sys::seccomp_set_filter(program.as_bytes(), flags.bits())
}

#[cfg(test)]
mod tests;
