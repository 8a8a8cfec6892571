//! What unit tests start from: a request as `runc spec` writes it, the built-in policy and an ordinary host.

#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    clippy::new_without_default,
    reason = "for tests: a panic tells enough"
)]

use std::collections::BTreeSet;

use oci_spec::runtime::{Process, Spec};
use serde_json::{Value, json};

use crate::control::{self, Context, Control};
use crate::decision::{Change, Decision, Verdict};
use crate::hardened::{Draft, Hardened, Plan};
use crate::host::{CriFiles, Host, MadeByCri, Mdwe, SwapAccounting};
use crate::id::ControlId;
use crate::policy::{Cri, Effective, Level, Policy, Vouched};
use crate::request::{CRI_NAMESPACE, Channel, Leave, Request};

/// The parts of a `Context`, free to be changed by a test.
#[derive(Clone, Debug)]
pub struct Case {
    pub json: Value,
    pub policy: Effective,
    pub host: Host,
    pub channel: Channel,
}

impl Case {
    pub fn new() -> Self {
        Self {
            json: base_spec(),
            policy: effective(Level::Hardened),
            host: host(),
            channel: Channel::Direct,
        }
    }

    /// As if this CRI had called, and the host had what it makes: its annotations name the pod.
    pub fn called_by(mut self, cri: Cri) -> Self {
        self.policy.policy.cri = cri;
        (self.channel, self.host.cri) = door_of(cri);
        self
    }

    pub fn level(mut self, level: Level) -> Self {
        self.policy.level = level;
        self
    }

    /// Sets a value of config.json by JSON pointer; missing objects on the way are made.
    pub fn with(mut self, pointer: &str, value: Value) -> Self {
        let mut at = &mut self.json;
        for key in pointer.trim_start_matches('/').split('/') {
            let key = key.replace("~1", "/");
            if at.is_null() {
                *at = json!({});
            }
            at = if at.is_array() {
                &mut at[key.parse::<usize>().unwrap()]
            } else {
                &mut at[key]
            };
        }
        *at = value;
        self
    }

    pub fn request(&self) -> Request {
        let spec: Spec = serde_json::from_value(self.json.clone()).unwrap();
        Request {
            id: "web1".parse().unwrap(),
            bundle: "/bundle".into(),
            spec,
            channel: self.channel.clone(),
            leave: Leave::default(),
            odd: Vec::new(),
        }
    }

    /// Runs this one control over the request.
    pub fn decide(&self, control: &dyn Control) -> (Draft, Decision) {
        let request = self.request();
        let policy = Effective {
            cri: self.policy.policy.vouched(&request, &self.host),
            ..self.policy.clone()
        };
        let cx = Context {
            request: &request,
            policy: &policy,
            host: &self.host,
        };
        let mut draft = Draft {
            spec: request.spec.clone(),
            plan: Plan {
                ids: Some(crate::ids::ContainerIds::planned(&request.spec, &self.host)),
                ..Plan::default()
            },
        };
        draft.plan.enforced.insert(control.id());
        let decision = control::decide(control, &mut draft, &cx);
        (draft, decision)
    }

    /// Runs this one control and takes its draft for hardened, whatever it decided.
    pub fn harden(&self, control: &dyn Control) -> Hardened {
        let (draft, decision) = self.decide(control);
        self.hardened(draft, vec![decision])
    }

    pub fn hardened(&self, draft: Draft, decisions: Vec<Decision>) -> Hardened {
        Hardened::decided(draft, self.policy.level, self.policy.digest.clone(), decisions)
    }
}

pub fn effective(level: Level) -> Effective {
    Effective {
        level,
        policy: Policy::default(),
        exceptions: Vec::new(),
        digest: "0".repeat(64),
        cri: Vouched::default(),
        loosened: Vec::new(),
    }
}

/// The door that a CRI's calls come through, and what is on the host then.
pub fn door_of(cri: Cri) -> (Channel, CriFiles) {
    let made = CriFiles {
        bundle: MadeByCri::Yes,
        sandbox: MadeByCri::Yes,
        container: MadeByCri::Yes,
    };
    match cri {
        Cri::None => (Channel::Direct, CriFiles::default()),
        Cri::Containerd => {
            let namespace = CRI_NAMESPACE.to_owned();
            (Channel::Shim { namespace }, made)
        }
        Cri::CriO => (Channel::CriO, CriFiles::default()),
    }
}

/// A machine as machines are: 8 GiB, every controller, Landlock 7, no LSM.
pub fn host() -> Host {
    Host {
        memory_total: 8 << 30,
        controllers: [
            "blkio", "cpu", "cpuset", "devices", "freezer", "hugetlb", "memory", "pids",
        ]
        .map(str::to_owned)
        .into(),
        swap_accounting: SwapAccounting::Present,
        landlock_abi: 7,
        landlock_errata: 0b111,
        kernel: (6, 18),
        mdwe: Mdwe::Present,
        nofile: 1_048_576,
        ..Host::default()
    }
}

pub fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|n| (*n).to_owned()).collect()
}

pub fn process(value: Value) -> Process {
    serde_json::from_value(value).unwrap()
}

/// The codes of a decision's refusals.
pub fn codes(decision: &Decision) -> Vec<&str> {
    decision.changes.iter().filter_map(|c| c.code.as_deref()).collect()
}

/// The one refusal of a decision, checked for the house's form.
pub fn refusal<'a>(decision: &'a Decision, code: &str) -> &'a Change {
    let change = decision
        .changes
        .iter()
        .find(|c| c.code.as_deref() == Some(code))
        .unwrap_or_else(|| unreachable!("no refusal {code} in {decision:#?}"));
    assert_eq!(change.verdict, Verdict::Refused);
    let text = format!("{} {}", change.reason, change.remedy.as_deref().unwrap_or_default());
    assert!(
        change.remedy.as_deref().is_some_and(|r| !r.is_empty()),
        "{code} has no remedy"
    );
    assert!(!text.contains('\n'), "{code}: one line");
    // podman turns these into errors of its own (DESIGN section 5).
    for word in [
        "operation not permitted",
        "permission denied",
        "no such file or directory",
    ] {
        assert!(!text.to_lowercase().contains(word), "{code}: {word}");
    }
    change
}

/// Every control says what it is for.
pub fn check_about(control: &dyn Control, id: ControlId) {
    let about = control.about();
    assert_eq!(control.id(), id);
    for text in [about.threat, about.rule, about.enforced_by, about.kernel_floor] {
        assert!(!text.is_empty(), "{id}");
    }
    assert!(!about.refs.is_empty(), "{id}");
}

/// What `runc spec` writes.
fn base_spec() -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": true,
            "user": {"uid": 0, "gid": 0},
            "args": ["sh"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps, "ambient": caps},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true
        },
        "root": {"path": "rootfs", "readonly": true},
        "hostname": "runc",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
            {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
             "options": ["nosuid", "noexec", "nodev", "relatime", "ro"]}
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [{"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
                           {"type": "cgroup"}],
            "maskedPaths": ["/proc/acpi", "/proc/kcore", "/proc/keys"],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"]
        }
    })
}
