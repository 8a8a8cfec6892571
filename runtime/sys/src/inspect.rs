//! Looking at a task of somebody else's: the seccomp filters that it has.

use std::ffi::{c_int, c_long, c_void};
use std::ptr::null_mut;
use std::time::{Duration, Instant};

use nix::Result;
use nix::errno::Errno;
use nix::unistd::Pid;

use super::done;

/// PTRACE_SECCOMP_GET_FILTER (linux/ptrace.h), which libc has not everywhere.
const GET_FILTER: u32 = 0x420c;

/// Gives the seccomp filters of a task, as they were handed to the kernel: sequences of `struct sock_filter` in native order.
///
/// The task is stopped for that moment (ptrace(2), PTRACE_SEIZE and PTRACE_INTERRUPT): it gets no signal, and goes on when this returns. A task
/// that does not stop in time stays attached to this process until that ends, and goes on: so a process that is about to end calls this.
///
/// # Errors
/// ESRCH: it has ended, or does not stop (ETIMEDOUT). EPERM: it may not be attached to, or somebody else is. EACCES: only root of the host
/// is shown filters. EIO: this kernel shows none (CONFIG_CHECKPOINT_RESTORE).
pub fn seccomp_filters(tid: Pid, patience: Duration) -> Result<Vec<Vec<u8>>> {
    request(libc::PTRACE_SEIZE, tid, 0)?;
    request(libc::PTRACE_INTERRUPT, tid, 0)?;
    let signal = stopped(tid, patience)?;
    let filters = read(tid);
    request(libc::PTRACE_DETACH, tid, signal)?;
    filters
}

fn request(what: impl TryInto<libc::c_uint>, tid: Pid, data: c_int) -> Result<()> {
    let what = what.try_into().map_err(|_| Errno::EINVAL)?;
    // SAFETY: none of these requests reads or writes memory of ours: the address is null, data is a number.
    done(unsafe { libc::ptrace(what as _, tid.as_raw(), null_mut::<c_void>(), c_long::from(data)) })
}

/// Waits until it has stopped, and gives the signal that it is to get when it goes on: none, unless it was about to get one just then.
fn stopped(tid: Pid, patience: Duration) -> Result<c_int> {
    const EVENT_STOP: c_int = 128;
    let deadline = Instant::now() + patience;
    loop {
        let mut status: c_int = 0;
        // SAFETY: status is a c_int that outlives the call.
        let who = unsafe { libc::waitpid(tid.as_raw(), &raw mut status, libc::__WALL | libc::WNOHANG) };
        match Errno::result(who) {
            Err(Errno::EINTR) | Ok(0) if Instant::now() < deadline => std::thread::sleep(Duration::from_micros(200)),
            Err(Errno::EINTR) | Ok(0) => return Err(Errno::ETIMEDOUT),
            Err(errno) => return Err(errno),
            Ok(_) if libc::WIFSTOPPED(status) && status >> 16 == EVENT_STOP => return Ok(0),
            Ok(_) if libc::WIFSTOPPED(status) => return Ok(libc::WSTOPSIG(status)),
            Ok(_) => return Err(Errno::ESRCH),
        }
    }
}

/// All of a task that is stopped.
fn read(tid: Pid) -> Result<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    loop {
        match one(tid, all.len()) {
            // No filter of that number; or none at all.
            Err(Errno::ENOENT | Errno::EINVAL) => return Ok(all),
            filter => all.push(filter?),
        }
    }
}

fn one(tid: Pid, number: usize) -> Result<Vec<u8>> {
    // SAFETY: with a null address the kernel writes nothing, and gives the number of instructions.
    let length = unsafe { libc::ptrace(GET_FILTER as _, tid.as_raw(), number, null_mut::<c_void>()) };
    let length = usize::try_from(Errno::result(length)?).map_err(|_| Errno::EOVERFLOW)?;
    let mut filter = vec![0_u8; length * size_of::<libc::sock_filter>()];
    // SAFETY: the task is stopped, and a filter never changes: the kernel writes as many instructions as it has just said, which is the
    // room that there is, to any address.
    let again = unsafe {
        libc::ptrace(
            GET_FILTER as _,
            tid.as_raw(),
            number,
            filter.as_mut_ptr().cast::<c_void>(),
        )
    };
    Errno::result(again)?;
    Ok(filter)
}
