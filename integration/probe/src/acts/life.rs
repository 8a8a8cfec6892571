//! Staying alive, ending, and using things up.

use super::Answer;
use crate::sys::{self, Fail, from_io};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};

/// Starts children until N stand or the kernel says no, then ends them all.
pub(super) fn fork_bomb(arg: &str) -> Answer {
    let wanted: usize = arg.parse().unwrap_or(100);
    let mut children = Vec::new();
    let stopped = loop {
        if children.len() == wanted {
            break None;
        }
        match sys::fork(libc::SIGCHLD) {
            Ok(0) => sys::pause_forever(),
            Ok(pid) => children.push(pid),
            Err(fail) => break Some(fail),
        }
    };
    for pid in &children {
        sys::kill(*pid, libc::SIGKILL)?;
    }
    for pid in &children {
        sys::wait(*pid)?;
    }
    stopped.map_or_else(|| Ok(String::new()), Err)
}

/// N MiB, touched. A memory limit ends the child that does it: told as ENOMEM.
pub(super) fn alloc_memory(arg: &str) -> Answer {
    let mib: usize = arg.parse().unwrap_or(1);
    let pid = sys::fork(libc::SIGCHLD)?;
    if pid == 0 {
        let mapped = sys::map(mib << 20, libc::PROT_READ | libc::PROT_WRITE, true);
        sys::exit_now(mapped.map_or_else(|fail| fail.errno, |_| 0));
    }
    match sys::wait(pid)? {
        0 => Ok(String::new()),
        _ => Err(Fail {
            errno: libc::ENOMEM,
            at: "touch",
        }),
    }
}

/// Opens N terminals and holds them all at once.
pub(super) fn open_terminals(arg: &str) -> Answer {
    let wanted: usize = arg.parse().unwrap_or(1);
    let mut held = Vec::new();
    for _ in 0..wanted {
        held.push(sys::open("/dev/ptmx", libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC)?);
    }
    Ok(String::new())
}

pub(super) fn sleep(_: &str) -> Answer {
    println!("sleeping");
    sys::pause_forever()
}

/// Ends the first thread alone: the process looks like a zombie, and its other thread runs on.
pub(super) fn leave_threads(_: &str) -> Answer {
    std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_mins(10)));
    println!("threads left");
    std::io::stdout().flush().map_err(|e| from_io(&e, "flush"))?;
    sys::call("exit", libc::SYS_exit, &[0]).map(|_| String::new())
}

/// Ends with the given code when SIGTERM comes; PID 1 would not see it otherwise.
pub(super) fn wait_term(arg: &str) -> Answer {
    sys::wait_for_signal(libc::SIGTERM)?;
    std::process::exit(arg.parse().unwrap_or(0))
}

pub(super) fn exit(arg: &str) -> Answer {
    std::process::exit(arg.parse().unwrap_or(0))
}

/// Reads lines of acts from a FIFO (or any file), or from stdin, and answers on stdout until `exit`.
pub(super) fn serve(arg: &str) -> Answer {
    let flush = || std::io::stdout().flush().map_err(|e| from_io(&e, "flush"));
    if arg.is_empty() {
        for line in std::io::stdin().lock().lines() {
            crate::run_line(&line.map_err(|e| from_io(&e, "read"))?);
            flush()?;
        }
        return Ok(String::new());
    }
    // Open for both: a FIFO without writers would end the loop after the first client.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(arg)
        .map_err(|e| from_io(&e, "open"))?;
    for line in BufReader::new(file).lines() {
        crate::run_line(&line.map_err(|e| from_io(&e, "read"))?);
        flush()?;
    }
    Ok(String::new())
}
