//! Setting limits, and reading them back.

use std::collections::BTreeMap;
use std::path::Path;

use nix::unistd::Pid;
use oci_spec::runtime::{
    LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxNetwork, LinuxPids, LinuxResources, LinuxWeightDevice,
};

use super::{Cgroup, Files, members, program, readback, unified, v1};
use crate::faults::{self, Enforcement};
use gabion_core::caller::OwnUserNs;
use gabion_core::control::CONTROLS;
use gabion_core::hardened::Hardened;
use gabion_core::host::CgroupDriver;
use gabion_core::id::ControlId;
use gabion_core::observed::Observed;
use gabion_see::error::{Error, Result, Step};
use gabion_see::procfs::Proc;

impl Cgroup {
    /// Sets limits. Devices are create's alone: see `limit`.
    pub(crate) fn apply(&self, resources: &LinuxResources) -> Result<()> {
        plain_names(resources)?;
        match self.files() {
            Files::None => without_a_cgroup(resources),
            Files::V1(v1) => v1.write(resources),
            Files::V2(v2) => {
                unknown_to_v2(resources)?;
                if let Some(mut scope) = self.scope()? {
                    scope.set(resources, &self.directory())?;
                }
                v2.write(resources)
            }
        }
    }

    /// Sets the limits of a vetted container.
    pub(crate) fn limit(&self, resources: &LinuxResources, hardened: &Hardened) -> Result<()> {
        let skip = |control| hardened.enforces(control) && faults::enforcement(control) != Enforcement::Do;
        let mut limits = resources.clone();
        if skip(ControlId::Cgroup) {
            limits.set_pids(None).set_memory(None);
        }
        self.apply(&limits)?;
        let rules: Vec<LinuxDeviceCgroup> = resources.devices().iter().flatten().map(as_the_kernel_s).collect();
        let rules = rules.as_slice();
        let v1 = match self.files() {
            Files::None => return Ok(()),
            Files::V1(v1) => v1,
            Files::V2(_) => return self.device_program(rules, hardened, skip(ControlId::Devices)),
        };
        if hardened.enforces(ControlId::Devices) && !skip(ControlId::Devices) {
            v1.devices_as_vetted(rules)
        } else {
            v1.devices_as_asked(rules)
        }
    }

    /// v2: the rules are a program. In a user namespace the kernel takes none, and gives no device nodes either (runc does the
    /// same).
    fn device_program(&self, rules: &[LinuxDeviceCgroup], hardened: &Hardened, skipped: bool) -> Result<()> {
        if skipped || !nix::unistd::geteuid().is_root() || gabion_see::caller::user_ns() == OwnUserNs::Nested {
            return Ok(());
        }
        let mut rules = rules.to_vec();
        if !hardened.enforces(ControlId::Devices) {
            rules.extend(v1::needed());
        }
        self.directories()?
            .iter()
            .try_for_each(|directory| program::attach(directory, &rules))
    }

    /// The process is in it, limits are as decided, and what was just written is there. Read at the place that the kernel
    /// shows for the process.
    pub(crate) fn verify(&self, hardened: &Hardened, pid: Pid, written: Option<&LinuxResources>) -> Result<()> {
        let seen = Observed {
            cgroup: gabion_see::cgroup::limits::read(&Proc::open()?, &pid.to_string(), &self.record)?,
            ..Observed::default()
        };
        self.verify_member(hardened, pid)?;
        // A limit that nobody can see is not one that holds, here where its files are known.
        let unseen = |d: &Decided| d.files.iter().all(|f| !seen.cgroup.contains_key(*f)) && !d.files.is_empty();
        if let Some(lost) = decided(hardened)
            .iter()
            .find(|d| (self.record.driver == CgroupDriver::Cgroupfs || unified()) && unseen(d))
        {
            return Err(Error::Mismatch {
                control: lost.control,
                expected: format!("a limit in {}", lost.files.join(" or ")),
                observed: "no such file".to_owned(),
            });
        }
        for control in CONTROLS
            .iter()
            .filter(|c| matches!(c.id(), ControlId::Cgroup | ControlId::Devices))
        {
            if hardened.enforces(control.id()) {
                let facts = control
                    .facts(hardened, &seen)
                    .into_iter()
                    .filter(|f| f.control == control.id());
                gabion_see::readback::all_hold(facts.collect())?;
            }
        }
        written.map_or(Ok(()), |written| self.compare(written, seen.cgroup))
    }

    /// What was written is there.
    fn compare(&self, written: &LinuxResources, mut seen: BTreeMap<String, String>) -> Result<()> {
        let further = readback::further(written);
        if !further.is_empty() {
            let directories = self.directories()?;
            let of = |directory: &Path, controller: &str| unified() || v1::is_in(directory, controller);
            for (controller, file) in further {
                let shown = directories
                    .iter()
                    .filter(|d| of(d, controller))
                    .find_map(|d| gabion_see::small::read(d.join(file)).ok());
                seen.extend(shown.map(|text| (file.to_owned(), text)));
            }
        }
        readback::compare(written, &seen)
    }

    /// The process is where what was decided holds.
    pub(crate) fn verify_member(&self, hardened: &Hardened, pid: Pid) -> Result<()> {
        // What systemd calls it on v1 is not known here.
        if self.record.driver == CgroupDriver::Systemd && !unified() {
            return Ok(());
        }
        let controllers: Vec<_> = decided(hardened)
            .into_iter()
            .map(|d| (d.control, d.controller))
            .collect();
        let path = format!("/proc/{pid}/cgroup");
        let listing = gabion_see::small::read(&path).map_err(Error::file("read", path))?;
        members::verify(&self.record.place(), &controllers, &listing)
    }
}

/// A caller who may make no cgroup can have no limit either.
fn without_a_cgroup(resources: &LinuxResources) -> Result<()> {
    let (mut asked, mut nothing) = (resources.clone(), LinuxResources::default());
    asked.set_devices(None);
    nothing.set_devices(None);
    if asked == nothing {
        return Ok(());
    }
    let why = "limits are asked for in linux.resources, and no cgroup is delegated to this caller";
    Err(Error::failed(Step::Cgroup, why))
}

/// These are joined to the cgroup's path as they are: with a slash they would name any file of the host. At every level,
/// as runc.
fn plain_names(resources: &LinuxResources) -> Result<()> {
    let keys = resources.unified().iter().flatten().map(|(key, _)| key.as_str());
    let sizes = resources
        .hugepage_limits()
        .iter()
        .flatten()
        .map(|h| h.page_size().as_str());
    for name in keys.chain(sizes) {
        if name.is_empty() || name.contains('/') || name.contains("..") {
            return Err(Error::failed(
                Step::Cgroup,
                format!("{name:?} is not the name of a cgroup's file"),
            ));
        }
    }
    Ok(())
}

/// Whether a limit is asked for.
type Asked = fn(&LinuxResources) -> bool;

/// What cgroup v2 has no file for: refused, since a limit that is left out binds nobody. Zero says nothing. docs/RUNC-COMPAT.md
/// has the same list.
const UNKNOWN_TO_V2: [(&str, Asked); 8] = [
    ("memory.kernelTCP", |r| {
        r.memory().and_then(|m| m.kernel_tcp()).is_some_and(|n| n != 0)
    }),
    ("memory.swappiness", |r| {
        r.memory().is_some_and(|m| m.swappiness().is_some())
    }),
    ("memory.disableOOMKiller", |r| {
        r.memory().and_then(|m| m.disable_oom_killer()) == Some(true)
    }),
    ("cpu.realtimePeriod", |r| {
        r.cpu()
            .as_ref()
            .and_then(LinuxCpu::realtime_period)
            .is_some_and(|n| n != 0)
    }),
    ("cpu.realtimeRuntime", |r| {
        r.cpu()
            .as_ref()
            .and_then(LinuxCpu::realtime_runtime)
            .is_some_and(|n| n != 0)
    }),
    ("blockIO.weightDevice[].leafWeight", |r| {
        let devices = r.block_io().iter().flat_map(|io| io.weight_device().iter().flatten());
        devices.filter_map(LinuxWeightDevice::leaf_weight).any(|w| w > 0)
    }),
    ("network.classID", |r| {
        r.network()
            .as_ref()
            .and_then(LinuxNetwork::class_id)
            .is_some_and(|n| n != 0)
    }),
    ("network.priorities", |r| {
        let priorities = r.network().as_ref().and_then(|n| n.priorities().as_ref());
        priorities.is_some_and(|p| !p.is_empty())
    }),
];

fn unknown_to_v2(resources: &LinuxResources) -> Result<()> {
    let found = UNKNOWN_TO_V2.iter().find(|(_, is_asked)| is_asked(resources));
    found.map_or(Ok(()), |(field, _)| {
        Err(Error::Unsupported {
            field: format!("linux.resources.{field}"),
            why: "this host has cgroup v2, which has no such limit".to_owned(),
        })
    })
}

/// A line of `rdma.max` for each device (rdma.rst). One that says nothing of a device changes nothing.
pub(super) fn rdma_lines(resources: &LinuxResources) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    for (device, limits) in resources.rdma().iter().flatten() {
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let why = format!("{device:?} is not the name of a device");
            return Err(Error::failed(Step::Cgroup, why));
        }
        let said = [
            ("hca_handle", limits.hca_handles()),
            ("hca_object", limits.hca_objects()),
        ];
        let said: String = said
            .iter()
            .filter_map(|(key, limit)| Some(format!(" {key}={}", (*limit)?)))
            .collect();
        if !said.is_empty() {
            lines.push(format!("{device}{said}"));
        }
    }
    lines.sort();
    Ok(lines)
}

/// A controller that something was decided for, and the files that one of must show it.
struct Decided {
    control: ControlId,
    controller: &'static str,
    files: &'static [&'static str],
}

fn decided(hardened: &Hardened) -> Vec<Decided> {
    let Some(resources) = hardened.spec().linux().as_ref().and_then(|l| l.resources().as_ref()) else {
        return Vec::new();
    };
    let limited = |limit: Option<i64>| limit.is_some_and(|l| l > 0);
    let mut all = Vec::new();
    let mut add = |control, controller, files| {
        all.push(Decided {
            control,
            controller,
            files,
        });
    };
    if limited(resources.pids().as_ref().map(LinuxPids::limit)) {
        add(ControlId::Cgroup, "pids", &["pids.max"] as &[_]);
    }
    if limited(resources.memory().as_ref().and_then(LinuxMemory::limit)) {
        add(ControlId::Cgroup, "memory", &["memory.max", "memory.limit_in_bytes"]);
    }
    if resources.devices().as_ref().is_some_and(|d| !d.is_empty()) {
        // v2 has no file for it.
        add(ControlId::Devices, "devices", &[]);
    }
    all.retain(|d| hardened.enforces(d.control));
    all
}

/// A device rule whose access has letters that the kernel knows.
fn as_the_kernel_s(rule: &LinuxDeviceCgroup) -> LinuxDeviceCgroup {
    let mut rule = rule.clone();
    if let Some(access) = rule.access().as_deref().filter(|access| access.contains('a')) {
        let known = access.replace('a', "");
        rule.set_access(Some(known));
    }
    rule
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn with(json: serde_json::Value) -> LinuxResources {
        serde_json::from_value(json).unwrap()
    }

    /// The document's table, the code's, and one spec for each.
    #[test]
    fn nothing_is_left_out_in_silence() {
        use serde_json::json;
        let asked = [
            ("memory.kernelTCP", json!({"memory": {"kernelTCP": 5}})),
            ("memory.swappiness", json!({"memory": {"swappiness": 0}})),
            ("memory.disableOOMKiller", json!({"memory": {"disableOOMKiller": true}})),
            ("cpu.realtimePeriod", json!({"cpu": {"realtimePeriod": 5}})),
            ("cpu.realtimeRuntime", json!({"cpu": {"realtimeRuntime": 5}})),
            (
                "blockIO.weightDevice[].leafWeight",
                json!({"blockIO": {"weightDevice": [{"major": 1, "minor": 2, "leafWeight": 4}]}}),
            ),
            ("network.classID", json!({"network": {"classID": 5}})),
            (
                "network.priorities",
                json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
            ),
        ];
        for (field, spec) in &asked {
            let error = unknown_to_v2(&with(spec.clone())).unwrap_err();
            assert!(
                matches!(&error, Error::Unsupported { field: f, .. } if *f == format!("linux.resources.{field}")),
                "{error}"
            );
        }
        let known = json!({
            "memory": {"limit": 1, "swap": 2, "reservation": 3, "kernelTCP": 0, "disableOOMKiller": false},
            "cpu": {"shares": 2, "realtimePeriod": 0},
            "network": {},
            "blockIO": {"weight": 5, "weightDevice": [{"major": 1, "minor": 2, "weight": 3, "leafWeight": 0}]}
        });
        assert!(unknown_to_v2(&with(known)).is_ok());
        let document = include_str!("../../../docs/RUNC-COMPAT.md");
        let section = document.split("\n## On cgroup v2\n").nth(1).unwrap();
        let section = section.split("\n## ").next().unwrap();
        let rows = section
            .lines()
            .filter_map(|line| line.strip_prefix("| `linux.resources.")?.split('`').next());
        let (mut told, mut code): (Vec<_>, Vec<_>) = (rows.collect(), UNKNOWN_TO_V2.map(|(field, _)| field).to_vec());
        let mut tried: Vec<_> = asked.iter().map(|(field, _)| *field).collect();
        for list in [&mut told, &mut code, &mut tried] {
            list.sort_unstable();
        }
        assert_eq!((&told, &tried), (&code, &code));
    }

    #[test]
    fn rdma_is_a_line_for_each_device() {
        let lines = |json| rdma_lines(&with(serde_json::json!({"rdma": json})));
        let both = serde_json::json!({"mlx5_1": {"hcaHandles": 3, "hcaObjects": 10000}, "ocrdma1": {"hcaObjects": 2}, "silent": {}});
        assert_eq!(
            lines(both).unwrap(),
            ["mlx5_1 hca_handle=3 hca_object=10000", "ocrdma1 hca_object=2"]
        );
        for bad in ["", "a b", "a\nb"] {
            assert!(lines(serde_json::json!({bad: {"hcaHandles": 1}})).is_err(), "{bad:?}");
        }
    }
}
