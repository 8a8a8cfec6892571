//! `cgroup`: every container has finite tasks and memory.
//!
//! An explicit limit is kept, or refused above the policy's maximum: cutting it in silence would make a service fail later.
//! Where the spec is silent or says «unlimited», a bound is added. What the spec asked for and this caller cannot have
//! (a controller that is not delegated) is an error; what gabion would only have added is a warning.

use oci_spec::runtime::{LinuxBlockIo, LinuxPids, LinuxResources, Mount};

use super::mounts::options::{Flag, Options};
use super::{About, Context, Control, ControlId};
use crate::decision::Findings;
use crate::fact::Fact;
use crate::hardened::{CgroupBounds, Draft, Hardened};
use crate::host::CgroupVersion;
use crate::observed::Observed;

mod cpu;
mod memory;
mod place;
mod seen;
#[cfg(test)]
mod tests;
pub mod unified;
pub mod update;

pub struct Cgroup;

static ABOUT: About = About {
    threat: "a fork bomb or a leak in one container takes the node's tasks or memory; a writable cgroup mount lifts the limits",
    rule: "finite pids and memory, no swap beyond memory; explicit limits are kept up to the policy's maximum; the cgroup mount \
           is read-only",
    enforced_by: "cgroup controllers pids, memory and cpu; read back from the container's cgroup",
    kernel_floor: "4.3 (pids; v1), 4.15 (v2)",
    refs: &[
        "CIS Docker 5.11",
        "CIS Docker 5.25",
        "CIS Docker 5.29",
        "NIST SP 800-190 4.4.3",
    ],
};

impl Control for Cgroup {
    fn id(&self) -> ControlId {
        ControlId::Cgroup
    }

    fn about(&self) -> &'static About {
        &ABOUT
    }

    fn decide(&self, draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
        let linux = draft.linux();
        place::decide(linux, cx, findings);
        let mut resources = linux.resources().clone().unwrap_or_default();
        unified::fold(&mut resources, place::bounded_by(linux, cx), cx, findings);
        refuse_absent(&resources, cx, findings);
        pids(&mut resources, cx, findings);
        let no_swap = memory::bound(&mut resources, cx, findings);
        let pod = place::bounded_by(linux, cx);
        cpu::bound(&mut resources, cx, findings);
        linux.set_resources(Some(resources));
        draft.plan.no_swap = no_swap;
        draft.plan.cgroup = Some(CgroupBounds {
            policy: cx.policy.policy.cgroup.clone(),
            version: cx.host.cgroup,
            swap: cx.host.swap_accounting,
            controllers: cx.host.controllers.clone(),
            memory_total: cx.host.memory_total,
            tasks_total: cx.host.tasks_total,
            pod,
        });
        for mount in draft.spec.mounts_mut().iter_mut().flatten() {
            close(mount, findings);
        }
    }

    fn facts(&self, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
        seen::facts(hardened, seen)
    }
}

/// A limit that the spec gives: absent, zero and negative numbers all mean «unlimited» in runtimes.
fn finite(limit: Option<i64>) -> Option<u64> {
    limit.and_then(|l| u64::try_from(l).ok()).filter(|l| *l > 0)
}

/// A limit that binds on this machine: as much as the whole machine has is as good as none. 0: what it has is not known.
fn binding(limit: Option<i64>, machine: u64) -> Option<u64> {
    finite(limit).filter(|l| machine == 0 || *l < machine)
}

/// How an unlimited value is shown: as silence, or as the number that said so.
fn unlimited(limit: Option<i64>) -> Option<String> {
    limit.map(|l| format!("unlimited ({l})"))
}

/// As the spec's type; no limit is that large.
fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

fn has(controller: &str, cx: &Context<'_>) -> bool {
    cx.host.controllers.contains(controller)
}

fn pids(resources: &mut LinuxResources, cx: &Context<'_>, findings: &mut Findings) {
    let at = "linux.resources.pids.limit";
    let policy = &cx.policy.policy.cgroup;
    let asked = resources.pids().map(|p| p.limit());
    if let Some(limit) = binding(asked, cx.host.tasks_total) {
        if limit > u64::from(policy.max_pids) {
            above_max(
                "pids-above-max",
                at,
                limit.to_string(),
                policy.max_pids.to_string(),
                "max_pids",
                cx,
                findings,
            );
        } else {
            findings.kept(at, format!("{limit} tasks, as asked"));
        }
        return;
    }
    if !has("pids", cx) {
        resources.set_pids(None);
        findings.warned(at, "no limit on tasks: this caller may not use the pids controller");
        return;
    }
    let limit = u64::from(policy.pids)
        .min(cx.host.parent_pids.unwrap_or(u64::MAX))
        .max(1);
    bounded(at, asked, limit.to_string(), "a fork bomb must stay inside", findings);
    let mut pids = LinuxPids::default();
    pids.set_limit(signed(limit));
    resources.set_pids(Some(pids));
}

/// Records a bound where there was none: added to silence, or in the place of a number that means «unlimited».
fn bounded(at: &str, asked: Option<i64>, limit: String, why: &str, findings: &mut Findings) {
    match unlimited(asked) {
        None => findings.added(at, limit, why),
        Some(from) => findings.tightened(at, from, limit, why),
    }
}

fn above_max(
    code: &'static str,
    at: &str,
    asked: String,
    max: String,
    key: &str,
    cx: &Context<'_>,
    findings: &mut Findings,
) {
    let word = cx.request.caller().word(
        "`resources.limits`",
        "`--memory` or `--pids-limit`",
        "`linux.resources`",
    );
    findings.refused(
        code,
        at,
        format!("{asked} is asked for and the policy's {key} is {max}"),
        format!("lower it in {word}, or raise [cgroup] {key} in /etc/gabion/policy.toml"),
    );
}

/// What the spec asks of controllers that this caller may not use. Nobody would notice that a limit is not there.
fn refuse_absent(resources: &LinuxResources, cx: &Context<'_>, findings: &mut Findings) {
    let memory = resources.memory().as_ref();
    let cpu = resources.cpu().as_ref();
    let asked = [
        (
            "pids",
            finite(resources.pids().map(|p| p.limit())).is_some(),
            "pids.limit",
        ),
        (
            "memory",
            memory.is_some_and(|m| {
                finite(m.limit()).is_some() || finite(m.swap()).is_some() || finite(m.reservation()).is_some()
            }),
            "memory",
        ),
        (
            "cpu",
            cpu.is_some_and(|c| c.shares().is_some_and(|s| s > 0) || finite(c.quota()).is_some()),
            "cpu",
        ),
        (
            "cpuset",
            cpu.is_some_and(|c| [c.cpus(), c.mems()].into_iter().flatten().any(|s| !s.is_empty())),
            "cpu.cpus",
        ),
        (
            match cx.host.cgroup {
                CgroupVersion::V1 => "blkio",
                CgroupVersion::V2 => "io",
            },
            resources.block_io().as_ref().is_some_and(limits_io),
            "blockIO",
        ),
        (
            "hugetlb",
            resources.hugepage_limits().iter().flatten().any(|h| h.limit() > 0),
            "hugepageLimits",
        ),
    ];
    for (controller, _, key) in asked.into_iter().filter(|(c, asked, _)| *asked && !has(c, cx)) {
        controller_missing(controller, key, cx, findings);
    }
}

/// Engines write empty sections and zero weights.
fn limits_io(io: &LinuxBlockIo) -> bool {
    let throttles = [
        io.throttle_read_bps_device(),
        io.throttle_write_bps_device(),
        io.throttle_read_iops_device(),
        io.throttle_write_iops_device(),
    ];
    io.weight().is_some_and(|w| w > 0) || throttles.into_iter().flatten().any(|t| !t.is_empty())
}

fn controller_missing(controller: &str, key: &str, cx: &Context<'_>, findings: &mut Findings) {
    findings.refused(
        "controller-missing",
        format!("linux.resources.{key}"),
        format!("a limit of the {controller} controller is asked for, and this caller may not use that controller"),
        cx.request.caller().word(
            "enable the controller on the node's kernel command line, or remove the limit",
            "delegate the controller to the user (systemd: Delegate=cpu memory pids in user@.service.d), or remove the limit",
            "enable or delegate the controller, or remove the limit",
        ),
    );
}

/// A cgroup mount is for looking. With write access the container would lift its own limits.
fn close(mount: &mut Mount, findings: &mut Findings) {
    if !matches!(mount.typ().as_deref(), Some("cgroup" | "cgroup2")) {
        return;
    }
    let mut options = Options::of(mount);
    if options.is(Flag::Ro) {
        return;
    }
    options.set(Flag::Ro);
    let at = mount.destination().display().to_string();
    findings.tightened(at, "rw", "ro", "limits must not be lifted from inside");
    mount.set_options(Some(options.into_vec()));
}
