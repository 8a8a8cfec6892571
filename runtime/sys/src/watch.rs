//! Watching other processes: seccomp's user notification, and a program that notes which system calls are made in a pid namespace.

use std::ffi::{CStr, c_int, c_ulong};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::Result;
use nix::errno::Errno;

use super::owned;

/// `struct seccomp_notif`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Notif {
    id: u64,
    pid: u32,
    flags: u32,
    nr: i32,
    arch: u32,
    instruction: u64,
    args: [u64; 6],
}

/// `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    val: i64,
    error: i32,
    flags: u32,
}

/// A call that somebody is about to make, and who waits for the listener's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Call {
    id: u64,
    /// The task, as the reader's pid namespace numbers it; 0 where it is not in there.
    pub pid: u32,
    pub number: i32,
    /// `AUDIT_ARCH_*`
    pub arch: u32,
    pub args: [u64; 6],
}

/// Receives one call (seccomp_unotify(2), SECCOMP_IOCTL_NOTIF_RECV). None where who made it was interrupted meanwhile.
pub fn call_received(listener: BorrowedFd<'_>) -> Result<Option<Call>> {
    const NOTIF_RECV: c_ulong = 0xc050_2100;
    let mut notif = Notif::default();
    // SAFETY: the kernel writes one seccomp_notif, which notif is; it asks for zeroes in it before.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_RECV as _, &raw mut notif) };
    match Errno::result(result) {
        Ok(_) => Ok(Some(Call {
            id: notif.id,
            pid: notif.pid,
            number: notif.nr,
            arch: notif.arch,
            args: notif.args,
        })),
        Err(Errno::ENOENT | Errno::EINTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Has the kernel run us at once where a call waits, and the caller at once when it is answered, on the same processor (since Linux 6.6:
/// SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP). An older one does without, and takes longer.
pub fn calls_at_once(listener: BorrowedFd<'_>) -> Result<()> {
    const NOTIF_SET_FLAGS: c_ulong = 0x4008_2104;
    const SYNC_WAKE_UP: u64 = 1;
    // SAFETY: the flags are passed by value.
    Errno::result(unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SET_FLAGS as _, SYNC_WAKE_UP) }).map(drop)
}

/// Lets a call go on (SECCOMP_USER_NOTIF_FLAG_CONTINUE). Who made it may have died meanwhile.
pub fn call_goes_on(listener: BorrowedFd<'_>, call: &Call) -> Result<()> {
    const NOTIF_SEND: c_ulong = 0xc018_2101;
    let answer = Answer {
        id: call.id,
        val: 0,
        error: 0,
        flags: 1,
    };
    // SAFETY: the kernel reads one seccomp_notif_resp.
    let result = unsafe { libc::ioctl(listener.as_raw_fd(), NOTIF_SEND as _, &raw const answer) };
    match Errno::result(result) {
        Ok(_) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// How many numbers of calls are told apart.
const NUMBERS: u32 = 512;

/// The part of `union bpf_attr` that these commands read.
#[repr(C)]
#[derive(Default)]
struct Attr {
    words: [u64; 16],
}

fn bpf(command: c_int, attr: &Attr) -> Result<std::ffi::c_long> {
    // SAFETY: attr is of the size given; what its pointers lead to outlives the call, as each caller sees to.
    Errno::result(unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<Attr>()) })
}

/// Two ints as `union bpf_attr` has them, side by side.
fn pair(first: u32, second: u32) -> u64 {
    let mut bytes = [0_u8; 8];
    let (low, high) = bytes.split_at_mut(4);
    low.copy_from_slice(&first.to_ne_bytes());
    high.copy_from_slice(&second.to_ne_bytes());
    u64::from_ne_bytes(bytes)
}

/// Notes every system call that processes of one pid namespace make (bpf(2), raw tracepoint sys_enter). It ends with this value.
#[derive(Debug)]
pub struct CallsMade {
    map: OwnedFd,
    _link: OwnedFd,
}

impl CallsMade {
    /// Begins to note, for the pid namespace of this device and inode.
    ///
    /// # Errors
    /// The kernel has no such programs, or we may not load one (CAP_BPF and CAP_PERFMON).
    pub fn begin(device: u64, inode: u64) -> Result<Self> {
        const MAP_CREATE: c_int = 0;
        const PROG_LOAD: c_int = 5;
        const RAW_TRACEPOINT_OPEN: c_int = 17;
        const ARRAY: u32 = 2;
        const RAW_TRACEPOINT: u32 = 17;
        let mut attr = Attr::default();
        set(&mut attr, 0, pair(ARRAY, 4));
        set(&mut attr, 1, pair(8, NUMBERS));
        let map = bpf(MAP_CREATE, &attr)?;
        // SAFETY: BPF_MAP_CREATE returns a descriptor that it made.
        let map = unsafe { owned(map) }?;
        let program = program(map.as_fd(), device, inode);
        let mut attr = Attr::default();
        set(
            &mut attr,
            0,
            pair(RAW_TRACEPOINT, u32::try_from(program.len()).map_err(|_| Errno::E2BIG)?),
        );
        set(&mut attr, 1, program.as_ptr() as u64);
        let license: &CStr = c"Apache-2.0";
        set(&mut attr, 2, license.as_ptr() as u64);
        let program_fd = bpf(PROG_LOAD, &attr)?;
        // SAFETY: BPF_PROG_LOAD returns a descriptor that it made.
        let program_fd = unsafe { owned(program_fd) }?;
        let mut attr = Attr::default();
        let name: &CStr = c"sys_enter";
        set(&mut attr, 0, name.as_ptr() as u64);
        set(&mut attr, 1, pair(program_fd.as_raw_fd().cast_unsigned(), 0));
        let link = bpf(RAW_TRACEPOINT_OPEN, &attr)?;
        // SAFETY: BPF_RAW_TRACEPOINT_OPEN returns a descriptor that it made.
        let link = unsafe { owned(link) }?;
        Ok(Self { map, _link: link })
    }

    /// The numbers of the calls so far.
    pub fn numbers(&self) -> Result<Vec<u32>> {
        const MAP_LOOKUP_ELEM: c_int = 1;
        let mut found = Vec::new();
        for number in 0..NUMBERS {
            let mut value = 0_u64;
            let mut attr = Attr::default();
            set(&mut attr, 0, pair(self.map.as_raw_fd().cast_unsigned(), 0));
            set(&mut attr, 1, &raw const number as u64);
            set(&mut attr, 2, &raw mut value as u64);
            bpf(MAP_LOOKUP_ELEM, &attr)?;
            if value != 0 {
                found.push(number);
            }
        }
        Ok(found)
    }
}

fn set(attr: &mut Attr, at: usize, value: u64) {
    if let Some(word) = attr.words.get_mut(at) {
        *word = value;
    }
}

/// `struct bpf_insn`: the code, both registers, an offset, a number.
fn insn(code: u8, to: u8, from: u8, offset: i16, number: u32) -> u64 {
    let registers = if cfg!(target_endian = "little") {
        from << 4 | to
    } else {
        to << 4 | from
    };
    let mut bytes = [0_u8; 8];
    let offset = offset.to_ne_bytes();
    let number = number.to_ne_bytes();
    for (place, byte) in bytes
        .iter_mut()
        .zip([code, registers].iter().chain(&offset).chain(&number))
    {
        *place = *byte;
    }
    u64::from_ne_bytes(bytes)
}

/// A 64-bit constant takes two.
fn constant(to: u8, from: u8, value: u64) -> [u64; 2] {
    let (low, high) = (value & 0xffff_ffff, value >> 32);
    let half = |word: u64| u32::try_from(word).unwrap_or(0);
    [insn(0x18, to, from, 0, half(low)), insn(0, 0, 0, 0, half(high))]
}

/// Writes 1 into the map at the call's number, where the caller is in the pid namespace.
fn program(map: BorrowedFd<'_>, device: u64, inode: u64) -> Vec<u64> {
    const GET_NS_CURRENT_PID_TGID: u32 = 120;
    const MAP_LOOKUP: u32 = 1;
    const MAP_FD: u8 = 1;
    let map = u64::from(map.as_raw_fd().cast_unsigned());
    let mut out = Vec::new();
    // r6: the call's number, the tracepoint's second argument.
    out.push(insn(0x79, 6, 1, 8, 0));
    out.extend(constant(1, 0, device));
    out.extend(constant(2, 0, inode));
    // r3: room for two numbers on the stack.
    out.extend([
        insn(0xbf, 3, 10, 0, 0),
        insn(0x07, 3, 0, 0, 8_u32.wrapping_neg()),
        insn(0xb7, 4, 0, 0, 8),
    ]);
    out.push(insn(0x85, 0, 0, 0, GET_NS_CURRENT_PID_TGID));
    // Not in it: to the end, over 12.
    out.push(insn(0x55, 0, 0, 12, 0));
    // A number that has no place: to the end, over 10.
    out.extend([insn(0xb7, 1, 0, 0, NUMBERS - 1), insn(0x2d, 6, 1, 10, 0)]);
    out.push(insn(0x63, 10, 6, -4, 0));
    out.extend(constant(1, MAP_FD, map));
    out.extend([insn(0xbf, 2, 10, 0, 0), insn(0x07, 2, 0, 0, 4_u32.wrapping_neg())]);
    out.push(insn(0x85, 0, 0, 0, MAP_LOOKUP));
    out.push(insn(0x15, 0, 0, 2, 0));
    out.extend([insn(0xb7, 1, 0, 0, 1), insn(0x7b, 0, 1, 0, 0)]);
    // The end.
    out.extend([insn(0xb7, 0, 0, 0, 0), insn(0x95, 0, 0, 0, 0)]);
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_calls_of_a_namespace_are_noted() {
        let own = nix::sys::stat::stat("/proc/self/ns/pid").unwrap();
        let noted = match CallsMade::begin(own.st_dev, own.st_ino) {
            Ok(noted) => noted,
            // Nobody may here.
            Err(Errno::EPERM | Errno::EACCES | Errno::ENOSYS | Errno::EINVAL) => return,
            Err(errno) => unreachable!("{errno}"),
        };
        // SAFETY: no argument is looked at.
        let pid = unsafe { libc::syscall(libc::SYS_getppid) };
        assert!(pid >= 0);
        let numbers = noted.numbers().unwrap();
        assert!(
            numbers.contains(&u32::try_from(libc::SYS_getppid).unwrap()),
            "{numbers:?}"
        );
        let other = CallsMade::begin(own.st_dev, own.st_ino + 1).unwrap();
        // SAFETY: as above.
        unsafe { libc::syscall(libc::SYS_getppid) };
        assert_eq!(other.numbers().unwrap(), Vec::<u32>::new());
    }
}
