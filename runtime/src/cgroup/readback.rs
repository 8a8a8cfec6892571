//! What was written, beside what the kernel shows: at every level, since a limit that did nothing must not look like one that did.

use std::collections::BTreeMap;

use oci_spec::runtime::LinuxResources;

use super::v2;
use gabion_core::list::{MOST, Numbers};
use gabion_see::error::{Error, Result, Step};

/// A limit that shows as a number.
struct Limit {
    /// v1's file and v2's: the first that is there.
    files: &'static [&'static str],
    /// Which of its words.
    word: usize,
    wanted: i64,
    slack: Slack,
}

/// How far from what was written the kernel may be.
#[derive(Clone, Copy)]
enum Slack {
    None,
    /// It counts whole pages.
    Page,
    /// systemd keeps CPU time by the second, and writes what it makes of that.
    Rounding,
}

/// Every limit of these that the files show.
pub(super) fn compare(written: &LinuxResources, seen: &BTreeMap<String, String>) -> Result<()> {
    // What `unified` says of a file is written last.
    let over = |file: &str| written.unified().as_ref().is_some_and(|all| all.contains_key(file));
    for limit in limits(written) {
        let shown = limit.files.iter().find_map(|file| Some((*file, seen.get(*file)?)));
        let Some((file, text)) = shown.filter(|(file, _)| !over(file)) else {
            continue;
        };
        let word = text.split_whitespace().nth(limit.word).unwrap_or_default();
        if !limit.is(word) {
            let why = format!("{} was written and {file} shows {}", limit.wanted, text.trim());
            return Err(Error::failed(Step::Cgroup, why));
        }
    }
    compare_lists(written, seen)
}

/// The files beside those that controls look at, by controller: read only where they were written.
pub(super) fn further(written: &LinuxResources) -> Vec<(&'static str, &'static str)> {
    let memory = written.memory().unwrap_or_default();
    let cpu = written.cpu().clone().unwrap_or_default();
    let said = [
        (cpu.idle().is_some(), "cpu", &["cpu.idle"] as &[&str]),
        (cpu.realtime_period().is_some(), "cpu", &["cpu.rt_period_us"]),
        (cpu.realtime_runtime().is_some(), "cpu", &["cpu.rt_runtime_us"]),
        (cpu.burst().is_some(), "cpu", &["cpu.cfs_burst_us", "cpu.max.burst"]),
        (cpu.cpus().is_some(), "cpuset", &["cpuset.cpus"]),
        (cpu.mems().is_some(), "cpuset", &["cpuset.mems"]),
        (memory.swappiness().is_some(), "memory", &["memory.swappiness"]),
    ];
    let said = said.into_iter().filter(|(said, ..)| *said);
    said.flat_map(|(_, controller, files)| files.iter().map(move |file| (controller, *file)))
        .collect()
}

/// CPUs and memory nodes are lists, which the kernel writes in its own way.
fn compare_lists(written: &LinuxResources, seen: &BTreeMap<String, String>) -> Result<()> {
    let over = |file: &str| written.unified().as_ref().is_some_and(|all| all.contains_key(file));
    let cpu = written.cpu().clone().unwrap_or_default();
    for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
        let (Some(wanted), Some(shown)) = (list.as_deref().filter(|l| !l.is_empty()), seen.get(file)) else {
            continue;
        };
        let numbers = |text: &str| Numbers::parse(text, MOST).map(|n| n.iter().collect::<Vec<_>>());
        // A form that only the kernel knows is not judged.
        let (Ok(said), false) = (numbers(wanted), over(file)) else {
            continue;
        };
        if numbers(shown) != Ok(said) {
            let why = format!("{wanted:?} was written and {file} shows {:?}", shown.trim());
            return Err(Error::failed(Step::Cgroup, why));
        }
    }
    Ok(())
}

/// Zero says nothing, but of what it switches off.
fn limits(written: &LinuxResources) -> Vec<Limit> {
    let memory = written.memory().unwrap_or_default();
    let cpu = written.cpu().clone().unwrap_or_default();
    let whole = |n: Option<u64>| n.filter(|n| *n != 0).and_then(|n| i64::try_from(n).ok());
    // An idle group has no weight of its own.
    let shares = cpu
        .shares()
        .filter(|n| *n != 0 && cpu.idle().is_none_or(|idle| idle == 0));
    let v1_shares = whole(shares.map(|n| n.clamp(2, 262_144)));
    let mut all = Vec::new();
    let mut add = |files, word, wanted: Option<i64>, slack| {
        if let Some(wanted) = wanted.filter(|n| *n != 0) {
            all.push(Limit {
                files,
                word,
                wanted,
                slack,
            });
        }
    };
    add(&["pids.max"], 0, written.pids().map(|p| p.limit()), Slack::None);
    add(&["memory.limit_in_bytes", "memory.max"], 0, memory.limit(), Slack::Page);
    add(
        &["memory.soft_limit_in_bytes", "memory.low"],
        0,
        memory.reservation(),
        Slack::Page,
    );
    add(&["cpu.shares"], 0, v1_shares, Slack::None);
    add(&["cpu.weight"], 0, whole(shares.map(v2::weight)), Slack::None);
    add(&["cpu.cfs_quota_us"], 0, cpu.quota(), Slack::None);
    add(&["cpu.cfs_period_us"], 0, whole(cpu.period()), Slack::None);
    add(&["cpu.max"], 0, cpu.quota(), Slack::Rounding);
    add(&["cpu.max"], 1, whole(cpu.period()), Slack::None);
    add(&["cpu.rt_period_us"], 0, whole(cpu.realtime_period()), Slack::None);
    add(&["cpu.rt_runtime_us"], 0, cpu.realtime_runtime(), Slack::None);
    add(&["memory.memsw.limit_in_bytes"], 0, memory.swap(), Slack::Page);
    let signed = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
    for (files, wanted) in [
        (&["cpu.idle"] as &[_], cpu.idle()),
        (&["cpu.cfs_burst_us", "cpu.max.burst"], signed(cpu.burst())),
        (&["memory.swappiness"], signed(memory.swappiness())),
    ] {
        all.extend(wanted.map(|wanted| Limit {
            files,
            word: 0,
            wanted,
            slack: Slack::None,
        }));
    }
    all
}

impl Limit {
    /// «Unlimited» has words of its own.
    fn is(&self, shown: &str) -> bool {
        const LARGEST_PAGE: i64 = 64 << 10;
        let within = match self.slack {
            Slack::None => 0,
            Slack::Page => LARGEST_PAGE - 1,
            Slack::Rounding => 2,
        };
        match shown.parse::<i64>() {
            Ok(shown) if self.wanted < 0 => shown == self.wanted || shown > i64::MAX / 2,
            Ok(shown) => shown <= self.wanted && self.wanted - shown <= within,
            Err(_) => self.wanted < 0 && shown == "max",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_the_kernel_shows_must_be_what_was_written() {
        let same = |written: serde_json::Value, file: &str, shown: &str| {
            let written = serde_json::from_value(written).unwrap();
            compare(&written, &BTreeMap::from([(file.to_owned(), shown.to_owned())])).is_ok()
        };
        for (written, file, right, wrong) in [
            (json!({"pids": {"limit": 44}}), "pids.max", "44", "43"),
            (json!({"pids": {"limit": -1}}), "pids.max", "max", "44"),
            (json!({"memory": {"limit": 70_000}}), "memory.max", "69632", "4096"),
            (json!({"memory": {"limit": 70_000}}), "memory.max", "69632", "max"),
            (
                json!({"memory": {"limit": -1}}),
                "memory.limit_in_bytes",
                "9223372036854771712",
                "69632",
            ),
            (
                json!({"memory": {"reservation": 1_048_576}}),
                "memory.low",
                "1048576",
                "0",
            ),
            (json!({"cpu": {"shares": 1024}}), "cpu.shares", "1024", "1023"),
            (json!({"cpu": {"shares": 1024}}), "cpu.weight", "100", "39"),
            (json!({"cpu": {"quota": 20_000}}), "cpu.max", "20000 50000", "max 50000"),
            (
                json!({"cpu": {"quota": 33_333}}),
                "cpu.max",
                "33332 70000",
                "33300 70000",
            ),
            (json!({"cpu": {"quota": -1}}), "cpu.max", "max 50000", "20000 50000"),
            (json!({"cpu": {"period": 50_000}}), "cpu.max", "max 50000", "max 100000"),
            (json!({"cpu": {"idle": 0}}), "cpu.idle", "0", "1"),
            (json!({"cpu": {"idle": 1}}), "cpu.idle", "1", "0"),
            (json!({"cpu": {"burst": 0}}), "cpu.max.burst", "0", "1000"),
            (
                json!({"cpu": {"realtimeRuntime": 900}}),
                "cpu.rt_runtime_us",
                "900",
                "0",
            ),
            (json!({"cpu": {"cpus": "0,1,3"}}), "cpuset.cpus", "0-1,3", "0-3"),
            (json!({"cpu": {"mems": "0"}}), "cpuset.mems", "0", ""),
            (json!({"memory": {"swappiness": 0}}), "memory.swappiness", "0", "60"),
        ] {
            assert!(same(written.clone(), file, right), "{written} {right}");
            assert!(!same(written.clone(), file, wrong), "{written} {wrong}");
        }
        for (written, file, shown) in [
            (
                json!({"pids": {"limit": 0}, "cpu": {"shares": 0, "quota": 0}}),
                "pids.max",
                "4096",
            ),
            (
                json!({"pids": {"limit": 5}, "unified": {"pids.max": "6"}}),
                "pids.max",
                "6",
            ),
            (json!({"cpu": {"shares": 1024, "idle": 1}}), "cpu.weight", "0"),
        ] {
            assert!(same(written.clone(), file, shown), "{written}");
        }
    }
}
