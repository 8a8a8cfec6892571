//! Which calls of a profile get one answer whatever their arguments, so that they can be found by number alone.

use std::collections::BTreeSet;

use libseccomp::{ScmpArch, ScmpSyscall};
use oci_spec::runtime::LinuxSyscall;

use super::{bpf, numbers};

/// Names that stand in the profile once, in a rule without conditions.
pub(super) fn single(rules: &[LinuxSyscall]) -> BTreeSet<&str> {
    numbers::single(rules.iter().flat_map(|rule| {
        let free = rule.args().as_ref().is_none_or(Vec::is_empty);
        rule.names().iter().map(move |name| (name.as_str(), free))
    }))
}

/// A call's number, as filters see it; None where the architecture has no such call.
pub(super) fn number(name: &str, arch: ScmpArch) -> Option<u32> {
    let call = ScmpSyscall::from_name_by_arch(name, arch).ok()?;
    let number = u32::try_from(call.as_raw_syscall()).ok()?;
    Some(if arch == ScmpArch::X32 {
        number | bpf::X32_BIT
    } else {
        number
    })
}
