//! What of a policy cannot work on one machine, from facts that were looked up there. `policy validate --host` asks it; a policy of many machines is
//! validated without.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::narrow::NARROW;
use super::sense::{BOUNDS, Bound, Fault, runs_anything};
use super::validate::Problem;
use super::{Cri, Need, Policy, SeccompGroup};
use crate::capability;

/// What a path of the policy is on the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum At {
    Missing,
    /// There may be something, and this caller may not look.
    Unseen,
    Directory,
    Device,
    /// A file that can be executed, and where its name leads to.
    Program(PathBuf),
    Other,
}

/// What there is to be looked up for a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Questions {
    pub paths: BTreeSet<PathBuf>,
    pub sysctls: BTreeSet<String>,
}

/// The answers of one machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Here {
    pub paths: BTreeMap<PathBuf, At>,
    /// Those that the kernel has.
    pub sysctls: BTreeSet<String>,
    /// 0: none.
    pub landlock_abi: u32,
    /// Whether AppArmor or SELinux is there.
    pub lsm: bool,
    /// The number of the kernel's last capability, where it says so.
    pub last_capability: Option<usize>,
    /// Whether the machine has io_uring switched off, and user namespaces.
    pub no_io_uring: bool,
    pub no_user_namespaces: bool,
}

/// Where a key's entries lie.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tree,
    Device,
    Hook,
    /// Where an engine keeps what is a pod's: of interest where the policy trusts one.
    Engine,
}

fn kind(key: &str) -> Option<Kind> {
    match key {
        "mounts.allow" => Some(Kind::Tree),
        "devices.allow" => Some(Kind::Device),
        "hooks.allow" => Some(Kind::Hook),
        "mounts.kubelet_root" | "mounts.containerd_root" | "mounts.containerd_state" => Some(Kind::Engine),
        // exec_paths are the container's.
        _ => None,
    }
}

/// The policy's own keys, and each exception's alone.
fn parts(policy: &Policy) -> Vec<(Option<usize>, Policy)> {
    let mut all = vec![(None, policy.clone())];
    for (index, exception) in policy.exceptions.iter().enumerate() {
        let mut own = Policy {
            cri: policy.cri,
            ..Policy::default()
        };
        exception.over(&mut own);
        all.push((Some(index), own));
    }
    all
}

/// Gives each key of a part that names paths, with them.
fn paths(part: Option<usize>, policy: &Policy) -> Vec<(&'static str, Kind, PathBuf)> {
    let mut found = Vec::new();
    for (key, bound) in &BOUNDS {
        let (Some(kind), Bound::Paths(of) | Bound::Hooks(of)) = (kind(key), bound) else {
            continue;
        };
        let asked = part.is_none() || NARROW.contains(key);
        let trusted = kind != Kind::Engine || (policy.cri == Cri::Containerd);
        if asked && trusted {
            found.extend(of(policy).into_iter().map(|path| (*key, kind, path.to_owned())));
        }
    }
    found
}

/// A sysctl of one interface is there for every interface, and a container has others than the machine.
fn for_any_interface(name: &str) -> String {
    let mut parts: Vec<&str> = name.split('.').collect();
    if let ["net", _, "conf" | "neigh", interface, _] = parts.as_mut_slice() {
        *interface = "default";
    }
    parts.join(".")
}

/// Says what has to be looked up.
pub fn questions(policy: &Policy) -> Questions {
    let mut asked = Questions::default();
    for (part, own) in parts(policy) {
        asked
            .paths
            .extend(paths(part, &own).into_iter().map(|(_, _, path)| path));
        asked
            .sysctls
            .extend(own.sysctl.allow.iter().map(|name| for_any_interface(name)));
    }
    asked
}

/// Gives what cannot work here, with its place in the text.
pub fn judge(policy: &Policy, text: &str, here: &Here) -> Vec<Problem> {
    let mut faults = Vec::new();
    for (part, own) in parts(policy) {
        let before = faults.len();
        for (key, kind, path) in paths(part, &own) {
            if let Some(what) = of_path(kind, &path, here) {
                faults.push(Fault::warning(key, path.to_str().map(str::to_owned), what));
            }
        }
        of_names(&own, here, &mut faults);
        if part.is_none() {
            of_kernel(&own, here, &mut faults);
        }
        for fault in faults.iter_mut().skip(before) {
            fault.exception = part;
        }
    }
    let mut problems: Vec<Problem> = faults.into_iter().map(|fault| Problem::of(fault, text)).collect();
    problems.sort_by_key(|p| (p.line, p.column));
    problems
}

fn of_path(kind: Kind, path: &Path, here: &Here) -> Option<String> {
    let shown = path.display();
    match (here.paths.get(path)?, kind) {
        (At::Missing, Kind::Engine) => Some(format!(
            "{shown} is not there on this host: no pod's own files lie there"
        )),
        (At::Missing, _) => Some(format!("{shown} is not there on this host")),
        (At::Program(real), Kind::Hook) if !runs_anything(path) && runs_anything(real) => Some(format!(
            "{shown} is {} on this host, which runs whatever its arguments name",
            real.display()
        )),
        (At::Device | At::Other, Kind::Hook) => Some(format!("{shown} is no program on this host")),
        (At::Program(_) | At::Other, Kind::Device) if !path.starts_with("/sys/class/net") => {
            Some(format!("{shown} is no device on this host"))
        }
        (At::Program(_) | At::Other | At::Device, Kind::Engine) => {
            Some(format!("{shown} is no directory on this host"))
        }
        _ => None,
    }
}

fn of_names(own: &Policy, here: &Here, faults: &mut Vec<Fault>) {
    for name in &own.sysctl.allow {
        if !here.sysctls.contains(&for_any_interface(name)) {
            let what = format!("{name}: this kernel has no such sysctl, or its module is not loaded");
            faults.push(Fault::warning("sysctl.allow", Some(name.clone()), what));
        }
    }
    for name in &own.capabilities.allow {
        let bare = name.strip_prefix("CAP_").unwrap_or(name);
        let number = capability::NAMES.iter().position(|known| *known == bare);
        if number
            .zip(here.last_capability)
            .is_some_and(|(number, last)| number > last)
        {
            let what = format!("{name}: this kernel has no such capability");
            faults.push(Fault::warning("capabilities.allow", Some(name.clone()), what));
        }
    }
    for (group, off, word, switch) in [
        (
            SeccompGroup::IoUring,
            here.no_io_uring,
            "io_uring",
            "kernel.io_uring_disabled",
        ),
        (
            SeccompGroup::Userns,
            here.no_user_namespaces,
            "userns",
            "user.max_user_namespaces",
        ),
    ] {
        if off && own.seccomp.allow.contains(&group) {
            let what = format!("{word}: this host has it switched off by {switch}");
            faults.push(Fault::warning("seccomp.allow", Some(word.to_owned()), what));
        }
    }
}

fn of_kernel(policy: &Policy, here: &Here, faults: &mut Vec<Fault>) {
    let (wanted, has) = (policy.landlock.min_abi, here.landlock_abi);
    let required = policy.landlock.need == Need::Required;
    if has < wanted && (required || wanted > 1) {
        let then = if required {
            "no container would start"
        } else {
            "every container would run without Landlock"
        };
        let what = format!("{wanted} is beyond this kernel, which has Landlock ABI {has}: {then}");
        faults.push(Fault::warning("landlock.min_abi", None, what));
    }
    if policy.lsm.need == Need::Required && !here.lsm {
        let what = "this host has neither AppArmor nor SELinux: no container would start".to_owned();
        faults.push(Fault::warning("lsm.need", None, what));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::parse;

    fn said(text: &str, here: &Here) -> Vec<String> {
        judge(&parse(text).unwrap(), text, here)
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    fn here() -> Here {
        let at = |path: &str, at: At| (PathBuf::from(path), at);
        Here {
            paths: [
                at("/srv/gone", At::Missing),
                at("/srv/data", At::Directory),
                at("/root/x", At::Unseen),
                at("/dev/fuse", At::Device),
                at("/etc/hosts", At::Other),
                at("/opt/hook", At::Program("/opt/hook".into())),
                at("/opt/sly", At::Program("/usr/bin/busybox".into())),
                at("/var/lib/kubelet", At::Directory),
                at("/var/lib/containerd", At::Directory),
                at("/run/containerd", At::Missing),
            ]
            .into(),
            sysctls: ["net.core.somaxconn", "net.ipv4.conf.default.rp_filter"]
                .map(str::to_owned)
                .into(),
            landlock_abi: 4,
            lsm: false,
            last_capability: Some(38),
            no_io_uring: true,
            no_user_namespaces: false,
        }
    }

    #[test]
    fn what_this_machine_has_not_is_named_with_its_place() {
        for (text, want) in [
            (
                "[mounts]\nallow = [\"/srv/data\", \"/srv/gone\"]",
                "2:23: warning: `mounts.allow`: /srv/gone is not there on this host",
            ),
            (
                "[devices]\nallow = [\"/dev/fuse\", \"/etc/hosts\"]",
                "2:23: warning: `devices.allow`: /etc/hosts is no device",
            ),
            (
                "[hooks]\nallow = [\"/etc/hosts\"]",
                "2:10: warning: `hooks.allow`: /etc/hosts is no program",
            ),
            (
                "[hooks]\nallow = [\"/opt/sly\"]",
                "/opt/sly is /usr/bin/busybox on this host, which runs whatever",
            ),
            (
                "[sysctl]\nallow = [\"net.core.somaxconn\", \"net.core.sommaxconn\"]",
                "2:32: warning: `sysctl.allow`: net.core.sommaxconn: this kernel has no such",
            ),
            (
                "[capabilities]\nallow = [\"CAP_SYSLOG\", \"CAP_BPF\"]",
                "2:24: warning: `capabilities.allow`: CAP_BPF: this kernel",
            ),
            (
                "[seccomp]\nallow = [\"userns\", \"io_uring\"]",
                "2:20: warning: `seccomp.allow`: io_uring: this host has it switched off",
            ),
            (
                "[landlock]\nmin_abi = 6",
                "2:11: warning: `landlock.min_abi`: 6 is beyond this kernel, which has Landlock ABI 4: every container would run without",
            ),
            (
                "[landlock]\nneed = \"required\"\nmin_abi = 6",
                "3:11: warning: `landlock.min_abi`: 6 is beyond this kernel, which has Landlock ABI 4: no container",
            ),
            (
                "[lsm]\nneed = \"required\"",
                "2:8: warning: `lsm.need`: this host has neither",
            ),
            ("cri = \"containerd\"", "/run/containerd is not there on this host"),
            (
                "cri = \"containerd\"\n[mounts]\ncontainerd_state = \"/run/containerd\"\n[[exception]]\nreason = \"r\"\nmatch.namespace = \"n\"\nmounts.allow = [\"/srv/gone\"]",
                "7:17: warning: `exception.mounts.allow`: /srv/gone is not there on this host",
            ),
        ] {
            let said = said(text, &here());
            assert!(said.iter().any(|line| line.contains(want)), "{text}: {said:#?}");
        }
    }

    #[test]
    fn what_it_has_is_not_spoken_of_and_another_machine_is_not_asked() {
        let text = "[mounts]\nallow = [\"/srv/data\", \"/root/x\"]\nexec_paths = [\"/of/the/container\"]\n[devices]\nallow = [\"/dev/fuse\", \"/srv/data\"]\n\
                    [hooks]\nallow = [\"/opt/hook\", \"/srv/data\"]\n[sysctl]\nallow = [\"net.core.somaxconn\", \"net.ipv4.conf.eth7.rp_filter\"]\n\
                    [seccomp]\nallow = [\"userns\"]\n[landlock]\nmin_abi = 4\n[capabilities]\nallow = [\"CAP_SYSLOG\"]\n";
        assert_eq!(said(text, &here()), [""; 0]);
        assert_eq!(
            said(
                "",
                &Here {
                    lsm: false,
                    ..Here::default()
                }
            ),
            [""; 0]
        );
        let asked = questions(&parse(text).unwrap());
        assert!(!asked.paths.contains(Path::new("/of/the/container")));
        assert!(asked.sysctls.contains("net.ipv4.conf.default.rp_filter"));
    }
}
