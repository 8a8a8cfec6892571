//! `exec`: a later process gets no more than the first one has.
//!
//! CRI clients send the process of their own original spec again: all default capabilities, no_new_privs unset. So it is not
//! believed but intersected with what was stored at create; a flag that asks for more is refused by name, because nobody
//! sends one by default.

use oci_spec::runtime::Process;

use super::{About, Context, Control, ControlId};
use crate::caller::OwnUserNs;
use crate::decision::{Decision, Findings, Mode};
use crate::fact::Fact;
use crate::hardened::{Denial, Draft, ExecPlan, Hardened};
use crate::observed::Observed;
use crate::policy::ExecRule;
use crate::request::{Caller, Odd};
use crate::valid;

mod merge;
pub use merge::{closed_remedy, lower};
#[cfg(test)]
mod tests;

pub struct Exec;

static ABOUT: About = About {
    threat: "exec is a door beside create: what was taken from the container comes back with a process of one's own making",
    rule: "process.json is intersected with the stored hardened process; flags that widen and other labels are refused; the \
           policy may close exec altogether",
    enforced_by: "the stored plan governs the new process as it did init: capabilities, no_new_privs, label, Landlock, seccomp",
    kernel_floor: "any",
    refs: &["CIS Docker 5.23", "CIS Docker 5.24", "NIST SP 800-190 4.4.3"],
};

/// What nobody expects of a closed exec: to containerd and CRI-O a probe's command is an exec like any other.
const NO_PROBES: &str = "with exec = \"deny\" `exec` probes fail, so that a startup or liveness probe of that kind restarts the container for ever, and \
                         `exec` hooks (postStart, preStop) do, too: a probe's exec cannot be told from another; use httpGet, tcpSocket or grpc";

/// An untrusted request for a process in a running container.
#[derive(Clone, Debug)]
pub struct ExecRequest {
    /// process.json, or what the command line makes of the stored process.
    pub process: Process,
    /// Flags of the command line that ask for more than the container has. At level permissive the caller of `intersect`
    /// puts them into `process`; nobody else ever reads them.
    pub widening: Vec<Widening>,
    /// What of process.json only level permissive takes.
    pub odd: Vec<Odd>,
}

/// A flag of `exec` that asks for more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Widening {
    /// `--cap NAME`
    Capability(String),
    /// `--privileged`
    Privileged,
    /// `--no-new-privs=false`
    NewPrivileges,
    /// `--apparmor PROFILE`
    AppArmor(String),
    /// `--process-label LABEL`
    ProcessLabel(String),
}

impl std::fmt::Display for Widening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Capability(name) => write!(f, "--cap {name}"),
            Self::Privileged => f.write_str("--privileged"),
            Self::NewPrivileges => f.write_str("--no-new-privs=false"),
            Self::AppArmor(profile) => write!(f, "--apparmor {profile}"),
            Self::ProcessLabel(label) => write!(f, "--process-label {label}"),
        }
    }
}

/// What is known of the runtime beside the container's plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Here {
    /// Whether the runtime that made the container ran in a user namespace: all that an older gabion wrote down of its ids.
    pub user_ns: OwnUserNs,
    /// The OOM score of the runtime that calls, which a process inherits that names none.
    pub oom_score_adj: i32,
    /// Who seems to have made the container: whose words a remedy has.
    pub caller: Caller,
}

/// A process that may run, and what was decided about it for the audit log.
#[derive(Clone, Debug)]
pub struct Vetted {
    pub process: Process,
    pub decision: Decision,
}

impl Control for Exec {
    fn id(&self) -> ControlId {
        ControlId::Exec
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        match cx.policy.policy.exec {
            ExecRule::Allow => {
                draft.plan.exec = ExecPlan::Allow;
                findings.kept("exec", "later processes get no more than this one");
            }
            ExecRule::Deny => {
                draft.plan.exec = ExecPlan::Deny;
                findings.added("exec", "deny", "the policy closes exec");
                if cx.request.caller() == Caller::Cri {
                    findings.warned("exec", NO_PROBES);
                }
            }
        }
    }

    fn facts(&self, _hardened: &Hardened, _seen: &Observed) -> Vec<Fact> {
        // Nothing of it is in force on the first process; a later one is verified with the facts of all other controls.
        vec![Fact::held(
            ControlId::Exec,
            "no process by exec but within what was decided",
            "each is judged when it is asked for, and verified before its program runs",
        )]
    }
}

/// The one door for later processes: what was asked, cut to what was stored at create.
///
/// Where `exec` is only observed, the process passes as it came and the decision says what would have been done. A control
/// that is only observed here (capabilities, say) does not cut either.
///
/// # Errors
/// A `Denial` with every refusal.
pub fn intersect(asked: &ExecRequest, hardened: &Hardened, here: Here) -> Result<Vetted, Denial> {
    let mut findings = Findings::default();
    let cut = merge::merge(asked, hardened, here, &mut findings);
    let mut decision = findings.into_decision(ControlId::Exec, &ABOUT);
    let process = if hardened.enforces(ControlId::Exec) {
        cut
    } else {
        decision.mode = Mode::Observe;
        asked.process.clone()
    };
    let mut invalid = valid::odd(hardened.level(), &asked.odd);
    invalid.extend(valid::judge_process(&process, ""));
    let denial = Denial::new(hardened.level(), vec![decision.clone()], &invalid);
    denial.unless_refused()?;
    Ok(Vetted { process, decision })
}
