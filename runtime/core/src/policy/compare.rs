//! Whether one policy is provably no weaker than another: what `lock = true` asks of `--policy`.
//!
//! The rule is conservative: each key must be as strict or stricter by itself. A file that is stricter in sum but looser in
//! one key is refused, and the message names the key.

use std::path::PathBuf;

use super::{ExecRule, Lock, Need, Policy};
use crate::decision::Mode;
use crate::id::ControlId;
use crate::policy::Level;
use crate::size::Size;

impl Policy {
    /// How this policy is weaker than `base`. None: it is not.
    pub fn weaker_than(&self, base: &Self) -> Option<String> {
        self.scalars_weaker(base)
            .or_else(|| self.lists_longer(base))
            .or_else(|| self.bounds_wider(base))
            .map(|key| format!("`{key}`"))
            .or_else(|| self.controls_weaker(base))
    }

    /// A control's mode before exceptions.
    fn base_mode(&self, id: crate::id::ControlId) -> Mode {
        self.controls
            .get(&id)
            .copied()
            .unwrap_or(if self.level == Level::Permissive {
                Mode::Observe
            } else {
                Mode::Enforce
            })
    }

    fn controls_weaker(&self, base: &Self) -> Option<String> {
        ControlId::ALL
            .into_iter()
            .find(|id| base.base_mode(*id) == Mode::Enforce && self.base_mode(*id) == Mode::Observe)
            .map(|id| format!("control {id} is only observed"))
    }

    fn scalars_weaker(&self, base: &Self) -> Option<&'static str> {
        let required = |need: Need| need == Need::Required;
        let failing = |policy: &Self| policy.audit.on_failure(policy.level);
        [
            ("level", self.level < base.level),
            ("lock", self.lock != Lock::Locked),
            // Another CRI is another trust: whose annotations match exceptions and mounts.
            ("cri", self.cri != base.cri),
            ("exec", base.exec == ExecRule::Deny && self.exec == ExecRule::Allow),
            ("lsm.need", required(base.lsm.need) && !required(self.lsm.need)),
            (
                "landlock.need",
                required(base.landlock.need) && !required(self.landlock.need),
            ),
            ("landlock.min_abi", self.landlock.min_abi < base.landlock.min_abi),
            ("audit.file", self.audit.file != base.audit.file),
            ("audit.on_failure", failing(self) < failing(base)),
            // More is a leak, less is a gap: which of the two is worse is the base's to say.
            ("audit.redact_args", self.audit.redact_args != base.audit.redact_args),
            (
                "sysctl.memfd_noexec",
                base.sysctl.memfd_noexec == Mode::Enforce && self.sysctl.memfd_noexec == Mode::Observe,
            ),
            // Whose folders pods may bind.
            (
                "mounts.kubelet_root",
                self.mounts.kubelet_root != base.mounts.kubelet_root,
            ),
            (
                "mounts.containerd_root",
                self.mounts.containerd_root != base.mounts.containerd_root,
            ),
            (
                "mounts.containerd_state",
                self.mounts.containerd_state != base.mounts.containerd_state,
            ),
        ]
        .into_iter()
        .find_map(|(key, weaker)| weaker.then_some(key))
    }

    fn lists_longer(&self, base: &Self) -> Option<&'static str> {
        let paths = |ours: &[PathBuf], theirs: &[PathBuf]| ours.iter().any(|p| !theirs.contains(p));
        let names = |ours: &[String], theirs: &[String]| ours.iter().any(|p| !theirs.contains(p));
        // An exception that is left out may have been the more specific and stricter one: all or none.
        let exceptions = !self.exceptions.is_empty() && self.exceptions != base.exceptions
            || self.exceptions.is_empty() && base.exceptions.iter().any(|e| e.level > Some(self.level));
        [
            ("mounts.allow", paths(&self.mounts.allow, &base.mounts.allow)),
            (
                "mounts.exec_paths",
                paths(&self.mounts.exec_paths, &base.mounts.exec_paths),
            ),
            ("devices.allow", paths(&self.devices.allow, &base.devices.allow)),
            ("hooks.allow", paths(&self.hooks.allow, &base.hooks.allow)),
            ("sysctl.allow", names(&self.sysctl.allow, &base.sysctl.allow)),
            (
                "capabilities.allow",
                names(&self.capabilities.allow, &base.capabilities.allow),
            ),
            ("exception", exceptions),
        ]
        .into_iter()
        .find_map(|(key, longer)| longer.then_some(key))
    }

    fn bounds_wider(&self, base: &Self) -> Option<&'static str> {
        let (ours, theirs) = (&self.cgroup, &base.cgroup);
        // No bound is the widest.
        let size = |a: Option<Size>, b: Option<Size>| a.map_or(u64::MAX, |s| s.0) > b.map_or(u64::MAX, |s| s.0);
        let quota = |a: Option<u32>, b: Option<u32>| a.unwrap_or(u32::MAX) > b.unwrap_or(u32::MAX);
        [
            ("holes.max_size", self.holes.max_size > base.holes.max_size),
            ("holes.default_size", self.holes.default_size > base.holes.default_size),
            ("holes.max_count", self.holes.max_count > base.holes.max_count),
            ("cgroup.pids", ours.pids > theirs.pids),
            ("cgroup.max_pids", ours.max_pids > theirs.max_pids),
            // Where the base says nothing it is half of the host's memory, which a number here may exceed.
            (
                "cgroup.memory",
                ours.memory != theirs.memory && (theirs.memory.is_none() || size(ours.memory, theirs.memory)),
            ),
            ("cgroup.max_memory", size(ours.max_memory, theirs.max_memory)),
            ("cgroup.cpu_percent", quota(ours.cpu_percent, theirs.cpu_percent)),
            ("rlimits.max_nofile", self.rlimits.max_nofile > base.rlimits.max_nofile),
        ]
        .into_iter()
        .find_map(|(key, wider)| wider.then_some(key))
    }
}

#[cfg(test)]
mod tests {
    use crate::policy::parse;

    fn weaker(ours: &str, base: &str) -> Option<String> {
        let policy = |text: &str| parse(&format!("lock = true\n{text}")).unwrap_or_default();
        policy(ours).weaker_than(&policy(base))
    }

    #[test]
    fn the_same_and_the_stricter_are_no_weaker() {
        for (ours, base) in [
            ("", ""),
            ("level = \"restricted\"", ""),
            ("exec = \"deny\"", ""),
            (
                "[controls]\nlandlock = \"enforce\"",
                "[controls]\nlandlock = \"observe\"",
            ),
            ("[cgroup]\nmax_memory = \"1g\"", ""),
            ("", "[devices]\nallow = [\"/dev/fuse\"]"),
            (
                "",
                "[[exception]]\nreason = \"r\"\nmatch = { namespace = \"a\" }\nlevel = \"permissive\"",
            ),
        ] {
            assert_eq!(weaker(ours, base), None, "{ours} / {base}");
        }
    }

    #[test]
    fn what_is_weaker_in_one_key_is_named() {
        for (ours, base, key) in [
            ("level = \"permissive\"", "", "level"),
            ("[controls]\nlandlock = \"observe\"", "", "landlock"),
            ("[devices]\nallow = [\"/dev/fuse\"]", "", "devices.allow"),
            ("[hooks]\nallow = [\"/opt/hooks\"]", "", "hooks.allow"),
            ("", "exec = \"deny\"", "exec"),
            ("", "[cgroup]\nmax_memory = \"1g\"", "cgroup.max_memory"),
            ("[cgroup]\nmemory = \"64g\"", "", "cgroup.memory"),
            ("cri = \"containerd\"", "", "cri"),
            (
                "[[exception]]\nreason = \"r\"\nmatch = { namespace = \"*\" }\nlevel = \"permissive\"",
                "",
                "exception",
            ),
            (
                "",
                "[[exception]]\nreason = \"r\"\nmatch = { namespace = \"a\" }\nlevel = \"restricted\"",
                "exception",
            ),
        ] {
            let how = weaker(ours, base);
            assert!(
                how.as_ref().is_some_and(|h| h.contains(key)),
                "{ours} / {base}: {how:?}"
            );
        }
    }
}
