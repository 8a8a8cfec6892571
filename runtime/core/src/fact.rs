//! Facts: what was decided beside what the kernel shows. Create and start verify them, `attest` prints them.

use serde::Serialize;

use crate::id::ControlId;

/// Whether the kernel shows what was decided. What cannot be seen is `Unknown`, never `Yes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Holds {
    Yes,
    No,
    Unknown,
    /// It was verified before the program ran, and the kernel does not show it afterwards.
    Before,
    /// Nothing is there that could hold: this kernel, this host or this caller has it not.
    Absent,
}

impl Serialize for Holds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Yes => serializer.serialize_bool(true),
            Self::No => serializer.serialize_bool(false),
            Self::Unknown => serializer.serialize_str("unknown"),
            Self::Before => serializer.serialize_str("held"),
            Self::Absent => serializer.serialize_str("not_available"),
        }
    }
}

/// One fact of one control.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    pub control: ControlId,
    pub expected: String,
    pub observed: String,
    pub holds: Holds,
}

impl Fact {
    /// A fact that holds when both sides are the same.
    pub fn same<T: PartialEq + std::fmt::Display>(control: ControlId, what: &str, expected: &T, observed: &T) -> Self {
        let holds = if expected == observed { Holds::Yes } else { Holds::No };
        Self {
            control,
            expected: format!("{what} {expected}"),
            observed: format!("{what} {observed}"),
            holds,
        }
    }

    /// A fact with its own judgement.
    pub fn judged(control: ControlId, expected: impl Into<String>, observed: impl Into<String>, holds: Holds) -> Self {
        Self {
            control,
            expected: expected.into(),
            observed: observed.into(),
            holds,
        }
    }

    /// A fact that could not be looked at.
    pub fn unknown(control: ControlId, expected: impl Into<String>, why: impl Into<String>) -> Self {
        Self::judged(control, expected, why, Holds::Unknown)
    }

    /// A fact that was verified before execve and is not shown later; `how` says by what.
    pub fn held(control: ControlId, expected: impl Into<String>, how: impl Into<String>) -> Self {
        Self::judged(control, expected, how, Holds::Before)
    }

    /// A fact that there is nothing of here, and why. Whoever made the container was warned, or had nothing to be warned of.
    pub fn absent(control: ControlId, expected: impl Into<String>, why: impl Into<String>) -> Self {
        Self::judged(control, expected, why, Holds::Absent)
    }
}
