//! What confines: seccomp, device programs, Landlock, and the calls by which a filter is tried.

use std::ffi::c_int;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::Result;
use nix::errno::Errno;

use super::{done, owned};

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
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_LOAD, std::ptr::from_ref(&attr), size) };
    // SAFETY: BPF_PROG_LOAD returns a descriptor that it made.
    unsafe { owned(fd) }
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

/// What the kernel says of a program that is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BpfProgram {
    /// The kernel's hash over its instructions: two programs of the same instructions have the same.
    pub tag: [u8; 8],
    /// What who loaded it called it.
    pub name: String,
}

/// The same part of `union bpf_attr` for BPF_PROG_QUERY.
#[repr(C)]
#[derive(Default)]
struct BpfQuery {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// Lists the ids of the device programs that are attached to a cgroup v2 directory itself (bpf(2) BPF_PROG_QUERY).
pub fn bpf_device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>> {
    const BPF_PROG_QUERY: c_int = 16;
    const BPF_CGROUP_DEVICE: u32 = 6;
    /// The kernel's own bound for one cgroup (BPF_CGROUP_MAX_PROGS).
    const MOST: usize = 64;
    let mut ids = [0_u32; MOST];
    let mut attr = BpfQuery {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_type: BPF_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: u32::try_from(MOST).map_err(|_| Errno::E2BIG)?,
        ..BpfQuery::default()
    };
    let size = size_of::<BpfQuery>();
    // SAFETY: attr is of the size given; the kernel writes into it, and as many ids as prog_cnt says to where there is room for them.
    done(unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_QUERY, std::ptr::from_mut(&mut attr), size) })?;
    let count = usize::try_from(attr.prog_cnt).map_err(|_| Errno::EOVERFLOW)?;
    Ok(ids.get(..count).ok_or(Errno::EOVERFLOW)?.to_vec())
}

/// Opens a program by its id (bpf(2) BPF_PROG_GET_FD_BY_ID): for root of the host.
pub fn bpf_program(id: u32) -> Result<OwnedFd> {
    const BPF_PROG_GET_FD_BY_ID: c_int = 13;
    let attr = [id, 0, 0];
    let size = size_of_val(&attr);
    // SAFETY: attr is of the size given and only read.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_GET_FD_BY_ID, attr.as_ptr(), size) };
    // SAFETY: BPF_PROG_GET_FD_BY_ID returns a descriptor that it made.
    unsafe { owned(fd) }
}

/// Asks what a program is (bpf(2) BPF_OBJ_GET_INFO_BY_FD).
pub fn bpf_program_info(program: BorrowedFd<'_>) -> Result<BpfProgram> {
    const BPF_OBJ_GET_INFO_BY_FD: c_int = 15;
    /// `struct bpf_prog_info` up to its name, with that.
    const LENGTH: usize = 80;
    #[repr(C)]
    struct BpfInfo {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
    let mut info = [0_u8; LENGTH];
    let mut attr = BpfInfo {
        bpf_fd: program.as_raw_fd().cast_unsigned(),
        info_len: u32::try_from(LENGTH).map_err(|_| Errno::E2BIG)?,
        info: info.as_mut_ptr() as u64,
    };
    let size = size_of::<BpfInfo>();
    // SAFETY: attr is of the size given; the kernel writes its length there, and at most that many bytes of information. All lengths of
    // arrays in it are 0: it writes to no other address.
    done(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_OBJ_GET_INFO_BY_FD,
            std::ptr::from_mut(&mut attr),
            size,
        )
    })?;
    let (tag, name) = (info.get(8..16), info.get(64..80));
    let name: Vec<u8> = name
        .unwrap_or_default()
        .iter()
        .copied()
        .take_while(|byte| *byte != 0)
        .collect();
    Ok(BpfProgram {
        tag: tag.and_then(|tag| tag.try_into().ok()).ok_or(Errno::EOVERFLOW)?,
        name: String::from_utf8_lossy(&name).into_owned(),
    })
}

/// seccomp(2) `SECCOMP_SET_MODE_FILTER`.
///
/// Safe as far as memory goes that the call itself touches. What a filter answers is another matter: one that says 0 for a call which it
/// did not let happen lies to std and libc, and no type can rule that out. So nothing of gabion's own runs under a profile but
/// its probes and execve(2), startContainer hooks, which the profile's owner asked for, and the wait for a start where a listener answers.
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
    if flags & NEW_LISTENER != 0 {
        // SAFETY: with NEW_LISTENER a successful call returns a descriptor that it made, and nobody else knows it yet.
        return unsafe { owned(result) }.map(Some);
    }
    match Errno::result(result)? {
        0 => Ok(None),
        _ => Err(Errno::ESRCH),
    }
}

/// Whether the running kernel knows these `SECCOMP_FILTER_FLAG_*`: it judges them before it looks at the program, and there is
/// none (seccomp(2)).
pub fn seccomp_knows_flags(flags: u32) -> bool {
    let program = std::ptr::null::<libc::sock_fprog>();
    // SAFETY: a null program is never read; the call fails with EFAULT where the flags are known, and installs nothing.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, program) };
    Errno::result(result) == Err(Errno::EFAULT)
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
    /// A socket of this family and protocol, of type SOCK_STREAM with a flag that no type has: EINVAL (`net/socket.c`).
    Socket { family: u32, protocol: u32 },
    /// listen on no descriptor: EBADF (`net/socket.c`).
    Listen,
    /// sendto by no descriptor, of nothing, with MSG_FASTOPEN: EBADF (`net/socket.c`).
    FastOpen,
    /// memfd_create of no name, with flags that it does not take: EINVAL (`mm/memfd.c`).
    Memfd,
    /// shmat of no segment, executable: EINVAL (`ipc/shm.c`).
    ShmExec,
    /// mmap of nothing, shared and executable: EINVAL (`mm/mmap.c`).
    SharedExec,
}

/// Make the call and give its errno; `None` is success.
pub fn probe(call: Probe) -> Option<Errno> {
    let (number, args): (libc::c_long, [libc::c_long; 4]) = match call {
        Probe::Unknown(number) if number >= 1 << 22 => (number.into(), [0; 4]),
        Probe::Unknown(_) => return Some(Errno::EINVAL),
        Probe::Setns => (libc::SYS_setns, [-1, 0, 0, 0]),
        Probe::Attach => (libc::SYS_ptrace, [0x10, -1, 0, 0]),
        Probe::Umount => (libc::SYS_umount2, [0, 0x4000_0000, 0, 0]),
        Probe::Unshare => (
            libc::SYS_unshare,
            [libc::c_long::from(libc::CLONE_NEWUSER) | 1, 0, 0, 0],
        ),
        Probe::Socket { family, protocol } => (libc::SYS_socket, [family.into(), 0x101, protocol.into(), 0]),
        Probe::Listen => (libc::SYS_listen, [-1, 0, 0, 0]),
        Probe::Memfd => (libc::SYS_memfd_create, [0, 0x4000_0000, 0, 0]),
        Probe::ShmExec => (libc::SYS_shmat, [-1, 0, libc::SHM_EXEC.into(), 0]),
        Probe::SharedExec => {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            (libc::SYS_mmap, [0, 0, libc::PROT_EXEC.into(), flags.into()])
        }
        Probe::FastOpen => (libc::SYS_sendto, [-1, 0, 0, 0x2000_0000]),
    };
    let [a, b, c, d] = args;
    // SAFETY: the calls above take numbers and null pointers; none of them touches memory of this process.
    let result = unsafe { libc::syscall(number, a, b, c, d, 0, 0) };
    Errno::result(result).err()
}

/// The Landlock ABI that the running kernel offers; 0 where it has none or it is switched off (landlock_create_ruleset(2)).
pub fn landlock_abi() -> u32 {
    const LANDLOCK_CREATE_RULESET_VERSION: libc::c_long = 1;
    landlock_asked(LANDLOCK_CREATE_RULESET_VERSION)
}

/// Which of Landlock's errata the running kernel says are fixed in it, bit 0 for the first; 0 also where it cannot say (before 6.15).
pub fn landlock_errata() -> u32 {
    const LANDLOCK_CREATE_RULESET_ERRATA: libc::c_long = 2;
    landlock_asked(LANDLOCK_CREATE_RULESET_ERRATA)
}

fn landlock_asked(flag: libc::c_long) -> u32 {
    // SAFETY: with a flag that asks, a null attribute and size 0 the call only returns a number.
    let result = unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            std::ptr::null::<libc::c_void>(),
            0_usize,
            flag,
        )
    };
    u32::try_from(result).unwrap_or(0)
}
