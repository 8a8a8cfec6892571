//! What `attest` says of each control, and of a container as a whole: from what was decided, and the facts that were found.
//!
//! A control that was only observed, or of which something was let off, is never «holds»: whoever goes by the exit code would take an
//! unconfined container for a confined one.

use serde::Serialize;

use crate::control::CONTROLS;
use crate::fact::{Fact, Holds};
use crate::hardened::Hardened;
use crate::id::ControlId;
use crate::policy::Level;

/// What one control comes to. Ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum State {
    /// All of it was read now, and is as it was decided.
    Holds,
    /// Some of it was verified before execve, and the kernel does not show it afterwards; the rest holds.
    Held,
    /// The level, or the request, gives this control nothing to do.
    NoRule,
    /// Some of it cannot be had on this host, and the policy did not demand it.
    NotAvailable,
    /// The policy lets something off, for this container or for all.
    Loosened,
    /// It is not in force: decided and written down, not carried out.
    Observed,
    /// Something that could have been seen was not.
    Unknown,
    /// The kernel shows something else than what was decided.
    Differs,
}

impl State {
    /// Lists all, from good to bad.
    pub const ALL: [Self; 8] = [
        Self::Holds,
        Self::Held,
        Self::NoRule,
        Self::NotAvailable,
        Self::Loosened,
        Self::Observed,
        Self::Unknown,
        Self::Differs,
    ];

    /// The word of the table.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Held => "held",
            Self::NoRule => "no rule",
            Self::NotAvailable => "not available",
            Self::Loosened => "loosened",
            Self::Observed => "observed",
            Self::Unknown => "unknown",
            Self::Differs => "DIFFERS",
        }
    }

    /// Tells what it does to the whole.
    pub const fn verdict(self) -> Verdict {
        match self {
            Self::Holds | Self::Held | Self::NoRule | Self::NotAvailable => Verdict::Holds,
            Self::Loosened | Self::Observed | Self::Unknown => Verdict::Incomplete,
            Self::Differs => Verdict::Differs,
        }
    }
}

/// What a container comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Verdict {
    /// Every control is in force, and is as it was decided.
    Holds,
    /// Nothing differs; but something is observed, loosened, unknown, or at a lower level than was required.
    Incomplete,
    /// Something differs from what was decided.
    Differs,
}

impl Verdict {
    /// The exit code of `attest`; 1 is «could not look».
    pub const fn code(self) -> u8 {
        match self {
            Self::Holds => 0,
            Self::Differs => 3,
            Self::Incomplete => 4,
        }
    }
}

/// A fact, and of whom it is true: `process 7`; empty of the container as a whole.
#[derive(Clone, Debug)]
pub struct Told<'a> {
    pub fact: &'a Fact,
    pub whom: String,
}

impl Told<'_> {
    fn with(&self, words: String) -> String {
        if self.whom.is_empty() {
            words
        } else {
            format!("{words} ({})", self.whom)
        }
    }
}

/// One control's row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    pub control: ControlId,
    pub state: State,
    /// Why it is no more than that: whose word, what differs, what was not seen.
    pub why: Vec<String>,
    /// Pod Security Standards, CIS benchmark and NIST SP 800-190 references.
    pub refs: &'static [&'static str],
}

/// Gives a row for every control, in the order of the one table.
pub fn rows(hardened: &Hardened, facts: &[Told<'_>]) -> Vec<Row> {
    CONTROLS
        .iter()
        .map(|control| {
            let id = control.id();
            let own: Vec<&Told<'_>> = facts.iter().filter(|told| told.fact.control == id).collect();
            let (state, why) = judge(hardened, id, &own);
            Row {
                control: id,
                state,
                why,
                refs: control.about().refs,
            }
        })
        .collect()
}

/// Gives the container's verdict: that of its worst row, and no better than incomplete below the level that was required.
pub fn verdict(rows: &[Row], level: Level, required: Option<Level>) -> Verdict {
    let worst = rows.iter().map(|row| row.state.verdict()).max();
    let enough = required.is_none_or(|required| level >= required);
    let floor = if enough { Verdict::Holds } else { Verdict::Incomplete };
    worst.unwrap_or(Verdict::Incomplete).max(floor)
}

fn judge(hardened: &Hardened, id: ControlId, facts: &[&Told<'_>]) -> (State, Vec<String>) {
    let of = |holds: Holds| facts.iter().filter(move |told| told.fact.holds == holds);
    let told = |holds: Holds| -> Vec<String> {
        let words = |told: &&&Told<'_>| told.with(format!("{}: {}", told.fact.expected, told.fact.observed));
        of(holds).map(|told| words(&told)).collect()
    };
    let words = |told: &&&Told<'_>| told.with(format!("{}; decided was: {}", told.fact.observed, told.fact.expected));
    let differs = of(Holds::No).map(|told| words(&told));
    let differs: Vec<String> = differs.collect();
    let let_off = hardened.plan().let_off.get(&id).into_iter().flatten();
    let mut let_off: Vec<String> = let_off.map(|what| format!("loosened: {what}")).collect();
    if !let_off.is_empty() {
        let_off.extend(by_exceptions(hardened));
    }
    let candidates = [
        (State::Differs, differs),
        (State::Unknown, told(Holds::Unknown)),
        not_in_force(hardened, id),
        (State::Loosened, let_off),
        (State::NotAvailable, told(Holds::Absent)),
        (State::Held, told(Holds::Before)),
    ];
    let worst = candidates
        .iter()
        .find(|(_, why)| !why.is_empty())
        .map(|(state, _)| *state);
    match worst {
        // What is good as well is no reason.
        Some(state) => {
            let reasons = candidates
                .into_iter()
                .filter(|(other, _)| state == State::Held || *other != State::Held);
            (state, reasons.flat_map(|(_, why)| why).collect())
        }
        None if facts.is_empty() && asks_nothing(hardened, id) => {
            let why = format!("level {} and this request ask nothing of it", hardened.level());
            (State::NoRule, vec![why])
        }
        None if facts.is_empty() => (State::Unknown, vec!["nothing of it was looked at".to_owned()]),
        None => (State::Holds, Vec::new()),
    }
}

/// Whether a control that is in force has nothing to do for this container. All others have facts always.
fn asks_nothing(hardened: &Hardened, id: ControlId) -> bool {
    let (spec, plan) = (hardened.spec(), hardened.plan());
    let linux = spec.linux().as_ref();
    let none = |list: Option<&Vec<String>>| list.is_none_or(Vec::is_empty);
    match id {
        ControlId::Memory => plan.memory.is_empty(),
        ControlId::Holes => plan.holes.is_empty(),
        ControlId::Mounts => spec.mounts().as_ref().is_none_or(Vec::is_empty),
        ControlId::MaskedPaths => {
            none(linux.and_then(|l| l.masked_paths().as_ref())) && none(linux.and_then(|l| l.readonly_paths().as_ref()))
        }
        _ => false,
    }
}

/// Why a control is not in force, where it is not.
fn not_in_force(hardened: &Hardened, id: ControlId) -> (State, Vec<String>) {
    if hardened.enforces(id) {
        return (State::Observed, Vec::new());
    }
    let plan = hardened.plan();
    if plan.loosened.contains(&id) {
        let mut why = vec!["not in force: an exception of the policy loosens it".to_owned()];
        why.extend(by_exceptions(hardened));
        return (State::Loosened, why);
    }
    let mut why = vec![match hardened.level() {
        Level::Permissive => "not in force: level permissive only observes".to_owned(),
        _ => "not in force: the policy's [controls] say observe".to_owned(),
    }];
    why.extend(by_exceptions(hardened));
    (State::Observed, why)
}

fn by_exceptions(hardened: &Hardened) -> Vec<String> {
    let reasons = &hardened.plan().exceptions;
    reasons.iter().map(|reason| format!("exception: {reason}")).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::harden::harden;
    use crate::policy::{Policy, parse};
    use crate::testing::Case;

    fn hardened(case: &Case) -> Hardened {
        harden(&case.request(), &case.policy, &case.host).unwrap()
    }

    fn with(policy: &str) -> Case {
        let mut case = Case::new();
        let policy: Policy = parse(policy).unwrap();
        case.policy.level = policy.level;
        case.policy.policy = policy;
        case
    }

    fn all_hold(hardened: &Hardened) -> Vec<Fact> {
        let ids = ControlId::ALL.into_iter().filter(|id| hardened.enforces(*id));
        ids.map(|id| Fact::judged(id, "x", "x", Holds::Yes)).collect()
    }

    fn rows_of(hardened: &Hardened, facts: &[Fact]) -> Vec<Row> {
        let told = facts.iter().map(|fact| Told {
            fact,
            whom: String::new(),
        });
        rows(hardened, &told.collect::<Vec<_>>())
    }

    fn state(rows: &[Row], id: ControlId) -> State {
        rows.iter().find(|row| row.control == id).unwrap().state
    }

    #[test]
    fn every_control_has_a_row_with_references() {
        let hardened = hardened(&Case::new());
        let rows = rows_of(&hardened, &all_hold(&hardened));
        let ids: Vec<ControlId> = rows.iter().map(|row| row.control).collect();
        assert_eq!(ids, ControlId::ALL);
        assert!(rows.iter().all(|row| !row.refs.is_empty()));
        assert_eq!(verdict(&rows, Level::Hardened, None), Verdict::Holds);
        assert_eq!(verdict(&rows, Level::Hardened, Some(Level::Hardened)).code(), 0);
        assert_eq!(verdict(&rows, Level::Hardened, Some(Level::Restricted)).code(), 4);
        assert_eq!(verdict(&[], Level::Hardened, None).code(), 4, "nothing is no proof");
    }

    /// What the finding was: an empty list of facts, and «holds».
    #[test]
    fn what_is_not_in_force_never_holds() {
        let permissive = hardened(&Case::new().level(Level::Permissive));
        let rows = rows_of(&permissive, &[]);
        assert!(rows.iter().all(|row| row.state == State::Observed), "{rows:#?}");
        assert_eq!(verdict(&rows, Level::Permissive, None).code(), 4);

        let some = hardened(&with("[controls]\nseccomp = \"observe\"\nlandlock = \"observe\""));
        let rows = rows_of(&some, &all_hold(&some));
        for id in ControlId::ALL {
            let off = matches!(id, ControlId::Seccomp | ControlId::Landlock);
            let wanted = if off { State::Observed } else { State::Holds };
            assert_eq!(state(&rows, id), wanted, "{id}");
        }
        assert_eq!(verdict(&rows, Level::Hardened, None).code(), 4);
    }

    #[test]
    fn an_exception_is_named() {
        let mut case = Case::new();
        case.policy.loosened = vec![ControlId::Hooks];
        case.policy.exceptions = vec!["the GPU's hook".to_owned()];
        let hardened = hardened(&case);
        let rows = rows_of(&hardened, &all_hold(&hardened));
        let row = rows.iter().find(|row| row.control == ControlId::Hooks).unwrap();
        assert_eq!(row.state, State::Loosened);
        assert!(row.why.iter().any(|why| why == "exception: the GPU's hook"), "{row:?}");
    }

    #[test]
    fn what_the_policy_lets_off_is_loosened() {
        for (policy, id) in [
            ("[seccomp]\nallow = [\"io_uring\"]", ControlId::Seccomp),
            ("[seccomp]\nsockets = [\"vsock\"]", ControlId::Seccomp),
            ("[sysctl]\nmemfd_noexec = \"observe\"", ControlId::Sysctl),
            (
                "level = \"restricted\"\n[memory]\nmdwe = \"observe\"",
                ControlId::Memory,
            ),
        ] {
            let case = with(policy)
                .with("/process/user/uid", serde_json::json!(1000))
                .with("/process/user/gid", serde_json::json!(1000));
            let hardened = hardened(&case);
            let rows = rows_of(&hardened, &all_hold(&hardened));
            assert_eq!(state(&rows, id), State::Loosened, "{policy}");
        }
        let case = with("[capabilities]\nallow = [\"CAP_SYS_CHROOT\"]");
        let unused = hardened(
            &case
                .clone()
                .with("/process/capabilities/bounding", serde_json::json!(["CAP_KILL"])),
        );
        assert_eq!(
            state(&rows_of(&unused, &all_hold(&unused)), ControlId::Capabilities),
            State::Holds
        );
        let used = hardened(&case.with("/process/capabilities/bounding", serde_json::json!(["CAP_SYS_CHROOT"])));
        assert_eq!(
            state(&rows_of(&used, &all_hold(&used)), ControlId::Capabilities),
            State::Loosened
        );
    }

    #[test]
    fn the_worst_fact_gives_the_row() {
        let hardened = hardened(&Case::new());
        let id = ControlId::Seccomp;
        let mut facts = all_hold(&hardened);
        for (fact, wanted) in [
            (Fact::held(id, "a", "b"), State::Held),
            (Fact::absent(id, "a", "b"), State::NotAvailable),
            (Fact::unknown(id, "a", "b"), State::Unknown),
            (Fact::judged(id, "a", "b", Holds::No), State::Differs),
        ] {
            facts.push(fact);
            assert_eq!(state(&rows_of(&hardened, &facts), id), wanted);
        }
        assert_eq!(verdict(&rows_of(&hardened, &facts), Level::Hardened, None).code(), 3);
        let none: Vec<Fact> = facts.into_iter().filter(|fact| fact.control != id).collect();
        assert_eq!(state(&rows_of(&hardened, &none), id), State::Unknown, "nobody looked");
        let none: Vec<Fact> = none
            .into_iter()
            .filter(|fact| fact.control != ControlId::Memory)
            .collect();
        assert_eq!(state(&rows_of(&hardened, &none), ControlId::Memory), State::NoRule);
    }
}
