//! Whether one policy is provably no weaker than another: what `lock = true` asks of `--policy`.
//!
//! The rule is conservative: each key must be as strict or stricter by itself. A file that is stricter in sum but looser in
//! one key is refused, and the message names the key.
//!
//! What levels, controls and exceptions come to is compared as it holds for requests, not as it is written: for whichever exception
//! (or none) governs a request under the one file, and whichever under the other, and whatever level the workload asks for. Where both
//! files match the same pods in the same order the two are the same one; else any two may meet.

use super::{Exception, ExecRule, Lock, Need, Policy, RepeatedExec};
use crate::decision::Mode;
use crate::id::ControlId;
use crate::policy::Level;
use crate::size::Size;

/// What a workload's annotation may ask for; nothing, where it says nothing.
const ASKED: [Option<Level>; 3] = [None, Some(Level::Hardened), Some(Level::Restricted)];

impl Policy {
    /// How this policy is weaker than `base`. None: it is not.
    pub fn weaker_than(&self, base: &Self) -> Option<String> {
        self.scalars_weaker(base)
            .or_else(|| self.bounds_wider(base))
            .map(|key| format!("`{key}`"))
            .or_else(|| self.holds_less(base))
    }

    /// Whether less holds under this policy than under `base`, for any request that there may be.
    fn holds_less(&self, base: &Self) -> Option<String> {
        self.meetings(base).into_iter().find_map(|(ours, theirs)| {
            let weaker = ASKED
                .into_iter()
                .find_map(|asked| self.weaker_under(ours, base, theirs, asked))?;
            Some(match ours.or(theirs) {
                Some(exception) => format!("`exception` ({}): {weaker}", exception.reason),
                None => weaker,
            })
        })
    }

    /// Which exception of ours, or none, may govern a request together with which one of the base's.
    fn meetings<'a>(&'a self, base: &'a Self) -> Vec<(Option<&'a Exception>, Option<&'a Exception>)> {
        let (ours, theirs) = (&self.exceptions, &base.exceptions);
        let matches = |list: &'a [Exception]| list.iter().map(|e| &e.matches);
        if matches(ours).eq(matches(theirs)) {
            let same = ours.iter().zip(theirs).map(|(a, b)| (Some(a), Some(b)));
            return std::iter::once((None, None)).chain(same).collect();
        }
        let each = |list: &'a [Exception]| std::iter::once(None).chain(list.iter().map(Some));
        each(ours).flat_map(|a| each(theirs).map(move |b| (a, b))).collect()
    }

    /// What is weaker where these two exceptions govern and the workload asks for this level.
    fn weaker_under(
        &self,
        ours: Option<&Exception>,
        base: &Self,
        theirs: Option<&Exception>,
        asked: Option<Level>,
    ) -> Option<String> {
        let (own_level, base_level) = (self.level_under(ours, asked), base.level_under(theirs, asked));
        if own_level < base_level {
            return Some(format!("level {own_level} is below {base_level}"));
        }
        let failing = |policy: &Self, level| policy.audit.on_failure(level);
        if failing(self, own_level) < failing(base, base_level) {
            return Some("`audit.on_failure` is \"warn\"".to_owned());
        }
        if let Some(key) = self.under(ours).narrow_weaker(&base.under(theirs)) {
            return Some(format!("`{key}`"));
        }
        let (memory, base_memory) = (self.under(ours).into_owned().memory, &base.under(theirs).memory);
        if let Some(rule) = memory.weaker(own_level, base_memory, base_level) {
            return Some(format!("`{}`", rule.key()));
        }
        let weaker = ControlId::ALL.into_iter().find(|id| {
            base.mode_under(theirs, base_level, *id) == Mode::Enforce
                && self.mode_under(ours, own_level, *id) == Mode::Observe
        });
        weaker.map(|id| format!("control {id} is only observed"))
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
            ("memory.need", required(base.memory.need) && !required(self.memory.need)),
            ("landlock.min_abi", self.landlock.min_abi < base.landlock.min_abi),
            ("audit.file", self.audit.file != base.audit.file),
            ("audit.on_failure", failing(self) < failing(base)),
            // More is a leak, less is a gap: which of the two is worse is the base's to say.
            ("audit.redact_args", self.audit.redact_args != base.audit.redact_args),
            // Fewer records are kept, for a shorter time, or pushed out sooner.
            ("audit.max_size", self.audit.max_size < base.audit.max_size),
            ("audit.files", self.audit.files < base.audit.files),
            ("audit.keep_days", self.audit.keep_days < base.audit.keep_days),
            // Who may read it, when a new file begins and where the head is: the base's to say.
            ("audit.rotate_days", self.audit.rotate_days != base.audit.rotate_days),
            ("audit.mode", self.audit.mode != base.audit.mode),
            ("audit.group", self.audit.group != base.audit.group),
            ("audit.head", self.audit.head != base.audit.head),
            (
                "audit.repeated_exec",
                base.audit.repeated_exec == RepeatedExec::Write && self.audit.repeated_exec == RepeatedExec::Count,
            ),
            (
                "audit.anchors",
                base.audit
                    .anchors
                    .iter()
                    .any(|anchor| !self.audit.anchors.contains(anchor)),
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

    /// The narrow keys, which differ from exception to exception.
    fn narrow_weaker(&self, base: &Self) -> Option<&'static str> {
        fn longer<T: PartialEq>(ours: &[T], theirs: &[T]) -> bool {
            ours.iter().any(|one| !theirs.contains(one))
        }
        let (images, known) = (&self.images.allow, &base.images.allow);
        [
            ("mounts.allow", longer(&self.mounts.allow, &base.mounts.allow)),
            (
                "mounts.exec_paths",
                longer(&self.mounts.exec_paths, &base.mounts.exec_paths),
            ),
            ("devices.allow", longer(&self.devices.allow, &base.devices.allow)),
            ("hooks.allow", longer(&self.hooks.allow, &base.hooks.allow)),
            ("cdi.allow", longer(&self.cdi.allow, &base.cdi.allow)),
            ("sysctl.allow", longer(&self.sysctl.allow, &base.sysctl.allow)),
            (
                "sysctl.memfd_noexec",
                base.sysctl.memfd_noexec == Mode::Enforce && self.sysctl.memfd_noexec == Mode::Observe,
            ),
            (
                "capabilities.allow",
                longer(&self.capabilities.allow, &base.capabilities.allow),
            ),
            ("seccomp.allow", longer(&self.seccomp.allow, &base.seccomp.allow)),
            ("seccomp.sockets", longer(&self.seccomp.sockets, &base.seccomp.sockets)),
            // A workload can fill the host's log by it.
            ("seccomp.log", base.seccomp.log.is_off() && !self.seccomp.log.is_off()),
            // No list is no bound.
            (
                "images.allow",
                !known.is_empty() && (images.is_empty() || longer(images, known)),
            ),
        ]
        .into_iter()
        .find_map(|(key, weaker)| weaker.then_some(key))
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
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::policy::narrow::NARROW;
    use crate::policy::narrow::tests::{excepted, sample};
    use crate::policy::{Cri, parse};
    use crate::testing::Case;

    /// A policy of each shape that a few values of the keys make: level, one control, up to two exceptions.
    fn universe() -> Vec<Policy> {
        let exception = |namespace: &str| -> Vec<String> {
            let mut made = Vec::new();
            for level in ["", "level = \"permissive\"", "level = \"restricted\""] {
                for loosen in ["", "loosen = [\"seccomp\"]"] {
                    made.push(format!(
                        "[[exception]]\nreason = \"r\"\nmatch = {{ namespace = \"{namespace}\" }}\n{level}\n{loosen}\n"
                    ));
                }
            }
            made
        };
        let (named, any) = (exception("a"), exception("*"));
        let mut lists = vec![String::new()];
        lists.extend(named.iter().chain(&any).cloned());
        lists.extend(named.iter().flat_map(|a| any.iter().map(move |b| format!("{a}{b}"))));
        let mut policies = Vec::new();
        for level in ["permissive", "hardened"] {
            for control in [
                "",
                "[controls]\nseccomp = \"observe\"",
                "[controls]\nseccomp = \"enforce\"",
            ] {
                for list in &lists {
                    let text = format!("level = \"{level}\"\nlock = true\ncri = \"containerd\"\n{control}\n{list}");
                    policies.push(parse(&text).unwrap());
                }
            }
        }
        policies
    }

    /// Requests: of no pod, of one that exceptions name and of one that they do not, each asking for each level.
    fn requests() -> Vec<Case> {
        let mut requests = Vec::new();
        for namespace in [None, Some("a"), Some("b")] {
            for asked in ASKED {
                let mut annotations = json!({});
                if let Some(namespace) = namespace {
                    annotations = json!({
                        "io.kubernetes.cri.container-type": "container", "io.kubernetes.cri.sandbox-id": "s",
                        "io.kubernetes.cri.sandbox-namespace": namespace, "io.kubernetes.cri.sandbox-name": "n",
                        "io.kubernetes.cri.sandbox-uid": "u"});
                }
                if let Some(level) = asked {
                    annotations["dev.gabion.level"] = level.as_str().into();
                }
                requests.push(Case::new().with("/annotations", annotations).called_by(Cri::Containerd));
            }
        }
        requests
    }

    #[test]
    fn what_is_called_no_weaker_holds_as_much_for_every_request() {
        let (policies, requests) = (universe(), requests());
        let holds: Vec<Vec<(Level, Vec<Mode>)>> = policies
            .iter()
            .map(|policy| {
                let of = |case: &Case| {
                    let effective = policy.effective(&case.request(), &case.host, "d");
                    let modes = [ControlId::Seccomp, ControlId::Mounts].map(|id| effective.mode(id));
                    (effective.level, modes.to_vec())
                };
                requests.iter().map(of).collect()
            })
            .collect();
        let less = |ours: &(Level, Vec<Mode>), theirs: &(Level, Vec<Mode>)| {
            let observed = |(a, b): (&Mode, &Mode)| *a == Mode::Observe && *b == Mode::Enforce;
            ours.0 < theirs.0 || ours.1.iter().zip(&theirs.1).any(observed)
        };
        let (mut accepted, mut others) = (0, 0);
        for (i, ours) in policies.iter().enumerate() {
            for (j, base) in policies.iter().enumerate() {
                let weaker = holds[i].iter().zip(&holds[j]).any(|(a, b)| less(a, b));
                if ours.weaker_than(base).is_none() {
                    assert!(!weaker, "{ours:#?} is called no weaker than {base:#?}");
                    accepted += 1;
                } else if !weaker {
                    others += 1;
                }
            }
            assert_eq!(ours.weaker_than(ours), None, "{ours:#?}");
        }
        // Conservative, and yet of use: most of what is no weaker is seen to be none.
        assert!(
            accepted > policies.len() && accepted > others,
            "{accepted} accepted, {others} more could be"
        );
    }

    #[test]
    fn what_an_annotation_asks_for_counts() {
        // At level restricted the base starts nothing without its record; this one would.
        let failing = weaker("[audit]\non_failure = \"warn\"", "");
        assert!(failing.is_some_and(|how| how.contains("audit.on_failure")));
        // And an explicit `observe` stays one where the base's level would rise.
        let observed = weaker(
            "level = \"permissive\"\n[controls]\nseccomp = \"observe\"",
            "level = \"permissive\"",
        );
        assert!(observed.is_some_and(|how| how.contains("seccomp")));
    }

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
            // The same exceptions, and one that is stricter than it was.
            (
                "[[exception]]\nreason = \"s\"\nmatch = { namespace = \"a\" }\nlevel = \"hardened\"",
                "[[exception]]\nreason = \"r\"\nmatch = { namespace = \"a\" }\nlevel = \"permissive\"",
            ),
        ] {
            assert_eq!(weaker(ours, base), None, "{ours} / {base}");
        }
    }

    #[test]
    fn every_narrow_key_is_compared_after_exceptions() {
        let lock = |text: &str| parse(&format!("lock = true\ncri = \"containerd\"\n{text}\n")).unwrap();
        for key in NARROW {
            let line = format!("{key} = {}", sample(key));
            let (with, without) = (parse(&excepted(&line)).unwrap(), parse(&excepted("")).unwrap());
            let (loose, tight) = if key == "images.allow" {
                // A list of images is a bound, and no list is none.
                (&without, &with)
            } else {
                (&with, &without)
            };
            let how = loose.weaker_than(tight).unwrap();
            assert!(how.contains(key) && how.contains("exception"), "{key}: {how}");
            assert_eq!(tight.weaker_than(loose), None, "{key}");
            assert_eq!(with.weaker_than(&with), None, "{key}");
            if key == "images.allow" {
                continue;
            }
            // The same for every container, as the base has it: an exception says nothing new.
            let whole = lock(&format!(
                "{line}\n[[exception]]\nreason = \"r\"\nmatch = {{ namespace = \"a\" }}"
            ));
            assert_eq!(with.weaker_than(&whole), None, "{key}");
            assert!(whole.weaker_than(&with).is_some_and(|how| how.contains(key)), "{key}");
            // For other pods.
            let other = parse(&excepted(&line).replace("\"a\"", "\"b\"")).unwrap();
            assert!(other.weaker_than(&with).is_some_and(|how| how.contains(key)), "{key}");
        }
    }

    #[test]
    fn what_is_weaker_in_one_key_is_named() {
        for (ours, base, key) in [
            ("level = \"permissive\"", "", "level"),
            ("[controls]\nlandlock = \"observe\"", "", "landlock"),
            ("[devices]\nallow = [\"/dev/fuse\"]", "", "devices.allow"),
            ("[hooks]\nallow = [\"/opt/hooks\"]", "", "hooks.allow"),
            ("[cdi]\nallow = [\"vendor.com/class\"]", "", "cdi.allow"),
            ("[seccomp]\nsockets = [\"vsock\"]", "", "seccomp.sockets"),
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
            // The base holds a control on whatever its exception's level is; this one lets it go with the level.
            (
                "[[exception]]\nreason = \"r\"\nmatch = { namespace = \"a\" }\nlevel = \"permissive\"",
                "[controls]\nseccomp = \"enforce\"\n[[exception]]\nreason = \"r\"\nmatch = { namespace = \"a\" }\nlevel = \"permissive\"",
                "seccomp",
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
