//! `execCPUAffinity` (runtime-spec, config.md#linux-process).

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use gabion_core::list::Numbers;
use gabion_see::error::{Error, Result, Step};

/// Lets the process run on these CPUs only: `0-3,7`. Nothing said is nothing done.
pub(crate) fn set(pid: Pid, list: Option<&str>) -> Result<()> {
    let Some(list) = list.filter(|l| !l.is_empty()) else {
        return Ok(());
    };
    let wrong = || Error::failed(Step::Rlimits, format!("execCPUAffinity {list:?} is not a list of CPUs"));
    let mut cpus = CpuSet::new();
    let bound = u32::try_from(CpuSet::count()).unwrap_or(u32::MAX);
    for cpu in Numbers::parse(list, bound).map_err(|_| wrong())?.iter() {
        let cpu = usize::try_from(cpu).map_err(|_| wrong())?;
        cpus.set(cpu).map_err(|_| wrong())?;
    }
    sched_setaffinity(pid, &cpus).map_err(|e| Error::step(Step::Rlimits, format!("run on CPUs {list}"), e))
}

/// Lets the process run on all CPUs of its cgroup, whichever our caller is bound to: that is the caller's own affair, and the kernel gives none
/// beyond the cgroup's (runc, the same). Where it may not be said, the process stays on the caller's.
pub(crate) fn of_the_cgroup(pid: Pid) {
    let mut cpus = CpuSet::new();
    let all = (0..CpuSet::count()).try_for_each(|cpu| cpus.set(cpu));
    if let Err(error) = all.and_then(|()| sched_setaffinity(pid, &cpus)) {
        tracing::warn!(%error, "the process stays on the CPUs that our caller is bound to");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_are_none_say_so() {
        let me = Pid::from_raw(0);
        for bad in ["x", "3-1", "0,", "-1", "99999999", "0-4294967295"] {
            assert!(set(me, Some(bad)).is_err(), "{bad}");
        }
        assert!(set(me, None).is_ok() && set(me, Some("")).is_ok());
    }
}
