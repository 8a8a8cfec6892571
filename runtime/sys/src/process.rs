//! Processes: execveat, pidfds, keyrings, prctl, scheduling and memory policy.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::Result;
use nix::errno::Errno;
use nix::unistd::Pid;

use super::{AT_EMPTY_PATH, EMPTY, done, owned};

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
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    // SAFETY: pidfd_open returns a descriptor that it made.
    unsafe { owned(fd) }
}

/// Sends a signal to the process behind a descriptor: never to another one with its number (pidfd_send_signal(2)).
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: c_int) -> Result<()> {
    let info = std::ptr::null::<c_void>();
    // SAFETY: a null siginfo is allowed.
    done(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, info, 0) })
}

/// A child that ended, and was reaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reaped {
    pub pid: Pid,
    /// Its exit code, or 128 and the number of the signal that ended it, as shells have it.
    pub code: u8,
}

/// Reaps a child that has ended (waitpid(2), WNOHANG); None where none has. nix 0.29 has no name for real-time signals, and loses the child
/// that one of them ended.
pub fn reap_any() -> Result<Option<Reaped>> {
    let mut status: c_int = 0;
    // SAFETY: the kernel writes one int.
    let pid = Errno::result(unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) })?;
    if pid == 0 {
        return Ok(None);
    }
    let code = if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    };
    Ok(Some(Reaped {
        pid: Pid::from_raw(pid),
        code: u8::try_from(code).unwrap_or(u8::MAX),
    }))
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

/// A class of I/O priorities (ioprio_set(2)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IoClass {
    RealTime = 1,
    BestEffort = 2,
    Idle = 3,
}

/// Sets the I/O priority of this process (ioprio_set(2)): class and level, of which the kernel takes 0 to 7.
pub fn ioprio_set(class: IoClass, level: u8) -> Result<()> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    let value = ((class as u32) << 13) | u32::from(level);
    // SAFETY: takes integers.
    done(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) })
}

/// A scheduling policy and its numbers (sched_setattr(2)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SchedAttr {
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// `struct sched_attr` (sched_setattr(2)), first published size. The kernel reads as many bytes as `size` says.
#[repr(C)]
struct RawSchedAttr {
    size: u32,
    policy: u32,
    flags: u64,
    nice: i32,
    priority: u32,
    runtime: u64,
    deadline: u64,
    period: u64,
}

/// Sets the scheduling policy of this process (sched_setattr(2)).
pub fn sched_setattr(attr: &SchedAttr) -> Result<()> {
    let mut raw = RawSchedAttr {
        size: u32::try_from(size_of::<RawSchedAttr>()).map_err(|_| Errno::E2BIG)?,
        policy: attr.policy,
        flags: attr.flags,
        nice: attr.nice,
        priority: attr.priority,
        runtime: attr.runtime,
        deadline: attr.deadline,
        period: attr.period,
    };
    // SAFETY: raw is a sched_attr of the size that it carries; where that does not suit the kernel, it writes the size that would.
    done(unsafe { libc::syscall(libc::SYS_sched_setattr, 0, std::ptr::from_mut(&mut raw), 0) })
}

/// A set of NUMA nodes; more than any kernel has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeMask([libc::c_ulong; Self::WORDS + 1]);

impl NodeMask {
    pub const BITS: usize = 1024;
    const WORDS: usize = Self::BITS / libc::c_ulong::BITS as usize;

    /// Adds a node; those that no kernel has are left out.
    pub fn set(&mut self, node: usize) {
        let bits = libc::c_ulong::BITS as usize;
        if let Some(word) = self.0.get_mut(node / bits).filter(|_| node < Self::BITS) {
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
    // SAFETY: mask is null, or points to BITS bits and one more word, alive for the call and only read: also a kernel that took the
    // length as it is would read nothing beyond.
    done(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) })
}

/// Whether others may attach to this process and read its memory (prctl(2), PR_SET_DUMPABLE).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readable {
    No = 0,
    Yes = 1,
}

/// Lets others read this process, or not. execve(2) of a program that they may read makes it readable again.
pub fn set_readable(readable: Readable) -> Result<()> {
    prctl_two(libc::PR_SET_DUMPABLE, readable as c_int)
}

/// What becomes of this process when its parent ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParentsEnd {
    /// The kernel kills it.
    Kills,
    Unheard,
}

/// Says what becomes of this process when its parent ends (prctl(2), PR_SET_PDEATHSIG). A change of ids forgets it, and so does execve(2)
/// of a program with privileges of its own.
pub fn at_parents_end(what: ParentsEnd) -> Result<()> {
    let signal = match what {
        ParentsEnd::Kills => libc::SIGKILL,
        ParentsEnd::Unheard => 0,
    };
    prctl_two(libc::PR_SET_PDEATHSIG, signal)
}

/// Whether a change of user takes the permitted capabilities (prctl(2), PR_SET_KEEPCAPS).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capabilities {
    Dropped = 0,
    Kept = 1,
}

/// Says what becomes of the capabilities when root becomes another user. execve(2) forgets it.
pub fn over_change_of_user(capabilities: Capabilities) -> Result<()> {
    prctl_two(libc::PR_SET_KEEPCAPS, capabilities as c_int)
}

/// Empties the ambient capability set (prctl(2) PR_CAP_AMBIENT_CLEAR_ALL).
pub fn prctl_ambient_clear() -> Result<()> {
    prctl_two(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL)
}

const PR_SET_MDWE: c_int = 65;
const PR_GET_MDWE: c_int = 66;

/// Lets no mapping of this process become executable that was not, nor be made writable and executable (prctl(2), PR_SET_MDWE,
/// PR_MDWE_REFUSE_EXEC_GAIN; Linux 6.3). For good, and for its children and the programs that they become.
pub fn refuse_exec_gain() -> Result<()> {
    prctl_two(PR_SET_MDWE, 1)
}

/// What of that holds (prctl(2), PR_GET_MDWE): its flags.
///
/// # Errors
/// EINVAL where the kernel has it not.
pub fn exec_gain() -> Result<u32> {
    // SAFETY: the option takes integers, no pointers.
    let flags = Errno::result(unsafe { libc::prctl(PR_GET_MDWE, 0 as c_long, 0 as c_long, 0 as c_long, 0 as c_long) })?;
    Ok(flags.unsigned_abs())
}

/// The callers above pass options that take integers: others take pointers.
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// The last of the words that the kernel may read stays empty, and no node is beyond the length that it is told.
    #[test]
    fn a_node_beyond_the_mask_is_left_out() {
        let mut mask = NodeMask::default();
        for node in [NodeMask::BITS - 1, NodeMask::BITS, NodeMask::BITS + 63, usize::MAX] {
            mask.set(node);
        }
        let mut last = NodeMask::default();
        last.set(NodeMask::BITS - 1);
        assert_eq!(mask, last);
        assert_eq!(mask.0.last(), Some(&0));
    }

    #[test]
    fn a_child_that_a_real_time_signal_ended_is_reaped() {
        use std::os::fd::AsFd;
        let in_child = || -> Result<bool> {
            let child = match crate::fork()? {
                crate::Cloned::Child => loop {
                    std::thread::sleep(std::time::Duration::from_mins(1));
                },
                crate::Cloned::Parent(pid) => pid,
            };
            if reap_any()?.is_some() {
                return Ok(false);
            }
            pidfd_send_signal(pidfd_open(child)?.as_fd(), 40)?;
            for _ in 0..1000 {
                if let Some(reaped) = reap_any()? {
                    return Ok(reaped == Reaped { pid: child, code: 168 });
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            Ok(false)
        };
        match crate::fork().unwrap() {
            crate::Cloned::Child => exit_now(i32::from(in_child() != Ok(true))),
            crate::Cloned::Parent(pid) => {
                let end = nix::sys::wait::waitpid(pid, None).unwrap();
                assert_eq!(end, nix::sys::wait::WaitStatus::Exited(pid, 0));
            }
        }
    }

    /// The size is not the caller's to say: with one that is larger the kernel would read behind the struct.
    #[test]
    fn a_policy_carries_its_true_size() {
        assert_eq!(size_of::<RawSchedAttr>(), 48);
        // SCHED_OTHER, which every thread may ask for.
        sched_setattr(&SchedAttr::default()).unwrap();
    }

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
