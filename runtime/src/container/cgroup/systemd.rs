//! The systemd driver on cgroup v2: the container's directory is a transient scope, made and ended by systemd and given over to
//! us («delegated», systemd.resource-control(5)). What systemd has a property for is set there as well as in the file, or
//! `systemctl daemon-reload` would take it back.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::{CgroupRecord, members, v2};
use crate::dbus::{Body, Connection, Fault, Object, Value};
use crate::error::{Error, Result, Step};
use crate::host::Unit;

/// systemd answers before it has moved the process. A busy node needs its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// org.freedesktop.systemd1(5).
const MANAGER: Object = Object {
    destination: "org.freedesktop.systemd1",
    path: "/org/freedesktop/systemd1",
    interface: "org.freedesktop.systemd1.Manager",
};

/// Its last process was its end.
const NOT_THERE: &str = "org.freedesktop.systemd1.NoSuchUnit";

impl CgroupRecord {
    /// The unit that it is, where systemd's driver made it.
    pub(super) fn unit(&self) -> Option<Unit> {
        Unit::named(&self.path, self.is_the_machines())
    }

    /// Whether the machine's own systemd made it, and not a user's.
    pub(super) fn is_the_machines(&self) -> bool {
        self.manager.as_os_str().is_empty()
    }
}

/// The container's scope, and who is asked for it.
pub(super) struct Scope {
    systemd: Connection,
    unit: Unit,
    container: String,
}

fn refused(doing: &str, unit: &str, fault: &Fault) -> Error {
    Error::failed(
        Step::Cgroup,
        format!("systemd does not {doing} {unit}: {} ({})", fault.text, fault.name),
    )
}

fn connect(rooted: bool) -> Result<Connection> {
    let mut last = None;
    for (socket, through_bus) in sockets(rooted) {
        let connected = if through_bus {
            Connection::to_bus(&socket, PATIENCE)
        } else {
            Connection::direct(&socket, PATIENCE)
        };
        match connected {
            Ok(connection) => return Ok(connection),
            Err(error) => last = Some(Error::file("ask systemd by", socket)(error)),
        }
    }
    let nowhere = || Error::failed(Step::Cgroup, "no bus to ask systemd by: XDG_RUNTIME_DIR is not set");
    Err(last.unwrap_or_else(nowhere))
}

/// Where systemd is heard: over the bus, or where there is none (a node in a container) by its own socket.
fn sockets(rooted: bool) -> Vec<(PathBuf, bool)> {
    if rooted {
        return vec![
            ("/run/dbus/system_bus_socket".into(), true),
            ("/run/systemd/private".into(), false),
        ];
    }
    let own = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = own.map(|dir| [(dir.join("bus"), true), (dir.join("systemd/private"), false)]);
    let address = std::env::var("DBUS_SESSION_BUS_ADDRESS").unwrap_or_default();
    let named = address
        .split([';', ','])
        .filter_map(|part| part.strip_prefix("unix:path="));
    let named = named.map(|path| (PathBuf::from(path), true));
    named.chain(own.into_iter().flatten()).collect()
}

impl Scope {
    /// The scope that the record names, whether it is there or not.
    pub(super) fn find(record: &CgroupRecord) -> Result<Self> {
        if !Path::new("/run/systemd/system").is_dir() {
            let why =
                "the systemd cgroup driver is asked for, and systemd does not run here: leave --systemd-cgroup out";
            return Err(Error::failed(Step::Cgroup, why));
        }
        let Some(unit) = record.unit() else {
            let why = format!("{} is not slice:prefix:name", record.path.display());
            return Err(Error::failed(Step::Cgroup, why));
        };
        Ok(Self {
            systemd: connect(record.is_the_machines())?,
            unit,
            container: record.name.clone(),
        })
    }

    fn call(&mut self, member: &str, body: &Body) -> Result<std::result::Result<(), Fault>> {
        let failed = |e| Error::failed(Step::Cgroup, format!("systemd does not answer to {member}: {e}"));
        self.systemd.call(&MANAGER, member, body).map_err(failed)
    }

    /// Makes the scope with this process in it, and waits until it is. `place` is where its directory will be.
    pub(super) fn start(&mut self, pid: Pid, place: &Path) -> Result<()> {
        let yes = Value::Bool(true);
        let properties = [
            (
                "Description",
                Value::Text(format!("gabion container {}", self.container)),
            ),
            ("Slice", Value::Text(self.unit.slice.clone())),
            ("PIDs", Value::Numbers(vec![pid.as_raw().cast_unsigned()])),
            ("Delegate", yes.clone()),
            ("DefaultDependencies", Value::Bool(false)),
            // One whose processes the kernel killed for memory has failed, and would keep its name from the next.
            ("CollectMode", Value::Text("inactive-or-failed".to_owned())),
            ("CPUAccounting", yes.clone()),
            ("IOAccounting", yes.clone()),
            ("MemoryAccounting", yes.clone()),
            ("TasksAccounting", yes),
        ];
        let body = Body::default()
            .text(&self.unit.name)
            .text("replace")
            .properties(&properties)
            .no_others();
        self.call("StartTransientUnit", &body)?
            .map_err(|fault| refused("start", &self.unit.name, &fault))?;
        self.wait(pid, place)
    }

    /// Moves a further process to `to`, which is the scope at `place` or lies below it.
    pub(super) fn attach(&mut self, pid: Pid, place: &Path, to: &Path) -> Result<()> {
        let below = to.strip_prefix(place).unwrap_or(Path::new(""));
        let body = Body::default()
            .text(&self.unit.name)
            .text(&Path::new("/").join(below).to_string_lossy())
            .numbers(&[pid.as_raw().cast_unsigned()]);
        self.call("AttachProcessesToUnit", &body)?
            .map_err(|fault| refused("move a process to", &self.unit.name, &fault))?;
        self.wait(pid, to)
    }

    fn wait(&self, pid: Pid, place: &Path) -> Result<()> {
        let file = format!("/proc/{pid}/cgroup");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let listing = std::fs::read_to_string(&file).map_err(Error::file("read", &file))?;
            if members::place_of(&listing, "").is_some_and(|at| super::relative(at) == place) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let why = format!(
                    "systemd took {} and has not moved the process there in {} s: see `systemctl status`",
                    self.unit.name,
                    PATIENCE.as_secs()
                );
                return Err(Error::failed(Step::Cgroup, why));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Ends it. One that is gone has ended.
    pub(super) fn stop(&mut self) -> Result<()> {
        let body = Body::default().text(&self.unit.name).text("replace");
        match self.call("StopUnit", &body)? {
            Err(fault) if fault.name != NOT_THERE => Err(refused("stop", &self.unit.name, &fault)),
            _ => Ok(()),
        }
    }

    /// Limits as properties. `directory` is the cgroup as it is now.
    pub(super) fn set(&mut self, resources: &LinuxResources, directory: &Path) -> Result<()> {
        let properties = properties(resources, directory)?;
        if properties.is_empty() {
            return Ok(());
        }
        // Not kept over a reboot, as little as the scope.
        let body = Body::default().text(&self.unit.name).bool(true).properties(&properties);
        self.call("SetUnitProperties", &body)?
            .map_err(|fault| refused("set limits of", &self.unit.name, &fault))
    }
}

/// What has a property that means the same: tasks, memory, CPU time. Zero says nothing.
fn properties(resources: &LinuxResources, directory: &Path) -> Result<Vec<(&'static str, Value)>> {
    let mut all = Vec::new();
    if let Some(limit) = resources.pids().map(|p| p.limit()).filter(|n| *n != 0) {
        all.push(("TasksMax", unlimited_or(limit)));
    }
    if let Some(memory) = resources.memory() {
        all.extend(memory_properties(*memory, directory)?);
    }
    if let Some(cpu) = resources.cpu() {
        all.extend(cpu_properties(cpu, directory)?);
    }
    Ok(all)
}

/// systemd's word for no limit is the largest number.
fn unlimited_or(limit: i64) -> Value {
    Value::Number(u64::try_from(limit).unwrap_or(u64::MAX))
}

fn memory_properties(memory: LinuxMemory, directory: &Path) -> Result<Vec<(&'static str, Value)>> {
    let said = |n: Option<i64>| n.filter(|n| *n != 0);
    let (limit, together) = (said(memory.limit()), said(memory.swap()));
    let mut measure = limit;
    if limit.is_none() && together.is_some() {
        // Beside a limit that stays as it is.
        let text = std::fs::read_to_string(directory.join("memory.max")).unwrap_or_default();
        measure = text.trim().parse().ok();
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

/// CPU time is told to systemd by the second; the part that is not said stays what it is.
fn cpu_properties(cpu: &LinuxCpu, directory: &Path) -> Result<Vec<(&'static str, Value)>> {
    const SECOND: u64 = 1_000_000;
    let mut all = Vec::new();
    if let Some(shares) = cpu.shares().filter(|n| *n != 0) {
        all.push(("CPUWeight", Value::Number(v2::weight(shares))));
    }
    let (quota, period) = (cpu.quota().filter(|n| *n != 0), cpu.period().filter(|n| *n != 0));
    let file = directory.join("cpu.max");
    if (quota.is_none() && period.is_none()) || !file.exists() {
        return Ok(all);
    }
    let (old_quota, old_period) = v2::cpu_max(&file)?;
    let quota = quota.or_else(|| old_quota.parse().ok());
    let period = period.unwrap_or(old_period);
    let second = quota.and_then(|quota| u64::try_from(quota).ok());
    let second = second.map_or(u64::MAX, |quota| quota.saturating_mul(SECOND) / period);
    all.push(("CPUQuotaPerSecUSec", Value::Number(second)));
    all.push(("CPUQuotaPeriodUSec", Value::Number(period)));
    Ok(all)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn limits_are_told_in_systemds_words() {
        let directory = std::env::temp_dir().join(format!("gabion-systemd-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("cpu.max"), "max 50000\n").unwrap();
        std::fs::write(directory.join("memory.max"), "4096\n").unwrap();
        let told = |limits: serde_json::Value| {
            let all = properties(&serde_json::from_value(limits).unwrap(), &directory).unwrap();
            let words = all.iter().map(|(name, value)| match value {
                Value::Number(u64::MAX) => format!("{name}=infinity"),
                Value::Number(n) => format!("{name}={n}"),
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
        ]
        .map(|(limits, expected)| (told(limits), expected));
        std::fs::remove_dir_all(&directory).unwrap();
        for (told, expected) in results {
            assert_eq!(told, expected);
        }
    }
}
