//! Limits of a later process that nobody named.
//!
//! As with runc they are the caller's own, and never above the container's. The container may have been made where more was
//! allowed than where its exec is called: a login has other limits than that user's systemd, which runs podman's health checks,
//! and a user can raise none.

use nix::errno::Errno;
use oci_spec::runtime::{PosixRlimit, Process};

use crate::build::limits::resource;
use gabion_core::control::exec::lower;
use gabion_see::caller;
use gabion_see::error::{Error, Result, Step};

/// Fills in what process.json leaves out. What it names stays, and is an error later where it cannot be had.
pub(super) fn fill(asked: &mut Process, container: &Process) -> Result<()> {
    let own = |limit: &PosixRlimit| caller::limits::limit(resource(limit.typ()));
    fill_from(asked, container, own).map_err(|e| Error::step(Step::Rlimits, "read the caller's own limits", e))
}

fn fill_from(
    asked: &mut Process,
    container: &Process,
    own: impl Fn(&PosixRlimit) -> std::result::Result<(u64, u64), Errno>,
) -> std::result::Result<(), Errno> {
    let mut limits = asked.rlimits().clone().unwrap_or_default();
    for limit in container.rlimits().iter().flatten() {
        if limits.iter().all(|named| named.typ() != limit.typ()) {
            let (soft, hard) = own(limit)?;
            limits.push(lower(limit, soft, hard));
        }
    }
    asked.set_rlimits((!limits.is_empty()).then_some(limits));
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use oci_spec::runtime::{PosixRlimitBuilder, PosixRlimitType};

    fn process(limits: &[(PosixRlimitType, u64, u64)]) -> Process {
        let limits = limits.iter().map(|&(typ, soft, hard)| {
            PosixRlimitBuilder::default()
                .typ(typ)
                .soft(soft)
                .hard(hard)
                .build()
                .unwrap()
        });
        let mut process = Process::default();
        process.set_rlimits(Some(limits.collect()));
        process
    }

    #[test]
    fn what_is_left_out_is_the_lower_of_both_and_what_is_named_stays() {
        use PosixRlimitType::{RlimitCore, RlimitNofile, RlimitNproc};
        let container = process(&[(RlimitNofile, 4096, 8192), (RlimitCore, 0, 0), (RlimitNproc, 7, 9)]);
        let mut asked = process(&[(RlimitNproc, 8, 99)]);
        fill_from(&mut asked, &container, |_| Ok((512, 1024))).unwrap();
        let expected = process(&[(RlimitNproc, 8, 99), (RlimitNofile, 512, 1024), (RlimitCore, 0, 0)]);
        assert_eq!(asked.rlimits(), expected.rlimits());
        let mut none = Process::default();
        none.set_rlimits(None);
        fill_from(&mut none, &container, |_| Ok((u64::MAX, u64::MAX))).unwrap();
        assert_eq!(none.rlimits(), container.rlimits());
    }
}
