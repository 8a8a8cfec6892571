//! What the kernel is asked to count or rank for the process: rlimits, scheduler, I/O priority, OOM score, sysctls.

use std::fs::File;
use std::io::Read;

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use oci_spec::runtime::{
    IOPriorityClass, LinuxPersonalityDomain, LinuxSchedulerFlag, LinuxSchedulerPolicy, PosixRlimit, PosixRlimitType,
    Scheduler,
};

use crate::contract::setup::{Kind, Setup};
use crate::faults;
use gabion_core::control::Control;
use gabion_core::control::rlimits::Rlimits;
use gabion_core::id::ControlId;
use gabion_core::observed::Observed;
use gabion_core::observed::parse::parse_limit;
use gabion_see::error::{Error, Result, Step};
use gabion_see::readback::all_hold;
use gabion_sys::{IoClass, SchedAttr};

/// linux/personality.h
const PER_LINUX32: i32 = 0x8;

/// Sets the OOM score, which children inherit. By itself: whoever goes where others live has this written before it becomes unreadable,
/// since its own file in /proc is root's from then on (proc(5)), and an ordinary user could not write it.
pub(crate) fn score(setup: &Setup<'_>) -> Result<()> {
    let Some(score) = setup.process.oom_score_adj() else {
        return Ok(());
    };
    setup
        .proc
        .write("self/oom_score_adj", &score.to_string())
        .map_err(Step::Rlimits.failing(format!("set oom_score_adj {score}")))
}

/// All else that is set before credentials change. Of the limits only what needs the host's privileges: hard ones are raised.
pub(crate) fn apply(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Rlimits)?;
    let process = setup.process;
    if crate::faults::not_skipped_by_a_test(ControlId::Rlimits) {
        process.rlimits().iter().flatten().try_for_each(make_room)?;
    }
    if let Some(priority) = process.io_priority() {
        let class = match priority.class() {
            IOPriorityClass::IoprioClassRt => IoClass::RealTime,
            IOPriorityClass::IoprioClassBe => IoClass::BestEffort,
            IOPriorityClass::IoprioClassIdle => IoClass::Idle,
        };
        let level = u8::try_from(priority.priority())
            .ok()
            .filter(|level| *level < 8)
            .ok_or_else(|| Error::failed(Step::Rlimits, "an I/O priority is a number from 0 to 7"))?;
        gabion_sys::ioprio_set(class, level).map_err(Step::Rlimits.failing("set the I/O priority"))?;
    }
    if let Some(scheduler) = process.scheduler() {
        schedule(scheduler)?;
    }
    personality(setup)
}

/// Raises the hard limit to what the process shall have, and lowers it where that is no hindrance to us.
fn make_room(limit: &PosixRlimit) -> Result<()> {
    /// Files that we have open at once, but for specs with thousands of mounts.
    const FILES: u64 = 4096;
    let resource = resource(limit.typ());
    let (soft, hard) = getrlimit(resource).map_err(Step::Rlimits.failing("read our own limits"))?;
    let harmless = match resource {
        Resource::RLIMIT_CORE => true,
        Resource::RLIMIT_NOFILE => limit.hard() >= FILES,
        _ => false,
    };
    if limit.hard() <= hard && !harmless {
        return Ok(());
    }
    setrlimit(resource, soft.min(limit.hard()), limit.hard()).map_err(cannot_set(limit))
}

fn cannot_set(limit: &PosixRlimit) -> impl Fn(Errno) -> Error {
    Step::Rlimits.failing(format!("set {:?} to {}/{}", limit.typ(), limit.soft(), limit.hard()))
}

/// Sets the process's own limits. Last of all but the filters, which may forbid the call: they are the program's, and none of our own steps
/// shall fail by one. `own` is our /proc/self/limits, by which they are read back.
pub(crate) fn of_the_program(setup: &Setup<'_>, own: File) -> Result<()> {
    if crate::faults::not_skipped_by_a_test(ControlId::Rlimits) {
        gabion_common::limits::give_back().map_err(Step::Rlimits.failing("give the caller's limits back"))?;
        for limit in setup.process.rlimits().iter().flatten() {
            setrlimit(resource(limit.typ()), limit.soft(), limit.hard()).map_err(cannot_set(limit))?;
        }
    }
    if !setup.hardened.enforces(ControlId::Rlimits) {
        return Ok(());
    }
    let mut text = String::with_capacity(4096);
    (&own)
        .read_to_string(&mut text)
        .map_err(|e| Error::failed(Step::Verify, format!("cannot read our limits back: {e}")))?;
    let seen = Observed {
        limits: text.lines().filter_map(parse_limit).collect(),
        ..Observed::default()
    };
    all_hold(Rlimits.facts(setup.hardened, &seen))
}

fn personality(setup: &Setup<'_>) -> Result<()> {
    let Some(wanted) = setup
        .hardened
        .spec()
        .linux()
        .as_ref()
        .and_then(|l| l.personality().as_ref())
    else {
        return Ok(());
    };
    if wanted.flags().as_ref().is_some_and(|f| !f.is_empty()) {
        return Err(Error::failed(
            Step::Rlimits,
            "personality flags are not known to the kernel interface",
        ));
    }
    let persona = match wanted.domain() {
        LinuxPersonalityDomain::PerLinux => nix::sys::personality::Persona::empty(),
        LinuxPersonalityDomain::PerLinux32 => nix::sys::personality::Persona::from_bits_retain(PER_LINUX32),
    };
    nix::sys::personality::set(persona)
        .map(drop)
        .map_err(Step::Rlimits.failing("set the personality"))
}

fn schedule(scheduler: &Scheduler) -> Result<()> {
    let policy = match scheduler.policy() {
        LinuxSchedulerPolicy::SchedOther => libc::SCHED_OTHER,
        LinuxSchedulerPolicy::SchedFifo => libc::SCHED_FIFO,
        LinuxSchedulerPolicy::SchedRr => libc::SCHED_RR,
        LinuxSchedulerPolicy::SchedBatch => libc::SCHED_BATCH,
        LinuxSchedulerPolicy::SchedIdle => libc::SCHED_IDLE,
        LinuxSchedulerPolicy::SchedDeadline => libc::SCHED_DEADLINE,
        LinuxSchedulerPolicy::SchedIso => return Err(Error::failed(Step::Rlimits, "SCHED_ISO is not in Linux")),
    };
    let flags = scheduler.flags().iter().flatten().fold(0_u64, |bits, flag| {
        bits | match flag {
            LinuxSchedulerFlag::SchedResetOnFork => 0x01,
            LinuxSchedulerFlag::SchedFlagReclaim => 0x02,
            LinuxSchedulerFlag::SchedFlagDLOverrun => 0x04,
            LinuxSchedulerFlag::SchedFlagKeepPolicy => 0x08,
            LinuxSchedulerFlag::SchedFlagKeepParams => 0x10,
            LinuxSchedulerFlag::SchedFlagUtilClampMin => 0x20,
            LinuxSchedulerFlag::SchedFlagUtilClampMax => 0x40,
        }
    });
    let attr = SchedAttr {
        policy: policy.cast_unsigned(),
        flags,
        nice: scheduler.nice().unwrap_or(0),
        priority: scheduler.priority().unwrap_or(0).cast_unsigned(),
        runtime: scheduler.runtime().unwrap_or(0),
        deadline: scheduler.deadline().unwrap_or(0),
        period: scheduler.period().unwrap_or(0),
    };
    gabion_sys::sched_setattr(&attr).map_err(Step::Rlimits.failing("set the scheduler"))
}

/// Sysctls of the container's namespaces. The host's procfs serves: these files belong to the namespaces of the writer.
pub(crate) fn sysctls(setup: &Setup<'_>) -> Result<()> {
    faults::at(Step::Sysctl)?;
    if !crate::faults::not_skipped_by_a_test(ControlId::Sysctl) || !matches!(setup.kind, Kind::Create(_)) {
        return Ok(());
    }
    let write = |name: &str, value: &str| {
        // As sysctl(8): the first separator says which one it is; with slashes a dot is part of an interface's name.
        let slashes = name.find(['.', '/']).is_some_and(|at| name[at..].starts_with('/'));
        let path = format!(
            "sys/{}",
            if slashes {
                name.to_owned()
            } else {
                name.replace('.', "/")
            }
        );
        setup
            .proc
            .write(&path, value)
            .map_err(|e| Error::step(Step::Sysctl, format!("set {name} to {value}"), e))
    };
    let asked = setup.hardened.spec().linux().as_ref().and_then(|l| l.sysctl().as_ref());
    for (name, value) in asked.into_iter().flatten() {
        write(name, value)?;
    }
    match setup.hardened.plan().memfd_noexec {
        Some(value) => write("vm.memfd_noexec", &value.to_string()),
        None => Ok(()),
    }
}

/// The kernel's number of a resource (getrlimit(2)).
pub(crate) fn resource(typ: PosixRlimitType) -> Resource {
    match typ {
        PosixRlimitType::RlimitCpu => Resource::RLIMIT_CPU,
        PosixRlimitType::RlimitFsize => Resource::RLIMIT_FSIZE,
        PosixRlimitType::RlimitData => Resource::RLIMIT_DATA,
        PosixRlimitType::RlimitStack => Resource::RLIMIT_STACK,
        PosixRlimitType::RlimitCore => Resource::RLIMIT_CORE,
        PosixRlimitType::RlimitRss => Resource::RLIMIT_RSS,
        PosixRlimitType::RlimitNproc => Resource::RLIMIT_NPROC,
        PosixRlimitType::RlimitNofile => Resource::RLIMIT_NOFILE,
        PosixRlimitType::RlimitMemlock => Resource::RLIMIT_MEMLOCK,
        PosixRlimitType::RlimitAs => Resource::RLIMIT_AS,
        PosixRlimitType::RlimitLocks => Resource::RLIMIT_LOCKS,
        PosixRlimitType::RlimitSigpending => Resource::RLIMIT_SIGPENDING,
        PosixRlimitType::RlimitMsgqueue => Resource::RLIMIT_MSGQUEUE,
        PosixRlimitType::RlimitNice => Resource::RLIMIT_NICE,
        PosixRlimitType::RlimitRtprio => Resource::RLIMIT_RTPRIO,
        PosixRlimitType::RlimitRttime => Resource::RLIMIT_RTTIME,
    }
}
