//! What a container's rows come to in the words of others: Pod Security Standards, CIS benchmarks, NIST SP 800-190.
//!
//! A requirement is as well met as the worst of the controls that speak of it. What only level restricted asks for is not claimed at another
//! level, also where the control that would ask for it holds.

use serde::Serialize;

use crate::attest::{Row, State};
use crate::id::ControlId;
use crate::policy::Level;

/// Whose requirement it is. A reference begins with these words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Framework {
    PssBaseline,
    PssRestricted,
    CisDocker,
    CisKubernetes,
    Nist,
}

impl Framework {
    /// Lists all, in the order of a report.
    pub const ALL: [Self; 5] = [
        Self::PssBaseline,
        Self::PssRestricted,
        Self::CisDocker,
        Self::CisKubernetes,
        Self::Nist,
    ];

    /// Its name for people.
    pub const fn name(self) -> &'static str {
        match self {
            Self::PssBaseline => "Pod Security Standards: Baseline",
            Self::PssRestricted => "Pod Security Standards: Restricted",
            Self::CisDocker => "CIS Docker Benchmark",
            Self::CisKubernetes => "CIS Kubernetes Benchmark",
            Self::Nist => "NIST SP 800-190",
        }
    }

    const fn prefix(self) -> &'static str {
        match self {
            Self::PssBaseline => "PSS Baseline: ",
            Self::PssRestricted => "PSS Restricted: ",
            Self::CisDocker => "CIS Docker ",
            Self::CisKubernetes => "CIS Kubernetes ",
            Self::Nist => "NIST SP 800-190 ",
        }
    }
}

/// How well a requirement is met. Ordered from good to bad.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum Outcome {
    /// Every control that speaks of it is in force and as decided.
    Met,
    /// Nothing of it is asked here: no control has anything to do, or the host has it not.
    NotApplicable,
    /// Some of its controls hold; the host has not what another one needs.
    Partly,
    /// The level does not ask for it.
    NotAsked,
    /// It could not be seen.
    Open,
    /// A control is loosened, or only observed.
    NotInForce,
    /// A control differs from what was decided.
    Violated,
}

impl Outcome {
    /// Its word for people.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::NotApplicable => "not applicable",
            Self::Partly => "partly",
            Self::NotAsked => "not asked",
            Self::Open => "open",
            Self::NotInForce => "NOT IN FORCE",
            Self::Violated => "VIOLATED",
        }
    }

    const fn of(state: State) -> Self {
        match state {
            State::Holds | State::Held => Self::Met,
            State::NoRule | State::NotAvailable => Self::NotApplicable,
            State::Loosened | State::Observed => Self::NotInForce,
            State::Unknown => Self::Open,
            State::Differs => Self::Violated,
        }
    }
}

/// One requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Requirement {
    pub framework: Framework,
    pub name: String,
    pub outcome: Outcome,
    pub controls: Vec<ControlId>,
    /// Why it is no better than that.
    pub why: Vec<String>,
}

/// What no level below restricted asks for: a root user, capabilities beyond NET_BIND_SERVICE.
const RESTRICTED_ALONE: [&str; 7] = [
    "PSS Restricted: Running as Non-root",
    "PSS Restricted: Running as Non-root user",
    "PSS Restricted: Capabilities",
    "PSS Restricted: Volume Types",
    "CIS Docker 4.1",
    "CIS Docker 5.31",
    "CIS Kubernetes 5.2.7",
];

/// Gives every requirement that a control speaks of, by framework and number.
pub fn requirements(level: Level, rows: &[Row]) -> Vec<Requirement> {
    let mut all: Vec<Requirement> = Vec::new();
    for row in rows {
        for reference in row.refs {
            let Some((framework, name)) = parse(reference) else {
                continue;
            };
            let at = all.iter().position(|r| r.framework == framework && r.name == name);
            let index = at.unwrap_or_else(|| {
                all.push(Requirement {
                    framework,
                    name: name.to_owned(),
                    outcome: Outcome::Met,
                    controls: Vec::new(),
                    why: Vec::new(),
                });
                all.len() - 1
            });
            if let Some(requirement) = all.get_mut(index) {
                add(requirement, row, level, reference);
            }
        }
    }
    for requirement in &mut all {
        settle(requirement, rows);
    }
    all.sort_by_key(|requirement| (requirement.framework, key(&requirement.name)));
    all
}

fn parse(reference: &str) -> Option<(Framework, &str)> {
    let of = |framework: Framework| Some((framework, reference.strip_prefix(framework.prefix())?));
    Framework::ALL.into_iter().find_map(of)
}

fn add(requirement: &mut Requirement, row: &Row, level: Level, reference: &str) {
    requirement.controls.push(row.control);
    let mut outcome = Outcome::of(row.state);
    let not_asked = level < Level::Restricted && RESTRICTED_ALONE.contains(&reference);
    if not_asked && outcome < Outcome::NotAsked {
        outcome = Outcome::NotAsked;
        requirement
            .why
            .push(format!("level {level} does not ask for it; level restricted does"));
    } else if outcome != Outcome::Met {
        let why = row.why.iter().map(|why| format!("{}: {why}", row.control));
        requirement.why.extend(why);
    }
    requirement.outcome = requirement.outcome.max(outcome);
}

/// One control that has nothing to do here takes nothing from others that hold.
fn settle(requirement: &mut Requirement, rows: &[Row]) {
    let met = |id: &ControlId| {
        rows.iter()
            .any(|r| r.control == *id && Outcome::of(r.state) == Outcome::Met)
    };
    if requirement.outcome == Outcome::NotApplicable && requirement.controls.iter().any(met) {
        let missing = |id: &ControlId| rows.iter().any(|r| r.control == *id && r.state == State::NotAvailable);
        let partly = requirement.controls.iter().any(missing);
        requirement.outcome = if partly { Outcome::Partly } else { Outcome::Met };
    }
}

/// Numbers by their value: 5.9 before 5.10.
fn key(name: &str) -> (Vec<u32>, String) {
    let numbers = name.split('.').map(|part| part.parse().unwrap_or(u32::MAX)).collect();
    (numbers, name.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::control::CONTROLS;

    fn rows(state: impl Fn(ControlId) -> State) -> Vec<Row> {
        CONTROLS
            .iter()
            .map(|control| Row {
                control: control.id(),
                state: state(control.id()),
                why: vec!["because".to_owned()],
                refs: control.about().refs,
            })
            .collect()
    }

    fn of<'a>(all: &'a [Requirement], framework: Framework, name: &str) -> &'a Requirement {
        all.iter().find(|r| r.framework == framework && r.name == name).unwrap()
    }

    #[test]
    fn every_reference_is_of_a_framework() {
        for control in CONTROLS {
            for reference in control.about().refs {
                assert!(parse(reference).is_some(), "{reference}");
            }
        }
        let all = requirements(Level::Restricted, &rows(|_| State::Holds));
        assert!(
            all.iter().all(|r| r.outcome == Outcome::Met && r.why.is_empty()),
            "{all:#?}"
        );
        let named = |reference: &&str| {
            parse(reference).is_some_and(|(f, n)| all.iter().any(|r| r.framework == f && r.name == n))
        };
        assert!(
            RESTRICTED_ALONE.iter().all(named),
            "one is no control's reference any more"
        );
    }

    #[test]
    fn a_lower_level_does_not_claim_what_it_does_not_ask_for() {
        let all = requirements(Level::Hardened, &rows(|_| State::Holds));
        let root = of(&all, Framework::PssRestricted, "Running as Non-root");
        assert_eq!(root.outcome, Outcome::NotAsked);
        assert_eq!(
            of(&all, Framework::PssRestricted, "Privilege Escalation").outcome,
            Outcome::Met
        );
        assert_eq!(of(&all, Framework::CisDocker, "4.1").outcome, Outcome::NotAsked);
    }

    #[test]
    fn the_worst_control_counts() {
        let all = requirements(
            Level::Restricted,
            &rows(|id| match id {
                ControlId::Seccomp => State::Differs,
                ControlId::Lsm => State::NotAvailable,
                ControlId::Capabilities => State::Observed,
                _ => State::Held,
            }),
        );
        for (framework, name, outcome) in [
            (Framework::PssBaseline, "Seccomp", Outcome::Violated),
            (Framework::PssBaseline, "AppArmor", Outcome::NotApplicable),
            (Framework::PssBaseline, "Capabilities", Outcome::NotInForce),
            (Framework::Nist, "4.4.3", Outcome::Violated),
            (Framework::CisDocker, "5.2", Outcome::NotApplicable),
        ] {
            let requirement = of(&all, framework, name);
            assert_eq!(requirement.outcome, outcome, "{name}");
            assert!(!requirement.why.is_empty(), "{name}");
        }
        let host = requirements(
            Level::Hardened,
            &rows(|id| {
                if id == ControlId::Lsm {
                    State::NotAvailable
                } else {
                    State::Holds
                }
            }),
        );
        assert_eq!(of(&host, Framework::Nist, "4.4.3").outcome, Outcome::Partly);
        let numbers: Vec<&str> = all
            .iter()
            .filter(|r| r.framework == Framework::CisDocker)
            .map(|r| r.name.as_str())
            .collect();
        let nine = numbers.iter().position(|n| *n == "5.6").unwrap();
        let ten = numbers.iter().position(|n| *n == "5.10").unwrap();
        assert!(nine < ten, "{numbers:?}");
    }
}
