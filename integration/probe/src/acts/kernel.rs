//! Doors into the kernel that an ordinary workload does not use.

use super::Answer;
use crate::sys::{self, Sys, call};

fn done(result: Sys<usize>) -> Answer {
    result.map(|_| String::new())
}

/// The call got past every guard and failed on its (deliberately useless) arguments: that counts as made.
fn reached(result: Sys<usize>, bad_argument: &[i32]) -> Answer {
    match result {
        Err(fail) if bad_argument.contains(&fail.errno) => Ok(format!("reached ({})", crate::errno::name(fail.errno))),
        other => done(other),
    }
}

/// In a child with its own copy of nothing: the mount would stay in the container, which dies with the test.
pub(super) fn mount_tmpfs(_: &str) -> Answer {
    let (name, target) = (c"tmpfs", c"/tmp");
    let name = name.as_ptr() as usize;
    done(call(
        "mount",
        libc::SYS_mount,
        &[name, target.as_ptr() as usize, name, 0, 0],
    ))
}

pub(super) fn mount_api(_: &str) -> Answer {
    let name = c"tmpfs";
    done(call("fsopen", libc::SYS_fsopen, &[name.as_ptr() as usize, 0]))
}

fn unshare(flags: i32) -> Answer {
    sys::in_child("unshare", || {
        call("unshare", libc::SYS_unshare, &[flags as usize]).map(drop)
    })?;
    Ok(String::new())
}

/// The way of CVE-2022-0492: namespaces of one's own, then a cgroup v1 hierarchy whose release_agent is a file in them.
pub(super) fn mount_cgroup(_: &str) -> Answer {
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNS | libc::CLONE_NEWCGROUP;
    let (name, target, controller) = (c"cgroup", c"/tmp", c"pids");
    let name = name.as_ptr() as usize;
    let mount = [name, target.as_ptr() as usize, name, 0, controller.as_ptr() as usize];
    sys::in_child("mount", || {
        call("unshare", libc::SYS_unshare, &[flags as usize])?;
        call("mount", libc::SYS_mount, &mount).map(drop)
    })?;
    Ok(String::new())
}

pub(super) fn unshare_user(_: &str) -> Answer {
    unshare(libc::CLONE_NEWUSER)
}

pub(super) fn unshare_net(_: &str) -> Answer {
    unshare(libc::CLONE_NEWNET)
}

pub(super) fn clone_newuser(_: &str) -> Answer {
    let pid = sys::fork(libc::CLONE_NEWUSER | libc::SIGCHLD)?;
    if pid == 0 {
        sys::exit_now(0);
    }
    sys::wait(pid)?;
    Ok(String::new())
}

pub(super) fn clone3(_: &str) -> Answer {
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls
    let mut args = [0u64; 8];
    args[4] = libc::SIGCHLD.unsigned_abs().into();
    let pid = call(
        "clone3",
        libc::SYS_clone3,
        &[args.as_ptr() as usize, size_of_val(&args)],
    )?;
    if pid == 0 {
        sys::exit_now(0);
    }
    sys::wait(pid as i32)?;
    Ok(String::new())
}

pub(super) fn setns(_: &str) -> Answer {
    let name = c"/proc/self/ns/uts";
    let fd = call(
        "open",
        libc::SYS_openat,
        &[libc::AT_FDCWD as usize, name.as_ptr() as usize, 0, 0],
    )?;
    done(call("setns", libc::SYS_setns, &[fd, libc::CLONE_NEWUTS as usize]))
}

fn ptrace(request: u32) -> Answer {
    let pid = sys::fork(libc::SIGCHLD)?;
    if pid == 0 {
        sys::pause_forever();
    }
    let traced = call("ptrace", libc::SYS_ptrace, &[request as usize, pid as usize, 0, 0]);
    sys::kill(pid, libc::SIGKILL)?;
    sys::wait(pid)?;
    done(traced)
}

pub(super) fn ptrace_attach(_: &str) -> Answer {
    ptrace(libc::PTRACE_ATTACH)
}

pub(super) fn ptrace_seize(_: &str) -> Answer {
    ptrace(libc::PTRACE_SEIZE)
}

pub(super) fn bpf(_: &str) -> Answer {
    // BPF_MAP_CREATE of an array with one 4-byte value
    let attr: [u32; 20] = [2, 4, 4, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    done(call(
        "bpf",
        libc::SYS_bpf,
        &[0, attr.as_ptr() as usize, size_of_val(&attr)],
    ))
}

/// The id of the session keyring: two containers must not have the same.
pub(super) fn keyctl(_: &str) -> Answer {
    let session = (-3isize).cast_unsigned();
    call("keyctl", libc::SYS_keyctl, &[0, session, 0]).map(|id| format!("session={id}"))
}

/// What SELinux labels the session keyring.
pub(super) fn key_label(_: &str) -> Answer {
    const GET_SECURITY: usize = 17;
    let session = (-3isize).cast_unsigned();
    let mut label = [0u8; 512];
    let words = [GET_SECURITY, session, label.as_mut_ptr() as usize, label.len()];
    let length = call("keyctl", libc::SYS_keyctl, &words)?.min(label.len());
    let label = String::from_utf8_lossy(&label[..length]);
    Ok(label.trim_end_matches('\0').to_owned())
}

/// The level that the kernel itself names (landlock_create_ruleset(2), VERSION).
pub(super) fn landlock_abi(_: &str) -> Answer {
    const VERSION: usize = 1;
    let abi = call("landlock", libc::SYS_landlock_create_ruleset, &[0, 0, VERSION])?;
    Ok(abi.to_string())
}

pub(super) fn add_key(_: &str) -> Answer {
    let (kind, name, payload) = (c"user", c"probe", c"x");
    let process = (-2isize).cast_unsigned();
    let words = [
        kind.as_ptr() as usize,
        name.as_ptr() as usize,
        payload.as_ptr() as usize,
        1,
        process,
    ];
    done(call("add_key", libc::SYS_add_key, &words))
}

pub(super) fn userfaultfd(_: &str) -> Answer {
    const USER_MODE_ONLY: usize = 1;
    done(call(
        "userfaultfd",
        libc::SYS_userfaultfd,
        &[USER_MODE_ONLY | libc::O_CLOEXEC as usize],
    ))
}

pub(super) fn io_uring(_: &str) -> Answer {
    let mut params = [0u32; 30];
    done(call(
        "io_uring_setup",
        libc::SYS_io_uring_setup,
        &[2, params.as_mut_ptr() as usize],
    ))
}

pub(super) fn perf_event(_: &str) -> Answer {
    // struct perf_event_attr: type = software, size; config = CPU clock; bit 5: exclude_kernel, bit 6: exclude_hv
    let mut attr = [0u64; 16];
    attr[0] = 1 | (128 << 32);
    attr[5] = (1 << 5) | (1 << 6);
    let words = [attr.as_ptr() as usize, 0, usize::MAX, usize::MAX, 0];
    done(call("perf_event_open", libc::SYS_perf_event_open, &words))
}

pub(super) fn kexec_load(_: &str) -> Answer {
    // Unknown flags: with the right to load, the kernel says EINVAL and nothing is loaded.
    reached(
        call("kexec_load", libc::SYS_kexec_load, &[0, 0, 0, 0xff00]),
        &[libc::EINVAL],
    )
}

pub(super) fn init_module(_: &str) -> Answer {
    let empty = c"";
    let nothing = [0u8; 64];
    let words = [nothing.as_ptr() as usize, nothing.len(), empty.as_ptr() as usize];
    reached(call("init_module", libc::SYS_init_module, &words), &[libc::ENOEXEC])
}

/// `ADDR_NO_RANDOMIZE`; made in a child because the kernel keeps it.
pub(super) fn personality(_: &str) -> Answer {
    sys::in_child("personality", || {
        call("personality", libc::SYS_personality, &[0x004_0000]).map(drop)
    })?;
    Ok(String::new())
}

#[cfg(target_arch = "x86_64")]
pub(super) fn x32(_: &str) -> Answer {
    done(call("x32-getpid", 0x4000_0000 | libc::SYS_getpid, &[]))
}

#[cfg(target_arch = "x86_64")]
pub(super) fn int80(_: &str) -> Answer {
    // A filter that kills on another architecture kills the child, which is told as 128 + SIGSYS.
    sys::in_child("int80", || sys::getpid_i386().map(drop))?;
    Ok(String::new())
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn x32(_: &str) -> Answer {
    Err(sys::Fail {
        errno: libc::ENOSYS,
        at: "x32",
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn int80(_: &str) -> Answer {
    Err(sys::Fail {
        errno: libc::ENOSYS,
        at: "int80",
    })
}

/// `syscall=NR,A,B`: any call, with arguments where there are some.
pub(super) fn unknown_syscall(arg: &str) -> Answer {
    let mut words = arg.split(',');
    let number = words.next().and_then(|word| word.parse().ok()).unwrap_or(9999);
    let words: Vec<usize> = words.filter_map(|word| word.parse().ok()).collect();
    done(call("syscall", number, &words))
}
