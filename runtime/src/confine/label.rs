//! The LSM label that execve puts on (AppArmor, SELinux).

use nix::errno::Errno;

use crate::contract::setup::Setup;
use crate::faults;
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};

/// Writes the label to attr/exec. It takes effect at execve; the parent reads attr/current afterwards.
pub(crate) fn on_exec(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Label)?;
    if !crate::faults::not_skipped_by_a_test(ControlId::Lsm) {
        return Ok(());
    }
    if let Some(profile) = wanted_apparmor(setup) {
        // The stacked-LSM file first (5.8); the shared one is AppArmor's alone where it is missing.
        match setup.proc.write("self/attr/apparmor/exec", &format!("exec {profile}")) {
            Err(Errno::ENOENT) => setup.proc.write("self/attr/exec", &format!("exec {profile}")),
            other => other,
        }
        .map_err(|e| Error::step(Step::Label, format!("set the AppArmor profile {profile}"), e))?;
    }
    if let Some(label) = setup.selinux_label() {
        setup
            .proc
            .write("self/attr/exec", label)
            .map_err(|e| Error::step(Step::Label, format!("set the SELinux label {label}"), e))?;
    }
    Ok(())
}

fn wanted_apparmor<'a>(setup: &'a Setup<'_>) -> Option<&'a str> {
    let by_plan = setup.hardened.plan().lsm.apparmor.as_deref();
    by_plan
        .or(setup.process.apparmor_profile().as_deref())
        .filter(|p| !p.is_empty())
}
