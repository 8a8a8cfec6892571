//! The floor's only unsafe code: system calls that nix does not have.
#![expect(unsafe_code, reason = "the one place of the crate where it is allowed")]

use std::io::{Error, Result};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

use nix::unistd::Pid;

/// Instructions of gabion's floor filter, and of what it makes of containerd's RuntimeDefault: what the kernel checks, converts and
/// compiles.
const FILTERS: [u16; 2] = [223, 384];
/// The capabilities that stay: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID, NET_BIND_SERVICE.
const KEPT: u32 = 0b0100_1111_1011;
/// capabilities(7): 64 bits in two structures of three words.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;
/// EXECUTE, READ_FILE, READ_DIR (landlock(7)).
const LANDLOCK_READ: u64 = 0b1101;
const LANDLOCK_ALL: u64 = 0xffff;
const LANDLOCK_RULES: usize = 26;

fn check(result: libc::c_long) -> Result<libc::c_long> {
    if result < 0 {
        Err(Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// clone3(2) into new mount, UTS, IPC, pid and network namespaces. None in the child.
pub(crate) fn clone_into_namespaces() -> Result<Option<Pid>> {
    let flags = libc::CLONE_NEWNS | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC | libc::CLONE_NEWPID | libc::CLONE_NEWNET;
    let mut arguments = [0_u64; 11];
    arguments[0] = u64::from(flags.unsigned_abs());
    arguments[4] = u64::from(libc::SIGCHLD.unsigned_abs());
    // SAFETY: the arguments are of the size that is given; without a stack and CLONE_VM the child goes on with a copy of everything.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, arguments.as_ptr(), size_of_val(&arguments)) };
    let pid = i32::try_from(check(pid)?).map_err(Error::other)?;
    Ok((pid > 0).then(|| Pid::from_raw(pid)))
}

pub(crate) fn drop_capabilities() -> Result<()> {
    for capability in 0..41_u32 {
        if KEPT.checked_shr(capability).unwrap_or(0) & 1 == 0 {
            // SAFETY: takes two words and touches no memory.
            let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
            check(dropped.into())?;
        }
    }
    let header = [CAPABILITY_VERSION_3, 0];
    let sets = [KEPT, KEPT, 0, 0, 0, 0];
    // SAFETY: both are laid out as capabilities(7) has them, and live through the call.
    check(unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) }).map(drop)
}

pub(crate) fn no_new_privileges() -> Result<()> {
    // SAFETY: takes words and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// As many rules as gabion has for the bench's bundle.
pub(crate) fn landlock() -> Result<()> {
    let handled = LANDLOCK_ALL;
    // SAFETY: the attribute is one u64, as its size says.
    let ruleset = unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, &raw const handled, 8, 0) };
    let ruleset = i32::try_from(check(ruleset)?).map_err(Error::other)?;
    // SAFETY: the kernel has just given it to us.
    let ruleset = unsafe { OwnedFd::from_raw_fd(ruleset) };
    let entries = std::fs::read_dir("/")?
        .chain(std::fs::read_dir("/dev")?)
        .cycle_to(LANDLOCK_RULES)?;
    for path in entries {
        let at = std::fs::OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH | libc::O_CLOEXEC | libc::O_NOFOLLOW)
            .open(path)?;
        let rights: u64 = if at.metadata()?.is_dir() { LANDLOCK_READ } else { 0b101 };
        let mut rule = [0_u8; 12];
        rule[..8].copy_from_slice(&rights.to_ne_bytes());
        rule[8..].copy_from_slice(&at.as_raw_fd().to_ne_bytes());
        // SAFETY: the rule is laid out as landlock_path_beneath_attr, which is packed, and lives through the call.
        let added = unsafe { libc::syscall(libc::SYS_landlock_add_rule, ruleset.as_raw_fd(), 1, rule.as_ptr(), 0) };
        check(added)?;
    }
    // SAFETY: takes words and touches no memory.
    check(unsafe { libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0) }).map(drop)
}

/// The first paths of a listing, over and over until there are so many.
trait CycleTo {
    fn cycle_to(self, count: usize) -> Result<Vec<std::path::PathBuf>>;
}

impl<I: Iterator<Item = Result<std::fs::DirEntry>>> CycleTo for I {
    fn cycle_to(self, count: usize) -> Result<Vec<std::path::PathBuf>> {
        let paths = self
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<Vec<_>>>()?;
        Ok(paths.iter().cycle().take(count).cloned().collect())
    }
}

/// Filters of gabion's length that allow everything, at once: behind a jump over compares with numbers that no call has. (The kernel
/// goes through a new filter with the number of every call; gabion's are trees, and short to go through.)
pub(crate) fn filter() -> Result<()> {
    for length in FILTERS {
        // BPF_JA.
        let mut program: Vec<libc::sock_filter> = vec![libc::sock_filter {
            code: 0x05,
            jt: 0,
            jf: 0,
            k: u32::from(length) - 2,
        }];
        for number in 0..length - 2 {
            // BPF_JEQ: to the next one either way.
            program.push(libc::sock_filter {
                code: 0x15,
                jt: 0,
                jf: 0,
                k: 0x7000_0000 + u32::from(number),
            });
        }
        program.push(libc::sock_filter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: 0x7fff_0000,
        });
        let whole = libc::sock_fprog {
            len: length,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: the program lives through the call, and is as long as it says.
        check(unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const whole) })?;
    }
    Ok(())
}
