//! The label of a workload after execve. Before it only attr/exec shows one (`confine/label.rs`).

use gabion_core::control::lsm;
use gabion_core::hardened::LsmPlan;
use gabion_core::observed::Observed;
use gabion_see::error::{Error, Result, Step};
use gabion_see::procfs::Proc;
use gabion_see::readback::all_hold;
use nix::errno::Errno;

/// Verifies after execve that the label that was decided is the one that the process runs under. Before it only attr/exec could be seen. The
/// caller ends the process where this fails. `plan` is of a container in which the control is in force.
pub(crate) fn took_effect(plan: &LsmPlan, pid: i32) -> Result<()> {
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
    all_hold(lsm::labels(plan, &seen))
}
