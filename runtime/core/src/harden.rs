//! The heart: (Request, Policy, Host) → Hardened, or a Denial with every refusal. Touches nothing.

use crate::control::{self, CONTROLS, Context};
use crate::decision::{Decision, Mode};
use crate::hardened::{Denial, Draft, Hardened, Plan};
use crate::host::Host;
use crate::policy::Effective;
use crate::request::Request;
use crate::valid;

/// Runs every control of the table over the request.
///
/// A control that is only observed decides on a copy: its verdict is written down («would …»), the spec stays as it was.
///
/// The spec that they leave is then asked for what no level may have (`valid`): no policy loosens that, and nothing of it is only observed.
///
/// # Errors
/// A `Denial` with all refusals of all enforced controls and all that cannot be, not the first.
pub fn harden(request: &Request, policy: &Effective, host: &Host) -> Result<Hardened, Denial> {
    let cx = Context { request, policy, host };
    let mut draft = Draft {
        spec: request.spec.clone(),
        plan: Plan {
            delegation: host.delegation.clone(),
            ..Plan::default()
        },
    };
    let mut decisions: Vec<Decision> = Vec::with_capacity(CONTROLS.len());
    for control in CONTROLS {
        let mode = policy.mode(control.id());
        let mut decision = match mode {
            Mode::Enforce => {
                draft.plan.enforced.insert(control.id());
                control::decide(control, &mut draft, &cx)
            }
            Mode::Observe => control::decide(control, &mut draft.clone(), &cx),
        };
        decision.mode = mode;
        decisions.push(decision);
    }
    let denial = Denial::new(policy.level, decisions, &valid::judge(&draft.spec, host));
    let decisions = denial.unless_refused()?;
    Ok(Hardened::decided(draft, policy.level, policy.digest.clone(), decisions))
}
