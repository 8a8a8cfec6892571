//! cgroup v2 in `io.containerd.cgroups.v2.Metrics`.

use std::fs::{self, File};
use std::path::Path;

use cgroups_rs::blkio::BlkIoController;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::hugetlb::HugeTlbController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, Controller, flat_keyed_to_hashmap};
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::MessageField;

use super::{keyed, pids_of, unsigned};

/// All that cgroup v2 says.
pub(super) fn metrics(cgroup: &Cgroup) -> v2::Metrics {
    let mut metrics = v2::Metrics::new();
    if let Some(pids) = cgroup.controller_of::<PidController>() {
        let mut stat = v2::PidsStat::new();
        (stat.current, stat.limit) = pids_of(pids, u64::MAX);
        metrics.pids = MessageField::some(stat);
    }
    if let Some(cpu) = cgroup.controller_of::<CpuController>() {
        let text = cpu.cpu().stat;
        let stat = keyed(&text);
        let get = |key: &str| stat.get(key).copied().unwrap_or_default();
        metrics.cpu = MessageField::some(v2::CPUStat {
            usage_usec: get("usage_usec"),
            user_usec: get("user_usec"),
            system_usec: get("system_usec"),
            nr_periods: get("nr_periods"),
            nr_throttled: get("nr_throttled"),
            throttled_usec: get("throttled_usec"),
            nr_bursts: get("nr_bursts"),
            burst_usec: get("burst_usec"),
            psi: pressure(&cpu.path().join("cpu.pressure")),
            ..v2::CPUStat::default()
        });
    }
    if let Some(memory) = cgroup.controller_of::<MemController>() {
        metrics.memory = MessageField::some(memory_v2(memory));
        metrics.memory_events = MessageField::some(memory_events(memory));
    }
    if let Some(blkio) = cgroup.controller_of::<BlkIoController>() {
        let mut io = v2::IOStat::new();
        let number = |value: i16| u64::try_from(value).unwrap_or_default();
        io.usage.extend(blkio.blkio().io_stat.iter().map(|stat| v2::IOEntry {
            major: number(stat.major),
            minor: number(stat.minor),
            rbytes: stat.rbytes,
            wbytes: stat.wbytes,
            rios: stat.rios,
            wios: stat.wios,
            ..v2::IOEntry::default()
        }));
        io.psi = pressure(&blkio.path().join("io.pressure"));
        metrics.io = MessageField::some(io);
    }
    if let Some(huge) = cgroup.controller_of::<HugeTlbController>() {
        metrics
            .hugetlb
            .extend(huge.get_sizes().into_iter().map(|size| v2::HugeTlbStat {
                current: huge.usage_in_bytes(&size).unwrap_or_default(),
                // «max» is no number.
                max: huge.limit_in_bytes(&size).unwrap_or(u64::MAX),
                failcnt: huge.failcnt(&size).unwrap_or_default(),
                pagesize: size,
                ..v2::HugeTlbStat::default()
            }));
    }
    metrics
}

/// How long processes waited for what there was not enough of; nothing on a kernel that does not count it.
fn pressure(file: &Path) -> MessageField<v2::PSIStats> {
    let Ok(text) = fs::read_to_string(file) else {
        return MessageField::none();
    };
    let line = |kind: &str| {
        let words = text.lines().find_map(|line| line.strip_prefix(kind))?;
        let number = |key: &str| words.split_whitespace().find_map(|word| word.strip_prefix(key));
        let share = |key: &str| number(key)?.parse().ok();
        Some(v2::PSIData {
            avg10: share("avg10=")?,
            avg60: share("avg60=")?,
            avg300: share("avg300=")?,
            total: number("total=")?.parse().ok()?,
            ..v2::PSIData::default()
        })
    };
    MessageField::some(v2::PSIStats {
        some: line("some").into(),
        full: line("full").into(),
        ..v2::PSIStats::default()
    })
}

fn memory_v2(memory: &MemController) -> v2::MemoryStat {
    let (read, swap) = (memory.memory_stat(), memory.memswap());
    // cgroups-rs says i64::MAX for «max», containerd u64::MAX.
    let limit = |value: i64| if value == i64::MAX { u64::MAX } else { unsigned(value) };
    let get = |key: &str| read.stat.raw.get(key).copied().unwrap_or_default();
    v2::MemoryStat {
        anon: get("anon"),
        file: get("file"),
        kernel_stack: get("kernel_stack"),
        slab: get("slab"),
        sock: get("sock"),
        shmem: get("shmem"),
        file_mapped: get("file_mapped"),
        file_dirty: get("file_dirty"),
        file_writeback: get("file_writeback"),
        anon_thp: get("anon_thp"),
        inactive_anon: get("inactive_anon"),
        active_anon: get("active_anon"),
        inactive_file: get("inactive_file"),
        active_file: get("active_file"),
        unevictable: get("unevictable"),
        slab_reclaimable: get("slab_reclaimable"),
        slab_unreclaimable: get("slab_unreclaimable"),
        pgfault: get("pgfault"),
        pgmajfault: get("pgmajfault"),
        workingset_refault: get("workingset_refault_anon") + get("workingset_refault_file"),
        workingset_activate: get("workingset_activate_anon") + get("workingset_activate_file"),
        workingset_nodereclaim: get("workingset_nodereclaim"),
        pgrefill: get("pgrefill"),
        pgscan: get("pgscan"),
        pgsteal: get("pgsteal"),
        pgactivate: get("pgactivate"),
        pgdeactivate: get("pgdeactivate"),
        pglazyfree: get("pglazyfree"),
        pglazyfreed: get("pglazyfreed"),
        thp_fault_alloc: get("thp_fault_alloc"),
        thp_collapse_alloc: get("thp_collapse_alloc"),
        usage: read.usage_in_bytes,
        usage_limit: limit(read.limit_in_bytes),
        max_usage: read.max_usage_in_bytes,
        swap_usage: swap.usage_in_bytes,
        swap_limit: limit(swap.limit_in_bytes),
        swap_max_usage: swap.max_usage_in_bytes,
        psi: pressure(&memory.path().join("memory.pressure")),
        ..v2::MemoryStat::default()
    }
}

fn memory_events(memory: &MemController) -> v2::MemoryEvents {
    let file = File::open(memory.path().join("memory.events"));
    let map = file
        .ok()
        .and_then(|file| flat_keyed_to_hashmap(file).ok())
        .unwrap_or_default();
    let get = |key: &str| map.get(key).copied().map(unsigned).unwrap_or_default();
    v2::MemoryEvents {
        low: get("low"),
        high: get("high"),
        max: get("max"),
        oom: get("oom"),
        oom_kill: get("oom_kill"),
        oom_group_kill: get("oom_group_kill"),
        ..v2::MemoryEvents::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_of_both_kinds() {
        let file = std::env::temp_dir().join(format!("gabion-pressure-{}", std::process::id()));
        let text = "some avg10=1.50 avg60=0.00 avg300=0.25 total=123\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        fs::write(&file, text).unwrap();
        let read = pressure(&file);
        fs::remove_file(&file).unwrap();
        assert_eq!(
            (read.some.avg10.to_string(), read.some.total, read.full.total),
            ("1.5".to_owned(), 123, 7)
        );
        assert!(pressure(&file).is_none(), "a kernel without it");
    }
}
