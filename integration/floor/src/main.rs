//! `floor ROOTFS NAME PROGRAM [ARG]…` does the kernel work of `gabion run` on the bench's bundle, with every control on, and nothing else: no
//! config, no decision, no state, no log, nothing read back. What no runtime can go below.
//!
//! It protects nobody: it never looks at what it does. Only `hack/bench` calls it.

mod inside;
mod sys;

use std::ffi::CString;
use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use nix::sys::wait::{WaitStatus, waitpid};

pub(crate) type Any = Box<dyn std::error::Error>;

const CGROUPS: &str = "/sys/fs/cgroup";

fn main() -> Result<(), Any> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [root, name, program @ ..] = words.as_slice() else {
        return Err("floor ROOTFS NAME PROGRAM [ARG]…".into());
    };
    let program: Vec<CString> = program
        .iter()
        .map(|word| CString::new(word.as_str()))
        .collect::<Result<_, _>>()?;
    let cgroups = cgroups(name)?;
    let (mut wait, mut go) = std::io::pipe()?;
    let Some(pid) = sys::clone_into_namespaces()? else {
        drop(go);
        wait.read_exact(&mut [0])?;
        let tops: Vec<&Path> = cgroups.iter().filter_map(|cgroup| cgroup.parent()).collect();
        return inside::become_program(root, &tops, &program);
    };
    drop(wait);
    for cgroup in &cgroups {
        fill(cgroup, pid.as_raw())?;
    }
    go.write_all(&[0])?;
    let ended = waitpid(pid, None)?;
    for cgroup in &cgroups {
        fs::remove_dir(cgroup)?;
    }
    match ended {
        WaitStatus::Exited(_, 0) => Ok(()),
        other => Err(format!("{other:?}").into()),
    }
}

/// One directory in each hierarchy of v1, or the one of v2.
fn cgroups(name: &str) -> Result<Vec<PathBuf>, Any> {
    let root = Path::new(CGROUPS);
    let mut made = Vec::new();
    if root.join("cgroup.controllers").exists() {
        made.push(root.join(name));
    } else {
        for top in fs::read_dir(root)? {
            let top = top?.path();
            if top.join("cgroup.procs").exists() && !top.is_symlink() {
                made.push(top.join(name));
            }
        }
    }
    for cgroup in &made {
        fs::create_dir(cgroup)?;
    }
    Ok(made)
}

/// The process, and the limits that gabion adds where a spec has none.
fn fill(cgroup: &Path, pid: i32) -> Result<(), Any> {
    for (file, value) in [("cpuset.cpus", "0"), ("cpuset.mems", "0")] {
        write_if_there(cgroup, file, value)?;
    }
    fs::write(cgroup.join("cgroup.procs"), pid.to_string())?;
    write_if_there(cgroup, "pids.max", "4096")?;
    for file in ["memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.max"] {
        write_if_there(cgroup, file, "4294967296")?;
    }
    write_if_there(cgroup, "devices.deny", "a")?;
    for rule in [
        "c 1:3", "c 1:5", "c 1:7", "c 1:8", "c 1:9", "c 5:0", "c 5:1", "c 5:2", "c 136:*",
    ] {
        write_if_there(cgroup, "devices.allow", &format!("{rule} rwm"))?;
    }
    Ok(())
}

fn write_if_there(cgroup: &Path, file: &str, value: &str) -> Result<(), Any> {
    let file = cgroup.join(file);
    if file.exists() {
        fs::write(file, value)?;
    }
    Ok(())
}
