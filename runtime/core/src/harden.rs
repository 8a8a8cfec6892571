//! The heart: (Request, Policy, Host) → Hardened, or a Denial with every refusal. Touches nothing.

use crate::control::{self, CONTROLS, Context};
use crate::decision::{Change, Decision, Mode};
use crate::hardened::{Denial, Draft, Hardened, Plan};
use crate::host::Host;
use crate::ids::ContainerIds;
use crate::policy::Effective;
use crate::request::Request;
use crate::request::annotations::NOT_UNDERSTOOD;
use crate::valid;
use oci_spec::runtime::Process;

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
            loosened: policy.loosened.iter().copied().collect(),
            exceptions: policy.exceptions.clone(),
            ids: Some(ContainerIds::planned(&request.spec, host)),
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
        if mode == Mode::Observe {
            refuse_what_is_not_understood(&mut decision);
        }
        decisions.push(decision);
    }
    let mut invalid = valid::odd(policy.level, &request.odd);
    invalid.extend(valid::judge(&draft.spec, host));
    let denial = Denial::new(policy.level, decisions, &invalid);
    let decisions = denial.unless_refused()?;
    // After all controls: one of them may have named it.
    let named = draft.spec.process().as_ref().and_then(Process::oom_score_adj);
    draft.plan.oom_score_adj = Some(named.unwrap_or(host.oom_score_adj));
    Ok(Hardened::decided(draft, policy.level, policy.digest.clone(), decisions))
}

/// Leaves nothing of an observed decision but an annotation of gabion's own that is not understood, if there is one: it is wrong at every
/// level, whatever else would be refused.
fn refuse_what_is_not_understood(decision: &mut Decision) {
    let wrong = |change: &Change| {
        change
            .code
            .as_deref()
            .is_some_and(|code| NOT_UNDERSTOOD.contains(&code))
    };
    if decision.changes.iter().any(wrong) {
        decision.mode = Mode::Enforce;
        decision.changes.retain(wrong);
    }
}
