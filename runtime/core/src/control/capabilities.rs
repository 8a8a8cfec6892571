//! `capabilities`: what a root inside the container may still do.
//!
//! Engines give every container runc's fourteen by default; nobody asked for those, so what lies outside the eight that
//! ordinary images need is dropped in silence. A capability beyond the fourteen can only have been asked for: it is refused
//! by name.

use std::collections::HashSet;

use oci_spec::runtime::{Capabilities as CapSet, Capability, LinuxCapabilities};

use super::{About, Context, Control, ControlId, privileged};
use crate::capability;
use crate::decision::{Findings, Mode};
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
        "CIS Kubernetes 5.2.9",
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

/// Whether containers of this level keep it, where no policy says more.
pub fn is_kept(cap: Capability, level: Level) -> bool {
    match level {
        Level::Permissive => true,
        Level::Hardened => KEPT.contains(&cap),
        Level::Restricted => cap == Capability::NetBindService,
    }
}

/// Whether engines give it to every container, and gabion takes it away in silence.
pub fn is_engine_default(cap: Capability) -> bool {
    ENGINE_DEFAULTS.contains(&cap)
}

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
        // A privileged container is one wish, which the devices' control refuses; where that one only watches, each capability is refused here.
        let told = privileged::is(cx.request) && cx.policy.mode(ControlId::Devices) == Mode::Enforce;
        if !told {
            refuse_asked(&asked, &allowed, cx, findings);
        }
        let granted = intersect(&asked, &allowed);
        let dropped = names(&union(&asked).difference(&union(&granted)).copied().collect());
        // By their members: an empty set and an absent one are the same to the kernel.
        if masks(&granted) == masks(&asked) {
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
        let base = base(cx.policy.level);
        let by_policy: HashSet<Capability> = union(&granted).into_iter().filter(|c| !base.contains(c)).collect();
        process.set_capabilities(Some(granted));
        if !by_policy.is_empty() {
            let by = format!("{}, by the policy's capabilities.allow", names(&by_policy));
            draft.plan.lets_off(ControlId::Capabilities, by);
        }
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let Some(caps) = hardened
            .spec()
            .process()
            .as_ref()
            .and_then(|p| p.capabilities().clone())
        else {
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
    let expected = format!("{key} within {}", capability::shown(allowed));
    match seen {
        None => Fact::unknown(ControlId::Capabilities, expected, format!("{key} not shown")),
        Some(seen) => {
            let holds = if seen & !allowed == 0 { Holds::Yes } else { Holds::No };
            Fact::judged(
                ControlId::Capabilities,
                expected,
                format!("{key} {}", capability::shown(seen)),
                holds,
            )
        }
    }
}

/// A process without any.
pub fn none() -> LinuxCapabilities {
    let mut caps = LinuxCapabilities::default();
    caps.set_bounding(Some(CapSet::new()))
        .set_effective(Some(CapSet::new()))
        .set_permitted(Some(CapSet::new()))
        .set_inheritable(None)
        .set_ambient(None);
    caps
}

/// What a level leaves to every container.
const fn base(level: Level) -> &'static [Capability] {
    match level {
        Level::Restricted => &[Capability::NetBindService],
        Level::Hardened | Level::Permissive => &KEPT,
    }
}

fn allowed(cx: &Context<'_>) -> CapSet {
    let by_policy = cx
        .policy
        .policy
        .capabilities
        .allow
        .iter()
        .filter_map(|name| capability::parse(name));
    base(cx.policy.level).iter().copied().chain(by_policy).collect()
}

fn refuse_asked(asked: &LinuxCapabilities, allowed: &CapSet, cx: &Context<'_>, findings: &mut Findings) {
    let mut beyond: Vec<Capability> = union(asked)
        .into_iter()
        .filter(|c| !allowed.contains(c) && !KEPT.contains(c) && !ENGINE_DEFAULTS.contains(c))
        .collect();
    beyond.sort_by_key(ToString::to_string);
    for cap in beyond {
        let remedy = match cx.request.caller() {
            Caller::Cri => format!(
                "remove `{cap}` from `securityContext.capabilities.add` (or `privileged: true`){}",
                by_a_profile(cap)
            ),
            Caller::Podman | Caller::Docker => format!("remove `--cap-add {cap}` or `--privileged`"),
            Caller::Bundle => format!("remove `CAP_{cap}` from `process.capabilities`"),
        };
        findings.refused(
            "not-allowed",
            format!("process.capabilities.CAP_{cap}"),
            format!("capability CAP_{cap} is asked for and not allowed at this level"),
            format!(
                "{remedy}, or {}",
                crate::control::remedy::allow(cx, "capabilities.allow", &format!("CAP_{cap}"))
            ),
        );
    }
}

/// Says where a capability most often comes from that nobody wrote into a manifest: a profile of `kubectl debug`.
const fn by_a_profile(cap: Capability) -> &'static str {
    match cap {
        Capability::SysPtrace => "; `kubectl debug` adds it by itself, but not with `--profile=baseline`",
        Capability::NetAdmin => "; `kubectl debug --profile=netadmin` adds it, `--profile=baseline` does not",
        _ => "",
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

/// The five sets as the kernel's masks.
fn masks(caps: &LinuxCapabilities) -> [u64; 5] {
    [
        caps.bounding(),
        caps.effective(),
        caps.permitted(),
        caps.inheritable(),
        caps.ambient(),
    ]
    .map(|set| set.as_ref().map_or(0, mask))
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

/// A capability set as a kernel mask.
pub fn mask(set: &CapSet) -> u64 {
    set.iter().map(|c| capability::bit(*c)).fold(0, |a, b| a | b)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decision::{Decision, Verdict};
    use crate::testing::{Case, check_about, codes, refusal};

    #[allow(clippy::needless_pass_by_value)] // written next to json!
    fn with(caps: Value) -> Case {
        Case::new().with("/process/capabilities", caps)
    }

    fn same(names: &[&str]) -> Value {
        json!({"bounding": names, "effective": names, "permitted": names})
    }

    fn granted(case: &Case) -> (LinuxCapabilities, Decision) {
        let (draft, decision) = case.decide(&Capabilities);
        let process = draft.spec.process().clone().unwrap();
        (process.capabilities().clone().unwrap(), decision)
    }

    #[allow(clippy::ref_option)] // as oci-spec hands it out
    fn list(set: &Option<CapSet>) -> String {
        names(&set.clone().unwrap_or_default())
    }

    const RUNC: [&str; 14] = [
        "CAP_AUDIT_WRITE",
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FOWNER",
        "CAP_FSETID",
        "CAP_KILL",
        "CAP_MKNOD",
        "CAP_NET_BIND_SERVICE",
        "CAP_NET_RAW",
        "CAP_SETFCAP",
        "CAP_SETGID",
        "CAP_SETPCAP",
        "CAP_SETUID",
        "CAP_SYS_CHROOT",
    ];

    #[test]
    fn engine_defaults_are_cut_to_eight() {
        check_about(&Capabilities, ControlId::Capabilities);
        let (caps, decision) = granted(&with(same(&RUNC)));
        assert_eq!(decision.verdict, Verdict::Tightened);
        let eight = "CHOWN DAC_OVERRIDE FOWNER FSETID KILL NET_BIND_SERVICE SETGID SETUID";
        for set in [caps.bounding(), caps.effective(), caps.permitted()] {
            assert_eq!(list(set), eight);
        }
        let (caps, _) = granted(&with(same(&RUNC)).level(Level::Restricted));
        assert_eq!(list(caps.bounding()), "NET_BIND_SERVICE");
    }

    #[test]
    fn what_was_asked_for_is_refused_by_name() {
        for cap in [
            "CAP_SYS_ADMIN",
            "CAP_NET_ADMIN",
            "CAP_BPF",
            "CAP_SYS_PTRACE",
            "CAP_CHECKPOINT_RESTORE",
        ] {
            let case = with(json!({"ambient": [cap]}));
            let (caps, decision) = granted(&case);
            let why = refusal(&decision, "capabilities.not-allowed");
            assert!(why.reason.contains(cap), "{cap}");
            assert_eq!(list(caps.ambient()), "none");
            let mut allowed = case.clone();
            allowed.policy.policy.capabilities.allow = vec![cap.to_owned()];
            assert!(codes(&granted(&allowed).1).is_empty(), "the policy may allow it");
        }
        let (_, decision) = granted(&with(same(&["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN"])));
        assert_eq!(codes(&decision).len(), 2, "all of them, not the first");
    }

    #[test]
    fn nothing_is_given_that_was_not_asked() {
        for caps in [json!(null), json!({}), json!({"inheritable": [], "ambient": []})] {
            let (caps, decision) = granted(&with(caps));
            assert_eq!((masks(&caps), decision.verdict), ([0; 5], Verdict::Kept));
        }
        let (caps, _) = granted(&with(json!({"bounding": ["CAP_CHOWN"]})));
        assert_eq!(
            (list(caps.bounding()), list(caps.effective())),
            ("CHOWN".into(), "none".into())
        );
    }

    #[test]
    fn only_ports_are_ambient() {
        let caps = json!({
            "bounding": RUNC, "effective": RUNC, "permitted": RUNC, "inheritable": RUNC, "ambient": RUNC
        });
        let (caps, _) = granted(&with(caps));
        assert_eq!(list(caps.ambient()), "NET_BIND_SERVICE");
        assert_eq!(list(caps.inheritable()), "NET_BIND_SERVICE");
    }

    #[test]
    fn facts_hold_for_less_and_not_for_more() {
        let hardened = with(same(&["CAP_CHOWN", "CAP_KILL"])).harden(&Capabilities);
        let chown = capability::bit(Capability::Chown);
        assert_eq!(chown, 1, "linux/capability.h");
        let seen = |eff: u64| {
            let mut seen = Observed::default();
            for key in ["CapBnd", "CapPrm", "CapInh", "CapAmb"] {
                seen.status.insert(key.into(), format!("{:016x}", 0));
            }
            seen.status.insert("CapEff".into(), format!("{eff:016x}"));
            seen
        };
        let holds = |seen: &Observed| {
            let facts = Capabilities.facts(&hardened, seen);
            facts.iter().map(|f| f.holds).collect::<Vec<_>>()
        };
        assert_eq!(holds(&seen(chown)), [Holds::Yes; 5]);
        assert!(holds(&seen(chown | capability::bit(Capability::SysAdmin))).contains(&Holds::No));
        assert_eq!(holds(&Observed::default()), [Holds::Unknown; 5]);
    }

    #[test]
    fn masks_are_shown_by_name() {
        assert_eq!(capability::shown(0), "none");
        assert_eq!(
            capability::shown(capability::bit(Capability::Kill) | capability::bit(Capability::Chown)),
            "CHOWN KILL"
        );
        assert_eq!(capability::shown(1 | 1 << 62), "CHOWN 0x4000000000000000");
    }

    #[test]
    fn names_with_and_without_prefix() {
        assert_eq!(capability::parse("CAP_CHOWN"), Some(Capability::Chown));
        assert_eq!(capability::parse("CHOWN"), Some(Capability::Chown));
        assert_eq!(capability::parse("CAP_EVERYTHING"), None);
    }
}
