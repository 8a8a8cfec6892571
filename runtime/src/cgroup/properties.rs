//! Limits as properties of a scope. systemd writes all that it knows of a cgroup whenever one of them changes, and when it reads its
//! files again: what it was not told goes back to what it is by itself.

use std::path::Path;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::v2;
use crate::dbus::Value;
use gabion_core::control::cgroup::unified::{self, Limit};
use gabion_core::list::{MOST, Numbers};
use gabion_see::error::{Error, Result, Step};

pub(super) type Property = (&'static str, Value);

/// What has a property that means the same. Zero says nothing. `directory` is the cgroup as it is now.
pub(super) fn properties(resources: &LinuxResources, directory: &Path) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    if let Some(limit) = resources.pids().map(|p| p.limit()).filter(|n| *n != 0) {
        all.push(("TasksMax", unlimited_or(limit)));
    }
    if let Some(memory) = resources.memory() {
        all.extend(memory_properties(*memory, directory)?);
    }
    if let Some(cpu) = resources.cpu() {
        all.extend(cpu_properties(cpu, directory)?);
        all.extend(cpuset_properties(cpu)?);
    }
    all.extend(resources.block_io().as_ref().and_then(|io| io_weight(io, directory)));
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        let told = of_a_file(file, value.trim(), directory)?;
        // It is written last, over what the other fields say.
        all.retain(|(name, _)| told.iter().all(|(over, _)| over != name));
        all.extend(told);
    }
    Ok(all)
}

/// systemd's word for `memory.oom.group`. Kubernetes asks for it by default.
pub(super) fn oom_policy(resources: &LinuxResources) -> Option<Property> {
    let group = resources.unified().as_ref()?.get("memory.oom.group")?;
    (group.trim() != "0").then(|| ("OOMPolicy", Value::Text("kill".to_owned())))
}

/// systemd's word for no limit is the largest number.
fn unlimited_or(limit: i64) -> Value {
    Value::Number(u64::try_from(limit).unwrap_or(u64::MAX))
}

fn memory_properties(memory: LinuxMemory, directory: &Path) -> Result<Vec<Property>> {
    let said = |n: Option<i64>| n.filter(|n| *n != 0);
    let (limit, together) = (said(memory.limit()), said(memory.swap()));
    let mut measure = limit;
    if limit.is_none() && together.is_some() {
        // Beside a limit that stays as it is.
        measure = v2::memory_max(directory);
    }
    let swap = v2::swap(measure, together)?;
    let named = [
        ("MemoryMax", limit),
        ("MemorySwapMax", swap),
        ("MemoryLow", said(memory.reservation())),
    ];
    let set = named.into_iter().filter_map(|(name, n)| Some((name, unlimited_or(n?))));
    Ok(set.collect())
}

fn cpu_properties(cpu: &LinuxCpu, directory: &Path) -> Result<Vec<Property>> {
    let mut all = Vec::new();
    if let Some(shares) = cpu.shares().filter(|n| *n != 0) {
        all.push(("CPUWeight", Value::Number(v2::weight(shares))));
    }
    match cpu.idle() {
        Some(0) if all.is_empty() && is_idle(directory) => all = vec![AWAKE],
        Some(0) | None => {}
        Some(_) => all = vec![IDLE],
    }
    let (quota, period) = (cpu.quota().filter(|n| *n != 0), cpu.period().filter(|n| *n != 0));
    let file = directory.join("cpu.max");
    if (quota.is_none() && period.is_none()) || !file.exists() {
        return Ok(all);
    }
    // The part that is not said stays what it is.
    let (old_quota, old_period) = v2::cpu_max(&file)?;
    let quota = quota.or_else(|| old_quota.parse().ok());
    all.extend(cpu_time(quota, period.unwrap_or(old_period)));
    Ok(all)
}

/// A weight that systemd 252 and later keep for cpu.idle.
const IDLE: Property = ("CPUWeight", Value::Number(0));

/// The weight that the kernel gives to a group which is idle no more.
const AWAKE: Property = ("CPUWeight", Value::Number(100));

fn is_idle(directory: &Path) -> bool {
    gabion_see::small::read(directory.join("cpu.idle")).is_ok_and(|text| text.trim() == "1")
}

/// systemd is told of CPU time by the second.
fn cpu_time(quota: Option<i64>, period: u64) -> [Property; 2] {
    const SECOND: u64 = 1_000_000;
    let second = quota.and_then(|quota| u64::try_from(quota).ok());
    let second = second.map_or(u64::MAX, |quota| quota.saturating_mul(SECOND) / period.max(1));
    [
        ("CPUQuotaPerSecUSec", Value::Number(second)),
        ("CPUQuotaPeriodUSec", Value::Number(period)),
    ]
}

fn cpuset_properties(cpu: &LinuxCpu) -> Result<Vec<Property>> {
    [("AllowedCPUs", cpu.cpus()), ("AllowedMemoryNodes", cpu.mems())]
        .into_iter()
        .filter_map(|(name, list)| Some((name, list.as_deref().filter(|list| !list.is_empty())?)))
        .map(|(name, list)| Ok((name, mask(list)?)))
        .collect()
}

/// A bit for each number of a list, `0-3,7`: the first in the lowest bit of the first byte.
fn mask(list: &str) -> Result<Value> {
    let wrong = |_| Error::failed(Step::Cgroup, format!("{list:?} is not a list of CPUs or memory nodes"));
    let numbers = Numbers::parse(list, MOST).map_err(wrong)?;
    Ok(Value::Bytes(numbers.mask()))
}

fn io_weight(io: &LinuxBlockIo, directory: &Path) -> Option<Property> {
    let weight = io.weight().filter(|w| *w != 0)?;
    let scaled = if !directory.join("io.bfq.weight").exists() {
        v2::io_weight(weight)
    } else if weight <= 100 {
        u32::from(weight)
    } else {
        // systemd squeezes what is above its default of 100 into BFQ's range: this comes out as what was said.
        100 + u32::from(weight - 100) * 11
    };
    Some(("IOWeight", Value::Number(scaled.into())))
}

/// What `unified` says of a file, where systemd would write that file too.
fn of_a_file(file: &str, value: &str, directory: &Path) -> Result<Vec<Property>> {
    let name = match file {
        "pids.max" => "TasksMax",
        "memory.min" => "MemoryMin",
        "memory.low" => "MemoryLow",
        "memory.high" => "MemoryHigh",
        "memory.max" => "MemoryMax",
        "memory.swap.max" => "MemorySwapMax",
        "memory.zswap.max" => "MemoryZSwapMax",
        "cpu.weight" => "CPUWeight",
        "cpu.idle" => return Ok(if value == "0" { Vec::new() } else { vec![IDLE] }),
        "cpuset.cpus" => return Ok(vec![("AllowedCPUs", mask(value)?)]),
        "cpuset.mems" => return Ok(vec![("AllowedMemoryNodes", mask(value)?)]),
        "cpu.max" => return unified_cpu_time(value, directory),
        "io.weight" => {
            // Those of single devices are written by nobody else.
            let Some(weight) = io_default(value) else {
                return Ok(Vec::new());
            };
            return Ok(vec![("IOWeight", number(file, weight)?)]);
        }
        _ => return Ok(Vec::new()),
    };
    Ok(vec![(name, number(file, value)?)])
}

fn io_default(value: &str) -> Option<&str> {
    let weight = value.strip_prefix("default").unwrap_or(value).trim();
    (!weight.contains(':')).then_some(weight)
}

fn unified_cpu_time(value: &str, directory: &Path) -> Result<Vec<Property>> {
    let mut fields = value.split_whitespace();
    let quota = match fields.next() {
        None | Some("max") => None,
        Some(quota) => Some(quota.parse().map_err(|_| not_told("cpu.max", value))?),
    };
    let period = match fields.next() {
        Some(period) => period.parse().map_err(|_| not_told("cpu.max", value))?,
        None => v2::cpu_max(&directory.join("cpu.max"))?.1,
    };
    Ok(cpu_time(quota, period).into())
}

fn number(file: &str, value: &str) -> Result<Value> {
    match unified::number(value) {
        Some(Limit::Max) => Ok(Value::Number(u64::MAX)),
        Some(Limit::Of(n)) => Ok(Value::Number(n)),
        None => Err(not_told(file, value)),
    }
}

fn not_told(file: &str, value: &str) -> Error {
    let why = format!(
        "linux.resources.unified: {file} = {value:?} is no value that systemd can be told, and it would take it back"
    );
    Error::failed(Step::Cgroup, why)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_are_told_in_systemds_words() {
        let directory = std::env::temp_dir().join(format!("gabion-properties-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("cpu.max"), "max 50000\n").unwrap();
        std::fs::write(directory.join("memory.max"), "4096\n").unwrap();
        let told = |limits: serde_json::Value| {
            let all = properties(&serde_json::from_value(limits).unwrap(), &directory).unwrap();
            let words = all.iter().map(|(name, value)| match value {
                Value::Number(u64::MAX) => format!("{name}=infinity"),
                Value::Number(n) => format!("{name}={n}"),
                Value::Bytes(bytes) => format!("{name}={bytes:?}"),
                other => panic!("{name}: {other:?}"),
            });
            words.collect::<Vec<_>>().join(" ")
        };
        let results = [
            (json!({}), ""),
            (
                json!({"pids": {"limit": 0}, "memory": {"limit": 0}, "cpu": {"shares": 0}}),
                "",
            ),
            (json!({"pids": {"limit": -1}}), "TasksMax=infinity"),
            (
                json!({"memory": {"limit": 4096, "swap": 8192}}),
                "MemoryMax=4096 MemorySwapMax=4096",
            ),
            (json!({"memory": {"swap": 4096}}), "MemorySwapMax=0"),
            (
                json!({"memory": {"limit": -1, "reservation": 5}}),
                "MemoryMax=infinity MemorySwapMax=infinity MemoryLow=5",
            ),
            (json!({"cpu": {"shares": 1024}}), "CPUWeight=100"),
            (
                json!({"cpu": {"quota": 20_000}}),
                "CPUQuotaPerSecUSec=400000 CPUQuotaPeriodUSec=50000",
            ),
            (
                json!({"cpu": {"quota": -1}}),
                "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=50000",
            ),
            (
                json!({"cpu": {"period": 100_000}}),
                "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=100000",
            ),
            (json!({"cpu": {"shares": 5, "idle": 1}}), "CPUWeight=0"),
            (
                json!({"cpu": {"cpus": "0-2,9", "mems": "0"}}),
                "AllowedCPUs=[7, 2] AllowedMemoryNodes=[1]",
            ),
            (json!({"blockIO": {"weight": 1000}}), "IOWeight=10000"),
            (
                json!({"pids": {"limit": 5}, "unified": {"pids.max": "6", "memory.high": "48M", "memory.min": "max"}}),
                "MemoryHigh=50331648 MemoryMin=infinity TasksMax=6",
            ),
            (
                json!({"cpu": {"quota": 7}, "unified": {"cpu.max": "1000 2000", "cpu.weight": "9", "cpuset.cpus": "1"}}),
                "CPUQuotaPerSecUSec=500000 CPUQuotaPeriodUSec=2000 CPUWeight=9 AllowedCPUs=[2]",
            ),
            (
                json!({"unified": {"cpu.max": "max", "io.weight": "default 7", "hugetlb.2MB.max": "4"}}),
                "CPUQuotaPerSecUSec=infinity CPUQuotaPeriodUSec=50000 IOWeight=7",
            ),
            (json!({"unified": {"io.weight": "254:0 7", "cpu.idle": "1"}}), "CPUWeight=0"),
        ]
        .map(|(limits, expected)| (told(limits), expected));
        std::fs::remove_dir_all(&directory).unwrap();
        for (told, expected) in results {
            assert_eq!(told, expected);
        }
    }

    #[test]
    fn what_systemd_cannot_be_told_is_an_error() {
        for (file, value) in [
            ("memory.high", "much"),
            ("memory.max", "99999999999T"),
            ("pids.max", ""),
            ("cpu.max", "1000 x"),
            ("cpuset.cpus", "3-1"),
            ("cpuset.mems", "0,"),
        ] {
            let limits = serde_json::from_value(json!({ "unified": { file: value } })).unwrap();
            assert!(properties(&limits, Path::new("/nowhere")).is_err(), "{file} {value:?}");
        }
    }
}
