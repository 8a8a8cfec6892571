//! cgroup v2 in `io.containerd.cgroups.v2.Metrics`.

use std::fs::File;

use cgroups_rs::blkio::BlkIoController;
use cgroups_rs::cpu::CpuController;
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
        (stat.current, stat.limit) = pids_of(pids, 0);
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
        metrics.io = MessageField::some(io);
    }
    metrics
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
