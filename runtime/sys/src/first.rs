//! The binary's first instructions, before libc has set itself up.
//!
//! create, run and exec run again from a read-only clone of our binary's mount (`selfprotect`). Done from `main`, libc and std would be set up
//! twice: relocations copy thirty pages. So it is done here, and what cannot be
//! done here is left to `selfprotect::ensure`, which looks at what holds in any case.
//!
//! What that is worth: with the entry point set to libc's own, create takes 1.10 times the CPU and run 1.07 (n = 40, in turn, musl).
//!
//! Nothing may be called from here that libc or a relocation must have prepared: system calls are made by instruction, memory is
//! read byte by byte.

use std::mem::MaybeUninit;

use super::mount::RawMountAttr;
use super::{AT_EMPTY_PATH, MOUNT_ATTR_RDONLY};

const AT_FDCWD: usize = (-100_isize).cast_unsigned();
const OPEN_TREE_CLONE: usize = 1;
const CLOEXEC: usize = 0o2_000_000;

/// The entry point of the binary (`build.rs`): looks at the arguments on the stack, then goes on to libc's own as if it had been
/// called by the kernel.
///
/// # Safety
/// The kernel's, or the loader's, and nobody else's to call: the stack is as it was at the start of the program (System V ABI, 3.4.1).
#[unsafe(naked)]
#[unsafe(no_mangle)]
pub(super) unsafe extern "C" fn gabion_start() -> ! {
    // rdx is the loader's word for libc. Pushed twice: the stack is aligned to 16 where a function is called.
    std::arch::naked_asm!(
        "push rdx",
        "push rdx",
        "lea rdi, [rsp + 16]",
        "call {first}",
        "pop rdx",
        "pop rdx",
        "jmp _start",
        first = sym first)
}

/// `stack`: the number of arguments, the arguments, null, the environment, null.
extern "C" fn first(stack: *const usize) {
    // SAFETY: the kernel put the number there.
    let count = unsafe { stack.read_volatile() };
    let arguments = stack.wrapping_add(1);
    let environment = arguments.wrapping_add(count).wrapping_add(1);
    let mut at = 1;
    while at < count {
        // SAFETY: one of `count` pointers to C strings.
        let word = unsafe { arguments.wrapping_add(at).read_volatile() };
        if handed_over(word as *const u8) {
            return;
        }
        if protected(word as *const u8) {
            again(arguments as usize, environment as usize);
            return;
        }
        at += 1;
    }
}

/// Whether it is the word for a command that has a process which a container gets to see. One that only looks like it costs a second start
/// and nothing else.
fn protected(word: *const u8) -> bool {
    is(word, b"create\0") || is(word, b"run\0") || is(word, b"exec\0")
}

/// Whether it is the word for a command of gabionctl: what stands behind it is for that (`can web exec /tmp/x`), and gabionctl is looked for beside us,
/// which a clone of our mount does not tell. Where it is an option's value, what was left out is done later (`selfprotect::ensure`).
fn handed_over(word: *const u8) -> bool {
    is(word, b"apparmor\0")
        || is(word, b"attest\0")
        || is(word, b"audit\0")
        || is(word, b"can\0")
        || is(word, b"check\0")
        || is(word, b"doctor\0")
        || is(word, b"explain\0")
        || is(word, b"learn\0")
        || is(word, b"policy\0")
        || is(word, b"report\0")
        || is(word, b"seccomp\0")
}

fn is(word: *const u8, command: &[u8]) -> bool {
    let mut at = 0;
    while at < command.len() {
        // SAFETY: all bytes before this one are the command's, so the C string's end has not come yet.
        let byte = unsafe { word.wrapping_add(at).read_volatile() };
        // SAFETY: `at` is below the length.
        let wanted = unsafe { command.as_ptr().wrapping_add(at).read_volatile() };
        if byte != wanted {
            return false;
        }
        at += 1;
    }
    true
}

/// Returns where we run from something read-only already, or where anything fails.
fn again(arguments: usize, environment: usize) {
    let exe = call(
        libc::SYS_openat,
        AT_FDCWD,
        c"/proc/self/exe".as_ptr() as usize,
        libc::O_PATH as usize | CLOEXEC,
        0,
        0,
    );
    if exe < 0 {
        return;
    }
    let clone = clone_of(exe.cast_unsigned());
    if clone >= 0 {
        let empty = c"".as_ptr() as usize;
        call(
            libc::SYS_execveat,
            clone.cast_unsigned(),
            empty,
            arguments,
            environment,
            AT_EMPTY_PATH as usize,
        );
        close(clone);
    }
    close(exe);
}

/// A read-only clone of the mount that holds the binary; negative where there is none, or none is needed.
fn clone_of(exe: usize) -> isize {
    let empty = c"".as_ptr() as usize;
    let mut stat = MaybeUninit::<libc::statfs64>::uninit();
    if call(libc::SYS_fstatfs, exe, stat.as_mut_ptr() as usize, 0, 0, 0) < 0 {
        return -1;
    }
    // SAFETY: the kernel filled it.
    let stat = unsafe { stat.assume_init_ref() };
    // ST_RDONLY; the field's type is another one in each libc.
    if stat.f_flags & 1 != 0 {
        return -1;
    }
    let how = OPEN_TREE_CLONE | CLOEXEC | AT_EMPTY_PATH as usize;
    let clone = call(libc::SYS_open_tree, exe, empty, how, 0, 0);
    if clone < 0 {
        return clone;
    }
    let read_only = RawMountAttr {
        set: MOUNT_ATTR_RDONLY,
        clear: 0,
        propagation: 0,
        userns_fd: 0,
    };
    let (attr, size) = (&raw const read_only as usize, size_of::<RawMountAttr>());
    let set = call(
        libc::SYS_mount_setattr,
        clone.cast_unsigned(),
        empty,
        AT_EMPTY_PATH as usize,
        attr,
        size,
    );
    if set < 0 {
        close(clone);
        return set;
    }
    clone
}

fn close(fd: isize) {
    call(libc::SYS_close, fd.cast_unsigned(), 0, 0, 0, 0);
}

/// A system call by its instruction: libc's own writes errno, for which there is no place yet. Gives the kernel's answer, negative
/// for an error.
fn call(number: libc::c_long, one: usize, two: usize, three: usize, four: usize, five: usize) -> isize {
    let result: isize;
    // SAFETY: the callers above pass what each call asks for: descriptors, flags, and pointers that are alive for the call.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") one,
            in("rsi") two,
            in("rdx") three,
            in("r10") four,
            in("r8") five,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack));
    }
    result
}
