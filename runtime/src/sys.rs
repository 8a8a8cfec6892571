//! The only unsafe code: system calls that nix 0.29 and std do not have. One operation per block.
//!
//! Every function is a thin, safe wrapper: arguments are typed and owned, results are `nix::Result`.

use std::ffi::{CStr, c_char, c_int, c_long, c_short, c_uint, c_void};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::Pid;
use nix::{NixPath, Result};

// linux/mount.h; not in libc for every target.
pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub const MOUNT_ATTR_ATIME: u64 = 0x70;
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
pub const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x0020_0000;

/// `struct mount_attr` (mount_setattr(2)).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

/// How far a mount operation reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    One,
    /// The mounts below it too.
    Tree,
}

impl Reach {
    const fn flag(self) -> c_uint {
        match self {
            Self::One => 0,
            Self::Tree => AT_RECURSIVE,
        }
    }
}

const AT_RECURSIVE: c_uint = 0x8000;
const AT_EMPTY_PATH: c_uint = 0x1000;
const EMPTY: &CStr = c"";

fn owned(fd: c_long) -> Result<OwnedFd> {
    let fd = Errno::result(fd)?;
    let fd = RawFd::try_from(fd).map_err(|_| Errno::EBADF)?;
    // SAFETY: the kernel has just returned this descriptor to us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn done(result: c_long) -> Result<()> {
    Errno::result(result).map(drop)
}

/// A detached copy of the mount at `fd` (open_tree(2) OPEN_TREE_CLONE), close-on-exec.
pub fn open_tree_clone(fd: BorrowedFd<'_>, reach: Reach) -> Result<OwnedFd> {
    const OPEN_TREE_CLONE: c_uint = 1;
    const OPEN_TREE_CLOEXEC: c_uint = 0o2_000_000;
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH | reach.flag();
    // SAFETY: fd is open for the call; the path is a valid, empty C string.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, fd.as_raw_fd(), EMPTY.as_ptr(), flags) })
}

/// Changes a mount's attributes (mount_setattr(2)).
pub fn mount_setattr(fd: BorrowedFd<'_>, reach: Reach, attr: &MountAttr) -> Result<()> {
    let flags = AT_EMPTY_PATH | reach.flag();
    let size = size_of::<MountAttr>();
    // SAFETY: attr points to a mount_attr of the size given, alive for the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            EMPTY.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size,
        )
    })
}

/// Attaches the mount at `from` on top of `to` (move_mount(2)).
pub fn move_mount(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    const F_EMPTY_PATH: c_uint = 0x4;
    const T_EMPTY_PATH: c_uint = 0x40;
    let (from, to, flags) = (from.as_raw_fd(), to.as_raw_fd(), F_EMPTY_PATH | T_EMPTY_PATH);
    // SAFETY: both descriptors are open for the call; both paths are valid, empty C strings.
    done(unsafe { libc::syscall(libc::SYS_move_mount, from, EMPTY.as_ptr(), to, EMPTY.as_ptr(), flags) })
}

/// A new file system context (fsopen(2)), close-on-exec.
pub fn fsopen(fstype: &CStr) -> Result<OwnedFd> {
    const FSOPEN_CLOEXEC: c_uint = 1;
    // SAFETY: fstype is a valid C string.
    owned(unsafe { libc::syscall(libc::SYS_fsopen, fstype.as_ptr(), FSOPEN_CLOEXEC) })
}

fn fsconfig(fs: BorrowedFd<'_>, command: c_uint, key: *const c_char, value: *const c_char) -> Result<()> {
    // SAFETY: the callers below pass null or valid C strings that outlive the call, as the command asks.
    done(unsafe { libc::syscall(libc::SYS_fsconfig, fs.as_raw_fd(), command, key, value, 0) })
}

/// Sets `key=value` of a file system context (fsconfig(2)).
pub fn fsconfig_string(fs: BorrowedFd<'_>, key: &CStr, value: &CStr) -> Result<()> {
    fsconfig(fs, 1, key.as_ptr(), value.as_ptr())
}

/// Sets a flag of a file system context.
pub fn fsconfig_flag(fs: BorrowedFd<'_>, key: &CStr) -> Result<()> {
    fsconfig(fs, 0, key.as_ptr(), std::ptr::null())
}

/// Makes the superblock of a file system context.
pub fn fsconfig_create(fs: BorrowedFd<'_>) -> Result<()> {
    fsconfig(fs, 6, std::ptr::null(), std::ptr::null())
}

/// A detached mount of a file system context (fsmount(2)), close-on-exec.
pub fn fsmount(fs: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd> {
    const FSMOUNT_CLOEXEC: c_uint = 1;
    // SAFETY: fs is open for the call.
    owned(unsafe { libc::syscall(libc::SYS_fsmount, fs.as_raw_fd(), FSMOUNT_CLOEXEC, attributes) })
}

/// Every signal back to its default (signal(2)): ignored ones would stay ignored in the next program. std ignores SIGPIPE.
pub fn default_signals() -> Result<()> {
    // 32 and 33 are the C library's own, and it does not let anybody touch them: EINVAL.
    let ours = |n: &c_int| !matches!(*n, libc::SIGKILL | libc::SIGSTOP | 32 | 33);
    for number in (1..=64).filter(ours) {
        // SAFETY: SIG_DFL runs no code of ours.
        let before = unsafe { libc::signal(number, libc::SIG_DFL) };
        if before == libc::SIG_ERR && Errno::last() != Errno::EINVAL {
            return Err(Errno::last());
        }
    }
    Ok(())
}

/// `struct open_how` (openat2(2)).
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// Opens `path` below `dir` (openat2(2)) with RESOLVE_* bits, close-on-exec.
pub fn openat2(dir: BorrowedFd<'_>, path: &CStr, flags: c_int, resolve: u64) -> Result<OwnedFd> {
    let flags = u64::from((flags | libc::O_CLOEXEC).cast_unsigned());
    let how = OpenHow {
        flags,
        mode: 0,
        resolve,
    };
    let size = size_of::<OpenHow>();
    // SAFETY: how points to an open_how of the size given; path is a valid C string.
    owned(unsafe {
        libc::syscall(
            libc::SYS_openat2,
            dir.as_raw_fd(),
            path.as_ptr(),
            std::ptr::from_ref(&how),
            size,
        )
    })
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

/// Ends the process without running destructors or exit handlers (_exit(2)): for a cloned child.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit has no preconditions.
    unsafe { libc::_exit(code) }
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

/// Marks every descriptor from `first` on close-on-exec (close_range(2)).
pub fn cloexec_from(first: c_uint) -> Result<()> {
    const CLOSE_RANGE_CLOEXEC: c_uint = 4;
    // SAFETY: takes integers; descriptors stay open, only their flag changes.
    done(unsafe { libc::syscall(libc::SYS_close_range, first, c_uint::MAX, CLOSE_RANGE_CLOEXEC) })
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

/// The kind of namespace behind a descriptor, as a CLONE_NEW* flag (ioctl_ns(2) NS_GET_NSTYPE).
pub fn ns_type(fd: BorrowedFd<'_>) -> Result<c_int> {
    const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
    // SAFETY: the ioctl takes no argument.
    Errno::result(unsafe { libc::ioctl(fd.as_raw_fd(), NS_GET_NSTYPE as _) })
}

/// The peer end of the pseudo-terminal master `fd`, opened without any path (ioctl_tty(2) TIOCGPTPEER, kernel 4.13).
pub fn pty_peer(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: the ioctl takes an integer.
    owned(c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TIOCGPTPEER, flags)
    }))
}

/// Unlocks the peer of a pseudo-terminal master (TIOCSPTLCK).
pub fn pty_unlock(fd: BorrowedFd<'_>) -> Result<()> {
    let unlock: c_int = 0;
    // SAFETY: the ioctl reads one int through a pointer that is valid for the call.
    done(c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TIOCSPTLCK, std::ptr::from_ref(&unlock))
    }))
}

/// Makes the terminal `fd` the controlling one of this session (TIOCSCTTY).
pub fn set_controlling_terminal(fd: BorrowedFd<'_>) -> Result<()> {
    // SAFETY: the ioctl takes an integer.
    done(c_long::from(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY, 0) }))
}

/// Sets a terminal's size (TIOCSWINSZ).
pub fn set_window_size(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl reads one winsize through a pointer that is valid for the call.
    done(c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(&size))
    }))
}

/// A terminal's size (TIOCGWINSZ), rows and columns.
pub fn window_size(fd: BorrowedFd<'_>) -> Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the ioctl writes one winsize through a pointer that is valid for the call.
    done(c_long::from(unsafe {
        libc::ioctl(fd.as_raw_fd(), libc::TIOCGWINSZ, std::ptr::from_mut(&mut size))
    }))?;
    Ok((size.ws_row, size.ws_col))
}

/// The raw four-argument prctl(2), for options that take integers only.
pub fn prctl(option: c_int, arg: libc::c_ulong) -> Result<c_int> {
    // SAFETY: the options used here take integers, no pointers.
    Errno::result(unsafe { libc::prctl(option, arg, 0 as libc::c_ulong, 0 as libc::c_ulong, 0 as libc::c_ulong) })
}

/// Duplicates `fd` onto the number `to`, which loses what it was (dup2(2)).
pub fn dup_onto(fd: BorrowedFd<'_>, to: RawFd) -> Result<()> {
    nix::unistd::dup2(fd.as_raw_fd(), to).map(drop)
}

/// A descriptor that a caller passed by number, borrowed for the life of the process (stdio, preserved descriptors).
pub fn borrow(fd: RawFd) -> Result<BorrowedFd<'static>> {
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFD)?;
    // SAFETY: the descriptor is open (just checked) and no part of gabion closes numbers it does not own.
    Ok(unsafe { BorrowedFd::borrow_raw(fd) })
}

/// Takes over a descriptor that came in a message (SCM_RIGHTS).
pub fn adopt(fd: RawFd) -> Result<OwnedFd> {
    owned(c_long::from(fd))
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

/// Sets an extended attribute on an open file (fsetxattr(2)).
pub fn fsetxattr(fd: &impl AsFd, name: &CStr, value: &[u8]) -> Result<()> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: name is a C string; value is readable for its length.
    done(c_long::from(unsafe {
        libc::fsetxattr(fd, name.as_ptr(), value.as_ptr().cast(), value.len(), 0)
    }))
}

/// The names of an open file's extended attributes, NUL-separated (flistxattr(2)).
pub fn flistxattr(fd: &impl AsFd, buffer: &mut [u8]) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: buffer is writable for its length.
    let length = unsafe { libc::flistxattr(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    Errno::result(length).map(isize::cast_unsigned)
}

/// The value of an open file's extended attribute (fgetxattr(2)).
pub fn fgetxattr(fd: &impl AsFd, name: &CStr, buffer: &mut [u8]) -> Result<usize> {
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: name is a C string; buffer is writable for its length.
    let length = unsafe { libc::fgetxattr(fd, name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    Errno::result(length).map(isize::cast_unsigned)
}

/// The part of `union bpf_attr` for BPF_PROG_LOAD that every kernel with device programs has.
#[repr(C)]
#[derive(Default)]
struct BpfLoad {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
}

/// The same for BPF_PROG_ATTACH.
#[repr(C)]
struct BpfAttach {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
}

/// Loads a program that judges device accesses of a cgroup (bpf(2) BPF_PROG_TYPE_CGROUP_DEVICE): instructions of 8 bytes.
pub fn bpf_load_device(program: &[u8]) -> Result<OwnedFd> {
    const BPF_PROG_LOAD: c_int = 5;
    const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
    let attr = BpfLoad {
        prog_type: BPF_PROG_TYPE_CGROUP_DEVICE,
        insn_count: u32::try_from(program.len() / 8).map_err(|_| Errno::E2BIG)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        ..BpfLoad::default()
    };
    let size = size_of::<BpfLoad>();
    // SAFETY: attr is of the size given; the program and the license outlive the call, which copies them.
    owned(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, std::ptr::from_ref(&attr), size) })
}

/// Attaches it to a cgroup v2 directory, beside programs that others attach: all of them must allow.
pub fn bpf_attach_device(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<()> {
    const BPF_PROG_ATTACH: c_int = 8;
    const BPF_CGROUP_DEVICE: u32 = 6;
    const BPF_F_ALLOW_MULTI: u32 = 2;
    let attr = BpfAttach {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_bpf_fd: program.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        attach_flags: BPF_F_ALLOW_MULTI,
    };
    let size = size_of::<BpfAttach>();
    // SAFETY: attr is of the size given and only read.
    done(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_ATTACH, std::ptr::from_ref(&attr), size) })
}

/// Sets the NIS domain name of this UTS namespace (setdomainname(2)).
pub fn set_domain_name(name: &[u8]) -> Result<()> {
    // SAFETY: name is readable for its length.
    done(c_long::from(unsafe {
        libc::setdomainname(name.as_ptr().cast(), name.len())
    }))
}

/// seccomp(2) `SECCOMP_SET_MODE_FILTER`.
///
/// `program` is a sequence of `struct sock_filter` in native order, `flags` are `SECCOMP_FILTER_FLAG_*`. Returns the listener where
/// the flags ask for one.
///
/// # Errors
/// EINVAL for bytes that are no whole instructions or more than 65535 of them; ESRCH where TSYNC met a thread that could not
/// follow (nothing is installed then); else the call's own (seccomp(2)).
pub fn seccomp_set_filter(program: &[u8], flags: u32) -> Result<Option<OwnedFd>> {
    const INSN: usize = size_of::<libc::sock_filter>();
    const NEW_LISTENER: u32 = 1 << 3;
    if program.is_empty() || !program.len().is_multiple_of(INSN) {
        return Err(Errno::EINVAL);
    }
    let len = u16::try_from(program.len() / INSN).map_err(|_| Errno::EINVAL)?;
    // The kernel copies from any address: `program` need not be aligned for sock_filter, and is only read.
    let fprog = libc::sock_fprog {
        len,
        filter: program.as_ptr().cast_mut().cast(),
    };
    // SAFETY: `fprog` and the `len` instructions it points to outlive the call, which copies them and writes nothing.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const fprog,
        )
    };
    let result = RawFd::try_from(Errno::result(result)?).map_err(|_| Errno::EBADF)?;
    if flags & NEW_LISTENER != 0 {
        // SAFETY: with NEW_LISTENER a successful call returns a descriptor that it made, and nobody else knows it yet.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(result) }));
    }
    if result == 0 { Ok(None) } else { Err(Errno::ESRCH) }
}

/// Whether the running kernel knows these `SECCOMP_FILTER_FLAG_*`: it judges them before it looks at the program, and there is
/// none (seccomp(2)).
pub fn seccomp_knows_flags(flags: u32) -> bool {
    let program = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program is never read; the call fails with EFAULT where the flags are known, and installs nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, program) };
    Errno::result(result) == Err(Errno::EFAULT)
}

/// openat(2) with an owner for what it opens, which nix 0.29 does not give.
///
/// # Errors
/// The call's own.
pub fn openat<P: NixPath + ?Sized>(dir: BorrowedFd<'_>, path: &P, flags: OFlag, mode: Mode) -> Result<OwnedFd> {
    let raw = nix::fcntl::openat(Some(dir.as_raw_fd()), path, flags, mode)?;
    // SAFETY: openat succeeded, so `raw` is open and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(raw) })
}

/// Calls that fail, root or not, before they look at memory or change anything, in a kernel that answers them itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// A number that no kernel knows, from 2^22 on (below lie all tables, and ARM's private calls): ENOSYS.
    Unknown(u32),
    /// setns on no descriptor: EBADF (`kernel/nsproxy.c`).
    Setns,
    /// `PTRACE_ATTACH` to no process: ESRCH (`kernel/ptrace.c`).
    Attach,
    /// umount2 of nothing with a flag that it does not take: EINVAL (`fs/namespace.c`).
    Umount,
    /// unshare of a user name space with a bit that it does not take: EINVAL (`kernel/fork.c`).
    Unshare,
}

/// Make the call and give its errno; `None` is success.
pub fn probe(call: Probe) -> Option<Errno> {
    let (number, a, b): (libc::c_long, libc::c_long, libc::c_long) = match call {
        Probe::Unknown(number) if number >= 1 << 22 => (number.into(), 0, 0),
        Probe::Unknown(_) => return Some(Errno::EINVAL),
        Probe::Setns => (libc::SYS_setns, -1, 0),
        Probe::Attach => (libc::SYS_ptrace, 0x10, -1),
        Probe::Umount => (libc::SYS_umount2, 0, 0x4000_0000),
        Probe::Unshare => (libc::SYS_unshare, libc::c_long::from(libc::CLONE_NEWUSER) | 1, 0),
    };
    // SAFETY: the five calls above take numbers and a null pointer; none of them touches memory of this process.
    let result = unsafe { libc::syscall(number, a, b, 0, 0) };
    Errno::result(result).err()
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

/// The Landlock ABI that the running kernel offers; 0 where it has none or it is switched off (landlock_create_ruleset(2)).
pub fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_long = 1;
    // SAFETY: with the VERSION flag, a null attribute and size 0 the call only returns a number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    };
    u32::try_from(result).unwrap_or(0)
}

/// Sets an interface's flags to UP and RUNNING (netdevice(7) SIOCSIFFLAGS), in the caller's network namespace.
pub fn interface_up(socket: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    let bytes = name.to_bytes_with_nul();
    let mut request = IfReq {
        name: [0; libc::IFNAMSIZ],
        flags: 0,
        rest: [0; 22],
    };
    request
        .name
        .get_mut(..bytes.len())
        .ok_or(Errno::ENAMETOOLONG)?
        .copy_from_slice(bytes);
    request.flags = c_short::try_from(libc::IFF_UP | libc::IFF_RUNNING).map_err(|_| Errno::EINVAL)?;
    // SAFETY: the ioctl reads one ifreq, which request is, through a pointer that is valid for the call.
    done(c_long::from(unsafe {
        libc::ioctl(
            socket.as_raw_fd(),
            libc::SIOCSIFFLAGS as _,
            std::ptr::from_ref(&request),
        )
    }))
}

/// `struct ifreq` with its flags (netdevice(7)).
#[repr(C)]
struct IfReq {
    name: [u8; libc::IFNAMSIZ],
    flags: c_short,
    rest: [u8; 22],
}
