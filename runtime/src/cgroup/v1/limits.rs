//! Limits, file by file, in runc's order.

use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxResources,
    LinuxThrottleDevice,
};

use super::Directories;
use crate::cgroup::limits::rdma_lines;
use crate::cgroup::{put, put_in_any_order};
use gabion_see::error::{Error, Result, Step};

impl Directories {
    /// Sets everything that is said. Devices are left alone: see `devices`.
    pub(in crate::cgroup) fn write(&self, resources: &LinuxResources) -> Result<()> {
        if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
            return Err(Error::failed(
                Step::Cgroup,
                "invalid configuration: resources.unified needs cgroup v2, and this host has v1",
            ));
        }
        if let Some(pids) = resources.pids().filter(|p| p.limit() != 0) {
            self.pids(pids)?;
        }
        if let Some(memory) = resources.memory() {
            self.memory(memory)?;
        }
        if let Some(cpu) = resources.cpu() {
            self.cpu(cpu)?;
            self.cpuset(cpu)?;
        }
        if let Some(io) = resources.block_io() {
            self.block_io(io)?;
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            self.huge_pages(limit)?;
        }
        for line in rdma_lines(resources)? {
            put(&self.need("rdma")?.join("rdma.max"), &line)?;
        }
        resources
            .network()
            .as_ref()
            .map_or(Ok(()), |network| self.network(network))
    }

    fn pids(&self, pids: LinuxPids) -> Result<()> {
        let limit = if pids.limit() > 0 {
            pids.limit().to_string()
        } else {
            "max".to_owned()
        };
        put(&self.need("pids")?.join("pids.max"), &limit)
    }

    fn memory(&self, memory: &LinuxMemory) -> Result<()> {
        let said = |n: Option<i64>| n.filter(|n| *n != 0);
        let (limit, mut swap) = (said(memory.limit()), said(memory.swap()));
        let wants = [limit, swap, said(memory.reservation()), said(memory.kernel_tcp())];
        if wants.iter().all(Option::is_none) && memory.swappiness().is_none() && memory.disable_oom_killer().is_none() {
            return Ok(());
        }
        let directory = self.need("memory")?;
        let (limit_file, swap_file) = (
            directory.join("memory.limit_in_bytes"),
            directory.join("memory.memsw.limit_in_bytes"),
        );
        // Unlimited memory within limited swap is no state that the kernel knows.
        if limit == Some(-1) && swap.is_none() && swap_file.exists() {
            swap = Some(-1);
        }
        // Memory may never exceed memory and swap: what grows goes first.
        let swap_first = matches!((limit, swap), (Some(_), Some(swap)) if swap == -1 || get(&limit_file)? < swap);
        if let Some(swap) = swap.filter(|_| swap_first) {
            put(&swap_file, &swap.to_string())?;
        }
        if let Some(limit) = limit {
            put(&limit_file, &limit.to_string()).map_err(|e| in_use(e, &directory, limit))?;
        }
        if let Some(swap) = swap.filter(|_| !swap_first) {
            put(&swap_file, &swap.to_string())?;
        }
        for (file, value) in [
            ("memory.soft_limit_in_bytes", said(memory.reservation())),
            ("memory.kmem.tcp.limit_in_bytes", said(memory.kernel_tcp())),
        ] {
            if let Some(value) = value {
                put(&directory.join(file), &value.to_string())?;
            }
        }
        let oom = directory.join("memory.oom_control");
        match memory.disable_oom_killer() {
            Some(true) => put(&oom, "1")?,
            // Engines say false by default: only what was off is switched on again, and where there is no such file nothing was.
            Some(false) if oom.exists() && said_of(&oom, "oom_kill_disable")? == "1" => put(&oom, "0")?,
            Some(false) | None => {}
        }
        match memory.swappiness() {
            Some(swappiness) => put(&directory.join("memory.swappiness"), &swappiness.to_string()),
            None => Ok(()),
        }
    }

    /// Which of these the kernel takes first hangs on what they are: a period that shrinks below its quota comes after it, a runtime must
    /// fit into the period, burst into the quota, and an idle group takes no shares.
    fn cpu(&self, cpu: &LinuxCpu) -> Result<()> {
        let said = |n: Option<u64>| n.filter(|n| *n != 0).map(|n| n.to_string());
        let said_signed = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.to_string());
        let (waking, idle) = match cpu.idle() {
            Some(0) => (Some("0".to_owned()), None),
            idle => (None, idle.map(|n| n.to_string())),
        };
        let writes = [
            ("cpu.idle", waking),
            ("cpu.shares", said(cpu.shares())),
            ("cpu.rt_period_us", said(cpu.realtime_period())),
            ("cpu.rt_runtime_us", said_signed(cpu.realtime_runtime())),
            ("cpu.cfs_period_us", said(cpu.period())),
            ("cpu.cfs_quota_us", said_signed(cpu.quota())),
            ("cpu.cfs_burst_us", cpu.burst().map(|n| n.to_string())),
            ("cpu.idle", idle),
        ];
        let said: Vec<_> = writes
            .into_iter()
            .filter_map(|(file, value)| Some((file, value?)))
            .collect();
        if said.is_empty() {
            return Ok(());
        }
        let directory = self.need("cpu")?;
        put_in_any_order(
            said.into_iter()
                .map(|(file, value)| (directory.join(file), value))
                .collect(),
        )
    }

    fn cpuset(&self, cpu: &LinuxCpu) -> Result<()> {
        for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(list) = list.as_deref().filter(|l| !l.is_empty()) {
                put(&self.need("cpuset")?.join(file), list)?;
            }
        }
        Ok(())
    }

    fn block_io(&self, io: &LinuxBlockIo) -> Result<()> {
        let mut lines: Vec<([&str; 2], String)> = Vec::new();
        let weights = ["blkio.weight", "blkio.bfq.weight"];
        let said = |n: Option<u16>| n.filter(|n| *n != 0);
        lines.extend(said(io.weight()).map(|w| (weights, w.to_string())));
        lines.extend(said(io.leaf_weight()).map(|w| (["blkio.leaf_weight"; 2], w.to_string())));
        for device in io.weight_device().iter().flatten() {
            let number = format!("{}:{}", device.major(), device.minor());
            let devices = ["blkio.weight_device", "blkio.bfq.weight_device"];
            lines.extend(said(device.weight()).map(|w| (devices, format!("{number} {w}"))));
            lines
                .extend(said(device.leaf_weight()).map(|w| (["blkio.leaf_weight_device"; 2], format!("{number} {w}"))));
        }
        for (file, devices) in [
            ("blkio.throttle.read_bps_device", io.throttle_read_bps_device()),
            ("blkio.throttle.write_bps_device", io.throttle_write_bps_device()),
            ("blkio.throttle.read_iops_device", io.throttle_read_iops_device()),
            ("blkio.throttle.write_iops_device", io.throttle_write_iops_device()),
        ] {
            let throttle = |d: &LinuxThrottleDevice| ([file; 2], format!("{}:{} {}", d.major(), d.minor(), d.rate()));
            lines.extend(devices.iter().flatten().map(throttle));
        }
        for ([file, other], line) in lines {
            let directory = self.need("blkio")?;
            // Which one is there depends on the I/O scheduler that the kernel has.
            let path = if directory.join(file).exists() {
                directory.join(file)
            } else {
                directory.join(other)
            };
            put(&path, &line)?;
        }
        Ok(())
    }

    fn huge_pages(&self, limit: &LinuxHugepageLimit) -> Result<()> {
        let size = limit.page_size();
        if !size.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::failed(Step::Cgroup, format!("{size:?} is not a page size")));
        }
        put(
            &self.need("hugetlb")?.join(format!("hugetlb.{size}.limit_in_bytes")),
            &limit.limit().to_string(),
        )
    }

    fn network(&self, network: &LinuxNetwork) -> Result<()> {
        if let Some(class) = network.class_id().filter(|c| *c != 0) {
            put(&self.need("net_cls")?.join("net_cls.classid"), &class.to_string())?;
        }
        for priority in network.priorities().iter().flatten() {
            let line = format!("{} {}", priority.name(), priority.priority());
            put(&self.need("net_prio")?.join("net_prio.ifpriomap"), &line)?;
        }
        Ok(())
    }
}

fn get(path: &Path) -> Result<i64> {
    let text = gabion_see::small::read(path).map_err(Error::file("read", path))?;
    Ok(text.trim().parse().unwrap_or(i64::MAX))
}

/// Names a limit that the processes do not fit into: the kernel takes what it can from them, and says EBUSY of the rest.
fn in_use(error: Error, directory: &Path, limit: i64) -> Error {
    let busy = matches!(&error, Error::File { source, .. } if source.raw_os_error() == Some(libc::EBUSY));
    match get(&directory.join("memory.usage_in_bytes")) {
        Ok(usage) if busy => {
            let why = format!("unable to set memory limit to {limit} (current usage: {usage}): it is too low");
            Error::failed(Step::Cgroup, why)
        }
        _ => error,
    }
}

/// A line of a file with a name and a number in each.
fn said_of(path: &Path, name: &str) -> Result<String> {
    let text = gabion_see::small::read(path).map_err(Error::file("read", path))?;
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.split_whitespace().next());
    Ok(number.unwrap_or_default().to_owned())
}
