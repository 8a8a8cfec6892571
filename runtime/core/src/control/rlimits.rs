//! `rlimits`: no core dumps, a bounded number of open files, no rank above the host's own processes (`rlimits/rank.rs`).
//!
//! A core dump is written by the kernel under the host's core_pattern: it carries the service's secrets out of the
//! container, and a core_pattern pipe runs as root on the host.

use std::collections::BTreeSet;

use oci_spec::runtime::{PosixRlimit, PosixRlimitBuilder, PosixRlimitType};

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::observed::Observed;

pub(super) mod rank;

pub struct Rlimits;

static ABOUT: About = About {
    threat: "a crash writes the service's memory to the host through core_pattern; unbounded descriptors eat kernel memory; a \
             real-time process starves the host",
    rule: "RLIMIT_CORE is 0; RLIMIT_NOFILE is at most the policy's max_nofile; no limit is given twice; nothing ranks before the \
           host's own processes (real time, negative nice values and OOM scores)",
    enforced_by: "prlimit(2), after all that gabion does itself; read back from /proc/PID/limits",
    kernel_floor: "2.6.36 (prlimit)",
    refs: &["CIS Docker 5.19", "NIST SP 800-190 4.4.3"],
};

/// What this control looks at, with the kernel's name in /proc/PID/limits.
const WATCHED: [(PosixRlimitType, &str); 2] = [
    (PosixRlimitType::RlimitCore, "Max core file size"),
    (PosixRlimitType::RlimitNofile, "Max open files"),
];

impl Control for Rlimits {
    fn id(&self) -> ControlId {
        ControlId::Rlimits
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let Some(process) = draft.spec.process_mut() else {
            return;
        };
        let mut limits = process.rlimits().clone().unwrap_or_default();
        refuse_malformed(&limits, cx, findings);
        no_core(&mut limits, findings);
        bound_nofile(&mut limits, cx, findings);
        process.set_rlimits(Some(limits));
        rank::decide(process, cx, findings);
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let limits = hardened.spec().process().as_ref().and_then(|p| p.rlimits().as_ref());
        limits
            .into_iter()
            .flatten()
            .filter_map(|limit| {
                let (_, name) = WATCHED.iter().find(|(typ, _)| *typ == limit.typ())?;
                Some(at_most(name, limit.hard(), seen))
            })
            .collect()
    }
}

/// The kernel's hard limit is not above the decided one. A service may have lowered it.
fn at_most(name: &str, decided: u64, seen: &Observed) -> Fact {
    let expected = format!("{name} at most {}", shown(decided));
    let Some((_, hard)) = seen.limits.get(name) else {
        return Fact::unknown(ControlId::Rlimits, expected, format!("{name} not shown"));
    };
    let hard = hard.unwrap_or(u64::MAX);
    let holds = if hard <= decided { Holds::Yes } else { Holds::No };
    Fact::judged(ControlId::Rlimits, expected, format!("{name} {}", shown(hard)), holds)
}

/// RLIM_INFINITY is all ones (getrlimit(2)).
fn shown(value: u64) -> String {
    if value == u64::MAX {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

fn refuse_malformed(limits: &[PosixRlimit], cx: &Context<'_>, findings: &mut Findings) {
    let word = cx
        .request
        .caller()
        .word("the runtime's rlimits", "`--ulimit`", "`process.rlimits`");
    let mut seen = BTreeSet::new();
    for limit in limits {
        let path = format!("process.rlimits.{}", limit.typ());
        if !seen.insert(limit.typ().to_string()) {
            findings.refused(
                "duplicate",
                path.clone(),
                format!(
                    "{} is given more than once: which one counts would be a guess",
                    limit.typ()
                ),
                format!("give it once in {word}"),
            );
        }
        if limit.soft() > limit.hard() {
            findings.refused(
                "soft-above-hard",
                path,
                format!(
                    "{} has a soft limit {} above its hard limit {}",
                    limit.typ(),
                    shown(limit.soft()),
                    shown(limit.hard())
                ),
                format!("lower the soft limit in {word}"),
            );
        }
    }
}

fn no_core(limits: &mut Vec<PosixRlimit>, findings: &mut Findings) {
    let (path, why) = ("process.rlimits.RLIMIT_CORE", "a core dump would leave the container");
    match limits.iter_mut().find(|l| l.typ() == PosixRlimitType::RlimitCore) {
        None => {
            limits.push(limit(PosixRlimitType::RlimitCore, 0, 0));
            findings.added(path, "0", why);
        }
        Some(core) if core.hard() == 0 => findings.kept(path, "no core dumps"),
        Some(core) => {
            findings.tightened(path, shown(core.hard()), "0", why);
            *core = limit(PosixRlimitType::RlimitCore, 0, 0);
        }
    }
}

fn bound_nofile(limits: &mut Vec<PosixRlimit>, cx: &Context<'_>, findings: &mut Findings) {
    let max = cx.policy.policy.rlimits.max_nofile;
    let (path, why) = ("process.rlimits.RLIMIT_NOFILE", "above the policy's max_nofile");
    match limits.iter_mut().find(|l| l.typ() == PosixRlimitType::RlimitNofile) {
        Some(files) if files.hard() > max => {
            findings.tightened(path, shown(files.hard()), shown(max), why);
            *files = limit(PosixRlimitType::RlimitNofile, files.soft().min(max), max);
        }
        // Inherited: services of systemd often have a hard limit of a billion.
        None if cx.host.nofile > max => {
            let soft = cx.host.nofile_soft.unwrap_or(max).min(max);
            findings.tightened(path, shown(cx.host.nofile), shown(max), why);
            limits.push(limit(PosixRlimitType::RlimitNofile, soft, max));
        }
        _ => {}
    }
}

fn limit(typ: PosixRlimitType, soft: u64, hard: u64) -> PosixRlimit {
    // The builder cannot fail: it requires no field. If it ever did, its default (no CPU time at all) starts nothing.
    PosixRlimitBuilder::default()
        .typ(typ)
        .soft(soft)
        .hard(hard)
        .build()
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::decision::Verdict;
    use crate::testing::{Case, check_about, codes, refusal};

    fn set(case: &Case) -> Vec<(String, u64, u64)> {
        let (draft, _) = case.decide(&Rlimits);
        let limits = draft.spec.process().as_ref().and_then(|p| p.rlimits().clone());
        let mut limits: Vec<_> = limits
            .unwrap_or_default()
            .iter()
            .map(|l| (l.typ().to_string(), l.soft(), l.hard()))
            .collect();
        limits.sort();
        limits
    }

    #[test]
    fn core_is_zero() {
        check_about(&Rlimits, ControlId::Rlimits);
        for (asked, verdict) in [
            (json!([]), Verdict::Added),
            (json!([{"type": "RLIMIT_CORE", "hard": 0, "soft": 0}]), Verdict::Kept),
            (
                json!([{"type": "RLIMIT_CORE", "hard": u64::MAX, "soft": 0}]),
                Verdict::Tightened,
            ),
        ] {
            let case = Case::new().with("/process/rlimits", asked);
            assert_eq!(case.decide(&Rlimits).1.verdict, verdict);
            assert!(set(&case).contains(&("RLIMIT_CORE".into(), 0, 0)));
        }
    }

    #[test]
    fn nofile_is_bounded_and_never_raised() {
        let max = 1_048_576;
        for (soft, hard, want) in [
            (1024, 1024, (1024, 1024)),
            (1024, u64::MAX, (1024, max)),
            (max + 1, max + 1, (max, max)),
        ] {
            let case = Case::new().with(
                "/process/rlimits",
                json!([{"type": "RLIMIT_NOFILE", "hard": hard, "soft": soft}]),
            );
            assert!(set(&case).contains(&("RLIMIT_NOFILE".into(), want.0, want.1)));
        }
        let mut case = Case::new().with("/process/rlimits", json!([]));
        assert_eq!(set(&case).len(), 1, "an inherited limit within bounds is left alone");
        case.host.nofile = 1_073_741_816;
        case.host.nofile_soft = Some(1024);
        assert!(set(&case).contains(&("RLIMIT_NOFILE".into(), 1024, max)));
    }

    #[test]
    fn malformed_lists() {
        let twice =
            json!([{"type": "RLIMIT_NPROC", "hard": 9, "soft": 9}, {"type": "RLIMIT_NPROC", "hard": 5, "soft": 5}]);
        let (_, decision) = Case::new().with("/process/rlimits", twice).decide(&Rlimits);
        refusal(&decision, "rlimits.duplicate");
        let upside_down = json!([{"type": "RLIMIT_NPROC", "hard": 5, "soft": 9}]);
        let (_, decision) = Case::new().with("/process/rlimits", upside_down).decide(&Rlimits);
        refusal(&decision, "rlimits.soft-above-hard");
        assert_eq!(codes(&decision).len(), 1);
    }

    #[test]
    fn facts() {
        let hardened = Case::new().harden(&Rlimits);
        let mut seen = Observed::default();
        let holds =
            |seen: &Observed| -> Vec<Holds> { Rlimits.facts(&hardened, seen).iter().map(|f| f.holds).collect() };
        assert_eq!(holds(&seen), [Holds::Unknown, Holds::Unknown]);
        seen.limits.insert("Max core file size".into(), (Some(0), Some(0)));
        seen.limits.insert("Max open files".into(), (Some(512), Some(512)));
        assert_eq!(holds(&seen), [Holds::Yes, Holds::Yes]);
        seen.limits.insert("Max core file size".into(), (Some(0), None));
        assert!(holds(&seen).contains(&Holds::No));
    }
}
