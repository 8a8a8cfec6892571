//! `[memory]`: which of the rules that keep written memory from being executed hold, and at which level.

use serde::{Deserialize, Serialize};

use super::{Level, Need};
use crate::decision::Mode;

/// A rule of the control `memory`. Each has one way to run what was written, and closes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MemoryRule {
    /// No mapping becomes executable that was not, and none is both writable and executable.
    Mdwe,
    /// No memory with a descriptor: it can be mapped twice.
    Memfd,
    /// No executable segment of System V: it can be attached twice.
    ShmExec,
    /// No writing into another's memory.
    Ptrace,
    /// No writing into one's own memory past its protection.
    Proc,
}

impl MemoryRule {
    pub const ALL: [Self; 5] = [Self::Mdwe, Self::Memfd, Self::ShmExec, Self::Ptrace, Self::Proc];

    /// Its key in the policy.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Mdwe => "mdwe",
            Self::Memfd => "memfd",
            Self::ShmExec => "shm_exec",
            Self::Ptrace => "ptrace",
            Self::Proc => "proc",
        }
    }

    /// Whether calls are refused by it.
    pub const fn needs_a_filter(self) -> bool {
        !matches!(self, Self::Proc)
    }

    /// The same with its table.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Mdwe => "memory.mdwe",
            Self::Memfd => "memory.memfd",
            Self::ShmExec => "memory.shm_exec",
            Self::Ptrace => "memory.ptrace",
            Self::Proc => "memory.proc",
        }
    }
}

/// `[memory]`. A rule of which nothing is said holds at level restricted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MemoryPolicy {
    pub mdwe: Option<Mode>,
    pub memfd: Option<Mode>,
    pub shm_exec: Option<Mode>,
    pub ptrace: Option<Mode>,
    pub proc: Option<Mode>,
    /// Whether the kernel must have PR_SET_MDWE where `mdwe` holds.
    pub need: Need,
}

impl MemoryPolicy {
    const fn said(&self, rule: MemoryRule) -> Option<Mode> {
        match rule {
            MemoryRule::Mdwe => self.mdwe,
            MemoryRule::Memfd => self.memfd,
            MemoryRule::ShmExec => self.shm_exec,
            MemoryRule::Ptrace => self.ptrace,
            MemoryRule::Proc => self.proc,
        }
    }

    /// Gives a rule's mode at this level.
    pub fn mode(&self, rule: MemoryRule, level: Level) -> Mode {
        let by_level = if level == Level::Restricted {
            Mode::Enforce
        } else {
            Mode::Observe
        };
        self.said(rule).unwrap_or(by_level)
    }

    /// Finds a rule that holds under `base` and not here.
    pub(super) fn weaker(&self, level: Level, base: &Self, base_level: Level) -> Option<MemoryRule> {
        MemoryRule::ALL
            .into_iter()
            .find(|rule| base.mode(*rule, base_level) == Mode::Enforce && self.mode(*rule, level) == Mode::Observe)
    }
}

/// `memory` of an exception.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NarrowMemory {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mdwe: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memfd: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shm_exec: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ptrace: Option<Mode>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proc: Option<Mode>,
}

impl NarrowMemory {
    /// Puts what is said here over what the policy says.
    pub(super) fn over(&self, policy: &mut MemoryPolicy) {
        policy.mdwe = self.mdwe.or(policy.mdwe);
        policy.memfd = self.memfd.or(policy.memfd);
        policy.shm_exec = self.shm_exec.or(policy.shm_exec);
        policy.ptrace = self.ptrace.or(policy.ptrace);
        policy.proc = self.proc.or(policy.proc);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_which_nothing_is_said_holds_at_restricted() {
        let silent = MemoryPolicy::default();
        for rule in MemoryRule::ALL {
            assert_eq!(rule.key(), format!("memory.{}", rule.as_str()));
            assert_eq!(silent.mode(rule, Level::Restricted), Mode::Enforce);
            assert_eq!(silent.mode(rule, Level::Hardened), Mode::Observe);
            assert_eq!(silent.mode(rule, Level::Permissive), Mode::Observe);
        }
        let said = MemoryPolicy {
            mdwe: Some(Mode::Observe),
            memfd: Some(Mode::Enforce),
            ..silent
        };
        assert_eq!(said.mode(MemoryRule::Mdwe, Level::Restricted), Mode::Observe);
        assert_eq!(said.mode(MemoryRule::Memfd, Level::Hardened), Mode::Enforce);
    }
}
