//! Processes: clone, execveat, pidfds, keyrings, prctl, scheduling and memory policy.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::Result;
use nix::errno::Errno;
use nix::unistd::Pid;

use super::{AT_EMPTY_PATH, EMPTY, done, owned};

/// A signal back to its default (rt_sigaction(2)). By the system call: a C library lets nobody touch those that are its own, and each
/// has others.
pub fn default_signal(number: c_int) -> Result<()> {
    /// The kernel's `struct sigaction` with a mask of 64 signals. SIG_DFL, no flag, nothing masked: all of it is null.
    const DEFAULT: [u64; 4] = [0; 4];
    let old = std::ptr::null::<libc::c_void>();
    // SAFETY: the kernel reads DEFAULT and writes nothing; SIG_DFL runs no code of ours.
    done(unsafe { libc::syscall(libc::SYS_rt_sigaction, number, DEFAULT.as_ptr(), old, size_of::<u64>()) })
}

/// Every one of them: ignored ones would stay ignored in the next program. std ignores SIGPIPE.
pub fn default_signals() -> Result<()> {
    let ours = |n: &c_int| !matches!(*n, libc::SIGKILL | libc::SIGSTOP);
    (1..=64).filter(ours).try_for_each(default_signal)
}

/// Fills `bytes` from the kernel's generator (getrandom(2)): it needs no file, which a policy may keep from us.
pub fn random(bytes: &mut [u8]) -> Result<()> {
    // SAFETY: the kernel writes at most `len` bytes to memory that is ours to write.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    // Up to 256 bytes come whole (getrandom(2)); fewer are no success.
    match usize::try_from(got) {
        Ok(n) if n == bytes.len() => Ok(()),
        Ok(_) => Err(Errno::EIO),
        Err(_) => Err(Errno::last()),
    }
}

/// Replaces the process by the program open at `fd` (execveat(2) AT_EMPTY_PATH). Returns only on failure.
pub fn execveat(fd: BorrowedFd<'_>, args: &[&CStr], env: &[&CStr]) -> Errno {
    let argv = pointers(args);
    let envp = pointers(env);
    // SAFETY: both arrays are null-terminated and point to C strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            EMPTY.as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            AT_EMPTY_PATH,
        )
    };
    Errno::last()
}

fn pointers(strings: &[&CStr]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|s| s.as_ptr())
        .chain(std::iter::once(std::ptr::null()))
        .collect()
}

/// Which side of a clone this is.
#[derive(Debug)]
pub enum Cloned {
    Child,
    Parent(Pid),
}

/// `struct clone_args` (clone3(2)), version 2.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
    cgroup: u64,
}

/// A fork with clone flags (clone3(2)), into the cgroup v2 directory given, if any. gabion has one thread, so the child may do
/// all that the parent may.
pub fn clone3(flags: u64, cgroup: Option<BorrowedFd<'_>>) -> Result<Cloned> {
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    // With CLONE_PARENT the exit signal must be unset: it is the parent's (clone3(2)).
    let parents = flags & u64::from(libc::CLONE_PARENT.cast_unsigned()) != 0;
    let exit_signal = if parents {
        0
    } else {
        u64::from(libc::SIGCHLD.cast_unsigned())
    };
    let mut args = CloneArgs {
        flags,
        exit_signal,
        ..CloneArgs::default()
    };
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = u64::from(cgroup.as_raw_fd().cast_unsigned());
    }
    let size = size_of::<CloneArgs>();
    // SAFETY: args is a clone_args of the size given; no stack is passed, so the child runs on a copy of ours (no CLONE_VM).
    let pid = unsafe { libc::syscall(libc::SYS_clone3, std::ptr::from_ref(&args), size) };
    match Errno::result(pid)? {
        0 => Ok(Cloned::Child),
        pid => Ok(Cloned::Parent(Pid::from_raw(
            i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?,
        ))),
    }
}

/// Ends the process without running destructors or exit handlers (_exit(2)): for a cloned child. Under a seccomp filter that denies
/// even that by SIGILL: musl's own would ask for ever.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: takes an integer, and comes back only where a filter denies it.
    unsafe { libc::syscall(libc::SYS_exit_group, code) };
    trap()
}

fn trap() -> ! {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: an instruction that no processor has: the kernel ends the process, whatever it does with the signal.
    unsafe {
        std::arch::asm!("ud2", options(noreturn))
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: as above.
    unsafe {
        std::arch::asm!("udf #0", options(noreturn))
    }
}

/// A descriptor of a process (pidfd_open(2)).
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd> {
    // SAFETY: takes two integers.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Sends a signal to the process behind a descriptor: never to another one with its number (pidfd_send_signal(2)).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> Result<()> {
    let info = std::ptr::null::<c_void>();
    // SAFETY: a null siginfo is allowed.
    done(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) })
}

/// Joins a new, anonymous session keyring (keyctl(2) KEYCTL_JOIN_SESSION_KEYRING). A name could find somebody else's.
pub fn new_session_keyring() -> Result<()> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    done(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            std::ptr::null::<c_char>(),
        )
    })
}

/// The serial number of this process's session keyring (keyctl(2) KEYCTL_GET_KEYRING_ID); none is made.
pub fn session_keyring() -> Result<c_long> {
    const KEYCTL_GET_KEYRING_ID: c_int = 0;
    const KEY_SPEC_SESSION_KEYRING: c_int = -3;
    // SAFETY: takes integers.
    Errno::result(unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_SESSION_KEYRING, 0) })
}

/// The security label of this process's session keyring, without its final NUL (keyctl(2) KEYCTL_GET_SECURITY).
pub fn session_keyring_label() -> Result<Vec<u8>> {
    const KEYCTL_GET_SECURITY: c_int = 17;
    const KEY_SPEC_SESSION_KEYRING: c_int = -3;
    let mut label = vec![0_u8; 4096];
    // SAFETY: the buffer is writable for its length.
    let length = Errno::result(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_GET_SECURITY,
            KEY_SPEC_SESSION_KEYRING,
            label.as_mut_ptr(),
            label.len(),
        )
    })?;
    // The kernel tells the whole length, also where it does not fit.
    label.truncate(usize::try_from(length).unwrap_or(0).saturating_sub(1));
    Ok(label)
}

/// The raw four-argument prctl(2), for options that take integers only.
pub fn prctl(option: c_int, arg: libc::c_ulong) -> Result<c_int> {
    // SAFETY: the options used here take integers, no pointers.
    Errno::result(unsafe { libc::prctl(option, arg, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong) })
}

/// An I/O priority for this process (ioprio_set(2)): class and level.
pub fn ioprio_set(class: u32, level: u32) -> Result<()> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    let value = (class << 13) | level;
    // SAFETY: takes integers.
    done(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })
}

/// `struct sched_attr` (sched_setattr(2)), first published size.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// Sets the scheduling policy of this process (sched_setattr(2)).
pub fn sched_setattr(attr: &SchedAttr) -> Result<()> {
    // SAFETY: attr points to a sched_attr that carries its own size.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_ref(attr), 0) })
}

/// A set of NUMA nodes; more than any kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMask([libc::c_ulong; Self::WORDS]);

impl NodeMask {
    pub const BITS: usize = 1024;
    const WORDS: usize = Self::BITS / libc::c_ulong::BITS as usize;

    /// Adds a node; those that no kernel has are left out.
    pub fn set(&mut self, node: usize) {
        let bits = libc::c_ulong::BITS as usize;
        if let Some(word) = self.0.get_mut(node / bits) {
            *word |= 1 << (node % bits);
        }
    }
}

/// Where this process's memory is to come from (set_mempolicy(2)): a mode with its flags.
pub fn set_mempolicy(mode: c_int, nodes: Option<&NodeMask>) -> Result<()> {
    let (mask, bits) = match nodes {
        // The kernel takes one bit off the length that it is given.
        Some(nodes) => (nodes.0.as_ptr(), NodeMask::BITS + 1),
        None => (std::ptr::null(), 0),
    };
    // SAFETY: mask is null, or points to BITS bits that are alive for the call and only read; of the bit beyond none is used.
    done(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })
}

/// Empties the ambient capability set (prctl(2) PR_CAP_AMBIENT_CLEAR_ALL).
pub fn prctl_ambient_clear() -> Result<()> {
    prctl_two(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL)
}

fn prctl_two(option: c_int, arg: c_int) -> Result<()> {
    // SAFETY: the option takes integers, no pointers.
    done(c_long::from(unsafe {
        libc::prctl(option, libc::c_long::from(arg), 0 as c_long, 0 as c_long, 0 as c_long)
    }))
}

/// Most of arguments and environment that a process can be given (execve(2): a quarter of the stack's limit, and 6 MiB).
const WORDS_MAX: usize = 64 << 20;

/// Overwrites the memory that `/proc/PID/cmdline` and `/proc/PID/environ` show of this process with zeros. `PR_SET_MM_ARG_START` would
/// ask for CAP_SYS_RESOURCE. `proc` is an open procfs: the kernel says there which memory it shows (`proc_pid_stat(5)`, fields 48 to 51).
///
/// What std and libc give of both afterwards are empty strings: whoever wants a word keeps a copy of it. gabion has one thread, and no
/// reference into that memory outlives a call of std's, which copies.
///
/// # Errors
/// EINVAL where `proc` is no procfs, or says what cannot be; else the errno of the call that failed.
pub fn blank_words(proc: BorrowedFd<'_>) -> Result<()> {
    if nix::sys::statfs::fstatfs(proc)?.filesystem_type() != nix::sys::statfs::PROC_SUPER_MAGIC {
        return Err(Errno::EINVAL);
    }
    let flags = nix::fcntl::OFlag::O_RDONLY | nix::fcntl::OFlag::O_CLOEXEC;
    let stat = super::openat(proc, "self/stat", flags, nix::sys::stat::Mode::empty())?;
    let mut text = [0; 2048];
    let length = nix::unistd::read(stat.as_raw_fd(), &mut text)?;
    let (arguments, environment) = words_of(text.get(..length).unwrap_or_default()).ok_or(Errno::EINVAL)?;
    blank(arguments);
    blank(environment);
    Ok(())
}

/// Where arguments and environment lie, in the text of a process's `stat`.
fn words_of(stat: &[u8]) -> Option<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    // The command's name may hold anything: what counts comes after the last parenthesis, from field 3 on.
    let rest = stat.rsplitn(2, |b| *b == b')').next()?;
    let mut fields = std::str::from_utf8(rest).ok()?.split_ascii_whitespace().skip(45);
    let mut address = || fields.next()?.parse::<usize>().ok();
    let ranges = (address()?..address()?, address()?..address()?);
    let sound = |range: &std::ops::Range<usize>| {
        range.start <= range.end && range.len() <= WORDS_MAX && (range.start != 0 || range.is_empty())
    };
    (sound(&ranges.0) && sound(&ranges.1)).then_some(ranges)
}

fn blank(range: std::ops::Range<usize>) {
    for address in range {
        let byte = std::ptr::with_exposed_provenance_mut::<u8>(address);
        // SAFETY: the kernel put the strings of execve there, on the stack of this process, which is mapped and ours to write for its
        // whole life (gabion never moves them: PR_SET_MM). They belong to no object of Rust's, and nobody holds a reference to them.
        unsafe { byte.write_volatile(0) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A name with parentheses and blanks does not move the fields.
    #[test]
    fn arguments_and_environment_are_where_the_kernel_says() {
        let mut fields = (3..=52).map(|n| n.to_string()).collect::<Vec<_>>();
        fields[45] = "1000".to_owned();
        fields[46] = "1010".to_owned();
        fields[47] = "1010".to_owned();
        fields[48] = "1900".to_owned();
        let text = format!("7 (a) b) {}\n", fields.join(" "));
        assert_eq!(words_of(text.as_bytes()), Some((1000..1010, 1010..1900)));
        for (bad, at) in [("999", 46), ("x", 47), ("18446744073709551615", 48)] {
            let mut fields = fields.clone();
            fields[at] = bad.to_owned();
            let text = format!("7 (a) {}\n", fields.join(" "));
            assert_eq!(words_of(text.as_bytes()), None, "{bad}");
        }
        assert_eq!(words_of(b"7 (a) S 1"), None);
    }
}
