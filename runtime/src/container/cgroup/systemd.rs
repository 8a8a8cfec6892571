//! The systemd driver on cgroup v2: the container's directory is a transient scope, made and ended by systemd and given over to
//! us («delegated», systemd.resource-control(5)). What systemd has a property for is set there as well as in the file, or
//! `systemctl daemon-reload` would take it back.

use std::path::Path;
use std::time::Duration;

use libcgroups::common::{CgroupManager, ControllerOpt, DEFAULT_CGROUP_ROOT};
use libcgroups::systemd::manager::{Manager, SystemdManagerError};
use nix::unistd::Pid;
use oci_spec::runtime::{LinuxCpu, LinuxMemory, LinuxResources};

use super::{CgroupRecord, v2};
use crate::error::{Error, Result, Step};
use crate::host::{OwnUserNs, collect};

/// systemd answers before it has moved the process. A busy node needs its time.
const PATIENCE: Duration = Duration::from_secs(30);

/// The container's scope.
pub(super) struct Unit {
    manager: Manager,
}

fn failed(error: SystemdManagerError) -> Error {
    Error::failed(Step::Cgroup, format!("systemd: {error}"))
}

impl Unit {
    /// The scope that the record names, whether it is there or not.
    pub(super) fn find(record: &CgroupRecord) -> Result<Self> {
        if !libcgroups::systemd::booted() {
            let why =
                "the systemd cgroup driver is asked for, and systemd does not run here: leave --systemd-cgroup out";
            return Err(Error::failed(Step::Cgroup, why));
        }
        // The system's manager, or the user's own.
        let system = nix::unistd::geteuid().is_root() && collect::user_ns() == OwnUserNs::Initial;
        let root = DEFAULT_CGROUP_ROOT.into();
        let manager = Manager::new(root, record.path.clone(), record.name.clone(), system, PATIENCE).map_err(failed)?;
        Ok(Self { manager })
    }

    /// Makes the scope with this process in it, and waits until it is.
    pub(super) fn start(&self, pid: Pid) -> Result<()> {
        self.manager.add_task(pid).map_err(failed)
    }

    /// Ends it. One that is gone has ended.
    pub(super) fn stop(&self) -> Result<()> {
        match self.manager.remove() {
            // Its last process was its end, between the question and the order.
            Err(e) if e.to_string().contains("not loaded") => Ok(()),
            other => other.map_err(failed),
        }
    }

    /// Limits as properties. `directory` is the cgroup as it is now.
    pub(super) fn set(&self, resources: &LinuxResources, directory: &Path) -> Result<()> {
        let properties = properties(resources, directory)?;
        let options = ControllerOpt {
            resources: &properties,
            freezer_state: None,
            oom_score_adj: None,
            disable_oom_killer: false,
        };
        self.manager.apply(&options).map_err(failed)
    }
}

/// What has a property that libcontainer's code sets as it is meant: tasks, memory, CPU time. Zero says nothing; and a part that
/// is not said is what it was, where libcontainer's code would set it back.
fn properties(resources: &LinuxResources, directory: &Path) -> Result<LinuxResources> {
    let mut properties = LinuxResources::default();
    properties.set_devices(None);
    properties.set_pids(resources.pids().filter(|p| p.limit() != 0));
    if let Some(memory) = resources.memory() {
        properties.set_memory(Some(said_memory(memory, directory)));
    }
    if let Some(cpu) = resources.cpu() {
        properties.set_cpu(said_cpu(cpu, directory)?);
    }
    Ok(properties)
}

fn said_memory(memory: &LinuxMemory, directory: &Path) -> LinuxMemory {
    // Any negative number is «unlimited»; libcontainer's code knows -1.
    let said = |n: Option<i64>| n.filter(|n| *n != 0).map(|n| n.max(-1));
    let mut all = LinuxMemory::default();
    let mut limit = said(memory.limit());
    let swap = said(memory.swap());
    if limit.is_none() && swap.is_some() {
        let text = std::fs::read_to_string(directory.join("memory.max")).unwrap_or_default();
        limit = text.trim().parse().ok();
    }
    all.set_limit(limit)
        .set_swap(swap)
        .set_reservation(said(memory.reservation()));
    all
}

fn said_cpu(cpu: &LinuxCpu, directory: &Path) -> Result<Option<LinuxCpu>> {
    let (shares, quota, period) = (
        cpu.shares().filter(|n| *n != 0),
        cpu.quota().filter(|n| *n != 0),
        cpu.period().filter(|n| *n != 0),
    );
    if shares.is_none() && quota.is_none() && period.is_none() {
        return Ok(None);
    }
    let file = directory.join("cpu.max");
    let mut all = LinuxCpu::default();
    all.set_shares(shares);
    if file.exists() {
        let (old_quota, old_period) = v2::cpu_max(&file)?;
        all.set_quota(quota.or_else(|| old_quota.parse().ok()))
            .set_period(Some(period.unwrap_or(old_period)));
    }
    Ok(Some(all))
}
