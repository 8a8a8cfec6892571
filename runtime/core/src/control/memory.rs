//! `memory`: what was written is not executed (W^X of memory, as `mounts` and `landlock` are of files).
//!
//! At level restricted, or where the workload asks for it: JIT compilers cannot live with it, so that no ordinary image is held to it. Each
//! rule closes one way by which a program runs what it has written: [`MemoryRule`] names them. Those that are calls are closed by a filter of
//! this control's own, which stands whether `seccomp` is enforced or not.

use super::mounts::options::{Flag, Options};
use super::{About, Context, Control, ControlId};
use crate::decision::{Findings, Mode};
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened, Plan};
use crate::host::{Mdwe, SourceFs, SourcePath};
use crate::observed::Observed;
use crate::policy::{Level, MemoryRule, Need, SeccompGroup};

pub struct Memory;

static ABOUT: About = About {
    threat: "code that arrives as data (an exploit's payload, a program sent over a socket) is written into memory and run: nothing is executed \
             that any mount flag or path rule sees",
    rule: "at level restricted, or by annotation: no mapping becomes executable that was not, no memory is written in one place and executed in \
           another, /proc is read-only, no ptrace",
    enforced_by: "prctl(2) PR_SET_MDWE, read back by PR_GET_MDWE; a seccomp filter of its own, probed; read-only mounts of procfs, read back \
                  from /proc/PID/mountinfo",
    kernel_floor: "6.3 (PR_SET_MDWE)",
    refs: &["NIST SP 800-190 4.4.3"],
};

/// Asks for all rules.
const ANNOTATION: &str = "dev.gabion.memory";

/// PR_MDWE_REFUSE_EXEC_GAIN.
const REFUSE_EXEC_GAIN: u32 = 1;

impl Control for Memory {
    fn id(&self) -> ControlId {
        ControlId::Memory
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        for rule in MemoryRule::ALL {
            if holds(rule, &mut draft.plan, cx, findings) {
                draft.plan.memory.insert(rule);
                findings.added(rule.key(), "enforce", meaning(rule));
            }
        }
        if draft.plan.memory.contains(&MemoryRule::Proc) {
            close_proc(draft, cx, findings);
        }
        findings.kept("memory", "its rules are level restricted's, or asked for");
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let of = |rule: &MemoryRule| match rule {
            MemoryRule::Mdwe => mdwe(seen),
            MemoryRule::Proc => proc(seen),
            // No file of /proc shows what a filter answers: it is probed before execve.
            MemoryRule::Memfd | MemoryRule::ShmExec | MemoryRule::Ptrace => {
                let expected = format!("{} denied", rule.key());
                Fact::held(ControlId::Memory, expected, "probed before the workload started")
            }
        };
        hardened.plan().memory.iter().map(of).collect()
    }
}

const fn meaning(rule: MemoryRule) -> &'static str {
    match rule {
        MemoryRule::Mdwe => "what was written does not become executable: no JIT compiler works",
        MemoryRule::Memfd => "memfd_create makes no files, which could be mapped executable",
        MemoryRule::ShmExec => "no segment of System V is attached executable",
        MemoryRule::Ptrace => "nothing is written into another process's memory",
        MemoryRule::Proc => "/proc/PID/mem would write past every protection",
    }
}

/// Whether a rule is to hold, and can.
fn holds(rule: MemoryRule, plan: &mut Plan, cx: &Context<'_>, findings: &mut Findings) -> bool {
    let memory = &cx.policy.policy.memory;
    let asked = cx.request.asked(ANNOTATION).is_some();
    if !asked && memory.mode(rule, cx.policy.level) == Mode::Observe {
        if cx.policy.level == Level::Restricted {
            findings.warned(rule.key(), "it does not hold, as the policy says");
            let by = format!("{}, by the policy's memory", rule.key());
            plan.lets_off(ControlId::Memory, by);
        }
        return false;
    }
    let opened = cx.policy.policy.seccomp.allow.contains(&SeccompGroup::Ptrace);
    if rule == MemoryRule::Ptrace && opened && !asked && memory.ptrace.is_none() {
        findings.warned(
            rule.key(),
            "it does not hold: [seccomp] allow of the policy opens ptrace",
        );
        let by = format!("{}, by the policy's seccomp.allow", rule.key());
        plan.lets_off(ControlId::Memory, by);
        return false;
    }
    if rule == MemoryRule::Mdwe && cx.host.mdwe == Mdwe::Absent {
        no_mdwe(cx, findings);
        return false;
    }
    true
}

fn no_mdwe(cx: &Context<'_>, findings: &mut Findings) {
    let key = MemoryRule::Mdwe.key();
    if cx.policy.policy.memory.need == Need::Required {
        findings.refused(
            "mdwe-missing",
            key,
            "this kernel has no PR_SET_MDWE (6.3): what was written can be made executable",
            "use a kernel from 6.3 on, or set [memory] need = \"best_effort\" in /etc/gabion/policy.toml",
        );
    } else {
        findings.warned(
            key,
            "this kernel has no PR_SET_MDWE (6.3): what was written can be made executable; the other rules of memory hold",
        );
    }
}

/// Makes every procfs of the container read-only, also one that is bound: each of them has the `mem` of every process.
fn close_proc(draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    let bound = |index: usize| match cx.host.sources.get(&index) {
        Some(SourcePath::Open(source)) => source.filesystem == SourceFs::Proc,
        _ => false,
    };
    let mounts = draft.spec.mounts_mut().iter_mut().flatten().enumerate();
    for (index, mount) in mounts {
        let is_proc = mount.typ().as_deref() == Some("proc") || bound(index);
        let mut options = Options::of(mount);
        if !is_proc || options.is(Flag::Ro) {
            continue;
        }
        options.set(Flag::Ro);
        mount.set_options(Some(options.into_vec()));
        let at = mount.destination().display().to_string();
        findings.tightened(at, "rw", "ro", meaning(MemoryRule::Proc));
    }
}

fn mdwe(seen: &Observed) -> Fact {
    let expected = "PR_GET_MDWE 1";
    match seen.mdwe {
        Some(bits) => {
            let holds = if bits & REFUSE_EXEC_GAIN == 0 {
                Holds::No
            } else {
                Holds::Yes
            };
            Fact::judged(ControlId::Memory, expected, format!("PR_GET_MDWE {bits}"), holds)
        }
        None => Fact::held(
            ControlId::Memory,
            expected,
            "the kernel shows it to the process alone; read back before the workload started",
        ),
    }
}

fn proc(seen: &Observed) -> Fact {
    let expected = "every procfs read-only";
    let open = seen.mounts.iter().find(|m| m.fstype == "proc" && !m.has("ro"));
    match open {
        _ if seen.mounts.is_empty() => Fact::unknown(ControlId::Memory, expected, "mounts not shown"),
        Some(mount) => {
            let observed = format!("{} is writable", mount.target.display());
            Fact::judged(ControlId::Memory, expected, observed, Holds::No)
        }
        None => Fact::judged(ControlId::Memory, expected, "every procfs read-only", Holds::Yes),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::decision::{Decision, Verdict};
    use crate::testing::{Case, check_about, refusal};

    fn at(level: Level) -> Case {
        let mut case = Case::new();
        case.policy.level = level;
        case
    }

    fn plan(case: &Case) -> (BTreeSet<MemoryRule>, Decision) {
        let (draft, decision) = case.decide(&Memory);
        (draft.plan.memory, decision)
    }

    #[test]
    fn restricted_has_all_of_them_and_hardened_what_is_asked() {
        check_about(&Memory, ControlId::Memory);
        let all = BTreeSet::from(MemoryRule::ALL);
        assert_eq!(plan(&at(Level::Restricted)).0, all);
        let (none, decision) = plan(&at(Level::Hardened));
        assert_eq!((none, decision.verdict), (BTreeSet::new(), Verdict::Kept));
        let asked = at(Level::Hardened).with("/annotations/dev.gabion.memory", json!("restricted"));
        assert_eq!(plan(&asked).0, all);
        // The annotation tightens, whatever the policy lets off.
        let mut asked = asked;
        asked.policy.policy.memory.mdwe = Some(Mode::Observe);
        asked.policy.policy.seccomp.allow = vec![SeccompGroup::Ptrace];
        assert_eq!(plan(&asked).0, all);
        let mut one = at(Level::Hardened);
        one.policy.policy.memory.memfd = Some(Mode::Enforce);
        assert_eq!(plan(&one).0, BTreeSet::from([MemoryRule::Memfd]));
    }

    #[test]
    fn one_word_lets_off_one_rule() {
        let mut case = at(Level::Restricted);
        case.policy.policy.memory.mdwe = Some(Mode::Observe);
        let (rules, decision) = plan(&case);
        assert!(!rules.contains(&MemoryRule::Mdwe) && rules.len() == MemoryRule::ALL.len() - 1);
        assert_eq!(decision.verdict, Verdict::Warned);
        let mut case = at(Level::Restricted);
        case.policy.policy.seccomp.allow = vec![SeccompGroup::Ptrace];
        let (rules, decision) = plan(&case);
        assert!(!rules.contains(&MemoryRule::Ptrace) && decision.verdict == Verdict::Warned);
    }

    #[test]
    fn a_kernel_without_it_is_told_or_refused() {
        let mut case = at(Level::Restricted);
        case.host.mdwe = Mdwe::Absent;
        let (rules, decision) = plan(&case);
        assert!(!rules.contains(&MemoryRule::Mdwe) && decision.verdict == Verdict::Warned);
        case.policy.policy.memory.need = Need::Required;
        refusal(&plan(&case).1, "memory.mdwe-missing");
    }

    #[test]
    fn the_kernel_has_the_word() {
        let hardened = at(Level::Restricted).harden(&Memory);
        let holds = |seen: &Observed| -> Vec<Holds> { Memory.facts(&hardened, seen).iter().map(|f| f.holds).collect() };
        let mut seen = Observed::default();
        let before = Holds::Before;
        assert_eq!(holds(&seen), [before, before, before, before, Holds::Unknown]);
        seen.mdwe = Some(0);
        assert_eq!(holds(&seen)[0], Holds::No);
        seen.mdwe = Some(1);
        assert_eq!(holds(&seen)[0], Holds::Yes);
    }
}
