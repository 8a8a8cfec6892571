//! One row of the table of controls: an act, and what stops it.

use crate::{Bundle, Container, Outcome, Policy, Runtime, apparmor};

/// How a control shows that it is in force.
#[derive(Debug, Clone, Copy)]
pub enum Expect {
    /// The container runs and the act gives this errno.
    Errno(&'static str),
    /// The container is refused with a code that starts so; otherwise it runs.
    Refused(&'static str),
}

/// Tried with this control alone, with none, with all but this, and with all but this and those that cover it.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    pub control: &'static str,
    pub name: &'static str,
    /// Makes the container one in which the act succeeds where nothing forbids it.
    pub prepare: fn(&mut Bundle),
    pub act: &'static str,
    pub expect: Expect,
    /// The controls that stop the same act when this one is off. Empty: then it is allowed.
    pub covered_by: &'static [&'static str],
}

impl Case {
    #[track_caller]
    pub fn check(&self) {
        // First without any control: an act that fails here proves nothing anywhere else.
        self.must_succeed(&Policy::permissive(), "with every control off");
        if !Runtime::under_test().hardens {
            return;
        }
        self.must_be_stopped(&Policy::permissive().enforce(self.control), "with this control alone");
        let without = Policy::hardened().observe(self.control);
        if self.covered_by.is_empty() && !self.beneath() {
            return self.must_succeed(&without, "hardened without this control, which nothing else covers");
        }
        if !self.covered_by.is_empty() {
            self.must_be_covered(&without);
        }
        let uncovered = self
            .covered_by
            .iter()
            .fold(without, |policy, control| policy.observe(control));
        let uncovered = if self.beneath() {
            uncovered.observe("lsm")
        } else {
            uncovered
        };
        self.must_succeed(&uncovered, "hardened without this control and those that cover it");
    }

    /// Where AppArmor is, it may say no beneath every other control: it is taken away with those that cover.
    fn beneath(&self) -> bool {
        self.control != "lsm" && apparmor()
    }

    fn outcome(&self, policy: &Policy) -> Outcome {
        let mut bundle = Bundle::new(&format!("{}-{}", self.control, self.name));
        (self.prepare)(&mut bundle);
        Container::new(bundle).policy(policy).acts(&[self.act])
    }

    #[track_caller]
    fn must_succeed(&self, policy: &Policy, when: &str) {
        let outcome = self.outcome(policy);
        let good = matches!(&outcome, Outcome::Answers(all) if all.get(self.act).is_some_and(|a| a.starts_with("ok")));
        assert!(good, "{} ({}) should succeed {when}: {outcome:?}", self.act, self.name);
    }

    #[track_caller]
    fn must_be_stopped(&self, policy: &Policy, when: &str) {
        let outcome = self.outcome(policy);
        let good = match (self.expect, &outcome) {
            (Expect::Errno(errno), Outcome::Answers(all)) => {
                all.get(self.act).is_some_and(|answer| answer.starts_with(errno))
            }
            (Expect::Refused(code), Outcome::Refused { code: got, .. }) => got.starts_with(code),
            _ => false,
        };
        assert!(
            good,
            "{} ({}) should end as {:?} {when}: {outcome:?}",
            self.act, self.name, self.expect
        );
    }

    /// Stopped by one of those named: by a refusal that carries its name, or by an errno.
    /// That the errno is theirs shows when they are taken away too.
    #[track_caller]
    fn must_be_covered(&self, policy: &Policy) {
        let outcome = self.outcome(policy);
        let good = match &outcome {
            Outcome::Answers(all) => all.get(self.act).is_some_and(|answer| !answer.starts_with("ok")),
            Outcome::Refused { code, .. } => self.covered_by.iter().any(|id| code.starts_with(&format!("{id}."))),
            Outcome::Broken(_) => false,
        };
        assert!(
            good,
            "{} ({}) should be covered by {:?}: {outcome:?}",
            self.act, self.name, self.covered_by
        );
    }
}
