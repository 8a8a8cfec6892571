//! What a process asks of its rank among all processes of the host: no cgroup bounds that.
//!
//! A real-time process runs before everything of the host that is not, one with a negative nice value before its services, and
//! one whose OOM score is lower than theirs is killed after them.

use oci_spec::runtime::{IOPriorityClass, LinuxSchedulerPolicy, PosixRlimitType, Process};

use crate::control::Context;
use crate::decision::Findings;

/// The lowest score that the kubelet gives (a sandbox); what is lower is the node's own.
const LOWEST_OF_PODS: i32 = -998;

/// RLIMIT_NICE as the kernel counts: 20 - nice, so that 20 is a nice value of 0 (getrlimit(2)).
const NICE_ZERO: u64 = 20;

/// Something that puts a process before the host's own.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::control) struct Above {
    pub place: &'static str,
    pub what: String,
}

/// All that this process asks for, but for its OOM score.
pub(in crate::control) fn above(process: &Process) -> Vec<Above> {
    let mut found = Vec::new();
    let mut add = |place, what| found.push(Above { place, what });
    if let Some(scheduler) = process.scheduler() {
        let policy = scheduler.policy();
        let realtime = matches!(
            policy,
            LinuxSchedulerPolicy::SchedFifo | LinuxSchedulerPolicy::SchedRr | LinuxSchedulerPolicy::SchedDeadline
        );
        if realtime {
            add("process.scheduler", format!("real-time scheduling ({policy:?})"));
        }
        if let Some(nice) = scheduler.nice().filter(|nice| *nice < 0) {
            add("process.scheduler", format!("a nice value of {nice}"));
        }
    }
    let io = process
        .io_priority()
        .as_ref()
        .map(oci_spec::runtime::LinuxIOPriority::class);
    if io == Some(IOPriorityClass::IoprioClassRt) {
        add("process.ioPriority", "real-time I/O".to_owned());
    }
    for limit in process.rlimits().iter().flatten() {
        let most = match limit.typ() {
            PosixRlimitType::RlimitRtprio => 0,
            PosixRlimitType::RlimitNice => NICE_ZERO,
            _ => continue,
        };
        if limit.hard() > most {
            add(
                "process.rlimits",
                format!("a limit {} of {}", limit.typ(), limit.hard()),
            );
        }
    }
    found
}

pub(super) fn decide(process: &mut Process, cx: &Context<'_>, findings: &mut Findings) {
    for Above { place, what } in above(process) {
        refuse(place, &what, cx, findings);
    }
    let place = "process.oomScoreAdj";
    // The kubelet gives scores by the pod's class; nobody else's word is known to be an operator's.
    let pod = cx.request.pod(cx.policy.cri).is_some();
    let lowest = if pod { LOWEST_OF_PODS } else { 0 };
    match process.oom_score_adj() {
        Some(score) if score < lowest => refuse(place, &format!("an OOM score of {score}"), cx, findings),
        None if cx.host.oom_score_adj < 0 => {
            process.set_oom_score_adj(Some(0));
            findings.added(
                place,
                "0",
                "the runtime's own would be inherited, and the host's services killed first",
            );
        }
        _ => {}
    }
}

fn refuse(place: &'static str, what: &str, cx: &Context<'_>, findings: &mut Findings) {
    let word = cx.request.caller().word(
        "leave it to the kubelet's classes (on a node: set `cri = \"containerd\"` in /etc/gabion/policy.toml)",
        "remove `--oom-score-adj`, or `--ulimit rtprio` and `--ulimit nice`",
        "remove it from `process`",
    );
    findings.refused(
        "rank",
        place,
        format!("{what} is asked for: it would come before the host's own processes, and no limit holds it"),
        word,
    );
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::control::rlimits::Rlimits;
    use crate::policy::Cri;
    use crate::testing::{Case, codes};

    #[test]
    fn nothing_comes_before_the_host() {
        for (field, value) in [
            ("scheduler", json!({"policy": "SCHED_FIFO", "priority": 99})),
            ("scheduler", json!({"policy": "SCHED_RR", "priority": 1})),
            (
                "scheduler",
                json!({"policy": "SCHED_DEADLINE", "runtime": 9, "deadline": 10, "period": 10}),
            ),
            ("scheduler", json!({"policy": "SCHED_OTHER", "nice": -1})),
            ("ioPriority", json!({"class": "IOPRIO_CLASS_RT", "priority": 7})),
            ("oomScoreAdj", json!(-1)),
            ("rlimits", json!([{"type": "RLIMIT_RTPRIO", "soft": 0, "hard": 1}])),
            ("rlimits", json!([{"type": "RLIMIT_NICE", "soft": 0, "hard": 21}])),
        ] {
            let (_, decision) = Case::new().with(&format!("/process/{field}"), value).decide(&Rlimits);
            assert_eq!(codes(&decision), ["rlimits.rank"], "{field}");
        }
        for (field, value) in [
            ("scheduler", json!({"policy": "SCHED_BATCH", "nice": 5})),
            ("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 0})),
            ("oomScoreAdj", json!(500)),
            ("rlimits", json!([{"type": "RLIMIT_NICE", "soft": 20, "hard": 20}])),
        ] {
            let (_, decision) = Case::new().with(&format!("/process/{field}"), value).decide(&Rlimits);
            assert!(codes(&decision).is_empty(), "{field}");
        }
    }

    #[test]
    fn the_kubelets_scores_are_the_nodes() {
        let score = |score: i32, cri| {
            let mut case = Case::new().with("/process/oomScoreAdj", json!(score)).with(
                "/annotations",
                json!({"io.kubernetes.cri.container-type": "sandbox", "io.kubernetes.cri.sandbox-id": "web1",
                    "io.kubernetes.cri.sandbox-namespace": "n", "io.kubernetes.cri.sandbox-name": "p",
                    "io.kubernetes.cri.sandbox-uid": "u"}),
            );
            case = case.called_by(cri);
            codes(&case.decide(&Rlimits).1).is_empty()
        };
        assert!(score(-998, Cri::Containerd));
        assert!(!score(-999, Cri::Containerd));
        assert!(!score(-998, Cri::None));
    }

    #[test]
    fn the_runtimes_own_score_is_not_inherited() {
        let mut case = Case::new();
        case.host.oom_score_adj = -999;
        let score = |case: &Case| {
            case.decide(&Rlimits)
                .0
                .spec
                .process()
                .as_ref()
                .and_then(oci_spec::runtime::Process::oom_score_adj)
        };
        assert_eq!(score(&case), Some(0));
        case.host.oom_score_adj = 300;
        assert_eq!(score(&case), None);
    }
}
