//! CPU time: shares and weights as asked, a quota only if the spec or the policy gives one.

use oci_spec::runtime::LinuxResources;

use super::{bounded, finite, has};
use crate::control::Context;
use crate::decision::Findings;

/// Where the quota stands in linux.resources.
pub(super) const QUOTA: &str = "cpu.quota";

/// The kernel's default period in microseconds (sched-bwc).
const PERIOD: u64 = 100_000;

/// The smallest quota that the kernel takes, in microseconds.
const SMALLEST_QUOTA: u64 = 1000;

pub(super) fn bound(resources: &mut LinuxResources, cx: &Context<'_>, findings: &mut Findings) {
    let at = "linux.resources.cpu.quota";
    let Some(percent) = cx.policy.policy.cgroup.cpu_percent else {
        return;
    };
    let mut cpu = resources.cpu().clone().unwrap_or_default();
    if finite(cpu.quota()).is_some() {
        findings.kept(at, "a quota as asked");
        return;
    }
    if !has("cpu", cx) {
        findings.warned(at, "no CPU quota: this caller may not use the cpu controller");
        return;
    }
    let period = cpu.period().filter(|p| *p > 0).unwrap_or(PERIOD);
    let quota = (period.saturating_mul(u64::from(percent)) / 100).max(SMALLEST_QUOTA);
    bounded(at, cpu.quota(), quota.to_string(), "the policy's cpu_percent", findings);
    cpu.set_period(Some(period)).set_quota(Some(super::signed(quota)));
    resources.set_cpu(Some(cpu));
}
