//! cgroup v1 in `io.containerd.cgroups.v1.Metrics`.

use cgroups_rs::Cgroup;
use cgroups_rs::blkio::{BlkIoController, IoService};
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuacct::CpuAcctController;
use cgroups_rs::hugetlb::HugeTlbController;
use cgroups_rs::memory::{MemController, MemoryStat};
use cgroups_rs::pid::PidController;
use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::protobuf::MessageField;

use super::{TICK, keyed, pids_of, unsigned};

/// All that cgroup v1 says.
pub(super) fn metrics(cgroup: &Cgroup) -> v1::Metrics {
    let mut metrics = v1::Metrics::new();
    if let Some(pids) = cgroup.controller_of::<PidController>() {
        let mut stat = v1::PidsStat::new();
        (stat.current, stat.limit) = pids_of(pids, 0);
        metrics.pids = MessageField::some(stat);
    }
    if let Some(acct) = cgroup.controller_of::<CpuAcctController>() {
        metrics.cpu = MessageField::some(cpu_v1(acct, cgroup.controller_of::<CpuController>()));
    }
    if let Some(memory) = cgroup.controller_of::<MemController>() {
        let control = memory.memory_stat().oom_control;
        let mut oom = v1::MemoryOomControl::new();
        oom.oom_kill_disable = u64::from(control.oom_kill_disable);
        oom.under_oom = u64::from(control.under_oom);
        oom.oom_kill = control.oom_kill;
        metrics.memory_oom_control = MessageField::some(oom);
        metrics.memory = MessageField::some(memory_v1(memory));
    }
    if let Some(blkio) = cgroup.controller_of::<BlkIoController>() {
        metrics.blkio = MessageField::some(blkio_v1(blkio));
    }
    if let Some(huge) = cgroup.controller_of::<HugeTlbController>() {
        for size in huge.get_sizes() {
            let mut stat = v1::HugetlbStat::new();
            stat.usage = huge.usage_in_bytes(&size).unwrap_or_default();
            stat.max = huge.max_usage_in_bytes(&size).unwrap_or_default();
            stat.failcnt = huge.failcnt(&size).unwrap_or_default();
            stat.pagesize = size;
            metrics.hugetlb.push(stat);
        }
    }
    metrics
}

fn cpu_v1(acct: &CpuAcctController, cpu: Option<&CpuController>) -> v1::CPUStat {
    let read = acct.cpuacct();
    let stat = keyed(&read.stat);
    let get = |key: &str| stat.get(key).copied().unwrap_or_default();
    let mut usage = v1::CPUUsage::new();
    usage.total = read.usage;
    usage.user = get("user") * TICK;
    usage.kernel = get("system") * TICK;
    usage.per_cpu = read
        .usage_percpu
        .split_whitespace()
        .filter_map(|time| time.parse().ok())
        .collect();
    let mut message = v1::CPUStat::new();
    message.usage = MessageField::some(usage);
    if let Some(cpu) = cpu {
        let text = cpu.cpu().stat;
        let stat = keyed(&text);
        let get = |key: &str| stat.get(key).copied().unwrap_or_default();
        let mut throttle = v1::Throttle::new();
        throttle.periods = get("nr_periods");
        throttle.throttled_periods = get("nr_throttled");
        throttle.throttled_time = get("throttled_time");
        message.throttling = MessageField::some(throttle);
    }
    message
}

fn entry(limit: i64, usage: u64, max: u64, failcnt: u64) -> MessageField<v1::MemoryEntry> {
    let mut entry = v1::MemoryEntry::new();
    entry.limit = unsigned(limit);
    (entry.usage, entry.max, entry.failcnt) = (usage, max, failcnt);
    MessageField::some(entry)
}

fn memory_v1(memory: &MemController) -> v1::MemoryStat {
    let read = memory.memory_stat();
    let (swap, kernel, tcp) = (memory.memswap(), memory.kmem_stat(), memory.kmem_tcp_stat());
    let mut message = stat_v1(&read.stat);
    message.usage = entry(
        read.limit_in_bytes,
        read.usage_in_bytes,
        read.max_usage_in_bytes,
        read.fail_cnt,
    );
    message.swap = entry(
        swap.limit_in_bytes,
        swap.usage_in_bytes,
        swap.max_usage_in_bytes,
        swap.fail_cnt,
    );
    message.kernel = entry(
        kernel.limit_in_bytes,
        kernel.usage_in_bytes,
        kernel.max_usage_in_bytes,
        kernel.fail_cnt,
    );
    message.kernel_tcp = entry(
        tcp.limit_in_bytes,
        tcp.usage_in_bytes,
        tcp.max_usage_in_bytes,
        tcp.fail_cnt,
    );
    message
}

fn stat_v1(stat: &MemoryStat) -> v1::MemoryStat {
    v1::MemoryStat {
        cache: stat.cache,
        rss: stat.rss,
        rss_huge: stat.rss_huge,
        mapped_file: stat.mapped_file,
        dirty: stat.dirty,
        writeback: stat.writeback,
        pg_pg_in: stat.pgpgin,
        pg_pg_out: stat.pgpgout,
        pg_fault: stat.pgfault,
        pg_maj_fault: stat.pgmajfault,
        inactive_anon: stat.inactive_anon,
        active_anon: stat.active_anon,
        inactive_file: stat.inactive_file,
        active_file: stat.active_file,
        unevictable: stat.unevictable,
        hierarchical_memory_limit: unsigned(stat.hierarchical_memory_limit),
        hierarchical_swap_limit: unsigned(stat.hierarchical_memsw_limit),
        total_cache: stat.total_cache,
        total_rss: stat.total_rss,
        total_rss_huge: stat.total_rss_huge,
        total_mapped_file: stat.total_mapped_file,
        total_dirty: stat.total_dirty,
        total_writeback: stat.total_writeback,
        total_pg_pg_in: stat.total_pgpgin,
        total_pg_pg_out: stat.total_pgpgout,
        total_pg_fault: stat.total_pgfault,
        total_pg_maj_fault: stat.total_pgmajfault,
        total_inactive_anon: stat.total_inactive_anon,
        total_active_anon: stat.total_active_anon,
        total_inactive_file: stat.total_inactive_file,
        total_active_file: stat.total_active_file,
        total_unevictable: stat.total_unevictable,
        ..v1::MemoryStat::default()
    }
}

fn blkio_v1(blkio: &BlkIoController) -> v1::BlkIOStat {
    let throttle = blkio.blkio().throttle;
    let mut message = v1::BlkIOStat::new();
    message.io_service_bytes_recursive = entries(&throttle.io_service_bytes_recursive);
    message.io_serviced_recursive = entries(&throttle.io_serviced_recursive);
    message
}

fn entries(services: &[IoService]) -> Vec<v1::BlkIOEntry> {
    let number = |value: i16| u64::try_from(value).unwrap_or_default();
    let of = |service: &IoService| {
        [
            ("Read", service.read),
            ("Write", service.write),
            ("Sync", service.sync),
            ("Async", service.r#async),
            ("Discard", service.discard),
            ("Total", service.total),
        ]
        .map(|(op, value)| v1::BlkIOEntry {
            op: op.to_owned(),
            major: number(service.major),
            minor: number(service.minor),
            value,
            ..v1::BlkIOEntry::default()
        })
    };
    services.iter().flat_map(of).collect()
}
