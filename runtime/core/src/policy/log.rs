//! How the audit log is kept: the kinds of values that `[audit]` has.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Permission bits of a log, `"0640"`. Its owner reads and writes; a group may read; nobody else does anything: arguments of programs may hold
/// secrets, and whoever can write to a log can rewrite it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogMode(u32);

impl LogMode {
    /// Gives the bits.
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for LogMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04o}", self.0)
    }
}

impl<'de> Deserialize<'de> for LogMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "0600" | "600" => Ok(Self(0o600)),
            "0640" | "640" => Ok(Self(0o640)),
            other => Err(de::Error::custom(format!(
                "{other:?} is no mode of a log: write \"0600\", or \"0640\" with a group that may read it"
            ))),
        }
    }
}

impl Serialize for LogMode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// What is done with an exec that is the same as one of the last minute, in the same container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RepeatedExec {
    /// It has a record, as every other.
    #[default]
    Write,
    /// It is counted, and the next record of it, or that of the container's end, says how many there were.
    Count,
}

/// Where the head of the log is told, besides the file that gabion keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Anchor {
    Journald,
    /// /dev/log.
    Syslog,
    /// The kernel's audit.
    Kernel,
}

impl Anchor {
    pub const ALL: [Self; 3] = [Self::Journald, Self::Syslog, Self::Kernel];

    /// Gives the word of the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Journald => "journald",
            Self::Syslog => "syslog",
            Self::Kernel => "kernel",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::policy::parse;

    #[test]
    fn a_log_is_nobody_else_s_to_read_or_write() {
        for (mode, good) in [
            ("0600", true),
            ("640", true),
            ("0644", false),
            ("0660", false),
            ("0000", false),
            ("x", false),
        ] {
            let parsed = parse(&format!("[audit]\nmode = \"{mode}\"\n"));
            assert_eq!(parsed.is_ok(), good, "{mode}: {parsed:?}");
        }
        assert_eq!(
            parse("[audit]\nmode = \"640\"\n")
                .unwrap()
                .audit
                .mode
                .unwrap()
                .to_string(),
            "0640"
        );
    }

    #[test]
    fn groups_are_names_or_numbers() {
        for (group, good) in [
            ("adm", true),
            ("syslog-ng", true),
            ("4", true),
            ("", false),
            ("a b", false),
            ("a:b", false),
            ("-x", false),
        ] {
            let parsed = parse(&format!("[audit]\ngroup = \"{group}\"\n"));
            assert_eq!(parsed.is_ok(), good, "{group}: {parsed:?}");
        }
    }
}
