//! What glibc does and musl, with which gabion is shipped, does not.

use std::ffi::c_long;

use nix::Result;
use nix::errno::Errno;
use nix::sys::signal::SigSet;
use nix::unistd::SysconfVar;

use super::{default_signal, done, exit_now};

/// abort(3) of std, of its panics and of an allocation that failed. musl's own sends SIGABRT to the number that it remembers of its thread,
/// and in a process that clone3(2) made that is our parent's, or in another pid namespace a stranger's. Ours asks the kernel.
#[cfg(target_env = "musl")]
#[unsafe(no_mangle)]
extern "C" fn abort() -> ! {
    abort_ourselves()
}

/// By SIGABRT; where the kernel does not deliver that to us (the first process of a pid namespace, pid_namespaces(7)) by its exit code.
#[cfg_attr(not(target_env = "musl"), allow(dead_code, reason = "glibc's asks the kernel, too"))]
fn abort_ourselves() -> ! {
    let heard = default_signal(libc::SIGABRT).and_then(|()| SigSet::empty().thread_set_mask());
    if heard.is_ok() {
        // SAFETY: no argument, no precondition.
        let process = unsafe { libc::syscall(libc::SYS_getpid) };
        // SAFETY: the same. Not libc's gettid: that is the number remembered.
        let thread = unsafe { libc::syscall(libc::SYS_gettid) };
        // SAFETY: three integers.
        unsafe { libc::syscall(libc::SYS_tgkill, process, thread, libc::SIGABRT) };
    }
    exit_now(128 + libc::SIGABRT)
}

unsafe extern "C" {
    /// Our own file's header, as it is mapped: every linker names it so.
    #[link_name = "__ehdr_start"]
    static HEADER: libc::Elf64_Ehdr;
}

/// What became of the program's relocated constants.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sealed {
    /// They are read-only.
    ReadOnly,
    /// The program was linked without PT_GNU_RELRO (`-z norelro`): no part of it is set aside for them.
    NoSuchPart,
}

/// Makes read-only what only the start of the program has to write: relocated constants, tables of functions (elf(5), PT_GNU_RELRO). The
/// dynamic loader does, and glibc in a static program; for one that is linked with musl nobody does.
///
/// A program without that part was linked so, by whoever built it: it works as any other, with one obstacle less for who can already write
/// to its memory. To refuse every command would protect nobody, so the caller is told and may go on. Where the part is there and the
/// kernel will not have it read-only, something works against us, and that is an error.
///
/// # Errors
/// mprotect(2)'s; ENOEXEC where the program's own header contradicts itself.
pub fn seal_constants() -> Result<Sealed> {
    // SAFETY: the kernel mapped it, nobody writes to it, and it stays.
    let header = unsafe { &HEADER };
    let at = std::ptr::from_ref(header);
    let parts: *const libc::Elf64_Phdr = at.wrapping_byte_add(size(header.e_phoff)?).cast();
    // SAFETY: as for the header, whose first segment holds these, too.
    let parts = unsafe { std::slice::from_raw_parts(parts, usize::from(header.e_phnum)) };
    let Some((whole, sealed)) = sealable(parts)? else {
        return Ok(Sealed::NoSuchPart);
    };
    let page = nix::unistd::sysconf(SysconfVar::PAGE_SIZE)?.ok_or(Errno::ENOEXEC)?;
    let page = usize::try_from(page).map_err(|_| Errno::ENOEXEC)?;
    let base = at.wrapping_byte_sub(size(whole.p_vaddr)?);
    let first = base.wrapping_byte_add(size(sealed.p_vaddr)?);
    // Whole pages: the linker fills up the last one where it is to be in.
    let start = first.map_addr(|address| address & !(page - 1));
    let end = first.addr().wrapping_add(size(sealed.p_memsz)?) & !(page - 1);
    let (start, length) = (start.cast_mut().cast(), end.wrapping_sub(start.addr()));
    // SAFETY: what lies there is written by relocations alone, and those are done.
    done(c_long::from(unsafe { libc::mprotect(start, length, libc::PROT_READ) }))?;
    Ok(Sealed::ReadOnly)
}

/// The part that the header lies in, and the one to be sealed, if the program has one.
fn sealable(parts: &[libc::Elf64_Phdr]) -> Result<Option<(&libc::Elf64_Phdr, &libc::Elf64_Phdr)>> {
    let whole = parts
        .iter()
        .find(|part| part.p_type == libc::PT_LOAD && part.p_offset == 0);
    match parts.iter().find(|part| part.p_type == libc::PT_GNU_RELRO) {
        None => Ok(None),
        Some(sealed) => Ok(Some((whole.ok_or(Errno::ENOEXEC)?, sealed))),
    }
}

fn size(number: u64) -> Result<usize> {
    usize::try_from(number).map_err(|_| Errno::ENOEXEC)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use nix::sys::signal::Signal;
    use nix::sys::wait::{WaitStatus, waitpid};

    use super::*;
    use crate::{Cloned, fork};

    fn end_of(child: fn() -> !) -> WaitStatus {
        match fork().unwrap() {
            Cloned::Child => child(),
            Cloned::Parent(pid) => waitpid(pid, None).unwrap(),
        }
    }

    /// With musl's own this test's process would end, not its child.
    #[test]
    fn a_clone_that_aborts_ends_itself() {
        for child in [abort_ourselves, std::process::abort] {
            let end = end_of(child);
            assert!(matches!(end, WaitStatus::Signaled(_, Signal::SIGABRT, _)), "{end:?}");
        }
    }

    /// A table of pointers: the start of the program relocates it.
    static TABLE: [&str; 2] = ["a", "b"];

    #[test]
    fn relocated_constants_are_read_only() {
        assert_eq!(seal_constants(), Ok(Sealed::ReadOnly));
        let at = std::hint::black_box(&TABLE).as_ptr().addr();
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let line = maps
            .lines()
            .find(|line| {
                let (start, end) = line.split(' ').next().unwrap().split_once('-').unwrap();
                let number = |text| usize::from_str_radix(text, 16).unwrap();
                (number(start)..number(end)).contains(&at)
            })
            .unwrap();
        assert!(line.contains(" r--p "), "{line}");
    }

    /// A program that was linked without the part to seal is told of and runs; one that has it, and no part for its header, is none.
    #[test]
    fn a_program_without_the_part_is_no_error() {
        let part = |p_type| libc::Elf64_Phdr {
            p_type,
            p_flags: 0,
            p_offset: 0,
            p_vaddr: 0,
            p_paddr: 0,
            p_filesz: 0,
            p_memsz: 0,
            p_align: 0,
        };
        let (load, relro) = (part(libc::PT_LOAD), part(libc::PT_GNU_RELRO));
        assert!(sealable(&[load]).unwrap().is_none());
        assert!(sealable(&[load, relro]).unwrap().is_some());
        assert_eq!(sealable(&[relro]).err(), Some(Errno::ENOEXEC));
    }
}
