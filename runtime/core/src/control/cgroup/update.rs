//! `update`: limits of a container that runs are judged by what governed its create.
//!
//! Here nobody sends «unlimited» by default, as engines do at create: who asks for it is told no, rather than given a bound
//! that was not meant. Zero says nothing (runc).

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice};

use super::{ABOUT, binding, cpu, finite, memory, pids, refuse_absent, unified};
use crate::control::Context;
use crate::decision::{Decision, Findings, Mode};
use crate::hardened::{Amendment, CgroupBounds, Denial, Hardened};
use crate::host::Host;
use crate::id::ControlId;
use crate::policy::{Effective, Policy, Vouched};
use crate::request::{Channel, ContainerId, Leave, Request};
use crate::valid;

/// New limits that may be set.
#[derive(Clone, Debug)]
pub struct Vetted {
    /// What is to be written: only what was asked for, and what belongs to it.
    pub apply: LinuxResources,
    /// The container as it is from now on.
    pub hardened: Hardened,
    pub decision: Decision,
}

/// Judges an update. Pure.
///
/// # Errors
/// A `Denial` with every refusal.
pub fn vet(id: &ContainerId, asked: &LinuxResources, hardened: &Hardened) -> Result<Vetted, Denial> {
    let mut apply = said(asked);
    let mut findings = Findings::default();
    let enforced = hardened.enforces(ControlId::Cgroup);
    if let Some(bounds) = hardened.plan().cgroup.as_ref().filter(|_| enforced) {
        judge(&mut apply, id, hardened, bounds, &mut findings);
    }
    let mut decision = findings.into_decision(ControlId::Cgroup, &ABOUT);
    if !enforced {
        decision.mode = Mode::Observe;
    }
    let invalid = valid::judge_resources(&apply);
    Denial::new(hardened.level(), vec![decision.clone()], &invalid).unless_refused()?;
    let stored = hardened
        .spec()
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().clone())
        .unwrap_or_default();
    wake(&mut apply, &stored);
    let merged = merge(stored, &apply);
    Ok(Vetted {
        apply,
        hardened: hardened.clone().amend(Amendment::Resources(merged)),
        decision,
    })
}

/// Gives a group that is idle no more its weight back: the kernel has forgotten it.
fn wake(apply: &mut LinuxResources, stored: &LinuxResources) {
    let (Some(mut cpu), Some(old)) = (apply.cpu().clone(), stored.cpu()) else {
        return;
    };
    let wakes = cpu.idle() == Some(0) && old.idle().is_some_and(|idle| idle != 0);
    if wakes && cpu.shares().is_none() {
        cpu.set_shares(old.shares());
        apply.set_cpu(Some(cpu));
    }
}

/// What the update says: zeros and empty strings say nothing, and devices are create's alone (runc).
fn said(asked: &LinuxResources) -> LinuxResources {
    let mut said = asked.clone();
    said.set_devices(None);
    said.set_pids(asked.pids().filter(|p| p.limit() != 0));
    said.set_memory(asked.memory().map(said_memory).filter(|m| *m != LinuxMemory::default()));
    let cpu = asked.cpu().as_ref().map(said_cpu);
    said.set_cpu(cpu.filter(|c| *c != LinuxCpu::default()));
    let weighs = |io: &LinuxBlockIo| super::limits_io(io) || io.weight_device().as_ref().is_some_and(|d| !d.is_empty());
    said.set_block_io(asked.block_io().clone().filter(weighs));
    said.set_unified(asked.unified().clone().filter(|u| !u.is_empty()));
    said
}

fn said_memory(memory: LinuxMemory) -> LinuxMemory {
    let nonzero = |n: Option<i64>| n.filter(|n| *n != 0);
    let mut said = memory;
    said.set_limit(nonzero(memory.limit()))
        .set_swap(nonzero(memory.swap()))
        .set_reservation(nonzero(memory.reservation()))
        .set_kernel(nonzero(memory.kernel()))
        .set_kernel_tcp(nonzero(memory.kernel_tcp()));
    said
}

fn said_cpu(cpu: &LinuxCpu) -> LinuxCpu {
    let text = |s: &Option<String>| s.clone().filter(|s| !s.is_empty());
    let mut said = cpu.clone();
    said.set_shares(cpu.shares().filter(|n| *n != 0))
        .set_period(cpu.period().filter(|n| *n != 0))
        .set_quota(cpu.quota().filter(|n| *n != 0))
        .set_realtime_period(cpu.realtime_period().filter(|n| *n != 0))
        .set_realtime_runtime(cpu.realtime_runtime().filter(|n| *n != 0))
        .set_cpus(text(cpu.cpus()))
        .set_mems(text(cpu.mems()));
    said
}

/// The rules of create, on what is asked, with the bounds that create had.
fn judge(
    apply: &mut LinuxResources,
    id: &ContainerId,
    hardened: &Hardened,
    bounds: &CgroupBounds,
    findings: &mut Findings,
) {
    let request = Request {
        id: id.clone(),
        bundle: "/".into(),
        spec: hardened.spec().clone(),
        channel: Channel::Direct,
        leave: Leave::default(),
        odd: Vec::new(),
    };
    let policy = Effective {
        level: hardened.level(),
        policy: Policy {
            cgroup: bounds.policy.clone(),
            ..Policy::default()
        },
        exceptions: Vec::new(),
        digest: hardened.policy_digest().to_owned(),
        cri: Vouched::default(),
        loosened: Vec::new(),
    };
    let host = Host {
        cgroup: bounds.version,
        swap_accounting: bounds.swap,
        controllers: bounds.controllers.clone(),
        memory_total: bounds.memory_total,
        tasks_total: bounds.tasks_total,
        ..Host::default()
    };
    let cx = Context {
        request: &request,
        policy: &policy,
        host: &host,
    };
    unified::fold(apply, bounds.pod, &cx, findings);
    refuse_absent(apply, &cx, findings);
    judge_pids(apply, &cx, findings);
    judge_memory(apply, hardened, &cx, findings);
    judge_cpu(apply, bounds, findings);
}

fn judge_pids(apply: &mut LinuxResources, cx: &Context<'_>, findings: &mut Findings) {
    let Some(asked) = apply.pids().map(|p: LinuxPids| p.limit()) else {
        return;
    };
    if binding(Some(asked), cx.host.tasks_total).is_none() {
        return unlimited("pids-unlimited", "pids.limit", "tasks", findings);
    }
    pids(apply, cx, findings);
}

fn judge_memory(apply: &mut LinuxResources, hardened: &Hardened, cx: &Context<'_>, findings: &mut Findings) {
    let Some(mut asked) = *apply.memory() else { return };
    // Whatever else holds: a switch that needs no limit beside it.
    memory::oom_killer(&mut asked, findings);
    apply.set_memory(Some(asked));
    if asked
        .limit()
        .is_some_and(|l| binding(Some(l), cx.host.memory_total).is_none())
    {
        return unlimited("memory-unlimited", "memory.limit", "memory", findings);
    }
    let stored = hardened.spec().linux().as_ref().and_then(|l| l.resources().as_ref());
    let limit = asked
        .limit()
        .or_else(|| stored.and_then(|r| *r.memory()).and_then(|m| m.limit()));
    // Without a limit of its own (a controller that is not delegated) there is nothing that swap could go beyond.
    if finite(limit).is_none() {
        return;
    }
    let mut whole = asked;
    whole.set_limit(limit);
    let mut both = LinuxResources::default();
    both.set_devices(None).set_memory(Some(whole));
    memory::bound(&mut both, cx, findings);
    apply.set_memory(*both.memory());
}

fn judge_cpu(apply: &LinuxResources, bounds: &CgroupBounds, findings: &mut Findings) {
    let quota = apply.cpu().as_ref().and_then(LinuxCpu::quota);
    if bounds.policy.cpu_percent.is_some() && quota.is_some_and(|q| q < 0) {
        return unlimited("cpu-unlimited", cpu::QUOTA, "CPU time", findings);
    }
    if quota.is_some() {
        findings.kept(format!("linux.resources.{}", cpu::QUOTA), "a quota as asked");
    }
}

fn unlimited(code: &'static str, key: &str, what: &str, findings: &mut Findings) {
    findings.refused(
        code,
        format!("linux.resources.{key}"),
        format!("unlimited {what} is asked for, or as much as the whole machine has; the policy that this container was made under bounds it"),
        "give a number",
    );
}

/// The stored limits with the new ones in their places.
fn merge(mut stored: LinuxResources, new: &LinuxResources) -> LinuxResources {
    if new.pids().is_some() {
        stored.set_pids(*new.pids());
    }
    if let Some(memory) = new.memory() {
        let old = stored.memory().unwrap_or_default();
        let mut merged = old;
        merged
            .set_limit(memory.limit().or(old.limit()))
            .set_swap(memory.swap().or(old.swap()))
            .set_reservation(memory.reservation().or(old.reservation()))
            .set_kernel(memory.kernel().or(old.kernel()))
            .set_kernel_tcp(memory.kernel_tcp().or(old.kernel_tcp()))
            .set_swappiness(memory.swappiness().or(old.swappiness()))
            .set_disable_oom_killer(memory.disable_oom_killer().or(old.disable_oom_killer()));
        stored.set_memory(Some(merged));
    }
    if let Some(cpu) = new.cpu() {
        stored.set_cpu(Some(merge_cpu(&stored.cpu().clone().unwrap_or_default(), cpu)));
    }
    if let Some(io) = new.block_io() {
        stored.set_block_io(Some(merge_io(stored.block_io().clone().unwrap_or_default(), io)));
    }
    if let Some(new) = new.hugepage_limits() {
        let mut merged = stored.hugepage_limits().clone().unwrap_or_default();
        merged.retain(|old| new.iter().all(|n| n.page_size() != old.page_size()));
        merged.extend(new.iter().cloned());
        stored.set_hugepage_limits(Some(merged));
    }
    if let Some(new) = new.network() {
        let mut merged = stored.network().clone().unwrap_or_default();
        let class = new.class_id().or(merged.class_id());
        let priorities = new.priorities().clone().or_else(|| merged.priorities().clone());
        merged.set_class_id(class).set_priorities(priorities);
        stored.set_network(Some(merged));
    }
    if let Some(new) = new.rdma() {
        let mut merged = stored.rdma().clone().unwrap_or_default();
        merged.extend(new.clone());
        stored.set_rdma(Some(merged));
    }
    if let Some(unified) = new.unified() {
        let mut merged = stored.unified().clone().unwrap_or_default();
        merged.extend(unified.clone());
        stored.set_unified(Some(merged));
    }
    stored
}

/// A device that the new limits name has those, and any other its old ones.
fn merge_io(mut old: LinuxBlockIo, new: &LinuxBlockIo) -> LinuxBlockIo {
    let (weight, leaf) = (new.weight().or(old.weight()), new.leaf_weight().or(old.leaf_weight()));
    let mut weights = old.weight_device().clone().unwrap_or_default();
    let new_weights = new.weight_device().as_deref().unwrap_or_default();
    weights.retain(|o| {
        new_weights
            .iter()
            .all(|n| (n.major(), n.minor()) != (o.major(), o.minor()))
    });
    weights.extend(new_weights.iter().copied());
    let throttles = |old: &Option<Vec<LinuxThrottleDevice>>, new: &Option<Vec<LinuxThrottleDevice>>| {
        let new = new.as_deref().unwrap_or_default();
        let mut all = old.clone().unwrap_or_default();
        all.retain(|o| new.iter().all(|n| (n.major(), n.minor()) != (o.major(), o.minor())));
        all.extend(new.iter().copied());
        (!all.is_empty()).then_some(all)
    };
    let read_bps = throttles(old.throttle_read_bps_device(), new.throttle_read_bps_device());
    let write_bps = throttles(old.throttle_write_bps_device(), new.throttle_write_bps_device());
    let read_iops = throttles(old.throttle_read_iops_device(), new.throttle_read_iops_device());
    let write_iops = throttles(old.throttle_write_iops_device(), new.throttle_write_iops_device());
    old.set_weight(weight)
        .set_leaf_weight(leaf)
        .set_weight_device((!weights.is_empty()).then_some(weights))
        .set_throttle_read_bps_device(read_bps)
        .set_throttle_write_bps_device(write_bps)
        .set_throttle_read_iops_device(read_iops)
        .set_throttle_write_iops_device(write_iops);
    old
}

fn merge_cpu(old: &LinuxCpu, new: &LinuxCpu) -> LinuxCpu {
    let text = |new: &Option<String>, old: &Option<String>| new.clone().or_else(|| old.clone());
    let mut merged = old.clone();
    merged
        .set_shares(new.shares().or(old.shares()))
        .set_quota(new.quota().or(old.quota()))
        .set_burst(new.burst().or(old.burst()))
        .set_period(new.period().or(old.period()))
        .set_realtime_runtime(new.realtime_runtime().or(old.realtime_runtime()))
        .set_realtime_period(new.realtime_period().or(old.realtime_period()))
        .set_idle(new.idle().or(old.idle()))
        .set_cpus(text(new.cpus(), old.cpus()))
        .set_mems(text(new.mems(), old.mems()));
    merged
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::control::cgroup::Cgroup;
    use crate::policy::Level;
    use crate::size::Size;
    use crate::testing::Case;

    fn container(level: Level) -> Hardened {
        let mut case = Case::new().level(level);
        case.policy.policy.cgroup.max_memory = Some(Size(1 << 30));
        case.policy.policy.cgroup.max_pids = 1000;
        case.policy.policy.cgroup.pids = 100;
        case.policy.policy.cgroup.cpu_percent = Some(50);
        let (mut draft, _) = case.decide(&Cgroup);
        if level == Level::Permissive {
            draft.plan.enforced.clear();
        }
        Hardened::decided(draft, level, String::new(), Vec::new())
    }

    fn update(level: Level, asked: Value) -> Result<Vetted, Denial> {
        let asked = serde_json::from_value(asked).unwrap();
        vet(&"web1".parse().unwrap(), &asked, &container(level))
    }

    #[test]
    fn what_lifts_a_bound_is_refused_by_name() {
        for (asked, code) in [
            (json!({"pids": {"limit": -1}}), "cgroup.pids-unlimited"),
            (json!({"pids": {"limit": 1001}}), "cgroup.pids-above-max"),
            (json!({"memory": {"limit": -1}}), "cgroup.memory-unlimited"),
            // As much as the machine has, and the largest number.
            (json!({"memory": {"limit": 8_u64 << 30}}), "cgroup.memory-unlimited"),
            (json!({"memory": {"limit": i64::MAX}}), "cgroup.memory-unlimited"),
            (json!({"unified": {"memory.min": "1"}}), "cgroup.unified-takes"),
            (
                json!({"unified": {"cpuset.cpus.partition": "root"}}),
                "cgroup.unified-takes",
            ),
            (
                json!({"memory": {"limit": 2_147_483_648_u64}}),
                "cgroup.memory-above-max",
            ),
            (
                json!({"memory": {"limit": 1_048_576, "swap": 4096}}),
                "cgroup.swap-below-memory",
            ),
            (json!({"cpu": {"quota": -1}}), "cgroup.cpu-unlimited"),
            (json!({"unified": {"pids.max": "max"}}), "cgroup.pids-unlimited"),
            (json!({"unified": {"memory.max": "max"}}), "cgroup.memory-unlimited"),
            (json!({"unified": {"memory.high": "1"}}), "cgroup.unified-on-v1"),
        ] {
            let denial = update(Level::Hardened, asked.clone()).unwrap_err();
            let codes: Vec<_> = denial.refusals().filter_map(|c| c.code.as_deref()).collect();
            assert!(codes.contains(&code), "{asked}: {codes:?}");
            let permissive = update(Level::Permissive, asked.clone()).unwrap();
            assert_eq!(permissive.decision.mode, Mode::Observe, "{asked}");
        }
        // What no level takes.
        let other = json!({"unified": {"../x": "1"}});
        for (level, code) in [
            (Level::Hardened, "cgroup.unified-key"),
            (Level::Permissive, "bundle.invalid"),
        ] {
            let denial = update(level, other.clone()).unwrap_err();
            let codes: Vec<_> = denial.refusals().filter_map(|c| c.code.as_deref()).collect();
            assert!(codes.contains(&code), "{codes:?}");
        }
    }

    #[test]
    fn swap_stays_closed_when_memory_moves() {
        let vetted = update(Level::Hardened, json!({"memory": {"limit": 1_048_576}})).unwrap();
        let memory = vetted.apply.memory().unwrap();
        assert_eq!((memory.limit(), memory.swap()), (Some(1_048_576), Some(1_048_576)));
        let vetted = update(Level::Hardened, json!({"memory": {"swap": -1}})).unwrap();
        let memory = vetted.apply.memory().unwrap();
        assert_eq!(memory.limit(), memory.swap());
    }

    #[test]
    fn the_oom_killer_stays() {
        for asked in [
            json!({"memory": {"disableOOMKiller": true}}),
            json!({"memory": {"limit": 1_048_576, "disableOOMKiller": true}}),
        ] {
            let vetted = update(Level::Hardened, asked).unwrap();
            assert_eq!(vetted.apply.memory().unwrap().disable_oom_killer(), Some(false));
        }
        // Without a limit of memory there is nothing to bound, and a switch all the same.
        let mut case = Case::new();
        case.host.controllers.remove("memory");
        let container = Hardened::decided(case.decide(&Cgroup).0, Level::Hardened, String::new(), Vec::new());
        let asked = serde_json::from_value(json!({"memory": {"disableOOMKiller": true}})).unwrap();
        let vetted = vet(&"web1".parse().unwrap(), &asked, &container).unwrap();
        assert_eq!(vetted.apply.memory().and_then(|m| m.disable_oom_killer()), Some(false));
    }

    #[test]
    fn only_what_is_said_is_written_and_the_rest_is_kept() {
        let asked = json!({
            "pids": {"limit": 0}, "memory": {"limit": 0, "swap": 0}, "devices": [{"allow": true}],
            "cpu": {"shares": 512, "quota": 0, "cpus": ""}
        });
        let vetted = update(Level::Hardened, asked).unwrap();
        assert_eq!(
            (vetted.apply.pids(), vetted.apply.memory(), vetted.apply.devices()),
            (&None, &None, &None)
        );
        let resources = vetted
            .hardened
            .spec()
            .linux()
            .as_ref()
            .unwrap()
            .resources()
            .clone()
            .unwrap();
        assert_eq!(resources.pids().map(|p| p.limit()), Some(100));
        assert_eq!(resources.cpu().as_ref().unwrap().shares(), Some(512));
        assert_eq!(resources.cpu().as_ref().unwrap().quota(), Some(50_000));
    }

    fn stored(vetted: &Vetted) -> Value {
        let linux = vetted.hardened.spec().linux().clone().unwrap();
        serde_json::to_value(linux.resources()).unwrap()
    }

    #[test]
    fn a_limit_of_one_device_leaves_those_of_others() {
        let first = json!({
            "blockIO": {"weight": 300, "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1000}, {"major": 8, "minor": 1, "rate": 7}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 9}, {"pageSize": "1GB", "limit": 8}],
            "network": {"classID": 5, "priorities": [{"name": "lo", "priority": 1}]}
        });
        let first = vet(
            &"web1".parse().unwrap(),
            &serde_json::from_value(first).unwrap(),
            &container(Level::Permissive),
        );
        let second = json!({
            "blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 2000}]},
            "hugepageLimits": [{"pageSize": "2MB", "limit": 3}],
            "network": {"classID": 6}
        });
        let second = serde_json::from_value(second).unwrap();
        let both = vet(&"web1".parse().unwrap(), &second, &first.unwrap().hardened).unwrap();
        let told = stored(&both);
        assert_eq!(told["blockIO"]["weight"], 300);
        assert_eq!(
            told["blockIO"]["throttleReadBpsDevice"],
            json!([{"major": 8, "minor": 1, "rate": 7}, {"major": 8, "minor": 0, "rate": 2000}])
        );
        assert_eq!(
            told["hugepageLimits"],
            json!([{"pageSize": "1GB", "limit": 8}, {"pageSize": "2MB", "limit": 3}])
        );
        assert_eq!(
            told["network"],
            json!({"classID": 6, "priorities": [{"name": "lo", "priority": 1}]})
        );
    }

    #[test]
    fn who_is_idle_no_more_has_its_weight_again() {
        let id: ContainerId = "web1".parse().unwrap();
        let asked = |json| serde_json::from_value::<LinuxResources>(json).unwrap();
        let idle = asked(json!({"cpu": {"idle": 1, "shares": 512}}));
        let idle = vet(&id, &idle, &container(Level::Hardened)).unwrap().hardened;
        let awake = vet(&id, &asked(json!({"cpu": {"idle": 0}})), &idle).unwrap();
        let cpu = awake.apply.cpu().clone().unwrap();
        assert_eq!((cpu.idle(), cpu.shares()), (Some(0), Some(512)));
        let again = vet(&id, &asked(json!({"cpu": {"idle": 0}})), &awake.hardened).unwrap();
        assert_eq!(again.apply.cpu().as_ref().unwrap().shares(), None);
    }
}
