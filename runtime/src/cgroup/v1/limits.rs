//! Limits, file by file, in runc's order.

use std::path::Path;

use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxNetwork, LinuxPids, LinuxResources,
    LinuxThrottleDevice,
};

use super::Directories;
use crate::cgroup::limits::rdma_lines;
use crate::cgroup::put;
use gabion_see::error::{Error, Result, Step};

impl Directories {
    /// Sets everything that is said. Devices are left alone: see `devices`.
    pub(in crate::cgroup) fn write(&self, resources: &LinuxResources) -> Result<()> {
        if resources.unified().as_ref().is_some_and(|u| !u.is_empty()) {
            return Err(Error::failed(
                Step::Cgroup,
                "resources.unified needs cgroup v2, and this host has v1",
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
            put(&limit_file, &limit.to_string())?;
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
        if memory.disable_oom_killer() == Some(true) {
            put(&directory.join("memory.oom_control"), "1")?;
        }
        match memory.swappiness() {
            Some(swappiness) => put(&directory.join("memory.swappiness"), &swappiness.to_string()),
            None => Ok(()),
        }
    }

    fn cpu(&self, cpu: &LinuxCpu) -> Result<()> {
        let said = |n: Option<u64>| n.filter(|n| *n != 0).map(|n| n.to_string());
        let said_signed = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.to_string());
        let mut writes = vec![
            ("cpu.shares", said(cpu.shares())),
            // A runtime must fit into the period that holds already.
            ("cpu.rt_period_us", said(cpu.realtime_period())),
            ("cpu.rt_runtime_us", said_signed(cpu.realtime_runtime())),
        ];
        let (period, quota) = (said(cpu.period()), said_signed(cpu.quota()));
        let burst = cpu.burst().map(|n| n.to_string());
        writes.push(("cpu.idle", cpu.idle().filter(|n| *n != 0).map(|n| n.to_string())));
        if writes.iter().all(|(_, v)| v.is_none()) && period.is_none() && quota.is_none() && burst.is_none() {
            return Ok(());
        }
        let directory = self.need("cpu")?;
        for (file, value) in writes {
            if let Some(value) = value {
                put(&directory.join(file), &value)?;
            }
        }
        Self::quota(&directory, period.as_deref(), quota.as_deref())?;
        burst.map_or(Ok(()), |burst| put(&directory.join("cpu.cfs_burst_us"), &burst))
    }

    /// Below a parent with a quota of its own one order fails and the other does not.
    fn quota(directory: &Path, period: Option<&str>, quota: Option<&str>) -> Result<()> {
        let (period_file, quota_file) = (directory.join("cpu.cfs_period_us"), directory.join("cpu.cfs_quota_us"));
        let mut later = None;
        if let Some(period) = period
            && let Err(error) = put(&period_file, period)
        {
            let invalid = matches!(&error, Error::File { source, .. } if source.raw_os_error() == Some(libc::EINVAL));
            if !invalid || quota.is_none() {
                return Err(error);
            }
            later = Some(period);
        }
        if let Some(quota) = quota {
            put(&quota_file, quota)?;
        }
        later.map_or(Ok(()), |period| put(&period_file, period))
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
