//! Doors through which a program runs what it has written: each writes machine code and calls it.

use super::Answer;
use crate::sys::{self, Fail, Sys, call, fork, open, poke, run_at, wait};

/// A function that returns 42.
#[cfg(target_arch = "x86_64")]
const CODE: [u8; 8] = [0xb8, 42, 0, 0, 0, 0xc3, 0x90, 0x90];
#[cfg(target_arch = "aarch64")]
const CODE: [u8; 8] = [0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6];

const PAGE: usize = 4096;
const RX: usize = (libc::PROT_READ | libc::PROT_EXEC) as usize;
const RW: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;
const RWX: usize = RX | RW;
const PRIVATE: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;
const SHARED: usize = (libc::MAP_SHARED | libc::MAP_ANONYMOUS) as usize;
const READ_IMPLIES_EXEC: usize = 0x040_0000;
/// How the child says that the code ran.
const RAN: i32 = 200;

/// Writes the code somewhere, and gives where.
type Door = fn() -> Sys<usize>;

/// By name.
const DOORS: [(&str, Door); 16] = [
    ("mmap", mmap_writable),
    ("mprotect", || made_executable(libc::SYS_mprotect)),
    ("pkey", || made_executable(libc::SYS_pkey_mprotect)),
    ("shared-fork", shared_fork),
    ("shared-remap", || remapped(map(0, RX, SHARED, usize::MAX)?)),
    ("zero-remap", || {
        let zero = open("/dev/zero", libc::O_RDWR)? as usize;
        remapped(map(0, RX, libc::MAP_SHARED as usize, zero)?)
    }),
    ("heap", heap),
    ("readable", readable),
    ("userfaultfd", userfaultfd),
    ("memfd", memfd),
    ("file", || mapped_file(open("/tmp/code", libc::O_RDWR | libc::O_CREAT)?)),
    ("stdout", || mapped_file(open("/proc/self/fd/1", libc::O_RDWR)?)),
    ("shm", shm),
    ("proc-self", || {
        let at = map(0, RX, PRIVATE, usize::MAX)?;
        write_at("/proc/self/mem", at)?;
        Ok(at)
    }),
    ("proc-child", || {
        in_stopped_child(|pid, at| write_at(&format!("/proc/{pid}/mem"), at))
    }),
    ("ptrace", || in_stopped_child(traced)),
];

/// `run-written=DOOR`, in a child: what it changes of itself goes with it.
pub(super) fn run_written(door: &str) -> Answer {
    let Some((_, make)) = DOORS.iter().find(|(name, _)| *name == door) else {
        return Err(Fail {
            errno: libc::EINVAL,
            at: "door",
        });
    };
    let pid = fork(libc::SIGCHLD)?;
    if pid == 0 {
        // Zero: the door has a child of its own which has run it.
        let ran = make().map(|at| at == 0 || run_at(at) == 42);
        sys::exit_now(match ran {
            Ok(true) => RAN,
            Ok(false) => libc::EINVAL,
            Err(fail) => fail.errno,
        });
    }
    match wait(pid)? {
        RAN => Ok("ran".to_owned()),
        errno => Err(Fail { errno, at: "run" }),
    }
}

fn map(len: usize, access: usize, flags: usize, fd: usize) -> Sys<usize> {
    call("mmap", libc::SYS_mmap, &[0, len.max(PAGE), access, flags, fd, 0])
}

fn protect(at: usize, access: usize) -> Sys<()> {
    call("mprotect", libc::SYS_mprotect, &[at, PAGE, access]).map(drop)
}

fn mmap_writable() -> Sys<usize> {
    let at = map(0, RWX, PRIVATE, usize::MAX)?;
    poke(at, &CODE);
    Ok(at)
}

fn made_executable(by: libc::c_long) -> Sys<usize> {
    let at = map(0, RW, PRIVATE, usize::MAX)?;
    poke(at, &CODE);
    call("protect", by, &[at, PAGE, RX, usize::MAX])?;
    Ok(at)
}

/// A child makes its own mapping of the page writable, and no longer executable.
fn shared_fork() -> Sys<usize> {
    let at = map(0, RX, SHARED, usize::MAX)?;
    sys::in_child("write", || {
        protect(at, RW)?;
        poke(at, &CODE);
        Ok(())
    })?;
    Ok(at)
}

/// A size of nothing makes a second mapping of what is shared.
fn remapped(at: usize) -> Sys<usize> {
    let second = call(
        "mremap",
        libc::SYS_mremap,
        &[at, 0, PAGE, libc::MREMAP_MAYMOVE as usize],
    )?;
    protect(second, RW)?;
    poke(second, &CODE);
    Ok(at)
}

fn heap() -> Sys<usize> {
    call("personality", libc::SYS_personality, &[READ_IMPLIES_EXEC])?;
    let end = call("brk", libc::SYS_brk, &[0])?;
    let at = end.next_multiple_of(PAGE);
    call("brk", libc::SYS_brk, &[at + PAGE])?;
    poke(at, &CODE);
    Ok(at)
}

/// What is readable is executable; then as with every shared mapping.
fn readable() -> Sys<usize> {
    call("personality", libc::SYS_personality, &[READ_IMPLIES_EXEC])?;
    let at = map(0, libc::PROT_READ as usize, SHARED, usize::MAX)?;
    call("personality", libc::SYS_personality, &[0])?;
    remapped(at)
}

/// Fills a page that nobody may write.
fn userfaultfd() -> Sys<usize> {
    const USER_MODE_ONLY: usize = 1;
    const API: usize = 0xc018_aa3f;
    const REGISTER: usize = 0xc020_aa00;
    const COPY: usize = 0xc028_aa03;
    const MISSING: u64 = 1;
    let fd = call("userfaultfd", libc::SYS_userfaultfd, &[USER_MODE_ONLY])?;
    let api = [0xaa_u64, 0, 0];
    call("api", libc::SYS_ioctl, &[fd, API, api.as_ptr() as usize])?;
    let at = map(0, RX, PRIVATE, usize::MAX)?;
    let register = [at as u64, PAGE as u64, MISSING, 0];
    call("register", libc::SYS_ioctl, &[fd, REGISTER, register.as_ptr() as usize])?;
    let mut page = vec![0u8; PAGE * 2];
    let from = page.as_ptr() as usize;
    let from = from.next_multiple_of(PAGE);
    let start = from - page.as_ptr() as usize;
    page[start..start + CODE.len()].copy_from_slice(&CODE);
    let copy = [at as u64, from as u64, PAGE as u64, 0, 0];
    call("copy", libc::SYS_ioctl, &[fd, COPY, copy.as_ptr() as usize])?;
    Ok(at)
}

fn memfd() -> Sys<usize> {
    // With the seal that keeps it from being executed: it does not keep it from being mapped.
    const NOEXEC_SEAL: usize = 8;
    let name = c"probe";
    let fd = call(
        "memfd_create",
        libc::SYS_memfd_create,
        &[name.as_ptr() as usize, NOEXEC_SEAL],
    )?;
    mapped_file(fd as i32)
}

fn mapped_file(fd: i32) -> Sys<usize> {
    call(
        "write",
        libc::SYS_pwrite64,
        &[fd as usize, CODE.as_ptr() as usize, CODE.len(), 0],
    )?;
    map(0, RX, libc::MAP_PRIVATE as usize, fd as usize)
}

fn shm() -> Sys<usize> {
    let id = call("shmget", libc::SYS_shmget, &[0, PAGE, 0o1700])?;
    let attached = call("shmat", libc::SYS_shmat, &[id, 0, 0]).and_then(|written| {
        poke(written, &CODE);
        let flags = (libc::SHM_EXEC | libc::SHM_RDONLY) as usize;
        call("shmat", libc::SYS_shmat, &[id, 0, flags])
    });
    call("shmctl", libc::SYS_shmctl, &[id, libc::IPC_RMID as usize, 0])?;
    attached
}

/// Writes past the protection of the memory that the file shows.
fn write_at(file: &str, at: usize) -> Sys<()> {
    let fd = open(file, libc::O_RDWR)? as usize;
    call(
        "pwrite",
        libc::SYS_pwrite64,
        &[fd, CODE.as_ptr() as usize, CODE.len(), at],
    )?;
    call("close", libc::SYS_close, &[fd]).map(drop)
}

/// A child waits stopped before it calls a page of which it has not written a byte.
fn in_stopped_child(write: fn(i32, usize) -> Sys<()>) -> Sys<usize> {
    let at = map(0, RX, PRIVATE, usize::MAX)?;
    let pid = fork(libc::SIGCHLD)?;
    if pid == 0 {
        // Where it may be traced it is, and stops the same way.
        ptrace(libc::PTRACE_TRACEME, 0, [0; 2]).unwrap_or_default();
        sys::kill(std::process::id() as i32, libc::SIGSTOP).unwrap_or_default();
        sys::exit_now(if run_at(at) == 42 { 0 } else { libc::EINVAL });
    }
    sys::stopped(pid)?;
    let written = write(pid, at);
    // To a tracee: go on without the signal; to any other child: go on.
    ptrace(libc::PTRACE_DETACH, pid, [0; 2]).unwrap_or_default();
    sys::kill(pid, if written.is_ok() { libc::SIGCONT } else { libc::SIGKILL })?;
    let ended = wait(pid)?;
    written?;
    match ended {
        0 => Ok(0),
        errno => Err(Fail { errno, at: "child" }),
    }
}

fn traced(pid: i32, at: usize) -> Sys<()> {
    ptrace(libc::PTRACE_POKETEXT, pid, [at, u64::from_le_bytes(CODE) as usize]).map(drop)
}

fn ptrace(request: u32, pid: i32, [address, data]: [usize; 2]) -> Sys<usize> {
    call(
        "ptrace",
        libc::SYS_ptrace,
        &[request as usize, pid as usize, address, data],
    )
}
