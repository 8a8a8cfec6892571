//! What holds for every request, whoever wrote it: used by the properties (requests put together at random) and by the
//! fuzz targets (bytes). Each function panics with what it saw.
#![allow(clippy::missing_panics_doc, reason = "a panic is how an invariant fails")]

use std::collections::BTreeSet;
use std::path::Path;

use gabion_core::control::CONTROLS;
use gabion_core::control::exec::{ExecRequest, Here, intersect};
use gabion_core::decision::{Decision, Mode, Verdict};
use gabion_core::harden::harden;
use gabion_core::hardened::{Denial, Hardened, SeccompPlan};
use gabion_core::policy::{Effective, Level, Policy, Vouched};
use gabion_core::request::{Channel, Leave, Request};
use oci_spec::runtime::{LinuxNamespace, Mount, PosixRlimitType, Process, Spec};
use serde_json::Value;

use crate::host::HostFile;

/// The eight that ordinary images need (docs/CONTROLS.md, capabilities).
const EIGHT: [&str; 8] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_NET_BIND_SERVICE",
    "CAP_SETGID",
    "CAP_SETUID",
];

const CAPABILITY_SETS: [&str; 5] = ["bounding", "effective", "permitted", "inheritable", "ambient"];

/// The built-in policy at a level.
pub fn built_in(level: Level) -> Effective {
    let policy = Policy {
        level,
        ..Policy::default()
    };
    Effective {
        level,
        policy,
        exceptions: Vec::new(),
        digest: "test".to_owned(),
        cri: Vouched::default(),
        loosened: Vec::new(),
    }
}

/// `harden` on a host where everything is there and in order.
pub fn run(request: &Request, effective: &Effective) -> Result<Hardened, Denial> {
    let host = HostFile::default().build(request);
    let effective = Effective {
        cri: effective.policy.vouched(request, &host),
        ..effective.clone()
    };
    harden(request, &effective, &host)
}

/// Everything that holds under any policy. Gives what came out, where the request was not refused.
pub fn of_any_policy(request: &Request, effective: &Effective) -> Option<Hardened> {
    match run(request, effective) {
        Err(denial) => {
            assert!(denial.refusals().next().is_some(), "a denial without a reason");
            one_verdict_each(&denial.decisions);
            one_line(&denial.to_string());
            None
        }
        Ok(first) => {
            one_verdict_each(first.decisions());
            never_weaker(&request.spec, first.spec());
            settles(&first, effective);
            Some(first)
        }
    }
}

/// Everything that holds under the built-in policy at a level that enforces.
pub fn of_level(request: &Request, level: Level) {
    assert_ne!(level, Level::Permissive, "it enforces nothing");
    if let Some(hardened) = of_any_policy(request, &built_in(level)) {
        is_hardened(&hardened);
    }
}

/// Permissive runs what runc would run: it refuses only what no level may have.
pub fn permissive_changes_nothing(request: &Request) {
    let hardened = match run(request, &built_in(Level::Permissive)) {
        Ok(hardened) => hardened,
        Err(denial) => {
            // An annotation of gabion's own that nobody understands is wrong at every level.
            let annotation =
                |code: &Option<String>| matches!(code.as_deref(), Some("holes.annotation" | "landlock.bad-port"));
            let told = denial.decisions.iter().flat_map(|d| &d.changes);
            let told = told.filter(|c| annotation(&c.code)).count();
            assert!(told > 0 || !denial.invalid.is_empty(), "permissive refuses: {denial}");
            let refuses = |d: &Decision| d.refusals().all(|c| annotation(&c.code));
            assert!(denial.decisions.iter().all(refuses), "permissive refuses: {denial}");
            return one_line(&denial.to_string());
        }
    };
    assert_eq!(hardened.spec(), &request.spec);
    // Facts, of which nothing is done.
    let facts = gabion_core::hardened::Plan {
        ids: hardened.plan().ids.clone(),
        oom_score_adj: hardened.plan().oom_score_adj,
        ..gabion_core::hardened::Plan::default()
    };
    assert_eq!(hardened.plan(), &facts);
    assert!(hardened.decisions().iter().all(|d| d.mode == Mode::Observe));
    one_verdict_each(hardened.decisions());
}

/// A later process gets no more than the stored one has, and cutting twice is cutting once.
pub fn exec_gets_no_more(process: &Process, hardened: &Hardened) {
    let asked = |process: &Process| ExecRequest {
        process: process.clone(),
        widening: Vec::new(),
        odd: Vec::new(),
    };
    let vetted = match intersect(&asked(process), hardened, Here::default()) {
        Err(denial) => {
            assert!(denial.refusals().next().is_some(), "a denial without a reason");
            return one_line(&denial.to_string());
        }
        Ok(vetted) => vetted.process,
    };
    let stored = hardened.spec().process().clone().unwrap_or_default();
    for kind in CAPABILITY_SETS {
        let at = format!("/capabilities/{kind}");
        let (given, has) = (members(&vetted, &at), members(&stored, &at));
        assert!(given.is_subset(&has), "{kind}: {given:?} beside {has:?}");
    }
    assert_eq!(vetted.no_new_privileges(), Some(true));
    assert_eq!(vetted.selinux_label(), stored.selinux_label());
    assert_eq!(vetted.apparmor_profile(), stored.apparmor_profile());
    for limit in stored.rlimits().iter().flatten() {
        let given = vetted.rlimits().iter().flatten().find(|l| l.typ() == limit.typ());
        assert!(
            given.is_some_and(|g| g.hard() <= limit.hard()),
            "{given:?} above {limit:?}"
        );
    }
    assert!(
        hardened.level() != Level::Restricted || vetted.user().uid() != 0,
        "root at restricted"
    );
    let again = intersect(&asked(&vetted), hardened, Here::default());
    let again = again.unwrap_or_else(|d| unreachable!("what passed is refused: {d}"));
    assert_eq!(again.process, vetted, "cutting twice is not cutting once");
}

/// Hardening a hardened spec changes nothing more.
fn settles(first: &Hardened, effective: &Effective) {
    let mut request = Request {
        id: "c1".parse().unwrap_or_else(|e| unreachable!("{e}")),
        bundle: "/bundle".into(),
        spec: first.spec().clone(),
        channel: Channel::Direct,
        leave: Leave::default(),
        odd: Vec::new(),
    };
    if let Some(own) = gabion_core::control::rootfs::bundle_of_a_copy(&request) {
        request.bundle = own;
    }
    let second = run(&request, effective).unwrap_or_else(|d| unreachable!("a hardened spec is refused: {d}"));
    assert_eq!(second.spec(), first.spec(), "hardening twice is not hardening once");
    // Plans are made anew each time, and a plan is no change of the spec.
    let planned = ["sysctl", "memory", "lsm", "landlock", "seccomp", "fds", "exec", "holes"];
    let changed = |d: &&Decision| {
        d.mode == Mode::Enforce
            && !planned.contains(&d.control.as_str())
            && d.changes
                .iter()
                .any(|c| matches!(c.verdict, Verdict::Tightened | Verdict::Added))
    };
    let twice: Vec<_> = second.decisions().iter().filter(changed).collect();
    assert!(twice.is_empty(), "the second time changes: {twice:?}");
}

/// What every container has under the built-in policy, whatever was asked.
fn is_hardened(hardened: &Hardened) {
    let spec = hardened.spec();
    let restricted = hardened.level() == Level::Restricted;
    let may: &[&str] = if restricted { &["CAP_NET_BIND_SERVICE"] } else { &EIGHT };
    for kind in CAPABILITY_SETS {
        let more: Vec<_> = members(spec, &format!("/process/capabilities/{kind}"))
            .into_iter()
            .filter(|c| !may.iter().any(|m| c.trim_matches('"').eq_ignore_ascii_case(m)))
            .collect();
        assert!(more.is_empty(), "{kind} has {more:?}");
    }
    let process = spec.process().clone().unwrap_or_default();
    assert_eq!(process.no_new_privileges(), Some(true));
    assert_eq!(
        spec.root().as_ref().and_then(oci_spec::runtime::Root::readonly),
        Some(true)
    );
    let core = process
        .rlimits()
        .iter()
        .flatten()
        .find(|l| l.typ() == PosixRlimitType::RlimitCore);
    assert!(core.is_some_and(|l| (l.soft(), l.hard()) == (0, 0)), "{core:?}");
    let value = serde_json::to_value(spec).unwrap_or_default();
    for limit in ["/linux/resources/pids/limit", "/linux/resources/memory/limit"] {
        let found = value.pointer(limit).and_then(Value::as_i64);
        assert!(found.is_some_and(|n| n > 0), "{limit} is {found:?}");
    }
    let namespaces = value
        .pointer("/linux/namespaces")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    for kind in ["pid", "network", "ipc", "uts", "mount", "cgroup"] {
        assert!(namespaces.iter().any(|n| n["type"] == kind), "no {kind} namespace");
    }
    let own_users = namespaces.iter().any(|n| n["type"] == "user");
    assert!(
        !restricted || own_users || process.user().uid() != 0,
        "root at restricted"
    );
    assert_ne!(hardened.plan().seccomp, SeccompPlan::AsAsked);
    assert_eq!(hardened.plan().enforced.len(), CONTROLS.len());
    for hole in &hardened.plan().holes {
        assert!(hole.size > 0 && hole.size <= 1 << 30, "{hole:?}");
        for place in ["/proc", "/sys", "/dev"] {
            assert!(!hole.target.starts_with(place), "{hole:?}");
        }
        for place in ["/", "/usr", "/etc", "/lib", "/boot"] {
            assert_ne!(hole.target, Path::new(place));
        }
    }
}

/// The members of an array somewhere in a value, as JSON.
fn members(of: &impl serde::Serialize, path: &str) -> BTreeSet<String> {
    let value = serde_json::to_value(of).unwrap_or_default();
    let items = value
        .pointer(path)
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    items.into_iter().map(|v| v.to_string()).collect()
}

fn option_holds(mount: &Mount, on: &str, off: &str) -> bool {
    mount
        .options()
        .iter()
        .flatten()
        .rev()
        .find(|o| *o == on || *o == off)
        .is_some_and(|o| o == on)
}

/// Nothing is weaker in the result than it was asked for.
fn never_weaker(asked: &Spec, given: &Spec) {
    for kind in CAPABILITY_SETS {
        let at = format!("/process/capabilities/{kind}");
        let (asked_set, given_set) = (members(asked, &at), members(given, &at));
        // What is ambient has to be inheritable: that set may hold what ambient was asked for.
        let ambient = members(asked, "/process/capabilities/ambient");
        let more = if kind == "inheritable" {
            ambient
        } else {
            BTreeSet::new()
        };
        assert!(
            given_set.is_subset(&asked_set.union(&more).cloned().collect()),
            "{kind}: {given_set:?}"
        );
    }
    let (before, after) = (
        asked.mounts().as_deref().unwrap_or_default(),
        given.mounts().as_deref().unwrap_or_default(),
    );
    assert_eq!(before.len(), after.len(), "mounts keep their index");
    for (a, b) in before.iter().zip(after) {
        assert_eq!(
            (a.destination(), a.source(), a.typ()),
            (b.destination(), b.source(), b.typ())
        );
        for (on, off) in [("ro", "rw"), ("nosuid", "suid"), ("nodev", "dev"), ("noexec", "exec")] {
            assert!(
                !option_holds(a, on, off) || option_holds(b, on, off),
                "{on} lost at {}",
                b.destination().display()
            );
        }
    }
    assert!(members(given, "/linux/devices").is_subset(&members(asked, "/linux/devices")));
    for list in ["/linux/maskedPaths", "/linux/readonlyPaths"] {
        assert!(members(asked, list).is_subset(&members(given, list)), "{list} shrank");
    }
    assert!(namespaces(asked).is_subset(&namespaces(given)), "namespaces are gone");
}

/// Type and path. Go's engines write an absent path as "".
fn namespaces(spec: &Spec) -> BTreeSet<String> {
    let all = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    let path = |ns: &LinuxNamespace| ns.path().clone().unwrap_or_default().display().to_string();
    all.map(|ns| format!("{:?} {}", ns.typ(), path(ns))).collect()
}

/// One decision for each control, in the table's order, with the gravest verdict of its changes.
pub fn one_verdict_each(decisions: &[Decision]) {
    let decided: Vec<_> = decisions.iter().map(|d| d.control).collect();
    let table: Vec<_> = CONTROLS.iter().map(|c| c.id()).collect();
    assert_eq!(decided, table, "one decision per control, in the order of the table");
    for decision in decisions {
        let gravest = decision
            .changes
            .iter()
            .map(|c| c.verdict)
            .max()
            .unwrap_or(Verdict::Kept);
        assert_eq!(decision.verdict, gravest, "{}", decision.control);
        for change in &decision.changes {
            let refused = change.verdict == Verdict::Refused;
            assert_eq!(change.code.is_some(), refused, "{change:?}");
            assert_eq!(change.remedy.is_some(), refused, "{change:?}");
            let prefix = format!("{}.", decision.control);
            assert!(
                change.code.as_ref().is_none_or(|c| c.starts_with(&prefix)),
                "{change:?}"
            );
        }
    }
}

/// Whatever the request holds, callers get one line, and it reads as it stands there.
fn one_line(message: &str) {
    let turns = |c| ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c);
    assert!(
        !message.contains(|c: char| c.is_control() || turns(c)),
        "not one line: {message:?}"
    );
}
