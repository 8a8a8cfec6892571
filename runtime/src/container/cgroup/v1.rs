//! Limits on cgroup v1, file by file.
//!
//! libcontainer's code is not used for these: it opens the device list on every write, knows no weights of single devices, and
//! fails on kernel memory, which no kernel limits any more. The order in which files are written is runc's.

use std::fs;
use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxHugepageLimit, LinuxMemory, LinuxNetwork,
    LinuxPids, LinuxResources, LinuxThrottleDevice,
};

use super::put;
use crate::error::{Error, Result, Step};
use crate::host::Delegation;

/// What runc lets every container have: nodes of any number, the devices of config-linux.md, pseudo-terminals, /dev/net/tun.
const NEEDED: [&str; 11] = [
    "c *:* m",
    "b *:* m",
    "c 1:3 rwm",
    "c 1:8 rwm",
    "c 1:7 rwm",
    "c 5:0 rwm",
    "c 1:5 rwm",
    "c 1:9 rwm",
    "c 136:* rwm",
    "c 5:2 rwm",
    "c 10:200 rwm",
];

/// The same as rules, for v2's program.
pub(super) fn needed() -> Vec<LinuxDeviceCgroup> {
    let parsed = NEEDED.iter().map(|line| {
        let mut fields = line.split([' ', ':']);
        let number = |text: Option<&str>| text.and_then(|t| t.parse::<i64>().ok());
        let typ = if fields.next() == Some("b") {
            LinuxDeviceType::B
        } else {
            LinuxDeviceType::C
        };
        let mut rule = LinuxDeviceCgroup::default();
        rule.set_allow(true)
            .set_typ(Some(typ))
            .set_major(number(fields.next()))
            .set_minor(number(fields.next()));
        rule.set_access(fields.next().map(str::to_owned));
        rule
    });
    parsed.collect()
}

/// How often a freeze is tried, a millisecond apart.
const PATIENCE: u32 = 2000;

/// The container's directories, one for each controller.
#[derive(Debug)]
pub(super) struct Directories {
    /// Relative to each hierarchy's mount.
    pub(super) place: PathBuf,
    pub(super) root: PathBuf,
    /// The hierarchies that it is made in.
    pub(super) delegation: Delegation,
}

impl Directories {
    fn of(&self, controller: &str) -> PathBuf {
        self.root.join(controller).join(&self.place)
    }

    /// The controller's directory, for a limit that is asked for.
    fn need(&self, controller: &str) -> Result<PathBuf> {
        let directory = self.of(controller);
        if self.delegation.has(controller) && directory.is_dir() {
            return Ok(directory);
        }
        let why = format!("a limit of the {controller} controller is asked for, and this caller may not use it");
        Err(Error::failed(Step::Cgroup, why))
    }

    /// Makes the directory in every hierarchy and puts the process there.
    pub(super) fn add(&self, pid: Pid) -> Result<()> {
        for top in super::hierarchies(&self.root)? {
            let name = top.file_name().unwrap_or_default().to_string_lossy();
            if !self.delegation.has(&name) {
                continue;
            }
            let is = |other: &str| name == other;
            if is("systemd") || is("unified") {
                self.join_unlimited(&top, pid)?;
                continue;
            }
            let directory = top.join(&self.place);
            make(&directory)?;
            if is("cpuset") {
                self.inherit_cpuset(&top)?;
            }
            put(&directory.join("cgroup.procs"), &pid.to_string())?;
        }
        Ok(())
    }

    /// A hierarchy without limits: in systemd's own the container would stay a part of its engine's service, and end with it.
    fn join_unlimited(&self, top: &Path, pid: Pid) -> Result<()> {
        let directory = top.join(&self.place);
        let joined =
            fs::create_dir_all(&directory).and_then(|()| fs::write(directory.join("cgroup.procs"), pid.to_string()));
        match joined {
            // Not ours to write: nothing that was decided depends on these.
            Err(e) if !matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => {
                Err(Error::file("join", directory)(e))
            }
            _ => Ok(()),
        }
    }

    /// A cpuset without processors and memory nodes takes no process: each level gets its parent's (cpuset(7)).
    fn inherit_cpuset(&self, top: &Path) -> Result<()> {
        let mut at = top.to_path_buf();
        for part in &self.place {
            let parent = at.clone();
            at.push(part);
            for file in ["cpuset.cpus", "cpuset.mems"] {
                let own = fs::read_to_string(at.join(file)).map_err(Error::file("read", at.join(file)))?;
                if own.trim().is_empty() {
                    let theirs =
                        fs::read_to_string(parent.join(file)).map_err(Error::file("read", parent.join(file)))?;
                    put(&at.join(file), theirs.trim())?;
                }
            }
        }
        Ok(())
    }

    /// Stops every process. The kernel may need several tries while they fork (freezer-subsystem.rst).
    pub(super) fn freeze(&self) -> Result<()> {
        let file = self.need("freezer")?.join("freezer.state");
        for _ in 0..PATIENCE {
            put(&file, "FROZEN")?;
            let state = fs::read_to_string(&file).map_err(Error::file("read", &file))?;
            if state.trim() == "FROZEN" {
                return Ok(());
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        put(&file, "THAWED")?;
        Err(Error::failed(Step::Cgroup, "the kernel does not freeze the container"))
    }

    /// libcontainer's would make the directory again that `delete` has just removed.
    pub(super) fn thaw(&self) -> Result<()> {
        let file = self.of("freezer").join("freezer.state");
        if !self.delegation.has("freezer") {
            return Ok(());
        }
        match fs::write(&file, "THAWED") {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                Err(Error::file("write", file)(e))
            }
            _ => Ok(()),
        }
    }

    /// Sets everything that is said. Devices are left alone: see `devices`.
    pub(super) fn write(&self, resources: &LinuxResources) -> Result<()> {
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

    /// The device list: the spec's rules, and behind them what every container needs, as runc has it.
    pub(super) fn devices_as_asked(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        // Rules that every engine writes, and that a user can have nowhere (runc does the same).
        if !self.delegation.has("devices") {
            return Ok(());
        }
        rules.iter().try_for_each(|rule| self.device(rule))?;
        let file = self.need("devices")?.join("devices.allow");
        NEEDED.iter().try_for_each(|rule| put(&file, rule))
    }

    /// The device list from nothing: the vetted rules and no others.
    pub(super) fn devices_as_vetted(&self, rules: &[LinuxDeviceCgroup]) -> Result<()> {
        if rules.is_empty() && !self.delegation.has("devices") {
            return Ok(());
        }
        put(&self.need("devices")?.join("devices.deny"), "a")?;
        // In their order, denials too: what the spec takes out of what is allowed.
        rules.iter().try_for_each(|rule| self.device(rule))
    }

    fn device(&self, rule: &LinuxDeviceCgroup) -> Result<()> {
        let file = if rule.allow() { "devices.allow" } else { "devices.deny" };
        put(&self.need("devices")?.join(file), &rule.to_string())
    }
}

fn get(path: &Path) -> Result<i64> {
    let text = fs::read_to_string(path).map_err(Error::file("read", path))?;
    Ok(text.trim().parse().unwrap_or(i64::MAX))
}

/// Most often only the last level is missing.
fn make(directory: &Path) -> Result<()> {
    match fs::create_dir(directory) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(directory).map_err(Error::file("make", directory))
        }
        Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => Err(Error::File {
            doing: "make",
            path: directory.to_path_buf(),
            source: e,
        }),
        _ => Ok(()),
    }
}
