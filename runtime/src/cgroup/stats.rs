//! What a container uses, in the shape of runc's `events` (runc, types/events.go). Read off the files of its cgroup.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};

use super::Cgroup;
use gabion_core::list::{MOST, Numbers};
use gabion_see::cgroup::{CgroupRecord, ROOT, unified};
use gabion_see::error::{Error, Result, Step};

/// Ticks of user and system time in a second: what the kernel shows to all programs (USER_HZ, times(2)).
const TICKS: u64 = 100;
const NANOSECONDS: u64 = 1_000_000_000;

/// The container's cgroup files, whichever hierarchy they are in.
#[derive(Debug)]
pub(crate) struct Files {
    directories: Vec<PathBuf>,
}

impl Files {
    /// # Errors
    /// The container has no cgroup: zeros would say that it uses nothing.
    pub(crate) fn of(record: &CgroupRecord) -> Result<Self> {
        if record.delegation.is_none() {
            let why = "the container has no cgroup: none was delegated to who made it, and nothing counts what it uses";
            return Err(Error::failed(Step::Cgroup, why));
        }
        let mut directories = record.directories()?;
        // Beside v1's controllers v2's tree has files of the same names, and counts other things.
        if !unified() {
            directories.retain(|directory| !directory.starts_with(Path::new(ROOT).join("unified")));
        }
        Ok(Self { directories })
    }

    /// A file by name: its directory is the one of the controller that it belongs to.
    pub(crate) fn path(&self, name: &str) -> Option<PathBuf> {
        self.directories.iter().map(|d| d.join(name)).find(|p| p.exists())
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)?).ok()
    }

    /// The file's one number. «max» is the largest.
    fn number(&self, name: &str) -> Option<u64> {
        let text = self.text(name)?;
        let text = text.trim();
        if text == "max" {
            Some(u64::MAX)
        } else {
            text.parse().ok()
        }
    }

    fn count(&self, name: &str) -> u64 {
        self.number(name).unwrap_or(0)
    }

    /// Lines of `key value`.
    pub(crate) fn table(&self, name: &str) -> BTreeMap<String, u64> {
        let text = self.text(name).unwrap_or_default();
        let pairs = text.lines().filter_map(|line| line.split_once(' '));
        pairs
            .filter_map(|(key, value)| Some((key.to_owned(), value.trim().parse().ok()?)))
            .collect()
    }
}

impl Cgroup {
    /// Gives how many of its processes the kernel has killed for want of memory, where that is counted.
    pub(crate) fn killed_for_memory(&self) -> u64 {
        let Ok(files) = Files::of(&self.record) else { return 0 };
        let counted = |name| files.table(name).get("oom_kill").copied();
        counted("memory.events")
            .or_else(|| counted("memory.oom_control"))
            .unwrap_or(0)
    }
}

/// All of it.
pub(crate) fn read(files: &Files) -> Value {
    json!({
        "cpu": if unified() { cpu_v2(files) } else { cpu_v1(files) },
        "cpuset": cpuset(files),
        "memory": if unified() { memory_v2(files) } else { memory_v1(files) },
        "pids": pids(files),
        "blkio": if unified() { io_v2(files) } else { blkio_v1(files) },
        "hugetlb": hugetlb(files),
        "intel_rdt": {},
        "network_interfaces": null,
    })
}

fn cpu_v1(files: &Files) -> Value {
    let numbers = |name: &str| -> Vec<u64> {
        files
            .text(name)
            .unwrap_or_default()
            .split_whitespace()
            .filter_map(|n| n.parse().ok())
            .collect()
    };
    let used = files.table("cpuacct.stat");
    let nanoseconds = |key: &str| {
        used.get(key)
            .map_or(0, |ticks| ticks.saturating_mul(NANOSECONDS / TICKS))
    };
    let throttled = files.table("cpu.stat");
    json!({
        "usage": {
            "total": files.count("cpuacct.usage"),
            "percpu": numbers("cpuacct.usage_percpu"),
            "percpu_kernel": numbers("cpuacct.usage_percpu_sys"),
            "percpu_user": numbers("cpuacct.usage_percpu_user"),
            "kernel": nanoseconds("system"),
            "user": nanoseconds("user"),
        },
        "throttling": throttling(&throttled, throttled.get("throttled_time").copied()),
    })
}

fn cpu_v2(files: &Files) -> Value {
    let stat = files.table("cpu.stat");
    let nanoseconds = |key: &str| stat.get(key).map_or(0, |us| us.saturating_mul(1000));
    json!({
        "usage": {
            "total": nanoseconds("usage_usec"),
            "kernel": nanoseconds("system_usec"),
            "user": nanoseconds("user_usec"),
        },
        "throttling": throttling(&stat, Some(nanoseconds("throttled_usec"))),
    })
}

fn throttling(stat: &BTreeMap<String, u64>, time: Option<u64>) -> Value {
    let mut out = Map::new();
    let all = [
        ("periods", stat.get("nr_periods").copied()),
        ("throttledPeriods", stat.get("nr_throttled").copied()),
        ("throttledTime", time),
    ];
    for (key, value) in all {
        if let Some(value) = value.filter(|v| *v > 0) {
            out.insert(key.to_owned(), value.into());
        }
    }
    Value::Object(out)
}

fn cpuset(files: &Files) -> Value {
    let mut out = Map::new();
    for key in ["cpus", "mems"] {
        if let Some(text) = files.text(&format!("cpuset.{key}")) {
            out.insert(key.to_owned(), list(text.trim()).into());
        }
    }
    let flags = [
        "cpu_exclusive",
        "mem_hardwall",
        "mem_exclusive",
        "memory_migrate",
        "memory_spread_page",
        "memory_spread_slab",
        "memory_pressure",
        "sched_load_balance",
    ];
    for key in flags {
        if let Some(number) = files.number(&format!("cpuset.{key}")) {
            out.insert(key.to_owned(), number.into());
        }
    }
    if let Some(level) = files
        .text("cpuset.sched_relax_domain_level")
        .and_then(|t| t.trim().parse::<i64>().ok())
    {
        out.insert("sched_relax_domain_level".to_owned(), level.into());
    }
    Value::Object(out)
}

/// `0-2,7` as numbers. The kernel writes nothing where there are none.
fn list(text: &str) -> Vec<u32> {
    Numbers::parse(text, MOST).map_or_else(|_| Vec::new(), |numbers| numbers.iter().collect())
}

fn memory_v1(files: &Files) -> Value {
    let entry = |prefix: &str| {
        let file = |name: &str| files.count(&format!("memory{prefix}.{name}"));
        let mut entry = json!({ "limit": file("limit_in_bytes"), "failcnt": file("failcnt") });
        for (key, name) in [("usage", "usage_in_bytes"), ("max", "max_usage_in_bytes")] {
            if file(name) > 0 {
                entry[key] = file(name).into();
            }
        }
        entry
    };
    let stat = files.table("memory.stat");
    json!({
        "cache": stat.get("cache").copied().unwrap_or(0),
        "usage": entry(""),
        "swap": entry(".memsw"),
        "kernel": entry(".kmem"),
        "kernelTCP": entry(".kmem.tcp"),
        "raw": stat,
    })
}

fn memory_v2(files: &Files) -> Value {
    let entry = |prefix: &str| {
        let file = |name: &str| files.count(&format!("{prefix}.{name}"));
        json!({
            "limit": files.number(&format!("{prefix}.max")).unwrap_or(u64::MAX),
            "usage": file("current"),
            "max": file("peak"),
            "failcnt": files.table(&format!("{prefix}.events")).get("max").copied().unwrap_or(0),
        })
    };
    let stat = files.table("memory.stat");
    json!({
        "cache": stat.get("file").copied().unwrap_or(0),
        "usage": entry("memory"),
        "swap": entry("memory.swap"),
        "kernel": { "usage": stat.get("kernel").copied().unwrap_or(0), "limit": 0, "failcnt": 0 },
        "kernelTCP": { "usage": stat.get("sock").copied().unwrap_or(0), "limit": 0, "failcnt": 0 },
        "raw": stat,
    })
}

/// No limit is shown as none.
fn pids(files: &Files) -> Value {
    let mut out = json!({ "current": files.count("pids.current") });
    if let Some(limit) = files.number("pids.max").filter(|limit| *limit != u64::MAX) {
        out["limit"] = limit.into();
    }
    out
}

fn blkio_v1(files: &Files) -> Value {
    let entries = |names: [&str; 2]| -> Vec<Value> {
        let text = names.into_iter().find_map(|name| files.text(name)).unwrap_or_default();
        text.lines().filter_map(device_line).collect()
    };
    let mut out = Map::new();
    for (key, names) in [
        (
            "ioServiceBytesRecursive",
            [
                "blkio.throttle.io_service_bytes_recursive",
                "blkio.throttle.io_service_bytes",
            ],
        ),
        (
            "ioServicedRecursive",
            ["blkio.throttle.io_serviced_recursive", "blkio.throttle.io_serviced"],
        ),
    ] {
        let found = entries(names);
        if !found.is_empty() {
            out.insert(key.to_owned(), found.into());
        }
    }
    Value::Object(out)
}

/// `8:0 Read 4096`
fn device_line(line: &str) -> Option<Value> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let (op, value) = (words.next()?, words.next()?.parse::<u64>().ok()?);
    Some(json!({ "major": major.parse::<u64>().ok()?, "minor": minor.parse::<u64>().ok()?, "op": op, "value": value }))
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 …`
fn io_v2(files: &Files) -> Value {
    let (mut bytes, mut count) = (Vec::new(), Vec::new());
    for line in files.text("io.stat").unwrap_or_default().lines() {
        let Some((device, rest)) = line.split_once(' ') else {
            continue;
        };
        for (key, value) in rest.split_whitespace().filter_map(|pair| pair.split_once('=')) {
            let (into, op) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "rios" => (&mut count, "Read"),
                "wios" => (&mut count, "Write"),
                _ => continue,
            };
            into.extend(device_line(&format!("{device} {op} {value}")));
        }
    }
    json!({ "ioServiceBytesRecursive": bytes, "ioServicedRecursive": count })
}

fn hugetlb(files: &Files) -> Value {
    let mut out = Map::new();
    for size in page_sizes(Path::new("/sys/kernel/mm/hugepages")) {
        let file = |v1: &str, v2: &str| {
            files
                .number(&format!("hugetlb.{size}.{v1}"))
                .or_else(|| files.number(&format!("hugetlb.{size}.{v2}")))
        };
        let Some(usage) = file("usage_in_bytes", "current") else {
            continue;
        };
        let max = file("max_usage_in_bytes", "max").unwrap_or(0);
        let failures = files.number(&format!("hugetlb.{size}.failcnt")).unwrap_or(0);
        out.insert(size.clone(), json!({ "usage": usage, "max": max, "failcnt": failures }));
    }
    Value::Object(out)
}

/// `hugepages-2048kB` is `2MB` in file names (hugetlb_cgroup.c).
fn page_sizes(directory: &Path) -> Vec<String> {
    let names = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let sizes = names.filter_map(|e| {
        e.file_name()
            .to_str()?
            .strip_prefix("hugepages-")?
            .strip_suffix("kB")?
            .parse::<u64>()
            .ok()
    });
    sizes
        .map(|kb| match kb {
            kb if kb >= 1 << 20 => format!("{}GB", kb >> 20),
            kb if kb >= 1 << 10 => format!("{}MB", kb >> 10),
            kb => format!("{kb}KB"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lists_and_lines_are_read() {
        assert_eq!(list("0-2,7"), [0, 1, 2, 7]);
        assert!(list("").is_empty());
        let entry = json!({ "major": 8, "minor": 0, "op": "Read", "value": 4096 });
        assert_eq!(device_line("8:0 Read 4096"), Some(entry));
        assert_eq!(device_line("Total 4096"), None);
    }
}
