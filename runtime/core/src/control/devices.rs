//! `devices`: which device nodes a container has, and which its cgroup lets it open.
//!
//! Engines write rules that nobody asked for: mknod of anything, /dev/net/tun. Those go. A device that was asked for and is
//! not allowed is refused by name; a device under a harmless name and another's number is refused too.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::cdi::{self, Word};
use super::{About, Context, Control, ControlId, privileged};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::host::{CgroupVersion, FileKind};
use crate::observed::Observed;
use crate::request::normalize;

mod network;
mod rule;

use rule::{Kind, Rule};

pub struct Devices;

static ABOUT: About = About {
    threat: "a container opens the host's disks, memory or input devices",
    rule: "null zero full random urandom tty ptmx pts, what the policy names, and what a CDI file of an allowed kind has; the cgroup denies all else; what engines \
           allow everybody beside that is dropped (mknod of anything, /dev/net/tun, the host's console), any other device is \
           refused by name",
    enforced_by: "the devices cgroup (v1) or an eBPF program on the cgroup (v2); read back from devices.list on v1",
    kernel_floor: "2.6.26 (v1), 4.15 (v2)",
    refs: &[
        "PSS Baseline: Privileged Containers",
        "CIS Docker 5.5",
        "CIS Docker 5.18",
        "CIS Kubernetes 5.2.2",
        "NIST SP 800-190 4.4.3",
    ],
};

/// Name, major, minor of what every container has. All are character devices.
const STANDARD: [(&str, u64, u64); 7] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
    ("/dev/ptmx", 5, 2),
];

/// The major number of /dev/pts (Documentation/admin-guide/devices.txt).
const PTS: u64 = 136;

/// How many refused devices are told one by one; `--privileged` brings a hundred.
const TOLD: usize = 4;

impl Control for Devices {
    fn id(&self) -> ControlId {
        ControlId::Devices
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let asked = draft.linux().devices().clone().unwrap_or_default();
        let nodes: Vec<Node> = asked.iter().map(|device| Node::new(device, cx)).collect();
        let privileged = privileged::is(cx.request);
        if privileged {
            let caller = cx.request.caller();
            // A manifest lists none of them.
            let here = match nodes
                .iter()
                .filter(|n| matches!(n.judgement, Judgement::Beyond(_) | Judgement::NotCdi(_)))
                .count()
            {
                0 => String::new(),
                count => format!(" (here {count})"),
            };
            let word = privileged::word(caller);
            let what = format!("{word} is asked for: every device of the host{here} and every capability");
            findings.refused("allow-all", "linux.resources.devices", what, privileged::remedy(caller));
        } else {
            refuse_nodes(&nodes, cx, findings);
        }
        for node in &nodes {
            let by = match &node.judgement {
                Judgement::ByPolicy => "the policy's devices.allow",
                Judgement::ByCdi(by) => {
                    findings.kept(
                        node.path.display().to_string(),
                        format!("{} is what {by} has", node.rule),
                    );
                    by
                }
                _ => continue,
            };
            let by = format!("{}, by {by}", node.path.display());
            draft.plan.lets_off(ControlId::Devices, by);
        }
        network::judge(draft, cx, findings);
        let resources = draft.linux().resources().clone();
        let before = resources.as_ref().and_then(|r| r.devices().clone()).unwrap_or_default();
        let rules = decide_rules(&before, &nodes, cx, findings);
        if !cx.host.lists_devices() {
            let why = "no list of devices: this caller may not use the devices controller; a user namespace makes no device \
                       nodes, and the user's own rights on the host's hold";
            findings.warned("linux.resources.devices", why);
            if let Some(resources) = draft.linux().resources_mut() {
                resources.set_devices(None);
            }
        } else if rules != before {
            findings.added(
                "linux.resources.devices",
                format!("{} rules, all else denied", rules.len()),
                "what a container may open is written out",
            );
            let mut resources = resources.unwrap_or_else(|| {
                let mut none = LinuxResources::default();
                none.set_devices(None);
                none
            });
            resources.set_devices(Some(rules));
            draft.linux().set_resources(Some(resources));
        }
        findings.kept("linux.devices", "the standard devices, and what the policy names");
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let resources = hardened
            .spec()
            .linux()
            .as_ref()
            .and_then(|l: &Linux| l.resources().as_ref());
        let Some(rules) = resources.and_then(|r| r.devices().as_ref()) else {
            let observed = "none was set (warned of at create)";
            return vec![Fact::absent(ControlId::Devices, "a list of devices", observed)];
        };
        let allowed: Vec<Rule> = rules.iter().filter(|r| r.allow()).map(Rule::of).collect();
        let expected = "devices.list within what is allowed";
        let Some(list) = seen.cgroup.get("devices.list") else {
            // The bounds say which version governed; where they are not kept, nothing is claimed.
            if hardened
                .plan()
                .cgroup
                .as_ref()
                .is_some_and(|bounds| bounds.version == CgroupVersion::V2)
            {
                let how = "cgroup v2 keeps the list in a program, which was attached before the workload started";
                return vec![Fact::held(ControlId::Devices, expected, how)];
            }
            return vec![Fact::unknown(
                ControlId::Devices,
                expected,
                "devices.list not shown (cgroup v2 keeps it in a program)",
            )];
        };
        let beyond: Vec<&str> = list
            .lines()
            .filter(|line| !line.trim().is_empty())
            .filter(|line| !Rule::parse(line).is_some_and(|seen| allowed.iter().any(|a| a.covers(&seen))))
            .collect();
        let holds = if beyond.is_empty() { Holds::Yes } else { Holds::No };
        let shown = if beyond.is_empty() {
            expected.to_owned()
        } else {
            format!("also {}", beyond.join(", "))
        };
        vec![Fact::judged(ControlId::Devices, expected, shown, holds)]
    }
}

/// Whether the host's own node of this number may be bound: it holds no state of the host. Not so /dev/console and
/// /dev/pts/N, which are the host's terminals.
pub fn is_harmless(major: u64, minor: u64) -> bool {
    (major == 1 && STANDARD.iter().any(|(_, a, b)| (*a, *b) == (major, minor))) || (major, minor) == (5, 0)
}

/// One entry of `linux.devices`, judged.
struct Node {
    path: PathBuf,
    rule: Rule,
    judgement: Judgement,
}

enum Judgement {
    Standard,
    ByPolicy,
    /// A CDI file of an allowed kind has it, for what its rule says.
    ByCdi(String),
    /// A CDI file has one like it.
    NotCdi(String),
    /// Not allowed at all; the kind of CDI that has it.
    Beyond(Option<String>),
    /// Under this name something else was meant.
    Mismatch(String),
}

impl Node {
    fn new(device: &LinuxDevice, cx: &Context<'_>) -> Self {
        let path = normalize(device.path());
        let mut rule = Rule::of_device(device);
        let mut judgement = Self::judge(&path, &rule, device, cx);
        if matches!(judgement, Judgement::Beyond(_)) {
            judgement = match cdi::node(device, cx) {
                Word::Vouched { by, permissions } => {
                    rule = rule.limited_to(&permissions);
                    Judgement::ByCdi(by)
                }
                Word::Differs(how) => Judgement::NotCdi(how),
                Word::OfKind(kind) => Judgement::Beyond(Some(kind)),
                Word::Nothing => judgement,
            };
        }
        Self { path, rule, judgement }
    }

    fn judge(path: &Path, rule: &Rule, device: &LinuxDevice, cx: &Context<'_>) -> Judgement {
        let wanted = if let Some((_, major, minor)) = STANDARD.iter().find(|(name, ..)| path == Path::new(name)) {
            Some((Judgement::Standard, FileKind::CharDevice(*major, *minor)))
        } else if cx
            .policy
            .policy
            .devices
            .allow
            .iter()
            .any(|a| a.is_absolute() && path.starts_with(a))
        {
            // The policy names a path; which device that is, the host knows and not the spec.
            match cx.host.devices.get(path) {
                Some(kind) => Some((Judgement::ByPolicy, *kind)),
                None => return Judgement::Mismatch("the host has no such device to compare it with".to_owned()),
            }
        } else {
            None
        };
        let Some((judgement, kind)) = wanted else {
            return Judgement::Beyond(None);
        };
        let (typ, major, minor) = match kind {
            FileKind::CharDevice(major, minor) => (Kind::Char, major, minor),
            FileKind::BlockDevice(major, minor) => (Kind::Block, major, minor),
            _ => return Judgement::Mismatch("on the host that is not a device".to_owned()),
        };
        if rule.kind != typ || rule.major != Some(major) || rule.minor != Some(minor) {
            return Judgement::Mismatch(format!(
                "that name is {} {major}:{minor}, the spec says {rule}",
                typ.letter()
            ));
        }
        // The type bits of st_mode, which podman passes on (inode(7)): 0 where there are none.
        let bits = device.file_mode().unwrap_or_default() & 0o170_000;
        if bits != 0 && bits != typ.mode_bits() {
            return Judgement::Mismatch(format!("its fileMode {bits:o} is that of another kind of file"));
        }
        judgement
    }
}

fn refuse_nodes(nodes: &[Node], cx: &Context<'_>, findings: &mut Findings) {
    let remedy = cx.request.caller().word(
        "remove `privileged: true` or the device plugin's request",
        "remove `--device` or `--privileged`",
        "remove it from `linux.devices`",
    );
    for node in nodes {
        if let Judgement::Mismatch(why) = &node.judgement {
            let path = node.path.display().to_string();
            findings.refused(
                "mismatch",
                &path,
                format!("the device {path} is not what its name says: {why}"),
                remedy,
            );
        }
    }
    for node in nodes {
        if let Judgement::NotCdi(how) = &node.judgement {
            let path = node.path.display().to_string();
            let what = format!("the device {path} is not allowed: {how}");
            findings.refused("cdi", &path, what, cdi::remedy(cx));
        }
    }
    refuse_beyond(nodes, remedy, cx, findings);
}

fn refuse_beyond(nodes: &[Node], remedy: &str, cx: &Context<'_>, findings: &mut Findings) {
    let of_kind = |node| match node {
        &Node {
            judgement: Judgement::Beyond(ref kind),
            ..
        } => Some((node, kind.as_deref())),
        _ => None,
    };
    let beyond: Vec<(&Node, Option<&str>)> = nodes.iter().filter_map(of_kind).collect();
    let policy = |path: &str, kind: Option<&str>| {
        let allow = match kind {
            Some(kind) => cdi::allow(kind, cx),
            None => crate::control::remedy::allow(cx, "devices.allow", path),
        };
        format!("{remedy}, or {allow}")
    };
    if beyond.len() <= TOLD {
        for (node, kind) in beyond {
            let path = node.path.display().to_string();
            let what = format!(
                "the device {path} ({}) is asked for and not allowed{}",
                node.rule,
                cdi::unbelieved(cx)
            );
            findings.refused("not-allowed", &path, what, policy(&path, kind));
        }
        return;
    }
    let first: Vec<String> = beyond
        .iter()
        .take(TOLD)
        .map(|(node, _)| node.path.display().to_string())
        .collect();
    let what = format!(
        "{} devices are asked for and not allowed: {} and {} more",
        beyond.len(),
        first.join(", "),
        beyond.len() - TOLD
    );
    findings.refused("not-allowed", "linux.devices", what, remedy);
}

/// Whether a rule allows every device of the host.
pub(super) fn allows_all(rule: &LinuxDeviceCgroup) -> bool {
    rule.allow() && Rule::of(rule).is_everything()
}

/// The rules of the devices cgroup: all denied, then what is allowed, then what the spec denies of that.
fn decide_rules(
    asked: &[LinuxDeviceCgroup],
    nodes: &[Node],
    cx: &Context<'_>,
    findings: &mut Findings,
) -> Vec<LinuxDeviceCgroup> {
    let mut allowed: Vec<Rule> = STANDARD
        .iter()
        .map(|(_, major, minor)| Rule::char(Some(*major), Some(*minor)))
        .chain([Rule::char(Some(PTS), None)])
        .collect();
    let mut denied: Vec<Rule> = Vec::new();
    let by_policy: Vec<&Rule> = nodes
        .iter()
        .filter(|n| matches!(n.judgement, Judgement::ByPolicy | Judgement::ByCdi(_)))
        .map(|n| &n.rule)
        .collect();
    for rule in asked {
        let (allow, rule) = (rule.allow(), Rule::of(rule));
        let known = nodes.iter().any(|n| n.rule.covers(&rule));
        if !allow {
            // The one that denies all stands first anyway.
            if !rule.is_everything() {
                denied.push(rule);
            }
        } else if rule.is_everything() && privileged::is(cx.request) {
            // Refused as what it is.
        } else if rule.is_everything() {
            findings.refused(
                "allow-all",
                "linux.resources.devices",
                "a rule allows every device of the host",
                cx.request.caller().word(
                    "remove `privileged: true`",
                    "remove `--privileged`",
                    "remove the rule from `linux.resources.devices`",
                ),
            );
        } else if allowed.iter().any(|a| a.covers(&rule)) {
            // Said again.
        } else if by_policy.iter().any(|p| p.covers(&rule)) {
            grant(&mut allowed, rule);
        } else if rule.is_engine_default() {
            findings.tightened(
                "linux.resources.devices",
                rule.to_string(),
                "-",
                "engines write this rule; no image needs it",
            );
        } else if !known {
            let what = format!("a rule allows the device {rule}, which is not among those allowed");
            let remedy = cx.request.caller().word(
                "remove the device plugin's request",
                "remove `--device-cgroup-rule` or `--device`",
                "remove it from `linux.resources.devices`",
            );
            findings.refused("rule", "linux.resources.devices", what, remedy);
        }
    }
    // A node must be made before it can be opened: also where no rule says so, or one that lets it be opened only.
    for node in by_policy.iter().filter(|rule| rule.kind != Kind::Fifo) {
        grant(&mut allowed, node.making());
    }
    std::iter::once(Rule::everything().spec(false))
        .chain(allowed.iter().map(|r| r.spec(true)))
        .chain(denied.iter().map(|r| r.spec(false)))
        .collect()
}

/// One rule for one device: the kernel puts several together, and shows them so (devices.list).
fn grant(allowed: &mut Vec<Rule>, rule: Rule) {
    match allowed.iter_mut().find(|known| known.is_of(&rule)) {
        Some(known) => known.add(&rule),
        None => allowed.push(rule),
    }
}

/// What a kind of device is in the spec.
impl From<LinuxDeviceType> for Kind {
    fn from(typ: LinuxDeviceType) -> Self {
        match typ {
            LinuxDeviceType::A => Self::All,
            LinuxDeviceType::B => Self::Block,
            LinuxDeviceType::C | LinuxDeviceType::U => Self::Char,
            LinuxDeviceType::P => Self::Fifo,
        }
    }
}
