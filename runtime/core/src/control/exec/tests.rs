#![allow(clippy::unwrap_used)]

use serde_json::{Value, json};

use super::*;
use crate::control::{capabilities, no_new_privs, rlimits};
use crate::decision::Verdict;
use crate::hardened::Plan;
use crate::policy::Level;
use crate::request::Request;
use crate::testing::{Case, check_about, codes, process, refusal};

const HERE: Here = Here {
    user_ns: OwnUserNs::Initial,
    oom_score_adj: 0,
    caller: crate::request::Caller::Bundle,
};

const NESTED: Here = Here {
    user_ns: OwnUserNs::Nested,
    ..HERE
};

/// A container as these controls leave it: all that `intersect` looks at is enforced.
fn container(case: &Case) -> Hardened {
    let request: Request = case.request();
    let cx = Context {
        request: &request,
        policy: &case.policy,
        host: &case.host,
    };
    let mut draft = Draft {
        spec: request.spec.clone(),
        plan: Plan {
            ids: Some(crate::ids::ContainerIds::planned(&request.spec, &case.host)),
            oom_score_adj: Some(case.host.oom_score_adj),
            ..Plan::default()
        },
    };
    for control in [
        &capabilities::Capabilities as &dyn Control,
        &no_new_privs::NoNewPrivs,
        &rlimits::Rlimits,
        &Exec,
    ] {
        crate::control::decide(control, &mut draft, &cx).gravest();
        draft.plan.enforced.insert(control.id());
    }
    draft.plan.enforced.extend([ControlId::Lsm, ControlId::User]);
    case.hardened(draft, Vec::new())
}

/// What a CRI client sends again: the engine's default capabilities, no_new_privs unset.
fn again() -> Value {
    let caps = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE", "CAP_SYS_ADMIN"];
    json!({
        "user": {"uid": 0, "gid": 0},
        "args": ["id"],
        "cwd": "/",
        "capabilities": {"bounding": caps, "effective": caps, "permitted": caps, "inheritable": caps}
    })
}

fn asked(process_json: Value) -> ExecRequest {
    ExecRequest {
        process: process(process_json),
        widening: Vec::new(),
        odd: Vec::new(),
    }
}

fn patched(key: &str, value: Value) -> ExecRequest {
    let mut json = again();
    json[key] = value;
    asked(json)
}

fn allowed(request: &ExecRequest, hardened: &Hardened) -> Vetted {
    intersect(request, hardened, HERE).unwrap()
}

fn denied(request: &ExecRequest, hardened: &Hardened, code: &str) {
    let denial = intersect(request, hardened, HERE).unwrap_err();
    refusal(&denial.decisions[0], code);
    assert!(denial.to_string().starts_with(&format!("refused [{code}]")));
}

#[test]
fn the_policy_decides_about_the_door() {
    check_about(&Exec, ControlId::Exec);
    let (draft, decision) = Case::new().decide(&Exec);
    assert_eq!((draft.plan.exec, decision.verdict), (ExecPlan::Allow, Verdict::Kept));
    let mut case = Case::new();
    case.policy.policy.exec = ExecRule::Deny;
    let (draft, decision) = case.decide(&Exec);
    assert_eq!((draft.plan.exec, decision.verdict), (ExecPlan::Deny, Verdict::Added));
    denied(&asked(again()), &container(&case), "exec.denied");
}

#[test]
fn a_process_sent_again_is_cut_to_the_container() {
    let hardened = container(&Case::new());
    let vetted = allowed(&asked(again()), &hardened);
    assert_eq!(vetted.decision.verdict, Verdict::Tightened);
    let caps = vetted.process.capabilities().clone().unwrap();
    let own = hardened
        .spec()
        .process()
        .as_ref()
        .unwrap()
        .capabilities()
        .clone()
        .unwrap();
    for (got, limit) in [
        (caps.bounding(), own.bounding()),
        (caps.effective(), own.effective()),
        (caps.permitted(), own.permitted()),
        (caps.inheritable(), own.inheritable()),
    ] {
        let limit = limit.clone().unwrap_or_default();
        assert!(got.iter().flatten().all(|c| limit.contains(c)));
    }
    assert_eq!(caps.effective().as_ref().unwrap().len(), 2, "KILL and NET_BIND_SERVICE");
    assert!(caps.ambient().is_none(), "nobody asked for ambient ones");
    assert_eq!(vetted.process.no_new_privileges(), Some(true));
    let core = vetted
        .process
        .rlimits()
        .as_ref()
        .unwrap()
        .iter()
        .any(|l| l.typ().to_string() == "RLIMIT_CORE");
    assert!(core, "the container's limits are applied");
}

#[test]
fn silence_means_the_containers_own() {
    let hardened = container(&Case::new());
    let vetted = allowed(&patched("capabilities", json!(null)), &hardened);
    let own = hardened.spec().process().as_ref().unwrap();
    assert_eq!(vetted.process.capabilities(), own.capabilities());
}

#[test]
fn limits_are_the_lower_ones() {
    let hardened = container(&Case::new());
    let request = patched(
        "rlimits",
        json!([
            {"type": "RLIMIT_CORE", "hard": 5, "soft": 5},
            {"type": "RLIMIT_NOFILE", "hard": 4096, "soft": 512},
            {"type": "RLIMIT_NPROC", "hard": 9, "soft": 9}
        ]),
    );
    let vetted = allowed(&request, &hardened);
    let limits: Vec<(String, u64, u64)> = vetted
        .process
        .rlimits()
        .iter()
        .flatten()
        .map(|l| (l.typ().to_string(), l.soft(), l.hard()))
        .collect();
    assert!(limits.contains(&("RLIMIT_CORE".into(), 0, 0)));
    assert!(limits.contains(&("RLIMIT_NOFILE".into(), 512, 1024)));
    assert!(limits.contains(&("RLIMIT_NPROC".into(), 9, 9)));
}

#[test]
fn flags_that_widen_are_refused_by_name() {
    let hardened = container(&Case::new());
    for flag in [
        Widening::Privileged,
        Widening::NewPrivileges,
        Widening::Capability("CAP_SYS_ADMIN".into()),
        Widening::Capability("nonsense".into()),
        Widening::AppArmor("unconfined".into()),
        Widening::ProcessLabel("u:r:spc_t:s0".into()),
    ] {
        let mut request = asked(again());
        request.widening.push(flag.clone());
        denied(&request, &hardened, "exec.widen");
        let text = intersect(&request, &hardened, HERE).unwrap_err().to_string();
        assert!(text.contains(&flag.to_string()), "{text}");
    }
    let mut request = asked(again());
    request.widening.push(Widening::Capability("CAP_KILL".into()));
    allowed(&request, &hardened);
}

#[test]
fn labels() {
    let mut hardened = container(&Case::new());
    let stored = hardened.parts_mut().0.process_mut().as_mut().unwrap();
    stored
        .set_apparmor_profile(Some("gabion-default".into()))
        .set_selinux_label(Some("u:r:container_t:s0:c1".into()));
    for (key, value, good) in [
        ("apparmorProfile", "", true),
        ("apparmorProfile", "gabion-default", true),
        ("apparmorProfile", "unconfined", true),
        ("apparmorProfile", "other", false),
        ("selinuxLabel", "u:r:container_t:s0:c1", true),
        ("selinuxLabel", "u:r:container_t:s0:c2", false),
        ("selinuxLabel", "unconfined", false),
    ] {
        let request = patched(key, json!(value));
        if good {
            let vetted = allowed(&request, &hardened);
            assert_eq!(vetted.process.apparmor_profile().as_deref(), Some("gabion-default"));
            assert_eq!(vetted.process.selinux_label().as_deref(), Some("u:r:container_t:s0:c1"));
        } else {
            denied(&request, &hardened, "exec.other-label");
        }
    }
}

#[test]
fn malformed_processes() {
    let hardened = container(&Case::new());
    for (key, value, code) in [
        ("args", json!([]), "exec.no-args"),
        ("args", json!(null), "exec.no-args"),
        ("args", json!([""]), "exec.no-args"),
        ("args", json!(["a", "b\0c"]), "exec.nul"),
        ("env", json!(["A=b\0c"]), "exec.nul"),
        ("cwd", json!("tmp"), "exec.cwd"),
        ("cwd", json!("/proc/self/fd/7"), "exec.cwd"),
    ] {
        denied(&patched(key, value), &hardened, code);
    }
}

#[test]
fn a_remedy_has_the_words_of_who_made_the_container() {
    let case = Case::new().level(Level::Restricted);
    let said = |id: &str, bundle: &str| {
        let caller = crate::request::caller_of_container(id, bundle.as_ref(), &case.request().spec);
        let denial = intersect(&asked(again()), &container(&case), Here { caller, ..HERE }).unwrap_err();
        let remedy = denial.refusals().find_map(|change| change.remedy.clone());
        remedy.unwrap()
    };
    assert!(said("a", "/run/containerd/io.containerd.runtime.v2.task/moby/a").contains("`docker exec --user"));
    assert!(said("a", "/srv/moby/a").contains("`exec --user"));
}

#[test]
fn root_at_restricted() {
    let case = Case::new().level(Level::Restricted);
    let one = |inside: u32, outside: u32| json!({"containerID": inside, "hostID": outside, "size": 1});
    denied(&asked(again()), &container(&case), "exec.root");
    allowed(&patched("user", json!({"uid": 1000, "gid": 1000})), &container(&case));
    for user in [
        json!({"uid": 1000, "gid": 0}),
        json!({"uid": 1000, "gid": 1000, "additionalGids": [7, 0]}),
    ] {
        denied(&patched("user", user), &container(&case), "exec.root");
    }
    let mapped = |users: Value| {
        let case = case.clone().with("/linux/namespaces", json!([{"type": "user"}]));
        let case = case.with("/linux/uidMappings", users);
        container(&case.with("/linux/gidMappings", json!([one(0, 100_000), one(1000, 101_000)])))
    };
    allowed(&asked(again()), &mapped(json!([one(0, 100_000)])));
    // The number says nothing: here 1000 is the host's root, and 0 may become it.
    let turned = mapped(json!([one(0, 100_000), one(1000, 0)]));
    denied(
        &patched("user", json!({"uid": 1000, "gid": 1000})),
        &turned,
        "exec.root",
    );
    denied(&asked(again()), &turned, "exec.root");
    let joined = case.clone().with(
        "/linux/namespaces",
        json!([{"type": "user", "path": "/proc/7/ns/user"}]),
    );
    denied(
        &patched("user", json!({"uid": 1000, "gid": 1000})),
        &container(&joined),
        "exec.root",
    );
}

#[test]
fn of_what_an_older_gabion_made_only_what_it_wrote_down_is_known() {
    let case = Case::new().level(Level::Restricted);
    let older = |case: &Case| {
        let mut hardened = container(case);
        hardened.parts_mut().1.ids = None;
        hardened.parts_mut().1.oom_score_adj = None;
        hardened
    };
    let ordinary = patched("user", json!({"uid": 1000, "gid": 1000}));
    allowed(&ordinary, &older(&case));
    denied(&asked(again()), &older(&case), "exec.root");
    assert!(intersect(&ordinary, &older(&case), NESTED).is_err());
    let score = |asked: Value| {
        allowed(&patched("oomScoreAdj", asked), &older(&Case::new()))
            .process
            .oom_score_adj()
    };
    assert_eq!(score(json!(-1000)), Some(0));
    assert_eq!(score(Value::Null), None);
}

#[test]
fn a_score_that_was_inherited_counts_as_one_that_was_named() {
    let mut case = Case::new();
    case.host.oom_score_adj = 300;
    let hardened = container(&case);
    let score = |asked: Value, inherits: i32| {
        let here = Here {
            oom_score_adj: inherits,
            ..HERE
        };
        let vetted = intersect(&patched("oomScoreAdj", asked), &hardened, here).unwrap();
        (vetted.process.oom_score_adj(), vetted.decision.verdict)
    };
    assert_eq!(score(json!(-1000), 0).0, Some(300));
    assert_eq!(score(json!(299), 400), (Some(300), score(json!(-1000), 0).1));
    assert_eq!(score(json!(301), 0).0, Some(301));
    // What nobody asks for is not cut in words, and still not lower.
    assert_eq!(score(Value::Null, 0).0, Some(300));
    assert_eq!(score(Value::Null, 300).0, None);
}

#[test]
fn every_refusal_at_once() {
    let hardened = container(&Case::new());
    let mut request = patched("args", json!([]));
    request.widening.push(Widening::Privileged);
    let denial = intersect(&request, &hardened, HERE).unwrap_err();
    assert_eq!(codes(&denial.decisions[0]), ["exec.widen", "exec.no-args"]);
}

#[test]
fn observed_means_untouched() {
    let mut hardened = container(&Case::new());
    hardened.parts_mut().1.enforced.remove(&ControlId::Exec);
    let mut request = asked(again());
    request.widening.push(Widening::Privileged);
    let vetted = allowed(&request, &hardened);
    assert_eq!(vetted.process, request.process);
    assert_eq!(
        (vetted.decision.mode, vetted.decision.verdict),
        (Mode::Observe, Verdict::Refused)
    );
    // A loosened control loosens exec too, and no other.
    let mut hardened = container(&Case::new());
    hardened.parts_mut().1.enforced.remove(&ControlId::Capabilities);
    let vetted = allowed(&asked(again()), &hardened);
    assert_eq!(vetted.process.capabilities(), request.process.capabilities());
    assert_eq!(vetted.process.no_new_privileges(), Some(true));
}

#[test]
fn no_rank_above_the_containers() {
    let container = container(&Case::new().with("/process/oomScoreAdj", json!(500)));
    for (key, value) in [
        ("scheduler", json!({"policy": "SCHED_FIFO", "priority": 9})),
        ("ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 0})),
        ("rlimits", json!([{"type": "RLIMIT_RTPRIO", "soft": 9, "hard": 9}])),
    ] {
        let denial = intersect(&patched(key, value), &container, HERE).unwrap_err();
        assert!(denial.to_string().contains("exec.widen"), "{key}: {denial}");
    }
    for (score, runs) in [(json!(-1000), 500), (Value::Null, 500), (json!(900), 900)] {
        let vetted = intersect(&patched("oomScoreAdj", score), &container, HERE).unwrap();
        assert_eq!(vetted.process.oom_score_adj(), Some(runs));
    }
}

#[test]
fn a_closed_exec_warns_of_the_kubelets_own() {
    let of = |key: &str| {
        let mut case = Case::new().with("/annotations", json!({key: "container"}));
        case.policy.policy.exec = ExecRule::Deny;
        case
    };
    let pod = of("io.kubernetes.cri.container-type");
    let (_, decision) = pod.decide(&Exec);
    assert_eq!(decision.verdict, Verdict::Warned);
    assert!(
        decision.changes.iter().any(|change| change.reason.contains("probe")),
        "{decision:?}"
    );
    let here = Here {
        caller: crate::request::Caller::Cri,
        ..HERE
    };
    let denial = intersect(&asked(again()), &container(&pod), here).unwrap_err();
    let remedy = denial.refusals().find_map(|change| change.remedy.clone()).unwrap();
    assert!(remedy.contains("kubectl debug --profile=baseline"), "{remedy}");
    // Nobody else has probes.
    assert_eq!(of("anybody's").decide(&Exec).1.verdict, Verdict::Added);
    let mut open = of("io.kubernetes.cri.container-type");
    open.policy.policy.exec = ExecRule::Allow;
    assert_eq!(open.decide(&Exec).1.verdict, Verdict::Kept);
}
