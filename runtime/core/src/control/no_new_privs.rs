//! `no_new_privs`: no program in the container gains what its parent did not have.
//!
//! Kubernetes leaves `allowPrivilegeEscalation` on unless a manifest says otherwise, so an absent or false bit is what engines
//! default and is tightened, not refused. Landlock and seccomp need the bit too (or CAP_SYS_ADMIN, which nobody keeps).

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::Fact;
use crate::hardened::{Draft, Hardened};
use crate::observed::Observed;

pub struct NoNewPrivs;

static ABOUT: About = About {
    threat: "a setuid or file-capability binary in the image gives a compromised service more rights than it started with",
    rule: "no_new_privs is set on the workload and every process of exec; it can never be taken off again",
    enforced_by: "prctl(2) PR_SET_NO_NEW_PRIVS; read back from NoNewPrivs in /proc/PID/status",
    kernel_floor: "4.10 (shown in /proc/PID/status; in force since 3.5)",
    refs: &[
        "PSS Restricted: Privilege Escalation",
        "CIS Docker 5.26",
        "CIS Kubernetes 5.2.6",
        "NIST SP 800-190 4.4.3",
    ],
};

impl Control for NoNewPrivs {
    fn id(&self) -> ControlId {
        ControlId::NoNewPrivs
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, _cx: &Context<'_>, findings: &mut Findings) {
        let Some(process) = draft.spec.process_mut() else {
            return;
        };
        let path = "process.noNewPrivileges";
        match process.no_new_privileges() {
            Some(true) => findings.kept(path, "set by the spec"),
            Some(false) => findings.tightened(path, "false", "true", "setuid programs must not give more rights"),
            None => findings.added(path, "true", "setuid programs must not give more rights"),
        }
        process.set_no_new_privileges(Some(true));
    }

    fn facts(&self, _hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let expected = "1";
        vec![match seen.status("NoNewPrivs") {
            Some(value) => Fact::same(ControlId::NoNewPrivs, "NoNewPrivs", &expected, &value),
            None => Fact::unknown(ControlId::NoNewPrivs, "NoNewPrivs 1", "NoNewPrivs not shown"),
        }]
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decision::Verdict;
    use crate::fact::Holds;
    use crate::testing::{Case, check_about};

    #[test]
    fn always_set() {
        check_about(&NoNewPrivs, ControlId::NoNewPrivs);
        for (asked, verdict) in [
            (json!(true), Verdict::Kept),
            (json!(false), Verdict::Tightened),
            (json!(null), Verdict::Added),
        ] {
            let (draft, decision) = Case::new().with("/process/noNewPrivileges", asked).decide(&NoNewPrivs);
            assert_eq!(decision.verdict, verdict);
            let set = draft
                .spec
                .process()
                .as_ref()
                .and_then(oci_spec::runtime::Process::no_new_privileges);
            assert_eq!(set, Some(true));
        }
    }

    #[test]
    fn the_kernel_has_the_word() {
        let hardened = Case::new().harden(&NoNewPrivs);
        for (shown, holds) in [(Some("1"), Holds::Yes), (Some("0"), Holds::No), (None, Holds::Unknown)] {
            let mut seen = Observed::default();
            if let Some(shown) = shown {
                seen.status.insert("NoNewPrivs".into(), shown.into());
            }
            assert_eq!(NoNewPrivs.facts(&hardened, &seen)[0].holds, holds);
        }
    }
}
