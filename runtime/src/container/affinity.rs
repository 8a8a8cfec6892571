//! `execCPUAffinity` (runtime-spec, config.md#linux-process).

use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

use gabion_see::error::{Error, Result, Step};

/// Lets the process run on these CPUs only: `0-3,7`. Nothing said is nothing done.
pub(crate) fn set(pid: Pid, list: Option<&str>) -> Result<()> {
    let Some(list) = list.filter(|l| !l.is_empty()) else {
        return Ok(());
    };
    let wrong = || Error::failed(Step::Rlimits, format!("execCPUAffinity {list:?} is not a list of CPUs"));
    let mut cpus = CpuSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < CpuSet::count());
        let (first, last) = number(first)
            .zip(number(last))
            .filter(|(first, last)| first <= last)
            .ok_or_else(wrong)?;
        for cpu in first..=last {
            cpus.set(cpu).map_err(|_| wrong())?;
        }
    }
    sched_setaffinity(pid, &cpus).map_err(|e| Error::step(Step::Rlimits, format!("run on CPUs {list}"), e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_are_none_say_so() {
        let me = Pid::from_raw(0);
        for bad in ["x", "3-1", "0,", "-1", "99999999"] {
            assert!(set(me, Some(bad)).is_err(), "{bad}");
        }
        assert!(set(me, None).is_ok() && set(me, Some("")).is_ok());
    }
}
