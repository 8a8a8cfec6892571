//! Metrics of a container's cgroup in containerd's messages.
//!
//! They are read with cgroups-rs, in a process of its own (this same binary, `-stats PID`): cgroups-rs panics where a cgroup goes
//! away while it is read, and reading allocates more than all the rest of the shim. Neither may touch the process that holds the
//! containers.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};

use cgroups_rs::blkio::{BlkIoController, IoService};
use cgroups_rs::cgroup::get_cgroups_relative_paths_by_pid;
use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuacct::CpuAcctController;
use cgroups_rs::hierarchies;
use cgroups_rs::hugetlb::HugeTlbController;
use cgroups_rs::memory::{MemController, MemoryStat};
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, Controller, MaxValue, flat_keyed_to_hashmap};
use containerd_shim_protos::cgroups::metrics as v1;
use containerd_shim_protos::cgroups_v2::metrics as v2;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use nix::unistd::Pid;

use crate::error::{Error, Result};
use crate::exits::Exits;
use crate::reactor::{both, within};
use crate::runtime::{pipe, read_all};

/// The reader's time.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);
/// `USER_HZ`: the unit of `cpuacct.stat` in nanoseconds. It is 100 Hz on every architecture that Rust and containerd share.
const TICK: u64 = 10_000_000;

/// The metrics of the cgroup that the process `pid` is in, as the answer to `Stats`.
pub async fn of(pid: Pid, exits: &Exits) -> Result<Any> {
    let (read, write) = pipe()?;
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["-stats", &pid.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::from(write))
        .stderr(Stdio::null());
    let child = command
        .spawn()
        .map_err(|error| Error::system("running the reader of cgroups", error))?;
    drop(command);
    let exit = exits.child(Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX)));
    let Some((exit, bytes)) = within(LIMIT, both(exit.wait(), read_all(read))).await else {
        return Err(Error::Metrics);
    };
    let bytes = bytes?;
    let (version, message) = bytes.split_first().ok_or(Error::Metrics)?;
    let name = match (exit.status, version) {
        (0, 1) => "io.containerd.cgroups.v1.Metrics",
        (0, 2) => "io.containerd.cgroups.v2.Metrics",
        _ => return Err(Error::Metrics),
    };
    Ok(Any {
        type_url: name.to_owned(),
        value: message.to_vec(),
        ..Any::default()
    })
}

/// The reader: writes the version of the cgroups and the message to `out`.
pub fn print(pid: u32, out: &mut impl Write) -> Result<()> {
    let paths = get_cgroups_relative_paths_by_pid(pid).map_err(|_| Error::Metrics)?;
    let hierarchy = hierarchies::auto();
    let (version, message) = if hierarchy.v2() {
        let path = paths.get("").ok_or(Error::Metrics)?;
        let cgroup = Cgroup::load(hierarchy, path.trim_start_matches('/'));
        (2, metrics_v2(&cgroup).write_to_bytes()?)
    } else {
        let cgroup = Cgroup::load_with_relative_paths(hierarchy, ".", paths);
        (1, metrics_v1(&cgroup).write_to_bytes()?)
    };
    let written = out.write_all(&[version]).and_then(|()| out.write_all(&message));
    written.map_err(|error| Error::system("writing metrics", error))
}

fn metrics_v1(cgroup: &Cgroup) -> v1::Metrics {
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

/// Current and limit; `unlimited` where there is none.
fn pids_of(pids: &PidController, unlimited: u64) -> (u64, u64) {
    let limit = match pids.get_pid_max() {
        Ok(MaxValue::Value(limit)) => u64::try_from(limit).unwrap_or(unlimited),
        _ => unlimited,
    };
    (pids.get_pid_current().unwrap_or_default(), limit)
}

/// The numbers of a flat-keyed text (`key value` lines).
fn keyed<'a>(text: &'a str) -> HashMap<&'a str, u64> {
    let pair = |line: &'a str| {
        line.split_once(' ')
            .and_then(|(key, value)| Some((key, value.trim().parse().ok()?)))
    };
    text.lines().filter_map(pair).collect()
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

/// The kernel's «unlimited» is the largest number of pages; a negative one never comes, and would be 0.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
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

fn metrics_v2(cgroup: &Cgroup) -> v2::Metrics {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_keyed_text() {
        assert_eq!(keyed("a 1\nb x\nc 3\n"), HashMap::from([("a", 1), ("c", 3)]));
    }

    #[test]
    fn our_own_cgroup_can_be_read() {
        let mut out = Vec::new();
        print(std::process::id(), &mut out).unwrap();
        let total = match out[0] {
            1 => v1::Metrics::parse_from_bytes(&out[1..]).unwrap().cpu.usage.total,
            _ => v2::Metrics::parse_from_bytes(&out[1..]).unwrap().cpu.usage_usec,
        };
        assert!(total > 0);
        assert!(matches!(print(u32::MAX, &mut Vec::new()), Err(Error::Metrics)));
    }
}
