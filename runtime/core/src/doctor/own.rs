//! gabion itself: its policy, its log, its programs, and the volumes that it mounts.

use super::node::{Executes, Keeps, Log, Node, Owned, PolicyFile, Program, Seen};
use super::{Check, Found, containerd, seen};
use crate::decision::Mode;
use crate::policy::{AuditPolicy, Level, Lock};
use crate::size::in_words;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "policy",
        reason: "what the policy lets off is let off for every container that it governs",
        refs: &["docs/POLICY.md"],
        remedy: "loosen for one container and not for all: an [[exception]] or a second name; gabion policy validate FILE names every error",
        look: policy,
    },
    Check {
        id: "policy-lock",
        reason: "whoever calls the runtime may lower the level by a flag, or name another policy",
        refs: &["docs/POLICY.md#whose-word"],
        remedy: "lock = true in /etc/gabion/policy.toml",
        look: lock,
    },
    Check {
        id: "audit-log",
        reason: "what happened to containers is not written down, or others can change or read it",
        refs: &["CIS Docker 1.1.3", "NIST SP 800-190 4.4.4", "docs/AUDIT.md"],
        remedy: "make the log's directory root's, of mode 0750 or less, on a disk with room for its files",
        look: log,
    },
    Check {
        id: "kubelet-noexec",
        reason: "volumes of pods are on a file system that executes; gabion mounts writable ones noexec, other runtimes do not",
        refs: &["CIS Docker 1.1.1", "docs/CONTROLS.md#mounts"],
        remedy: "put the kubelet's root on a file system of its own, mounted noexec,nosuid,nodev",
        look: kubelet,
    },
    Check {
        id: "shim",
        reason: "containerd starts the shim as root: without it no pod of gabion's starts, and whoever can exchange it is root",
        refs: &["docs/INSTALL.md#containerd"],
        remedy: "hack/install --containerd; or runtime_path in the handler, with the whole path of containerd-shim-gabion-v2",
        look: shim,
    },
    Check {
        id: "programs",
        reason: "engines start gabion as root: whoever can exchange it is root",
        refs: &["NIST SP 800-190 4.5.5", "docs/INSTALL.md"],
        remedy: "chown root:root and chmod go-w on the programs",
        look: programs,
    },
];

fn policy(node: &Node) -> Found {
    let each = node.policies.iter().map(of_policy).collect();
    Found::gravest(each, Found::unknown("nobody looked at the policy"))
}

fn of_policy(file: &PolicyFile) -> Found {
    let source = &file.source;
    let policy = match &file.policy {
        Ok(policy) => policy,
        Err(why) => return Found::weak(format!("{source}: {why}: nothing starts by it")),
    };
    let mut lets_off = Vec::new();
    if policy.level == Level::Permissive {
        lets_off.push("level = \"permissive\"".to_owned());
    }
    let observed = policy.controls.iter().filter(|(_, mode)| **mode == Mode::Observe);
    lets_off.extend(observed.map(|(control, _)| format!("{control} = \"observe\"")));
    if policy.sysctl.memfd_noexec == Mode::Observe {
        lets_off.push("sysctl.memfd_noexec = \"observe\"".to_owned());
    }
    if !lets_off.is_empty() {
        return Found::weak(format!("{source}: {}", lets_off.join(", ")));
    }
    match file.expired.as_slice() {
        [] => Found::good(format!("{source}: {}", policy.level)),
        past => Found::advice(format!("{source}: exceptions are past their day: {}", past.join(", ")))
            .remedy("take them out of the file: they count as absent"),
    }
}

fn lock(node: &Node) -> Found {
    let Some(first) = node.policies.first() else {
        return Found::unknown("nobody looked at the policy");
    };
    match &first.policy {
        Ok(policy) if policy.lock == Lock::Locked => Found::good(format!("{} is locked", first.source)),
        Ok(_) => Found::advice(format!("{} is not locked", first.source)),
        Err(why) => Found::unknown(format!("{}: {why}", first.source)),
    }
}

/// What the log's files take at most, by the machine's policy.
fn room(node: &Node) -> u64 {
    let built_in = AuditPolicy::default();
    let policy = node.policies.first().and_then(|file| file.policy.as_ref().ok());
    let audit = policy.map_or(&built_in, |policy| &policy.audit);
    audit.max_size.0.saturating_mul(u64::from(audit.files) + 1)
}

fn log(node: &Node) -> Found {
    let (log, room) = (&node.log, room(node));
    let place = log.file.display();
    let mut found = Vec::new();
    match &log.directory {
        Seen::Is(owned) if owned.uid != 0 && owned.uid != log.reader => found.push(Found::weak(format!(
            "the directory of {place} belongs to uid {}",
            owned.uid
        ))),
        Seen::Is(owned) if owned.mode & 0o022 != 0 => {
            found.push(Found::weak(format!(
                "others can write to the directory of {place} (mode {:04o})",
                owned.mode
            )));
        }
        Seen::Is(_) => found.push(Found::good(place.to_string())),
        Seen::Absent => return Found::good(format!("{place} is made with the first container")),
        Seen::Unknown(why) => return Found::unknown(why.clone()),
    }
    match &log.log {
        Seen::Is(owned) => found.extend(of_file(log, *owned)),
        Seen::Absent => {}
        Seen::Unknown(why) => found.push(Found::unknown(why.clone())),
    }
    match &log.keeps {
        Seen::Is(Keeps::UntilBoot) => {
            found.push(Found::weak(format!("{place} is on a tmpfs: it is gone after a boot")));
        }
        Seen::Is(Keeps::Yes) | Seen::Absent => {}
        Seen::Unknown(why) => found.push(Found::unknown(why.clone())),
    }
    match &log.free {
        Seen::Is(free) if *free < room => found.push(Found::weak(format!(
            "{} are free where {place} lies, and its files may take {}",
            in_words(*free),
            in_words(room)
        ))),
        Seen::Is(_) | Seen::Absent => {}
        Seen::Unknown(why) => found.push(Found::unknown(why.clone())),
    }
    Found::gravest(found, Found::unknown("nobody looked at the log"))
}

fn of_file(log: &Log, owned: Owned) -> Option<Found> {
    let path = log.file.display();
    if owned.uid != 0 && owned.uid != log.reader {
        return Some(Found::weak(format!("{path} belongs to uid {}", owned.uid)));
    }
    if owned.mode & 0o022 != 0 {
        return Some(Found::weak(format!(
            "others can write to {path} (mode {:04o})",
            owned.mode
        )));
    }
    let read = owned.mode & 0o004 != 0;
    read.then(|| {
        Found::weak(format!(
            "everybody can read {path} (mode {:04o}): arguments may hold secrets",
            owned.mode
        ))
    })
}

fn kubelet(node: &Node) -> Found {
    match seen!(&node.kubelet, Found::absent("there is no kubelet")) {
        Executes::No => Found::good("noexec"),
        Executes::Yes => Found::advice("not noexec"),
    }
}

fn exchangeable(program: &Program) -> Option<Found> {
    (!program.owned.is_roots()).then(|| {
        Found::weak(format!(
            "{} can be exchanged by others than root (uid {}, mode {:04o})",
            program.path.display(),
            program.owned.uid,
            program.owned.mode
        ))
        .remedy(format!("chown root:root {0}; chmod go-w {0}", program.path.display()))
    })
}

/// Whether a handler of containerd's leads to the shim; where its configuration cannot be read, it may.
fn pods_need_it(node: &Node) -> bool {
    match &node.containerd {
        Seen::Is(files) => {
            let config = containerd::read(files.iter().map(|(path, text)| (path.as_path(), text.as_str())));
            config.map_or(true, |config| !config.handlers.is_empty())
        }
        Seen::Absent => false,
        Seen::Unknown(_) => true,
    }
}

fn shim(node: &Node) -> Found {
    match &node.shim {
        Seen::Is(program) => exchangeable(program).unwrap_or_else(|| Found::good(program.path.display().to_string())),
        Seen::Absent if pods_need_it(node) => {
            Found::weak("a handler of containerd's leads to it, and it is not where a service finds it")
        }
        Seen::Absent => Found::absent("no handler of containerd's leads to it"),
        Seen::Unknown(why) => Found::unknown(why.clone()),
    }
}

fn programs(node: &Node) -> Found {
    let each = node.programs.iter().map(|(name, program)| match program {
        Seen::Is(program) => exchangeable(program).unwrap_or_else(|| Found::good(program.path.display().to_string())),
        Seen::Absent => Found::absent(format!("{name} is not where a service finds it")),
        Seen::Unknown(why) => Found::unknown(format!("{name}: {why}")),
    });
    Found::gravest(each.collect(), Found::unknown("nobody looked at gabion's programs"))
}
