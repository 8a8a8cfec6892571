//! `capabilities`: what a root inside the container may still do.
//!
//! Engines give every container runc's fourteen by default; nobody asked for those, so what lies outside the eight that
//! ordinary images need is dropped in silence. A capability beyond the fourteen can only have been asked for: it is refused
//! by name.

use std::collections::HashSet;

use oci_spec::runtime::{Capabilities as CapSet, Capability, LinuxCapabilities};

use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened};
use crate::observed::Observed;
use crate::policy::Level;
use crate::request::Caller;

pub struct Capabilities;

static ABOUT: About = About {
    threat: "a root process in the container uses a capability against the kernel or the host (mount, raw packets, mknod)",
    rule: "bounding, permitted and effective are cut to CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETGID \
           SETUID (restricted: NET_BIND_SERVICE); the rest of an engine's default set is dropped, any other is refused; \
           inheritable is empty, ambient at most NET_BIND_SERVICE",
    enforced_by: "capset(2), prctl(2) PR_CAPBSET_DROP and PR_CAP_AMBIENT; read back from /proc/PID/status",
    kernel_floor: "4.3 (ambient set)",
    refs: &[
        "PSS Baseline: Capabilities",
        "PSS Restricted: Capabilities",
        "CIS Docker 5.4",
        "CIS Kubernetes 5.2.8",
        "NIST SP 800-190 4.4.3",
    ],
};

/// What an image that starts as root needs to become its service user.
const KEPT: [Capability; 8] = [
    Capability::Chown,
    Capability::DacOverride,
    Capability::Fowner,
    Capability::Fsetid,
    Capability::Kill,
    Capability::NetBindService,
    Capability::Setgid,
    Capability::Setuid,
];

/// The rest of runc's, docker's, podman's and containerd's default sets: put there by engines, not by people.
const ENGINE_DEFAULTS: [Capability; 6] = [
    Capability::AuditWrite,
    Capability::Mknod,
    Capability::NetRaw,
    Capability::Setfcap,
    Capability::Setpcap,
    Capability::SysChroot,
];

impl Control for Capabilities {
    fn id(&self) -> ControlId {
        ControlId::Capabilities
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let Some(process) = draft.spec.process_mut() else {
            return;
        };
        // No capabilities in the spec means none for the process (runc: all sets empty).
        let asked = process.capabilities().clone().unwrap_or_else(none);
        let allowed = allowed(cx);
        refuse_asked(&asked, &allowed, cx, findings);
        let granted = intersect(&asked, &allowed);
        let dropped = names(&union(&asked).difference(&union(&granted)).copied().collect());
        if granted == asked {
            findings.kept(
                "process.capabilities",
                format!("within what is allowed: {}", names(&union(&granted))),
            );
        } else {
            findings.tightened(
                "process.capabilities",
                names(&union(&asked)),
                names(&union(&granted)),
                format!("not needed by ordinary images, or inheritable: {dropped}"),
            );
        }
        process.set_capabilities(Some(granted));
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let Some(caps) = hardened.spec.process().as_ref().and_then(|p| p.capabilities().clone()) else {
            return Vec::new();
        };
        let set = |s: &Option<CapSet>| s.as_ref().map_or(0, mask);
        [
            ("CapBnd", set(caps.bounding())),
            ("CapPrm", set(caps.permitted())),
            ("CapEff", set(caps.effective())),
            ("CapInh", set(caps.inheritable())),
            ("CapAmb", set(caps.ambient())),
        ]
        .into_iter()
        .map(|(key, allowed)| within(key, allowed, seen.caps(key)))
        .collect()
    }
}

/// A set of the process lies within what was granted. It may hold less: a service drops what it does not need.
fn within(key: &str, allowed: u64, seen: Option<u64>) -> Fact {
    let expected = format!("{key} within {allowed:016x}");
    match seen {
        None => Fact::unknown(ControlId::Capabilities, expected, format!("{key} not shown")),
        Some(seen) => {
            let holds = if seen & !allowed == 0 { Holds::Yes } else { Holds::No };
            Fact::judged(ControlId::Capabilities, expected, format!("{key} {seen:016x}"), holds)
        }
    }
}

fn none() -> LinuxCapabilities {
    let mut caps = LinuxCapabilities::default();
    caps.set_bounding(Some(CapSet::new()))
        .set_effective(Some(CapSet::new()))
        .set_permitted(Some(CapSet::new()))
        .set_inheritable(None)
        .set_ambient(None);
    caps
}

fn allowed(cx: &Context<'_>) -> CapSet {
    let base: &[Capability] = if cx.policy.level == Level::Restricted {
        &[Capability::NetBindService]
    } else {
        &KEPT
    };
    let by_policy = cx
        .policy
        .policy
        .capabilities
        .allow
        .iter()
        .filter_map(|name| parse(name));
    base.iter().copied().chain(by_policy).collect()
}

/// A capability by its name, `CAP_CHOWN` or `CHOWN`.
pub fn parse(name: &str) -> Option<Capability> {
    name.strip_prefix("CAP_").unwrap_or(name).parse().ok()
}

fn refuse_asked(asked: &LinuxCapabilities, allowed: &CapSet, cx: &Context<'_>, findings: &mut Findings) {
    let mut beyond: Vec<Capability> = union(asked)
        .into_iter()
        .filter(|c| !allowed.contains(c) && !KEPT.contains(c) && !ENGINE_DEFAULTS.contains(c))
        .collect();
    beyond.sort_by_key(ToString::to_string);
    for cap in beyond {
        let remedy = match cx.request.caller() {
            Caller::Cri => format!("remove `{cap}` from `securityContext.capabilities.add` (or `privileged: true`)"),
            Caller::Podman => format!("remove `--cap-add {cap}` or `--privileged`"),
            Caller::Bundle => format!("remove `CAP_{cap}` from `process.capabilities`"),
        };
        findings.refused(
            "not-allowed",
            format!("process.capabilities.CAP_{cap}"),
            format!("capability CAP_{cap} is asked for and not allowed at this level"),
            format!("{remedy}, or allow it in /etc/gabion/policy.toml: [capabilities] allow = [\"CAP_{cap}\"]"),
        );
    }
}

fn intersect(asked: &LinuxCapabilities, allowed: &CapSet) -> LinuxCapabilities {
    let cut = |set: &Option<CapSet>| -> Option<CapSet> {
        Some(
            set.as_ref()
                .map(|s| s.intersection(allowed).copied().collect())
                .unwrap_or_default(),
        )
    };
    let ambient = asked
        .ambient()
        .as_ref()
        .map(|s| {
            s.iter()
                .copied()
                .filter(|c| *c == Capability::NetBindService)
                .collect::<CapSet>()
        })
        .filter(|s| !s.is_empty());
    let mut granted = none();
    // An ambient capability must be inheritable too (capabilities(7)); nothing else is.
    granted
        .set_bounding(cut(asked.bounding()))
        .set_effective(cut(asked.effective()))
        .set_permitted(cut(asked.permitted()))
        .set_inheritable(ambient.clone())
        .set_ambient(ambient);
    granted
}

fn union(caps: &LinuxCapabilities) -> HashSet<Capability> {
    [
        caps.bounding(),
        caps.effective(),
        caps.permitted(),
        caps.inheritable(),
        caps.ambient(),
    ]
    .into_iter()
    .flatten()
    .flatten()
    .copied()
    .collect()
}

fn names(set: &HashSet<Capability>) -> String {
    let mut names: Vec<String> = set.iter().map(ToString::to_string).collect();
    names.sort();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(" ")
    }
}

/// The bit of a capability in the kernel's masks (linux/capability.h), by way of the `caps` crate's numbering.
pub fn bit(cap: Capability) -> u64 {
    use std::str::FromStr;
    caps::Capability::from_str(&format!("CAP_{cap}")).map_or(0, |c| 1_u64 << c.index())
}

/// A capability set as a kernel mask.
pub fn mask(set: &CapSet) -> u64 {
    set.iter().map(|c| bit(*c)).fold(0, |a, b| a | b)
}
