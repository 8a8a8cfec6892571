//! `seccomp`: which system calls the kernel answers at all.
//!
//! The spec brings no profile: gabion's own (Kubernetes runs containers without one unless a manifest says otherwise, so this
//! is a default to be tightened). The spec brings one: it is kept, with the floor stacked under it: filters only ever add up
//! to less (seccomp(2)). A profile that lets everything through is «unconfined» in more words, and replaced like silence.

use std::path::Path;

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction};

use super::mounts::source::forbidden_socket;
use super::{About, Context, Control, ControlId, remedy};
use crate::decision::Findings;
use crate::fact::{Fact, Holds};
use crate::hardened::{Draft, Hardened, SeccompPlan};
use crate::host::{FileKind, SourcePath};
use crate::observed::Observed;
use crate::policy::SeccompGroup;

pub mod sockets;

pub struct Seccomp;

static ABOUT: About = About {
    threat: "the kernel's rarely used calls (bpf, userfaultfd, io_uring, keyctl, user namespaces) are where escapes begin",
    rule: "gabion's default profile where the spec brings none or one that allows everything; a floor filter under any other",
    enforced_by: "seccomp(2) SECCOMP_SET_MODE_FILTER, probed by a call that must give its errno; read back from Seccomp and \
                  Seccomp_filters in /proc/PID/status",
    kernel_floor: "5.9 (the number of filters is shown; filters since 3.5)",
    refs: &[
        "PSS Baseline: Seccomp",
        "PSS Restricted: Seccomp",
        "CIS Docker 5.22",
        "CIS Kubernetes 5.6.2",
        "NIST SP 800-190 4.4.3",
    ],
};

impl Control for Seccomp {
    fn id(&self) -> ControlId {
        ControlId::Seccomp
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let path = "linux.seccomp";
        open(draft, cx, findings);
        beyond_the_usual(draft, cx, findings);
        let profile = draft.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
        let Some(profile) = profile else {
            draft.plan.seccomp = SeccompPlan::Default;
            findings.added(path, "gabion's default profile", "the spec has no profile");
            return;
        };
        if allows_everything(profile) {
            draft.plan.seccomp = SeccompPlan::Default;
            if let Some(linux) = draft.spec.linux_mut() {
                linux.set_seccomp(None);
            }
            findings.tightened(
                path,
                "a profile that allows every call",
                "gabion's default profile",
                "it confines nothing",
            );
            return;
        }
        draft.plan.seccomp = SeccompPlan::ProfileAndFloor;
        refuse_unanswered(profile, cx, findings);
        draft.plan.listener = match cx.host.listener.as_ref().map(|l| &l.path) {
            Some(SourcePath::Open(source)) if profile.listener_path().is_some() => Some(source.real.clone()),
            _ => None,
        };
        if passes(profile.default_action()) {
            findings.warned(
                path,
                "the profile lets through every call that it does not name: only the floor stands behind it",
            );
        }
        findings.added(path, "floor filter", "stacked under the spec's profile");
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        let filters = match hardened.plan().seccomp {
            SeccompPlan::AsAsked => return Vec::new(),
            SeccompPlan::Default => 1,
            SeccompPlan::ProfileAndFloor => 2,
        };
        let of_memory = hardened.plan().memory.iter().any(|rule| rule.needs_a_filter());
        vec![mode(seen), count(filters + u32::from(of_memory), seen)]
    }
}

/// Sockets that the policy opens.
fn beyond_the_usual(draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    let policy = &cx.policy.policy.seccomp;
    draft.plan.log = policy.log;
    if !policy.log.is_off() {
        findings.kept(
            "log",
            "the kernel logs what gabion's own filters deny, as the policy says",
        );
    }
    draft.plan.sockets.clone_from(&policy.sockets);
    draft.plan.sockets.sort_unstable();
    draft.plan.sockets.dedup();
    if !draft.plan.sockets.is_empty() {
        let words: Vec<_> = draft.plan.sockets.iter().map(|word| word.as_str()).collect();
        findings.warned(
            "sockets",
            format!("beyond the usual ones the policy opens {}", words.join(", ")),
        );
        let by = format!("sockets {}, by the policy's seccomp.sockets", words.join(", "));
        draft.plan.lets_off(ControlId::Seccomp, by);
    }
}

/// Opens the groups of calls that the policy names. A spec's own profile is the caller's word, and stays as it is: what it refuses it refuses.
fn open(draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    draft.plan.opened = cx.policy.policy.seccomp.allow.iter().copied().collect();
    // It connects and sends past every filter: a rule for TCP ports, which is the workload's own wish to be held, would be none.
    let ports = draft.plan.landlock.as_ref();
    let ruled = ports.is_some_and(|p| p.tcp_bind.is_some() || p.tcp_connect.is_some());
    if ruled && draft.plan.opened.remove(&SeccompGroup::IoUring) {
        findings.warned(
            "linux.seccomp",
            "io_uring stays closed, though the policy opens it: it would pass the rules for TCP ports that the annotation asks for",
        );
    }
    for group in draft.plan.opened.clone() {
        let by = format!("the calls of {}, by the policy's seccomp.allow", group.as_str());
        draft.plan.lets_off(ControlId::Seccomp, by);
        findings.warned(
            "linux.seccomp",
            format!(
                "gabion's own filters let the calls of {} through, as the policy says",
                group.as_str()
            ),
        );
    }
}

/// SECCOMP_MODE_FILTER in /proc/PID/status.
const MODE_FILTER: &str = "2";

fn mode(seen: &Observed) -> Fact {
    match seen.status("Seccomp") {
        Some(mode) => Fact::same(ControlId::Seccomp, "Seccomp", &MODE_FILTER, &mode),
        None => Fact::unknown(ControlId::Seccomp, "Seccomp 2", "Seccomp not shown"),
    }
}

/// At least as many filters as were stacked: what runs gabion may have brought some of its own.
fn count(filters: u32, seen: &Observed) -> Fact {
    let expected = format!("Seccomp_filters at least {filters}");
    match seen.status("Seccomp_filters").map(str::parse::<u32>) {
        Some(Ok(shown)) => {
            let holds = if shown >= filters { Holds::Yes } else { Holds::No };
            Fact::judged(ControlId::Seccomp, expected, format!("Seccomp_filters {shown}"), holds)
        }
        _ => Fact::unknown(
            ControlId::Seccomp,
            expected,
            "Seccomp_filters not shown (before kernel 5.9)",
        ),
    }
}

/// Whether an action lets the call happen.
fn passes(action: LinuxSeccompAction) -> bool {
    matches!(
        action,
        LinuxSeccompAction::ScmpActAllow | LinuxSeccompAction::ScmpActLog
    )
}

/// Allow by default, and no rule that does anything else.
fn allows_everything(profile: &LinuxSeccomp) -> bool {
    let mut rules = profile.syscalls().iter().flatten();
    profile.default_action() == LinuxSeccompAction::ScmpActAllow
        && !rules.any(|rule| rule.action() != LinuxSeccompAction::ScmpActAllow && !rule.names().is_empty())
}

/// A call that waits for a listener which nobody named would wait for ever.
fn refuse_unanswered(profile: &LinuxSeccomp, cx: &Context<'_>, findings: &mut Findings) {
    let notifies = profile
        .syscalls()
        .iter()
        .flatten()
        .any(|rule| rule.action() == LinuxSeccompAction::ScmpActNotify);
    let path = "linux.seccomp.listenerPath";
    let profile_word = cx.request.caller().word(
        "the `localhostProfile`",
        "`--security-opt seccomp=FILE`",
        "`linux.seccomp`",
    );
    if profile.default_action() == LinuxSeccompAction::ScmpActNotify {
        findings.refused(
            "notify-default",
            "linux.seccomp.defaultAction",
            "the profile sends every call to a listener, also those that hand the listener over",
            format!("name the calls to be answered by the listener in {profile_word}"),
        );
    }
    match profile.listener_path() {
        None if notifies => findings.refused(
            "no-listener",
            path,
            "the profile uses SCMP_ACT_NOTIFY and names no listener: such a call would wait for ever",
            format!("set listenerPath in {profile_word}, or another action"),
        ),
        Some(listener) if !listener.is_absolute() => findings.refused(
            "listener-path",
            path,
            format!("the listener's path {} is not absolute", listener.display()),
            format!("give its absolute path in {profile_word}"),
        ),
        Some(listener) if notifies => judge_listener(listener, profile_word, cx, findings),
        _ => {}
    }
}

/// gabion connects to the socket with its own rights, and writes there what the spec says: it is judged as what is bound is. Whoever listens there
/// answers calls of the container, so it is root's or this caller's.
fn judge_listener(listener: &Path, profile_word: &str, cx: &Context<'_>, findings: &mut Findings) {
    let path = listener.display();
    // With why, what the policy could be told: whose socket it is it cannot.
    let (why, allowable) = match cx.host.listener.as_ref().map(|l| (&l.path, l.uid)) {
        Some((SourcePath::Open(source), uid)) => {
            let ours = uid == 0 || uid == cx.host.euid;
            match forbidden_socket(source, cx) {
                Some(why) => (why, Some(source).filter(|s| ours && s.kind == FileKind::Socket)),
                None if ours => return,
                None => (
                    format!("{path} is a socket of uid {uid}, neither root's nor this caller's"),
                    None,
                ),
            }
        }
        Some((SourcePath::Unreadable(errno), _)) => (
            format!("{path} cannot be opened ({})", crate::errno::name(*errno)),
            None,
        ),
        None => (format!("{path} was not looked at"), None),
    };
    let other = format!("name a seccomp agent's own socket in {profile_word}");
    findings.refused(
        "listener",
        "linux.seccomp.listenerPath",
        format!("{why}: gabion does not connect to it for a container"),
        match allowable {
            Some(source) => {
                let real = source.real.display().to_string();
                format!("{other}, or {}", remedy::allow(cx, "mounts.allow", &real))
            }
            None => other,
        },
    );
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::decision::{Decision, Verdict};
    use crate::policy::SeccompGroup;
    use crate::testing::{Case, check_about, refusal};

    #[allow(clippy::needless_pass_by_value)] // written next to json!
    fn profile(default: &str, rules: Value) -> Case {
        Case::new().with("/linux/seccomp", json!({"defaultAction": default, "syscalls": rules}))
    }

    fn plan(case: &Case) -> (SeccompPlan, Decision) {
        let (draft, decision) = case.decide(&Seccomp);
        (draft.plan.seccomp, decision)
    }

    #[test]
    fn silence_gets_the_default_profile() {
        check_about(&Seccomp, ControlId::Seccomp);
        let (plan, decision) = plan(&Case::new());
        assert_eq!((plan, decision.verdict), (SeccompPlan::Default, Verdict::Added));
    }

    #[test]
    fn a_profile_keeps_its_rules_above_the_floor() {
        let case = profile(
            "SCMP_ACT_ERRNO",
            json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]),
        );
        let (draft, decision) = case.decide(&Seccomp);
        assert_eq!(draft.plan.seccomp, SeccompPlan::ProfileAndFloor);
        assert_eq!(decision.verdict, Verdict::Added);
        assert_eq!(draft.spec, case.request().spec);
    }

    #[test]
    fn unconfined_in_more_words() {
        for rules in [
            json!([]),
            json!([{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]),
            json!([{"names": [], "action": "SCMP_ACT_ERRNO"}]),
        ] {
            let case = profile("SCMP_ACT_ALLOW", rules);
            let (draft, decision) = case.decide(&Seccomp);
            assert_eq!(draft.plan.seccomp, SeccompPlan::Default);
            assert_eq!(decision.verdict, Verdict::Tightened);
            assert!(draft.spec.linux().as_ref().is_some_and(|l| l.seccomp().is_none()));
        }
    }

    #[test]
    fn a_list_of_denials_is_warned_of() {
        for (default, rules) in [
            (
                "SCMP_ACT_ALLOW",
                json!([{"names": ["mount"], "action": "SCMP_ACT_ERRNO"}]),
            ),
            ("SCMP_ACT_LOG", json!([])),
        ] {
            let (plan, decision) = plan(&profile(default, rules));
            assert_eq!(
                (plan, decision.verdict),
                (SeccompPlan::ProfileAndFloor, Verdict::Warned)
            );
        }
    }

    #[test]
    fn listeners() {
        let rule = json!([{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]);
        let case = profile("SCMP_ACT_ERRNO", rule);
        refusal(&plan(&case).1, "seccomp.no-listener");
        let good = case.clone().with("/linux/seccomp/listenerPath", json!("/run/l.sock"));
        // Nobody looked at it. What is found there is judged in tests/cases/seccomp.
        refusal(&plan(&good).1, "seccomp.listener");
        let relative = case.with("/linux/seccomp/listenerPath", json!("l.sock"));
        refusal(&plan(&relative).1, "seccomp.listener-path");
        let all = profile("SCMP_ACT_NOTIFY", json!([])).with("/linux/seccomp/listenerPath", json!("/l"));
        refusal(&plan(&all).1, "seccomp.notify-default");
    }

    #[test]
    fn the_policy_opens_groups() {
        let mut case = Case::new();
        case.policy.policy.seccomp.allow = vec![SeccompGroup::IoUring, SeccompGroup::IoUring];
        let (draft, decision) = case.decide(&Seccomp);
        assert_eq!(Vec::from_iter(&draft.plan.opened), [&SeccompGroup::IoUring]);
        assert_eq!(
            (draft.plan.seccomp, decision.verdict),
            (SeccompPlan::Default, Verdict::Warned)
        );
    }

    #[test]
    fn io_uring_stays_closed_under_rules_for_ports() {
        let mut case = Case::new().with("/annotations/dev.gabion.landlock.tcp-connect", json!(""));
        case.policy.policy.seccomp.allow = vec![SeccompGroup::IoUring, SeccompGroup::Perf];
        let hardened = crate::harden::harden(&case.request(), &case.policy, &case.host).unwrap();
        let plan = hardened.plan();
        assert_eq!(Vec::from_iter(&plan.opened), [&SeccompGroup::Perf]);
    }

    #[test]
    fn facts_count_filters() {
        let hardened = profile("SCMP_ACT_ERRNO", json!([])).harden(&Seccomp);
        let mut seen = Observed::default();
        let holds =
            |seen: &Observed| -> Vec<Holds> { Seccomp.facts(&hardened, seen).iter().map(|f| f.holds).collect() };
        assert_eq!(holds(&seen), [Holds::Unknown, Holds::Unknown]);
        seen.status.insert("Seccomp".into(), "2".into());
        seen.status.insert("Seccomp_filters".into(), "1".into());
        assert_eq!(holds(&seen), [Holds::Yes, Holds::No]);
        seen.status.insert("Seccomp_filters".into(), "3".into());
        assert_eq!(holds(&seen), [Holds::Yes, Holds::Yes]);
        seen.status.insert("Seccomp".into(), "0".into());
        assert_eq!(holds(&seen)[0], Holds::No);
    }
}
