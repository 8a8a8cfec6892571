//! What system calls cost here.

use super::Answer;
use crate::sys::{self, Sys};
use std::time::Instant;

/// The quickest of many batches: what else the machine does is in the others.
const BATCHES: u32 = 40;
const CALLS: u32 = 500;

/// Nanoseconds of getpid, of reading and writing a byte, and of opening a file and closing it again.
pub(super) fn calls(_: &str) -> Answer {
    let mut byte = [0_u8; 1];
    let address = byte.as_mut_ptr() as usize;
    let zero = sys::open("/dev/zero", libc::O_RDONLY)? as usize;
    let null = sys::open("/dev/null", libc::O_WRONLY)? as usize;
    let getpid = timed(|| sys::call("getpid", libc::SYS_getpid, &[]))?;
    let read = timed(|| sys::call("read", libc::SYS_read, &[zero, address, 1]))?;
    let write = timed(|| sys::call("write", libc::SYS_write, &[null, address, 1]))?;
    let openat = timed(|| {
        let fd = sys::open("/usr/bin/probe", libc::O_RDONLY)?;
        sys::call("close", libc::SYS_close, &[fd as usize])
    })?;
    Ok(format!("getpid={getpid} read={read} write={write} openat={openat}"))
}

fn timed(mut call: impl FnMut() -> Sys<usize>) -> Sys<u128> {
    let mut least = u128::MAX;
    for _ in 0..BATCHES {
        let begin = Instant::now();
        for _ in 0..CALLS {
            call()?;
        }
        least = least.min(begin.elapsed().as_nanos() / u128::from(CALLS));
    }
    Ok(least)
}
