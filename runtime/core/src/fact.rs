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
}

impl Serialize for Holds {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Yes => serializer.serialize_bool(true),
            Self::No => serializer.serialize_bool(false),
            Self::Unknown => serializer.serialize_str("unknown"),
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
}
