//! The probe's only unsafe code. It is a test program: it exists to make calls that a careful program would not,
//! so `call` takes any number and any words. Whoever passes an address passes one that lives through the call.
#![expect(unsafe_code, reason = "the one place of the crate where it is allowed")]

use std::ffi::CString;

/// An errno and the step that gave it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fail {
    pub errno: i32,
    pub at: &'static str,
}

pub(crate) type Sys<T> = Result<T, Fail>;

pub(crate) fn last(at: &'static str) -> Fail {
    Fail {
        errno: std::io::Error::last_os_error().raw_os_error().unwrap_or(0),
        at,
    }
}

pub(crate) fn from_io(error: &std::io::Error, at: &'static str) -> Fail {
    Fail {
        errno: error.raw_os_error().unwrap_or(0),
        at,
    }
}

/// Makes system call `nr` with up to six words.
pub(crate) fn call(at: &'static str, nr: libc::c_long, args: &[usize]) -> Sys<usize> {
    let mut a = [0usize; 6];
    a[..args.len()].copy_from_slice(args);
    // SAFETY: addresses among the words are of live memory of the right size (every caller passes its own locals).
    let result = unsafe { libc::syscall(nr, a[0], a[1], a[2], a[3], a[4], a[5]) };
    usize::try_from(result).map_err(|_| last(at))
}

pub(crate) fn open(path: &str, flags: i32) -> Sys<i32> {
    let path = CString::new(path).unwrap_or_default();
    let words = [libc::AT_FDCWD as usize, path.as_ptr() as usize, flags as usize, 0];
    call("open", libc::SYS_openat, &words).map(|fd| fd as i32)
}

/// `getpid` by the 32-bit door. Compilers and filters that forget it leave every 32-bit call open.
#[cfg(target_arch = "x86_64")]
pub(crate) fn getpid_i386() -> Sys<usize> {
    call_i386("int80", 20, [0; 4])
}

/// A call by the 32-bit door. Addresses among the words are of memory below 4 GiB, as `low_words` gives it.
#[cfg(target_arch = "x86_64")]
pub(crate) fn call_i386(at: &'static str, number: i32, args: [u32; 4]) -> Sys<usize> {
    let [first, second, third, fourth] = args;
    let mut eax = number;
    // SAFETY: rbx, which the compiler keeps for itself, is as it was afterwards; addresses among the words are of live memory of the right
    // size (every caller passes its own); the kernel clears r8 to r11 on this path.
    unsafe {
        std::arch::asm!(
            "xchg {first:r}, rbx", "int 0x80", "xchg {first:r}, rbx",
            first = inout(reg) u64::from(first) => _, inlateout("eax") eax, in("ecx") second, in("edx") third, in("esi") fourth,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _
        );
    }
    if eax < 0 {
        Err(Fail { errno: -eax, at })
    } else {
        Ok(eax.unsigned_abs() as usize)
    }
}

/// Puts words where 32-bit calls can reach them, and leaves them there.
#[cfg(target_arch = "x86_64")]
pub(crate) fn low_words(words: &[u32]) -> Sys<u32> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
    let access = (libc::PROT_READ | libc::PROT_WRITE) as usize;
    let page = call(
        "mmap",
        libc::SYS_mmap,
        &[0, 4096, access, flags as usize, usize::MAX, 0],
    )?;
    // SAFETY: the page is new, writable and of 4096 bytes, more than any caller's words.
    unsafe { std::ptr::copy_nonoverlapping(words.as_ptr(), page as *mut u32, words.len()) };
    Ok(page as u32)
}

/// Runs `body` in a child and gives its errno, or 0: errnos fit an exit status.
pub(crate) fn in_child(at: &'static str, body: impl FnOnce() -> Sys<()>) -> Sys<()> {
    let pid = fork(libc::SIGCHLD)?;
    if pid == 0 {
        exit_now(body().map_or_else(|fail| fail.errno, |()| 0));
    }
    match wait(pid)? {
        0 => Ok(()),
        errno => Err(Fail { errno, at }),
    }
}

/// fork by plain `clone`: the libc's own would use clone3, which a filter answers with ENOSYS.
pub(crate) fn fork(flags: i32) -> Sys<i32> {
    call("clone", libc::SYS_clone, &[flags as usize]).map(|pid| pid as i32)
}

/// Waits for a child; its exit status, or 128 + the signal.
pub(crate) fn wait(pid: i32) -> Sys<i32> {
    let mut status = 0;
    // SAFETY: `status` is a live local.
    let got = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL) };
    if got < 0 {
        return Err(last("waitpid"));
    }
    Ok(if libc::WIFEXITED(status) {
        libc::WEXITSTATUS(status)
    } else {
        128 + libc::WTERMSIG(status)
    })
}

pub(crate) fn kill(pid: i32, signal: i32) -> Sys<()> {
    call("kill", libc::SYS_kill, &[pid as usize, signal as usize]).map(drop)
}

pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process at once and touches nothing.
    unsafe { libc::_exit(code) }
}

pub(crate) fn pause_forever() -> ! {
    loop {
        // SAFETY: waits for a signal; no arguments.
        unsafe { libc::pause() };
    }
}

/// execveat; returns only on failure.
pub(crate) fn exec_fd(fd: i32, arg: &str) -> Fail {
    let (empty, argv0, arg) = (c"", c"probe", CString::new(arg).unwrap_or_default());
    let argv = [argv0.as_ptr(), arg.as_ptr(), std::ptr::null()];
    let envp: [*const libc::c_char; 1] = [std::ptr::null()];
    let words = [
        fd as usize,
        empty.as_ptr() as usize,
        argv.as_ptr() as usize,
        envp.as_ptr() as usize,
        libc::AT_EMPTY_PATH as usize,
    ];
    call("exec", libc::SYS_execveat, &words).map_or_else(|fail| fail, |_| Fail { errno: 0, at: "exec" })
}

/// Maps `len` anonymous bytes; `touch` writes to each page so that they are counted.
pub(crate) fn map(len: usize, prot: i32, touch: bool) -> Sys<usize> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    let words = [0, len, prot as usize, flags as usize, usize::MAX, 0];
    let start = call("mmap", libc::SYS_mmap, &words)?;
    if touch {
        for offset in (0..len).step_by(4096) {
            // SAFETY: inside the mapping just made, which is writable and nobody else's.
            unsafe { std::ptr::write_volatile((start + offset) as *mut u8, 1) };
        }
    }
    Ok(start)
}

/// Blocks a signal and waits for it: a program that is PID 1 sees no signal without a handler.
pub(crate) fn wait_for_signal(signal: i32) -> Sys<()> {
    let mask: u64 = 1 << (signal - 1);
    let at = &raw const mask as usize;
    call(
        "sigprocmask",
        libc::SYS_rt_sigprocmask,
        &[libc::SIG_BLOCK as usize, at, 0, 8],
    )?;
    println!("waiting");
    call("sigwait", libc::SYS_rt_sigtimedwait, &[at, 0, 0, 8]).map(drop)
}

/// Copies bytes to where a mapping of this program's own lets them be written.
pub(crate) fn poke(at: usize, bytes: &[u8]) {
    // SAFETY: every caller has made a writable mapping there, larger than its bytes; where it is none the process ends, which is an answer, too.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), at as *mut u8, bytes.len()) };
}

/// Calls what was written there: machine code of a function that takes nothing and returns a number.
pub(crate) fn run_at(at: usize) -> i32 {
    // SAFETY: that is the act: whether this kernel runs it is what the test asks. The code returns a number and touches nothing.
    let code = unsafe { std::mem::transmute::<usize, extern "C" fn() -> i32>(at) };
    code()
}

/// Waits until a child is stopped.
pub(crate) fn stopped(pid: i32) -> Sys<()> {
    let mut status = 0;
    // SAFETY: `status` is a live local.
    let got = unsafe { libc::waitpid(pid, &raw mut status, libc::__WALL | libc::WUNTRACED) };
    if got == pid && libc::WIFSTOPPED(status) {
        Ok(())
    } else {
        Err(last("stopped"))
    }
}
