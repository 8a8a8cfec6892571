//! What was decided, read back from the kernel before the workload's first instruction.

use crate::control::{CONTROLS, ControlId};
use crate::error::{Error, Result, Step};
use crate::executor::credentials::Privileges;
use crate::fact::{Fact, Holds};
use crate::faults;
use crate::init::Setup;
use crate::observed::{self, Observed};

/// Everything that is in force before `start`. Landlock and seccomp come later and are probed there; limits of the cgroup are
/// read by the runtime, which sees its files.
pub fn in_force(setup: &Setup<'_>, privileges: Privileges) -> Result<()> {
    faults::at(Step::Verify)?;
    let first_free = i32::try_from(setup.preserved.count).unwrap_or(0).saturating_add(3);
    let seen = observed::read::own(&setup.proc, setup.hardened, first_free)?;
    let later = |control: ControlId| match control {
        ControlId::Landlock | ControlId::Seccomp | ControlId::Cgroup => true,
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

/// The capabilities alone, where they went last.
pub fn capabilities(setup: &Setup<'_>) -> Result<()> {
    if !setup.hardened.enforces(ControlId::Capabilities) {
        return Ok(());
    }
    let mut seen = Observed::default();
    let status = setup.proc.read("self/status").map_err(|e| Error::step(Step::Verify, "read our status back", e))?;
    seen.status = observed::read::parse_status(&status);
    all_hold(crate::control::Control::facts(&crate::control::capabilities::Capabilities, setup.hardened, &seen))
}

/// The first fact that does not hold is an error. What cannot be seen from here is not a mismatch: it is probed, or seen by
/// others.
pub fn all_hold(facts: Vec<Fact>) -> Result<()> {
    match facts.into_iter().find(|f| f.holds == Holds::No) {
        None => Ok(()),
        Some(fact) => {
            Err(Error::Mismatch { control: fact.control, expected: fact.expected, observed: fact.observed })
        }
    }
}
