//! Memory, and the swap beside it.

use oci_spec::runtime::{LinuxMemory, LinuxResources};

use super::{above_max, binding, bounded, finite, has, signed, unlimited};
use crate::control::Context;
use crate::decision::Findings;
use crate::hardened::SwapPlan;
use crate::host::SwapAccounting;
use crate::size::in_words;

/// The kernel counts in pages; a limit that is a multiple of the largest usual one reads back as it was written.
const LARGEST_PAGE: u64 = 64 << 10;

/// Gives the container a finite memory limit, and says whether swap beyond it is closed.
pub(super) fn bound(resources: &mut LinuxResources, cx: &Context<'_>, findings: &mut Findings) -> SwapPlan {
    let at = "linux.resources.memory.limit";
    let mut memory = resources.memory().unwrap_or_default();
    oom_killer(&mut memory, findings);
    let limit = match binding(memory.limit(), cx.host.memory_total) {
        Some(limit) => {
            let max = cx.policy.policy.cgroup.max_memory.map_or(u64::MAX, |m| m.0);
            if limit > max {
                above_max(
                    "memory-above-max",
                    at,
                    in_words(limit),
                    in_words(max),
                    "max_memory",
                    cx,
                    findings,
                );
            } else {
                findings.kept(at, format!("{}, as asked", in_words(limit)));
            }
            limit
        }
        None if !has("memory", cx) => {
            findings.warned(at, "no limit on memory: this caller may not use the memory controller");
            memory.set_limit(None).set_swap(None);
            keep(resources, memory);
            return SwapPlan::AsAsked;
        }
        None => {
            let Some(limit) = default_limit(cx) else {
                findings.warned(
                    at,
                    "no limit on memory: the host's memory is not known and the policy gives none",
                );
                keep(resources, memory);
                return SwapPlan::AsAsked;
            };
            bounded(at, memory.limit(), in_words(limit), "a leak must stay inside", findings);
            limit
        }
    };
    memory.set_limit(Some(signed(limit)));
    let plan = swap(&mut memory, limit, cx, findings);
    keep(resources, memory);
    plan
}

/// A memory section is there only if it says something: a spec that is hardened again must not change.
fn keep(resources: &mut LinuxResources, memory: LinuxMemory) {
    resources.set_memory((memory != LinuxMemory::default()).then_some(memory));
}

/// The policy's default, or half of the host, and no less than the pod was promised; within what the parent has and the policy allows.
fn default_limit(cx: &Context<'_>) -> Option<u64> {
    let policy = &cx.policy.policy.cgroup;
    let half = Some(cx.host.memory_total / 2).filter(|half| *half > 0);
    let default = policy.memory.map(|m| m.0).or(half).max(promised(cx));
    let limit = [default, cx.host.parent_memory, policy.max_memory.map(|m| m.0)]
        .into_iter()
        .flatten()
        .min()?;
    // A parent smaller than a page: as it is, rounding would give zero.
    Some(if limit > LARGEST_PAGE {
        limit / LARGEST_PAGE * LARGEST_PAGE
    } else {
        limit.max(1)
    })
}

/// The OOM scores by which the kubelet tells a container's request: 1000 is none, and below 3 are those with limits.
const BURSTABLE: std::ops::Range<i32> = 3..1000;

/// What the scheduler promised a pod's container that has no limit (`requests.memory`). No field of a spec has it; the kubelet's OOM score
/// does, to a thousandth of the machine: 1000 less the request's share (kubelet, policy.go). The bound is the next thousandth above.
fn promised(cx: &Context<'_>) -> Option<u64> {
    cx.request.pod(cx.policy.cri)?;
    let score = cx.request.spec.process().as_ref()?.oom_score_adj()?;
    let share = BURSTABLE.contains(&score).then(|| (1000 - score).unsigned_abs())?;
    // The first score may also stand for next to nothing.
    (share > 1).then(|| (cx.host.memory_total / 1000).saturating_mul(u64::from(share) + 1))
}

/// Memory and swap together are no more than memory.
fn swap(memory: &mut LinuxMemory, limit: u64, cx: &Context<'_>, findings: &mut Findings) -> SwapPlan {
    let at = "linux.resources.memory.swap";
    let asked = finite(memory.swap());
    if cx.host.swap_accounting == SwapAccounting::Absent {
        if let Some(swap) = asked {
            findings.refused(
                "swap-accounting-missing",
                at,
                format!(
                    "a limit of {} on memory and swap is asked for, and this kernel does not account for swap",
                    in_words(swap)
                ),
                cx.request.caller().word(
                    "boot with swapaccount=1, or set the kubelet's swapBehavior: NoSwap",
                    "boot with swapaccount=1, or remove `--memory-swap`",
                    "boot with swapaccount=1, or remove `memory.swap`",
                ),
            );
        } else {
            findings.warned(at, "swap is not limited: this kernel does not account for it");
        }
        memory.set_swap(None);
        return SwapPlan::AsAsked;
    }
    let why = "no swap beyond the memory limit";
    match asked {
        Some(swap) if swap < limit => findings.refused(
            "swap-below-memory",
            at,
            format!(
                "memory and swap together ({}) are less than memory alone ({})",
                in_words(swap),
                in_words(limit)
            ),
            "raise memory.swap to the memory limit, or leave it out",
        ),
        Some(swap) if swap == limit => findings.kept(at, why),
        Some(swap) => findings.tightened(at, in_words(swap), in_words(limit), why),
        None => match unlimited(memory.swap()) {
            Some(from) => findings.tightened(at, from, in_words(limit), why),
            None => findings.added(at, in_words(limit), why),
        },
    }
    memory.set_swap(Some(signed(limit)));
    SwapPlan::Closed
}

/// Without the OOM killer a full container hangs, with whatever locks it holds (v1; v2 has no such switch).
pub(super) fn oom_killer(memory: &mut LinuxMemory, findings: &mut Findings) {
    if memory.disable_oom_killer() == Some(true) {
        findings.tightened(
            "linux.resources.memory.disableOOMKiller",
            "true",
            "false",
            "a full container must end, not hang",
        );
        memory.set_disable_oom_killer(Some(false));
    }
}
