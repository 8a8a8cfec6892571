//! What of a node weakens every container on it, whatever the container asks for: one table over facts that were looked up before (the crate
//! gabion-see, `node`). `gabion doctor` prints it.
//!
//! What could not be looked at is *unknown* with its reason. It is never good.

use serde::Serialize;

use self::node::{Node, Seen};

mod cgroups;
pub mod containerd;
mod engines;
mod kernel;
mod modules;
pub mod node;
mod own;
mod settings;

/// How much a line weighs. Ordered from what is well to what is worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[must_use]
pub enum State {
    /// The node does not have what the line is about.
    Absent,
    Good,
    /// gabion holds this by itself in every container that it hardens; the node's own setting would be a second wall, and one for all else.
    Advice,
    /// It could not be looked at.
    Unknown,
    /// Containers have less than they could have.
    Weak,
}

impl State {
    /// Gives the word for people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Good => "good",
            Self::Advice => "advice",
            Self::Unknown => "unknown",
            Self::Weak => "weak",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
struct Found {
    state: State,
    observed: String,
    /// Another remedy than the check's own.
    remedy: Option<String>,
}

impl Found {
    fn new(state: State, observed: impl Into<String>) -> Self {
        Self {
            state,
            observed: observed.into(),
            remedy: None,
        }
    }

    fn good(observed: impl Into<String>) -> Self {
        Self::new(State::Good, observed)
    }

    fn advice(observed: impl Into<String>) -> Self {
        Self::new(State::Advice, observed)
    }

    fn weak(observed: impl Into<String>) -> Self {
        Self::new(State::Weak, observed)
    }

    fn absent(observed: impl Into<String>) -> Self {
        Self::new(State::Absent, observed)
    }

    fn unknown(why: impl Into<String>) -> Self {
        Self::new(State::Unknown, why)
    }

    fn remedy(self, remedy: impl Into<String>) -> Self {
        Self {
            remedy: Some(remedy.into()),
            ..self
        }
    }

    /// Puts several findings of one check into one: the gravest counts, and all of its weight and above are said.
    fn gravest(found: Vec<Self>, otherwise: Self) -> Self {
        let Some(state) = found.iter().map(|one| one.state).max() else {
            return otherwise;
        };
        let mut said: Vec<&Self> = found.iter().filter(|one| one.state > State::Good).collect();
        if said.is_empty() {
            said = found.iter().collect();
        }
        said.sort_by_key(|one| std::cmp::Reverse(one.state));
        let observed: Vec<&str> = said.iter().map(|one| one.observed.as_str()).collect();
        Self {
            state,
            observed: observed.join("; "),
            remedy: found
                .iter()
                .find(|one| one.state == state)
                .and_then(|one| one.remedy.clone()),
        }
    }
}

/// Gives what was seen, or the line's end: what is absent by `absent`, what is unknown as that.
macro_rules! seen {
    ($seen:expr, $absent:expr) => {
        match $seen {
            $crate::doctor::node::Seen::Is(value) => value,
            $crate::doctor::node::Seen::Absent => return $absent,
            $crate::doctor::node::Seen::Unknown(why) => return $crate::doctor::Found::unknown(why.clone()),
        }
    };
}
use seen;

/// One line of the table.
struct Check {
    id: &'static str,
    /// What it means for every container.
    reason: &'static str,
    refs: &'static [&'static str],
    remedy: &'static str,
    look: fn(&Node) -> Found,
}

/// Every line, in the order in which they are printed.
fn checks() -> impl Iterator<Item = &'static Check> {
    [
        kernel::CHECKS,
        cgroups::CHECKS,
        settings::CHECKS,
        modules::CHECKS,
        engines::CHECKS,
        own::CHECKS,
    ]
    .into_iter()
    .flatten()
}

/// A line as it is printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Line {
    pub id: &'static str,
    pub state: State,
    pub observed: String,
    pub reason: &'static str,
    pub refs: &'static [&'static str],
    /// None where nothing is to be done.
    pub remedy: Option<String>,
}

/// What is to be done where something could not be looked at.
const LOOK_AGAIN: &str =
    "run it as the host's root, in the host's own namespaces, with /proc, /sys and securityfs mounted";

/// Judges a node, a line each.
#[must_use]
pub fn examine(node: &Node) -> Vec<Line> {
    let line = |check: &Check| {
        let found = (check.look)(node);
        let remedy = match found.state {
            State::Absent | State::Good => None,
            State::Unknown => Some(found.remedy.unwrap_or_else(|| LOOK_AGAIN.to_owned())),
            State::Advice | State::Weak => Some(found.remedy.unwrap_or_else(|| check.remedy.to_owned())),
        };
        Line {
            id: check.id,
            state: found.state,
            observed: found.observed,
            reason: check.reason,
            refs: check.refs,
            remedy,
        }
    };
    checks().map(line).collect()
}

/// Gives what the whole comes to: the gravest of its lines.
pub fn worst(lines: &[Line]) -> State {
    lines.iter().map(|line| line.state).max().unwrap_or(State::Unknown)
}

/// Gives a text without the blanks around it.
fn trimmed(seen: &Seen<String>) -> Seen<&str> {
    match seen {
        Seen::Is(text) => Seen::Is(text.trim()),
        Seen::Absent => Seen::Absent,
        Seen::Unknown(why) => Seen::Unknown(why.clone()),
    }
}

#[cfg(test)]
mod tests;
