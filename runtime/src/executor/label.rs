//! The LSM label that execve puts on (AppArmor, SELinux).

use nix::errno::Errno;

use crate::control::{ControlId, lsm};
use crate::error::{Error, Result, Step};
use crate::executor::verify;
use crate::faults;
use crate::hardened::LsmPlan;
use crate::init::{Proc, Setup};
use crate::observed::Observed;

/// Writes the label to attr/exec. It takes effect at execve; the parent reads attr/current afterwards.
pub fn on_exec(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Label)?;
    if !setup.applies(ControlId::Lsm) {
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
    if let Some(label) = wanted_selinux(setup) {
        setup
            .proc
            .write("self/attr/exec", label)
            .map_err(|e| Error::step(Step::Label, format!("set the SELinux label {label}"), e))?;
    }
    Ok(())
}

/// After execve: the label that was decided is the one the process runs under. Before it only attr/exec could be seen. The
/// caller ends the process where this fails. `plan` is of a container in which the control is in force.
pub fn took_effect(plan: &LsmPlan, pid: i32) -> Result<()> {
    if plan.apparmor.is_none() && plan.selinux.is_none() {
        return Ok(());
    }
    let label = match Proc::open()?.read(&format!("{pid}/attr/current")) {
        Ok(text) => text.trim_end_matches(['\0', '\n']).to_owned(),
        // It has ended meanwhile: nothing runs under a wrong label.
        Err(Errno::ENOENT | Errno::ESRCH) => return Ok(()),
        Err(e) => return Err(Error::step(Step::Label, "read the label of the workload back", e)),
    };
    let seen = Observed {
        label: Some(label),
        ..Observed::default()
    };
    verify::all_hold(lsm::labels(plan, &seen))
}

fn wanted_apparmor<'a>(setup: &'a Setup<'_>) -> Option<&'a str> {
    let by_plan = setup.hardened.plan().lsm.apparmor.as_deref();
    by_plan
        .or(setup.process.apparmor_profile().as_deref())
        .filter(|p| !p.is_empty())
}

/// What the workload and its keyring are labelled.
pub fn wanted_selinux<'a>(setup: &'a Setup<'_>) -> Option<&'a str> {
    let by_plan = setup.hardened.plan().lsm.selinux.as_deref();
    by_plan
        .or(setup.process.selinux_label().as_deref())
        .filter(|l| !l.is_empty())
}
