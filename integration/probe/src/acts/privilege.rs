//! Identity, and calls that only a privileged process may make.

use super::Answer;
use crate::sys::{self, Sys, call};
use std::ffi::CString;

fn done(result: Sys<usize>) -> Answer {
    result.map(|_| String::new())
}

/// In a child: the acts that follow keep their identity.
pub(super) fn setuid(arg: &str) -> Answer {
    let uid: usize = arg.parse().unwrap_or(0);
    sys::in_child("setuid", || call("setuid", libc::SYS_setuid, &[uid]).map(drop))?;
    Ok(String::new())
}

pub(super) fn setgid_groups(_: &str) -> Answer {
    let groups = [0u32, 33];
    sys::in_child("setgroups", || {
        call(
            "setgroups",
            libc::SYS_setgroups,
            &[groups.len(), groups.as_ptr() as usize],
        )?;
        call("setgid", libc::SYS_setgid, &[33]).map(drop)
    })?;
    Ok(String::new())
}

pub(super) fn chroot(arg: &str) -> Answer {
    let path = CString::new(if arg.is_empty() { "/" } else { arg }).unwrap_or_default();
    sys::in_child("chroot", || {
        call("chroot", libc::SYS_chroot, &[path.as_ptr() as usize]).map(drop)
    })?;
    Ok(String::new())
}

/// `kill-pid=PID` or `kill-pid=PID,SIGNAL`; signal 0 only asks.
pub(super) fn kill_pid(arg: &str) -> Answer {
    let (pid, signal) = arg.split_once(',').unwrap_or((arg, "0"));
    sys::kill(pid.parse().unwrap_or(1), signal.parse().unwrap_or(0))?;
    Ok(String::new())
}

pub(super) fn sethostname(arg: &str) -> Answer {
    done(call(
        "sethostname",
        libc::SYS_sethostname,
        &[arg.as_ptr() as usize, arg.len()],
    ))
}

/// Sets the clock to what it says: where this is let through, the machine's time stays right.
pub(super) fn settime(_: &str) -> Answer {
    let mut now = [0i64; 2];
    let at = now.as_mut_ptr() as usize;
    call(
        "clock_gettime",
        libc::SYS_clock_gettime,
        &[libc::CLOCK_REALTIME as usize, at],
    )?;
    done(call(
        "clock_settime",
        libc::SYS_clock_settime,
        &[libc::CLOCK_REALTIME as usize, at],
    ))
}

pub(super) fn sched_fifo(_: &str) -> Answer {
    let priority = 1i32;
    let words = [0, libc::SCHED_FIFO as usize, &raw const priority as usize];
    done(call("sched_setscheduler", libc::SYS_sched_setscheduler, &words))
}

/// Asks for core dumps again.
pub(super) fn raise_core(_: &str) -> Answer {
    let limit = [4096u64, 4096];
    done(call(
        "prlimit",
        libc::SYS_prlimit64,
        &[0, libc::RLIMIT_CORE as usize, limit.as_ptr() as usize, 0],
    ))
}
