//! How a log is kept, as the policy that governed create says it: what later calls need of it, with names looked up.

use std::path::{Path, PathBuf};

use gabion_core::policy::{Anchor, AuditPolicy, RepeatedExec};
use nix::unistd::Group;
use serde::{Deserialize, Serialize};

use super::{head, place};

/// Bounds, owner and anchors of a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Keeping {
    /// Bytes.
    pub max_size: u64,
    pub files: u32,
    pub rotate_days: Option<u32>,
    pub keep_days: u32,
    pub mode: Option<u32>,
    pub group: Option<Owners>,
    pub repeated_exec: RepeatedExec,
    pub head: Option<PathBuf>,
    pub anchors: Vec<Anchor>,
}

/// A log's group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Owners {
    Number(u32),
    /// This machine has no group of this name.
    Unknown(String),
}

impl Default for Keeping {
    fn default() -> Self {
        Self::of(&AuditPolicy::default(), None)
    }
}

impl Keeping {
    /// Reads it off a policy; a group's name is looked up. A user's own log, in a place that the policy does not name, is not the machine's: it has
    /// its head beside it and the user's group, and the kernel's audit is not for users to write to.
    #[must_use]
    pub fn of(policy: &AuditPolicy, log: Option<&Path>) -> Self {
        let machines = log.is_some_and(|log| policy.file.as_deref() == Some(log) || log == Path::new(place::SYSTEM));
        let anchors = policy.anchors.iter().copied();
        Self {
            max_size: policy.max_size.0,
            files: policy.files,
            rotate_days: policy.rotate_days,
            keep_days: policy.keep_days,
            mode: policy.mode.map(gabion_core::policy::LogMode::bits),
            group: policy.group.as_deref().filter(|_| machines).map(group),
            repeated_exec: policy.repeated_exec,
            head: policy.head.clone().filter(|_| machines),
            anchors: anchors.filter(|anchor| machines || *anchor != Anchor::Kernel).collect(),
        }
    }

    /// Gives where the head of a log may be, the best first.
    #[must_use]
    pub fn heads(&self, log: &Path) -> Vec<PathBuf> {
        head::places(self.head.as_deref(), log)
    }

    /// Gives the head's file for a log.
    #[must_use]
    pub fn head(&self, log: &Path) -> PathBuf {
        head::file(self.head.as_deref(), log)
    }
}

fn group(name: &str) -> Owners {
    if let Ok(number) = name.parse() {
        return Owners::Number(number);
    }
    match Group::from_name(name) {
        Ok(Some(group)) => Owners::Number(group.gid.as_raw()),
        Ok(None) | Err(_) => Owners::Unknown(name.to_owned()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_the_machine_s_is_not_asked_of_a_user_s_own_log() {
        let text = "[audit]\nmode = \"0640\"\ngroup = \"0\"\nhead = \"/h\"\nanchors = [\"kernel\", \"syslog\"]\n";
        let mut policy = gabion_core::policy::parse(text).unwrap().audit;
        let of = |policy: &AuditPolicy, log: &str| {
            let keeping = Keeping::of(policy, Some(Path::new(log)));
            (
                keeping.head(Path::new(log)),
                keeping.group,
                keeping.anchors.len(),
                keeping.mode,
            )
        };
        let machines = (PathBuf::from("/h"), Some(Owners::Number(0)), 2, Some(0o640));
        assert_eq!(of(&policy, place::SYSTEM), machines);
        let own = "/home/u/.local/state/gabion/audit.jsonl";
        let users = (
            PathBuf::from("/home/u/.local/state/gabion/.audit.jsonl.head"),
            None,
            1,
            Some(0o640),
        );
        assert_eq!(of(&policy, own), users);
        policy.file = Some(own.into());
        assert_eq!(of(&policy, own), machines);
    }

    #[test]
    fn a_group_that_is_not_here_is_kept_as_that() {
        assert_eq!(group("root"), Owners::Number(0));
        assert_eq!(group("nosuchgroup"), Owners::Unknown("nosuchgroup".to_owned()));
    }
}
