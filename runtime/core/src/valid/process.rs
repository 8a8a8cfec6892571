//! What no process can be: the kernel would refuse it after half of the container stands.

use oci_spec::runtime::{LinuxSchedulerPolicy as Policy, Process, Scheduler};

use super::Invalid;
use crate::id::ControlId;
use crate::list::Numbers;

/// The bits of a cpu_set_t (sched_setaffinity(2)).
const CPUS: u32 = 1024;

/// Gives all that cannot be of this process. `prefix` is what stands before its fields in messages.
pub fn judge(process: &Process, prefix: &str) -> Vec<Invalid> {
    let mut found = Vec::new();
    for limit in process.rlimits().iter().flatten().filter(|l| l.soft() > l.hard()) {
        let why = format!(
            "{:?}: soft {} is above hard {}",
            limit.typ(),
            limit.soft(),
            limit.hard()
        );
        let bad = Invalid::malformed(format!("{prefix}rlimits"), why);
        found.push(bad.told_by(ControlId::Rlimits));
    }
    let mut bad = |field: &str, why: String| found.push(Invalid::malformed(format!("{prefix}{field}"), why));
    for (i, entry) in process.env().iter().flatten().enumerate() {
        if !entry.contains('=') {
            bad(&format!("env[{i}]"), format!("{entry:?} is not NAME=VALUE"));
        }
    }
    let user = process.user();
    let ids = [("user.uid", user.uid()), ("user.gid", user.gid())];
    let more = user
        .additional_gids()
        .iter()
        .flatten()
        .map(|gid| ("user.additionalGids", *gid));
    for (field, id) in ids.into_iter().chain(more) {
        if id == u32::MAX {
            bad(field, format!("{id} is no id: the kernel reads it as none"));
        }
    }
    if let Some(score) = process.oom_score_adj().filter(|score| !(-1000..=1000).contains(score)) {
        bad("oomScoreAdj", format!("{score} is not from -1000 to 1000"));
    }
    if let Some(priority) = process.io_priority() {
        let level = priority.priority();
        if !(0..8).contains(&level) {
            bad(
                "ioPriority.priority",
                format!("{level}: an I/O priority is a number from 0 to 7"),
            );
        }
    }
    if let Some(why) = process.scheduler().as_ref().and_then(scheduler) {
        bad("scheduler", why);
    }
    let affinity = process.exec_cpu_affinity().as_ref();
    let lists = [
        ("execCPUAffinity.initial", affinity.and_then(|a| a.initial().as_deref())),
        (
            "execCPUAffinity.final",
            affinity.and_then(|a| a.cpu_affinity_final().as_deref()),
        ),
    ];
    for (field, list) in lists {
        if let Some(list) = list.filter(|l| !l.is_empty() && Numbers::parse(l, CPUS).is_err()) {
            bad(field, format!("{list:?} is not a list of CPUs like 0-3,7"));
        }
    }
    found
}

/// sched(7): a priority is the realtime policies' alone, and they need one.
fn scheduler(scheduler: &Scheduler) -> Option<String> {
    let priority = scheduler.priority().unwrap_or(0);
    match scheduler.policy() {
        Policy::SchedIso => Some("SCHED_ISO is not in Linux".to_owned()),
        Policy::SchedFifo | Policy::SchedRr if !(1..=99).contains(&priority) => {
            Some(format!("priority {priority}: a realtime policy needs one from 1 to 99"))
        }
        Policy::SchedOther | Policy::SchedBatch | Policy::SchedIdle if priority != 0 => {
            Some(format!("priority {priority}: only realtime policies have one"))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn fields(patch: &Value) -> Vec<String> {
        let mut value = json!({"user": {"uid": 0, "gid": 0}, "args": ["sh"], "cwd": "/"});
        value
            .as_object_mut()
            .unwrap()
            .extend(patch.as_object().unwrap().clone());
        let found = judge(&serde_json::from_value(value).unwrap(), "process.");
        found.into_iter().map(|bad| bad.field).collect()
    }

    #[test]
    fn processes_that_can_be() {
        for good in [
            json!({"env": ["A=b", "=", "C="]}),
            json!({"user": {"uid": 4_294_967_294_u32, "gid": 1, "additionalGids": [4]}}),
            json!({"oomScoreAdj": -1000}),
            json!({"rlimits": [{"type": "RLIMIT_CPU", "soft": 2, "hard": 2}]}),
            json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 7}}),
            json!({"scheduler": {"policy": "SCHED_FIFO", "priority": 99}}),
            json!({"scheduler": {"policy": "SCHED_BATCH", "nice": 3}}),
            json!({"execCPUAffinity": {"initial": "0-3,7"}}),
        ] {
            assert_eq!(fields(&good), [] as [&str; 0], "{good}");
        }
    }

    #[test]
    fn processes_that_cannot() {
        for (bad, field) in [
            (json!({"env": ["A=b", "nothing"]}), "process.env[1]"),
            (json!({"env": [""]}), "process.env[0]"),
            (json!({"user": {"uid": u32::MAX, "gid": 1}}), "process.user.uid"),
            (json!({"user": {"uid": 1, "gid": u32::MAX}}), "process.user.gid"),
            (
                json!({"user": {"uid": 0, "gid": 0, "additionalGids": [1, u32::MAX]}}),
                "process.user.additionalGids",
            ),
            (json!({"oomScoreAdj": 1001}), "process.oomScoreAdj"),
            (
                json!({"rlimits": [{"type": "RLIMIT_CPU", "soft": 3, "hard": 2}]}),
                "process.rlimits",
            ),
            (
                json!({"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 9}}),
                "process.ioPriority.priority",
            ),
            (json!({"scheduler": {"policy": "SCHED_RR"}}), "process.scheduler"),
            (
                json!({"scheduler": {"policy": "SCHED_OTHER", "priority": 1}}),
                "process.scheduler",
            ),
            (json!({"scheduler": {"policy": "SCHED_ISO"}}), "process.scheduler"),
            (
                json!({"execCPUAffinity": {"initial": "0-4294967295"}}),
                "process.execCPUAffinity.initial",
            ),
        ] {
            assert_eq!(fields(&bad), [field], "{bad}");
        }
    }
}
