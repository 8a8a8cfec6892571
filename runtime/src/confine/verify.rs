//! What was decided, read back from the kernel before the workload's first instruction.

use std::fs::File;
use std::io::Read;

use crate::confine::credentials::Privileges;
use crate::contract::setup::Setup;
use crate::faults;
use gabion_core::control::CONTROLS;
use gabion_core::id::ControlId;
use gabion_core::observed::Observed;
use gabion_see::error::{Error, Result, Step};
use gabion_see::readback::all_hold;

/// Everything that is in force before `start`. Landlock and seccomp come later and are probed there, as are the process's limits; those of
/// the cgroup are read by the runtime, which sees its files.
pub(crate) fn in_force(setup: &Setup<'_>, privileges: Privileges) -> Result<()> {
    faults::at(Step::Verify)?;
    let first_free = i32::try_from(setup.preserved.count).unwrap_or(0).saturating_add(3);
    let seen = gabion_see::readback::own(&setup.proc, setup.hardened, first_free)?;
    // Facts know of directories; here nothing beyond what is preserved may be left at all.
    if setup.hardened.enforces(ControlId::Fds)
        && let Some((number, kind)) = seen.inherited_fds.range(first_free..).next()
    {
        let expected = format!("no descriptor from {first_free} on");
        return Err(Error::Mismatch {
            control: ControlId::Fds,
            expected,
            observed: format!("{number}: {kind}"),
        });
    }
    let later = |control: ControlId| match control {
        ControlId::Landlock | ControlId::Seccomp | ControlId::Rlimits => true,
        ControlId::Capabilities => privileges == Privileges::DropAfterConfinement,
        _ => false,
    };
    for control in CONTROLS {
        if setup.hardened.enforces(control.id()) && !later(control.id()) {
            all_hold(control.facts(setup.hardened, &seen))?;
        }
    }
    Ok(())
}

/// Our /proc/self/status, open: it shows what holds when it is read.
#[derive(Debug)]
pub(crate) struct Status(File);

impl Status {
    pub(crate) fn open(setup: &Setup<'_>) -> Result<Self> {
        let open = setup.proc.open_file("self/status", libc::O_RDONLY);
        open.map(Self)
            .map_err(|e| Error::step(Step::Verify, "open our status", e))
    }
}

/// The capabilities alone, where they went last.
pub(crate) fn capabilities(setup: &Setup<'_>, mut status: Status) -> Result<()> {
    if !setup.hardened.enforces(ControlId::Capabilities) {
        return Ok(());
    }
    let mut text = String::with_capacity(4096);
    status
        .0
        .read_to_string(&mut text)
        .map_err(|e| Error::failed(Step::Verify, format!("cannot read our status back: {e}")))?;
    let seen = Observed {
        status: gabion_core::observed::parse::parse_status(&text),
        ..Observed::default()
    };
    all_hold(gabion_core::control::Control::facts(
        &gabion_core::control::capabilities::Capabilities,
        setup.hardened,
        &seen,
    ))
}
