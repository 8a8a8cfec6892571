//! The heart: (Request, Policy, Host) → Hardened, or a Denial with every refusal. Touches nothing.

use oci_spec::runtime::Process;

use crate::control::{self, CONTROLS, Context};
use crate::decision::{Decision, Mode};
use crate::hardened::{Denial, Draft, Hardened, Plan};
use crate::host::Host;
use crate::ids::ContainerIds;
use crate::policy::Effective;
use crate::request::Request;

/// Runs every control of the table over the request.
///
/// A control that is only observed decides on a copy: its verdict is written down («would …»), the spec stays as it was.
///
/// # Errors
/// A `Denial` with all refusals of all enforced controls, not the first.
pub fn harden(request: &Request, policy: &Effective, host: &Host) -> Result<Hardened, Denial> {
    let cx = Context { request, policy, host };
    let mut draft = Draft {
        spec: request.spec.clone(),
        plan: Plan {
            delegation: host.delegation.clone(),
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
        decisions.push(decision);
    }
    if decisions.iter().any(|d| d.refusals().next().is_some()) {
        return Err(Denial {
            level: policy.level,
            decisions,
        });
    }
    // After all controls: one of them may have named it.
    let named = draft.spec.process().as_ref().and_then(Process::oom_score_adj);
    draft.plan.oom_score_adj = Some(named.unwrap_or(host.oom_score_adj));
    Ok(Hardened::decided(draft, policy.level, policy.digest.clone(), decisions))
}
