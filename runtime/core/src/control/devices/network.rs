//! `linux.netDevices`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::control::{Context, remedy};
use crate::decision::Findings;
use crate::hardened::Draft;
use crate::id::ControlId;

/// A network device is the host's until it is given away: only what the policy names by its place in sysfs.
pub(super) fn judge(draft: &mut Draft, cx: &Context<'_>, findings: &mut Findings) {
    let asked = draft.linux().net_devices().clone().unwrap_or_default();
    let names: BTreeSet<String> = asked.into_keys().collect();
    for name in names {
        let at = Path::new("/sys/class/net").join(&name);
        let place = format!("linux.netDevices.{name}");
        let allowed = |a: &PathBuf| a.is_absolute() && at.starts_with(a);
        if cx.policy.policy.devices.allow.iter().any(allowed) {
            findings.warned(place, "a network device of the host, allowed by the policy");
            let by = format!("{}, by the policy's devices.allow", at.display());
            draft.plan.lets_off(ControlId::Devices, by);
            continue;
        }
        let what = format!("the network device {name} is the host's, and would be the container's alone");
        let remedy = format!(
            "remove it from `linux.netDevices`, or {}",
            remedy::allow(cx, "devices.allow", &at.display().to_string())
        );
        findings.refused("net-device", place, what, remedy);
    }
}
