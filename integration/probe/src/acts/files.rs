//! Acts on files, and the ways to execute what is not in the image.

use super::Answer;
use crate::sys::{self, Fail, Sys, call, from_io, open};
use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};

const SELF: &str = "/proc/self/exe";

fn path(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

fn two(arg: &str) -> (CString, CString) {
    let (from, to) = arg.split_once(',').unwrap_or((arg, ""));
    (path(from), path(to))
}

fn done(result: Sys<usize>) -> Answer {
    result.map(|_| String::new())
}

pub(super) fn write_file(arg: &str) -> Answer {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(arg)
        .map_err(|e| from_io(&e, "open"))?;
    file.write_all(b"x").map_err(|e| from_io(&e, "write"))?;
    Ok(String::new())
}

pub(super) fn create_file(arg: &str) -> Answer {
    let mut file = fs::File::create(arg).map_err(|e| from_io(&e, "open"))?;
    file.write_all(b"x").map_err(|e| from_io(&e, "write"))?;
    Ok(String::new())
}

/// A masked file opens and is empty: that is told as ENODATA, so that a mask and a readable file differ.
pub(super) fn read_file(arg: &str) -> Answer {
    let mut file = fs::File::open(arg).map_err(|e| from_io(&e, "open"))?;
    let mut byte = [0u8; 1];
    match file.read(&mut byte).map_err(|e| from_io(&e, "read"))? {
        0 => Err(Fail {
            errno: libc::ENODATA,
            at: "read",
        }),
        _ => Ok(String::new()),
    }
}

/// An empty directory is ENODATA for the same reason.
pub(super) fn list_dir(arg: &str) -> Answer {
    let count = fs::read_dir(arg).map_err(|e| from_io(&e, "open"))?.count();
    if count == 0 {
        Err(Fail {
            errno: libc::ENODATA,
            at: "readdir",
        })
    } else {
        Ok(String::new())
    }
}

/// Copies this program to the path and executes the copy. An existing file is executed as it is.
pub(super) fn exec_file(arg: &str) -> Answer {
    if !std::path::Path::new(arg).exists() {
        let bytes = fs::read(SELF).map_err(|e| from_io(&e, "read-self"))?;
        let options = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(arg);
        options
            .and_then(|mut file| file.write_all(&bytes))
            .map_err(|e| from_io(&e, "write"))?;
        fs::set_permissions(arg, fs::Permissions::from_mode(0o755)).map_err(|e| from_io(&e, "chmod"))?;
    }
    sys::in_child("exec", || {
        let fd = open(arg, libc::O_PATH | libc::O_CLOEXEC)?;
        Err(sys::exec_fd(fd, "exit=0"))
    })?;
    Ok(String::new())
}

pub(super) fn exec_memfd(_: &str) -> Answer {
    let bytes = fs::read(SELF).map_err(|e| from_io(&e, "read-self"))?;
    let name = c"probe";
    let fd = call(
        "memfd_create",
        libc::SYS_memfd_create,
        &[name.as_ptr() as usize, libc::MFD_CLOEXEC as usize],
    )?;
    fs::write(format!("/proc/self/fd/{fd}"), bytes).map_err(|e| from_io(&e, "write"))?;
    // A file that anybody holds open for writing is ETXTBSY: execute it by a second, read-only door.
    let reader = open(&format!("/proc/self/fd/{fd}"), libc::O_RDONLY | libc::O_CLOEXEC)?;
    call("close", libc::SYS_close, &[fd])?;
    sys::in_child("exec", || Err(sys::exec_fd(reader, "exit=0")))?;
    Ok(String::new())
}

pub(super) fn mmap_exec(_: &str) -> Answer {
    sys::map(4096, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC, true).map(|_| String::new())
}

/// By its path: no descriptor was opened for writing before.
pub(super) fn truncate(arg: &str) -> Answer {
    let file = path(arg);
    done(call("truncate", libc::SYS_truncate, &[file.as_ptr() as usize, 1]))
}

/// `chown=PATH,UID`
pub(super) fn chown(arg: &str) -> Answer {
    let (file, uid) = arg.split_once(',').unwrap_or((arg, "1"));
    let uid: u32 = uid.parse().unwrap_or(1);
    std::os::unix::fs::chown(file, Some(uid), None).map_err(|e| from_io(&e, "chown"))?;
    Ok(String::new())
}

/// `symlink=TARGET,LINK`
pub(super) fn symlink(arg: &str) -> Answer {
    let (from, to) = two(arg);
    let words = [from.as_ptr() as usize, libc::AT_FDCWD as usize, to.as_ptr() as usize];
    done(call("symlinkat", libc::SYS_symlinkat, &words))
}

/// `rename=FROM,TO`
pub(super) fn rename(arg: &str) -> Answer {
    let (from, to) = two(arg);
    let here = libc::AT_FDCWD as usize;
    done(call(
        "renameat",
        libc::SYS_renameat2,
        &[here, from.as_ptr() as usize, here, to.as_ptr() as usize, 0],
    ))
}

/// `link=FROM,TO`
pub(super) fn link(arg: &str) -> Answer {
    let (from, to) = two(arg);
    let here = libc::AT_FDCWD as usize;
    done(call(
        "linkat",
        libc::SYS_linkat,
        &[here, from.as_ptr() as usize, here, to.as_ptr() as usize, 0],
    ))
}

/// `mknod-char=PATH,MAJOR:MINOR`
pub(super) fn mknod_char(arg: &str) -> Answer {
    let (file, device) = arg.split_once(',').unwrap_or((arg, "1:3"));
    let (major, minor) = device.split_once(':').unwrap_or(("1", "3"));
    let device = libc::makedev(major.parse().unwrap_or(1), minor.parse().unwrap_or(3));
    let file = path(file);
    let mode = (libc::S_IFCHR | 0o600) as usize;
    let words = [libc::AT_FDCWD as usize, file.as_ptr() as usize, mode, device as usize];
    done(call("mknod", libc::SYS_mknodat, &words))
}

pub(super) fn open_device(arg: &str) -> Answer {
    open(arg, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_CLOEXEC).map(|_| String::new())
}

/// Opens for writing and writes nothing: for files of the kernel that a write would change.
pub(super) fn open_write(arg: &str) -> Answer {
    open(arg, libc::O_WRONLY | libc::O_CLOEXEC).map(|_| String::new())
}

/// `sysctl-write=kernel.domainname,x`
pub(super) fn sysctl_write(arg: &str) -> Answer {
    let (name, value) = arg.split_once(',').unwrap_or((arg, "0"));
    let file = format!("/proc/sys/{}", name.replace('.', "/"));
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(file)
        .map_err(|e| from_io(&e, "open"))?;
    file.write_all(value.as_bytes()).map_err(|e| from_io(&e, "write"))?;
    Ok(String::new())
}

/// Opens only: nothing is written, the machine must survive a runtime that lets this through.
pub(super) fn write_sysrq(_: &str) -> Answer {
    open_write("/proc/sysrq-trigger")
}

pub(super) fn read_kcore(_: &str) -> Answer {
    read_file("/proc/kcore")
}

/// The way out of a container that `CAP_DAC_READ_SEARCH` gives.
pub(super) fn open_by_handle(arg: &str) -> Answer {
    let file = path(if arg.is_empty() { "/" } else { arg });
    let mut handle = [0u32; 34];
    handle[0] = 128;
    let mut mount_id = 0i32;
    let here = libc::AT_FDCWD as usize;
    let at = handle.as_mut_ptr() as usize;
    let words = [here, file.as_ptr() as usize, at, &raw mut mount_id as usize, 0];
    call("name_to_handle_at", libc::SYS_name_to_handle_at, &words)?;
    let root = open("/", libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)? as usize;
    done(call(
        "open_by_handle_at",
        libc::SYS_open_by_handle_at,
        &[root, at, libc::O_RDONLY as usize],
    ))
}

/// Executes a setuid-root copy of this program and asks it whether it became root.
pub(super) fn suid_exec(arg: &str) -> Answer {
    sys::in_child("euid", || {
        let fd = open(arg, libc::O_PATH | libc::O_CLOEXEC)?;
        Err(sys::exec_fd(fd, "require-euid0"))
    })?;
    Ok(String::new())
}

pub(super) fn require_euid0(_: &str) -> Answer {
    let euid = call("geteuid", libc::SYS_geteuid, &[])?;
    sys::exit_now(if euid == 0 { 0 } else { libc::EPERM })
}
