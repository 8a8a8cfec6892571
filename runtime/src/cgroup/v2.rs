//! Limits on cgroup v2, file by file, in runc's order and with its conversions: the runtime spec speaks of v1's.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::fcntl::OFlag;
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxHugepageLimit, LinuxMemory, LinuxResources, LinuxThrottleDevice};

use super::limits::rdma_lines;
use super::{put, put_in_any_order, refuse_frozen, relative};
use gabion_see::cgroup::members::place_of;
use gabion_see::error::{Error, Result, Step};

/// How long a freeze may take: the kernel stops each process at its next way out of the kernel.
const PATIENCE: Duration = Duration::from_secs(10);

/// The kernel's period, in microseconds, where nobody sets another (cgroup-v2.rst, cpu.max).
const PERIOD: u64 = 100_000;

/// The container's directory.
#[derive(Debug)]
pub(super) struct Directory {
    /// Relative to the mount.
    pub(super) place: PathBuf,
    pub(super) root: PathBuf,
}

impl Directory {
    fn path(&self) -> PathBuf {
        self.root.join(&self.place)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// The controller's file, for a limit that is asked for.
    fn need(&self, controller: &str, file: &str) -> Result<PathBuf> {
        let path = self.file(file);
        if path.exists() {
            return Ok(path);
        }
        let why = format!(
            "{file} is asked for, and the {controller} controller does not have it in {}",
            self.path().display()
        );
        Err(Error::failed(Step::Cgroup, why))
    }

    /// Makes the directory, with every controller of the directories above it.
    pub(super) fn make(&self) -> Result<()> {
        let mut at = self.root.clone();
        for part in &self.place {
            pass_on_controllers(&at)?;
            at.push(part);
            match fs::create_dir(&at) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => return Err(Error::file("make", &at)(e)),
                _ => {}
            }
        }
        Ok(())
    }

    /// The directory itself, as clone3(2) wants it.
    pub(super) fn open(&self) -> Result<OwnedFd> {
        let path = self.path();
        let opened = gabion_sys::open_path(&path, OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW);
        opened.map_err(|errno| Error::file("open", path)(errno.into()))
    }

    pub(super) fn join(&self, pid: Pid) -> Result<()> {
        put(&self.file("cgroup.procs"), &pid.to_string())
    }

    /// Puts the process into the directory, which is there. Where the container has made groups of its own, nobody may be in the
    /// one above them any more (cgroup-v2.rst, «no internal processes»): the process goes to where `init` is.
    pub(super) fn join_beside(&self, pid: Pid, init: Pid) -> Result<()> {
        let joined = self.join(pid);
        let busy = matches!(&joined, Err(Error::File { source, .. }) if source.raw_os_error() == Some(libc::EBUSY));
        if !busy {
            return joined;
        }
        let beside = self.beside(init)?;
        if beside == self.place {
            return joined;
        }
        put(&self.root.join(beside).join("cgroup.procs"), &pid.to_string())
    }

    /// Where `init` is: the directory, or one below it.
    pub(super) fn beside(&self, init: Pid) -> Result<PathBuf> {
        let listing = format!("/proc/{init}/cgroup");
        let text = fs::read_to_string(&listing).map_err(Error::file("read", listing))?;
        let theirs = place_of(&text, "").map(relative);
        let theirs = theirs.filter(|at| at.starts_with(&self.place));
        Ok(theirs.unwrap_or(&self.place).to_path_buf())
    }

    /// Stops every process.
    pub(super) fn freeze(&self) -> Result<()> {
        let file = self.file("cgroup.freeze");
        put(&file, "1")?;
        let events = self.file("cgroup.events");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&events).map_err(Error::file("read", &events))?;
            if text.lines().any(|line| line == "frozen 1") {
                return Ok(());
            }
            if Instant::now() >= deadline {
                put(&file, "0")?;
                return Err(Error::failed(Step::Cgroup, "the kernel does not freeze the container"));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// cgroup.events tells of those above as well, which cgroup.freeze does not (cgroup-v2.rst).
    pub(super) fn thawed(&self) -> Result<()> {
        let is_frozen = |events: &str| events.lines().any(|line| line == "frozen 1");
        refuse_frozen(&self.root, &self.place, "cgroup.events", is_frozen)
    }

    /// Lets processes go on; a cgroup that is gone holds none.
    pub(super) fn thaw(&self) -> Result<()> {
        let file = self.file("cgroup.freeze");
        match fs::write(&file, "0") {
            Err(e) if !matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => {
                Err(Error::file("write", file)(e))
            }
            _ => Ok(()),
        }
    }

    /// Sets everything that is said. Devices are no file here: see `program`.
    pub(super) fn write(&self, resources: &LinuxResources) -> Result<()> {
        if let Some(limit) = resources.pids().map(|p| p.limit()).filter(|limit| *limit != 0) {
            put(&self.need("pids", "pids.max")?, &number_or_max(limit))?;
        }
        if let Some(memory) = resources.memory() {
            self.memory(*memory)?;
        }
        if let Some(io) = resources.block_io() {
            self.block_io(io)?;
        }
        if let Some(cpu) = resources.cpu() {
            self.cpu(cpu)?;
            self.cpuset(cpu)?;
        }
        for limit in resources.hugepage_limits().iter().flatten() {
            self.huge_pages(limit)?;
        }
        for line in rdma_lines(resources)? {
            put(&self.need("rdma", "rdma.max")?, &line)?;
        }
        let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
        unified.sort();
        for (file, value) in unified {
            let controller = file.split('.').next().unwrap_or_default();
            put(&self.need(controller, file)?, value)?;
        }
        Ok(())
    }

    fn memory(&self, memory: LinuxMemory) -> Result<()> {
        let said = |n: Option<i64>| n.filter(|n| *n != 0);
        let together = said(memory.swap());
        let limit = said(memory.limit()).or_else(|| together.and_then(|_| memory_max(&self.path())));
        if let Some(swap) = swap(limit, together)? {
            let file = self.file("memory.swap.max");
            // A kernel that does not account for swap has no such file, and none of the limit either: only a bound is lost.
            if swap >= 0 || file.exists() {
                put(&self.need("memory", "memory.swap.max")?, &number_or_max(swap))?;
            }
        }
        for (file, value) in [
            ("memory.max", said(memory.limit())),
            ("memory.low", said(memory.reservation())),
        ] {
            if let Some(value) = value {
                put(&self.need("memory", file)?, &number_or_max(value))?;
            }
        }
        Ok(())
    }

    /// An idle group has no weight of its own, and the kernel takes none; what is saved up must fit into the quota (cgroup-v2.rst).
    fn cpu(&self, cpu: &LinuxCpu) -> Result<()> {
        let mut writes = Vec::new();
        let mut add = |file: &str, text: String| -> Result<()> {
            writes.push((self.need("cpu", file)?, text));
            Ok(())
        };
        if cpu.idle() == Some(0) {
            add("cpu.idle", "0".to_owned())?;
        }
        if let Some(shares) = cpu.shares().filter(|n| *n != 0) {
            add("cpu.weight", weight(shares).to_string())?;
        }
        if let Some(idle) = cpu.idle().filter(|n| *n != 0) {
            add("cpu.idle", idle.to_string())?;
        }
        let (quota, period) = (cpu.quota().filter(|n| *n != 0), cpu.period().filter(|n| *n != 0));
        if quota.is_some() || period.is_some() {
            let (old_quota, old_period) = cpu_max(&self.need("cpu", "cpu.max")?)?;
            let quota = quota.map_or(old_quota, number_or_max);
            add("cpu.max", format!("{quota} {}", period.unwrap_or(old_period)))?;
        }
        if let Some(burst) = cpu.burst() {
            add("cpu.max.burst", burst.to_string())?;
        }
        put_in_any_order(writes)
    }

    fn cpuset(&self, cpu: &LinuxCpu) -> Result<()> {
        for (file, list) in [("cpuset.cpus", cpu.cpus()), ("cpuset.mems", cpu.mems())] {
            if let Some(list) = list.as_deref().filter(|list| !list.is_empty()) {
                put(&self.need("cpuset", file)?, list)?;
            }
        }
        Ok(())
    }

    fn block_io(&self, io: &LinuxBlockIo) -> Result<()> {
        // Which one is there depends on the I/O scheduler that the kernel has. BFQ's has v1's range.
        let bfq = self.file("io.bfq.weight").exists();
        let (file, scaled): (_, fn(u16) -> u32) = if bfq {
            ("io.bfq.weight", u32::from)
        } else {
            ("io.weight", io_weight)
        };
        if let Some(weight) = io.weight().filter(|w| *w != 0) {
            put(&self.need("io", file)?, &scaled(weight).to_string())?;
        }
        for device in io.weight_device().iter().flatten() {
            if let Some(weight) = device.weight().filter(|w| *w != 0) {
                let line = format!("{}:{} {}", device.major(), device.minor(), scaled(weight));
                put(&self.need("io", file)?, &line)?;
            }
        }
        for (key, devices) in [
            ("rbps", io.throttle_read_bps_device()),
            ("wbps", io.throttle_write_bps_device()),
            ("riops", io.throttle_read_iops_device()),
            ("wiops", io.throttle_write_iops_device()),
        ] {
            let throttle = |d: &LinuxThrottleDevice| format!("{}:{} {key}={}", d.major(), d.minor(), d.rate());
            for line in devices.iter().flatten().map(throttle) {
                put(&self.need("io", "io.max")?, &line)?;
            }
        }
        Ok(())
    }

    fn huge_pages(&self, limit: &LinuxHugepageLimit) -> Result<()> {
        let (size, limit) = (limit.page_size(), limit.limit().to_string());
        put(&self.need("hugetlb", &format!("hugetlb.{size}.max"))?, &limit)?;
        // What is only reserved yet, where the kernel counts that, too (5.7).
        let reserved = self.file(&format!("hugetlb.{size}.rsvd.max"));
        if reserved.exists() {
            put(&reserved, &limit)?;
        }
        Ok(())
    }
}

/// Enables below a directory every controller that it has itself. One that cannot be (another's directory, real-time processes)
/// is missed where a limit of it is asked for.
fn pass_on_controllers(directory: &Path) -> Result<()> {
    let list = |file: &str| {
        let path = directory.join(file);
        fs::read_to_string(&path).map_err(Error::file("read", path))
    };
    let (has, passes) = (list("cgroup.controllers")?, list("cgroup.subtree_control")?);
    for controller in has
        .split_whitespace()
        .filter(|c| !passes.split_whitespace().any(|p| p == *c))
    {
        if let Err(error) = put(&directory.join("cgroup.subtree_control"), &format!("+{controller}")) {
            tracing::debug!(%error, controller, "a controller is not passed on");
        }
    }
    Ok(())
}

/// The limit that a cgroup has, which swap is counted beside.
pub(super) fn memory_max(directory: &Path) -> Option<i64> {
    let text = gabion_see::small::read(directory.join("memory.max")).ok()?;
    text.trim().parse().ok()
}

/// The limit and the swap beside it: the spec counts both together, v2 swap alone.
pub(super) fn swap(limit: Option<i64>, together: Option<i64>) -> Result<Option<i64>> {
    match (limit, together) {
        (Some(-1), None) => Ok(Some(-1)),
        (_, None) => Ok(None),
        (_, Some(together)) if together < 0 => Ok(Some(-1)),
        (Some(limit), Some(together)) if limit >= 0 && together >= limit => Ok(Some(together - limit)),
        (limit, Some(together)) => {
            let limit = limit.map_or_else(|| "none".to_owned(), |l| l.to_string());
            let why =
                format!("memory.swap {together} with memory.limit {limit}: it is both together, and cannot be less");
            Err(Error::failed(Step::Cgroup, why))
        }
    }
}

fn number_or_max(value: i64) -> String {
    if value < 0 { "max".to_owned() } else { value.to_string() }
}

/// Quota and period as they are.
pub(super) fn cpu_max(file: &Path) -> Result<(String, u64)> {
    let text = fs::read_to_string(file).map_err(Error::file("read", file))?;
    let mut fields = text.split_whitespace();
    let quota = fields.next().unwrap_or("max").to_owned();
    let period = fields.next().and_then(|p| p.parse().ok()).unwrap_or(PERIOD);
    Ok((quota, period))
}

/// v1's shares (2 to 262144, 1024 by default) as a weight (1 to 10000, 100 by default), by a curve through these three points:
/// what runc has since 1.3.2 and crun since 1.24.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "between 2 and 262144 no digit is lost, and the result is between 1 and 10000"
)]
pub(super) fn weight(shares: u64) -> u64 {
    if shares <= 2 {
        return 1;
    }
    if shares >= 262_144 {
        return 10_000;
    }
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    (10_f64.powf(exponent).ceil() as u64).clamp(1, 10_000)
}

/// v1's 10 to 1000 as 1 to 10000 (runc).
pub(super) fn io_weight(weight: u16) -> u32 {
    1 + u32::from(weight.saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn v1_s_numbers_as_v2_s() {
        for (shares, expected) in [(0, 1), (2, 1), (1024, 100), (262_144, 10_000), (999_999, 10_000)] {
            assert_eq!(weight(shares), expected, "{shares}");
        }
        assert!(weight(512) < weight(1024) && weight(1024) < weight(2048));
        assert_eq!((io_weight(10), io_weight(1000)), (1, 10_000));
    }

    #[test]
    fn swap_is_what_is_beyond_memory() {
        for (limit, together, expected) in [
            (None, None, None),
            (Some(64), None, None),
            (Some(-1), None, Some(-1)),
            (Some(64), Some(64), Some(0)),
            (Some(64), Some(96), Some(32)),
            (Some(64), Some(-1), Some(-1)),
            (None, Some(-1), Some(-1)),
        ] {
            assert_eq!(swap(limit, together).unwrap(), expected, "{limit:?} {together:?}");
        }
        for (limit, together) in [(Some(64), Some(32)), (None, Some(64)), (Some(-1), Some(64))] {
            assert!(swap(limit, together).is_err(), "{limit:?} {together:?}");
        }
    }

    /// Against a directory of plain files: what is written, and that a file which is missing is an error.
    #[test]
    fn each_limit_has_its_file() {
        let root = std::env::temp_dir().join(format!("gabion-v2-{}", std::process::id()));
        let place = root.join("c");
        fs::create_dir_all(&place).unwrap();
        let directory = Directory {
            place: "c".into(),
            root: root.clone(),
        };
        let resources: LinuxResources = serde_json::from_value(serde_json::json!({
            "pids": {"limit": 7},
            "memory": {"limit": 4096, "swap": 4096, "reservation": 1024},
            "cpu": {"shares": 1024, "quota": 20000, "cpus": "0"},
            "rdma": {"mlx4_0": {"hcaHandles": 3}},
            "unified": {"memory.high": "2048"}
        }))
        .unwrap();
        assert!(directory.write(&resources).is_err(), "no such controllers");
        let files = [
            ("pids.max", "max", "7"),
            ("memory.swap.max", "max", "0"),
            ("memory.max", "max", "4096"),
            ("memory.low", "0", "1024"),
            ("cpu.weight", "100", "100"),
            ("cpu.max", "max 50000", "20000 50000"),
            ("cpuset.cpus", "", "0"),
            ("rdma.max", "", "mlx4_0 hca_handle=3"),
            ("memory.high", "max", "2048"),
        ];
        for (file, before, _) in files {
            fs::write(place.join(file), before).unwrap();
        }
        let written = directory.write(&resources);
        // Plain files keep what was longer behind what is written; the kernel's do not.
        let shown: Vec<_> = files
            .iter()
            .map(|(file, _, after)| (*file, fs::read_to_string(place.join(file)).unwrap().starts_with(after)))
            .collect();
        fs::remove_dir_all(&root).unwrap();
        written.unwrap();
        assert!(shown.iter().all(|(_, good)| *good), "{shown:?}");
    }
}
