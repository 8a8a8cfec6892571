//! The narrow keys: those that may also stand in an exception, and then hold for its match alone.
//!
//! Each has in an exception the name that it has in the policy. A list is added to the policy's; a word takes the place of the policy's. A new
//! narrow key is a field here, a line of [`NARROW`] and a line of [`Exception::over`]: tests hold the three together.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{DenialLog, Exception, Policy, SeccompGroup};
use crate::decision::Mode;
use crate::sockets::SocketWord;

/// Their names, with their tables.
pub static NARROW: [&str; 17] = [
    "mounts.allow",
    "mounts.exec_paths",
    "devices.allow",
    "sysctl.allow",
    "sysctl.memfd_noexec",
    "hooks.allow",
    "cdi.allow",
    "capabilities.allow",
    "memory.mdwe",
    "memory.memfd",
    "memory.shm_exec",
    "memory.ptrace",
    "memory.proc",
    "seccomp.allow",
    "seccomp.sockets",
    "seccomp.log",
    "images.allow",
];

/// `mounts` of an exception.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NarrowMounts {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<PathBuf>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exec_paths: Vec<PathBuf>,
}

/// `sysctl` of an exception.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NarrowSysctl {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memfd_noexec: Option<Mode>,
}

/// `seccomp` of an exception.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NarrowSeccomp {
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<SeccompGroup>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketWord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<DenialLog>,
}

/// A table of an exception that is one list: `devices`, `hooks`, `cdi`, `capabilities`, `images`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allow<T> {
    #[serde(default = "Vec::new", skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<T>,
}

impl<T> Default for Allow<T> {
    fn default() -> Self {
        Self { allow: Vec::new() }
    }
}

impl Exception {
    /// Puts the narrow keys of this exception over the policy's.
    pub(super) fn over(&self, policy: &mut Policy) {
        add(&mut policy.mounts.allow, &self.mounts.allow);
        add(&mut policy.mounts.exec_paths, &self.mounts.exec_paths);
        add(&mut policy.devices.allow, &self.devices.allow);
        add(&mut policy.sysctl.allow, &self.sysctl.allow);
        replace(&mut policy.sysctl.memfd_noexec, self.sysctl.memfd_noexec);
        add(&mut policy.hooks.allow, &self.hooks.allow);
        add(&mut policy.cdi.allow, &self.cdi.allow);
        add(&mut policy.capabilities.allow, &self.capabilities.allow);
        self.memory.over(&mut policy.memory);
        add(&mut policy.seccomp.allow, &self.seccomp.allow);
        add(&mut policy.seccomp.sockets, &self.seccomp.sockets);
        replace(&mut policy.seccomp.log, self.seccomp.log);
        add(&mut policy.images.allow, &self.images.allow);
    }

    /// Tells whether it has any of the narrow keys.
    pub fn has_narrow_keys(&self) -> bool {
        let mut changed = Policy::default();
        self.over(&mut changed);
        // A word may be said that is the default already.
        changed != Policy::default() || self.sysctl.memfd_noexec.is_some() || self.seccomp.log.is_some()
    }
}

/// Adds what is not there yet.
fn add<T: Clone + PartialEq>(list: &mut Vec<T>, more: &[T]) {
    for one in more {
        if !list.contains(one) {
            list.push(one.clone());
        }
    }
}

fn replace<T: Copy>(word: &mut T, other: Option<T>) {
    if let Some(other) = other {
        *word = other;
    }
}

/// Whether there is nothing to write down.
pub(super) fn absent<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::policy::parse;

    /// A value of this key that is not the default.
    pub(in crate::policy) fn sample(key: &str) -> &'static str {
        match key {
            "cdi.allow" => "[\"vendor.com/class\"]",
            "sysctl.allow" => "[\"net.core.somaxconn\"]",
            "sysctl.memfd_noexec" => "\"observe\"",
            "capabilities.allow" => "[\"CAP_SYS_CHROOT\"]",
            "seccomp.allow" => "[\"io_uring\"]",
            "seccomp.sockets" => "[\"vsock\"]",
            key if key.starts_with("memory.") => "\"observe\"",
            "seccomp.log" => "true",
            "images.allow" => "[\"registry.example/*\"]",
            _ => "[\"/narrow\"]",
        }
    }

    /// A policy with one exception that has these lines.
    pub(in crate::policy) fn excepted(lines: &str) -> String {
        format!(
            "lock = true\ncri = \"containerd\"\n[[exception]]\nreason = \"r\"\nmatch = {{ namespace = \"a\" }}\n{lines}\n"
        )
    }

    fn at(policy: &Policy, key: &str) -> Value {
        let value = serde_json::to_value(policy).unwrap();
        value.pointer(&format!("/{}", key.replace('.', "/"))).unwrap().clone()
    }

    #[test]
    fn each_narrow_key_holds_in_an_exception_as_it_does_in_the_policy() {
        for key in NARROW {
            let line = format!("{key} = {}", sample(key));
            let excepting = parse(&excepted(&line)).unwrap();
            let exception = &excepting.exceptions[0];
            assert!(exception.has_narrow_keys(), "{key}");
            let mut policy = excepting.clone();
            exception.over(&mut policy);
            let whole = parse(&format!("lock = true\ncri = \"containerd\"\n{line}\n")).unwrap();
            assert_eq!(at(&policy, key), at(&whole, key), "{key}");
            policy.exceptions.clear();
            assert_eq!(policy, whole, "{key} changes nothing else");
        }
    }

    #[test]
    fn lists_are_added_to() {
        let text = format!(
            "{}\n[devices]\nallow = [\"/dev/fuse\"]\n",
            excepted("devices.allow = [\"/dev/kvm\", \"/dev/fuse\"]")
        );
        let mut policy = parse(&text).unwrap();
        policy.exceptions[0].clone().over(&mut policy);
        assert_eq!(json!(policy.devices.allow), json!(["/dev/fuse", "/dev/kvm"]));
    }

    #[test]
    fn wide_keys_are_none_of_an_exception() {
        for line in [
            "lsm.need = \"best_effort\"",
            "cgroup.max_pids = 1",
            "mounts.kubelet_root = \"/x\"",
            "audit.redact_args = true",
            "holes.max_size = \"1g\"",
            "exec = \"allow\"",
        ] {
            let why = parse(&excepted(line)).unwrap_err();
            assert!(
                why.starts_with("line 6, column ") && why.contains(": unknown field"),
                "{line}: {why}"
            );
        }
    }
}
