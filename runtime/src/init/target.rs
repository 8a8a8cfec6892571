//! Mount points inside an untrusted root: found and made without ever leaving it.

use std::ffi::CString;
use std::fs::Permissions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use pathrs::flags::OpenFlags;
use pathrs::{Root, RootRef};

use crate::error::{Error, Result, Step};
use crate::sys;

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Point {
    Directory,
    File,
}

/// The paths that must be real directories of the image: a symlink there would send proc, sys or devices elsewhere
/// (CVE-2019-19921, CVE-2023-27561).
const NO_SYMLINK: [&str; 3] = ["proc", "sys", "dev"];

/// A path below the root, as a C string without the leading slash. The root itself is `.`.
fn relative(path: &Path) -> nix::Result<CString> {
    let inside = path.strip_prefix("/").unwrap_or(path);
    let bytes = inside.as_os_str().as_bytes();
    CString::new(if bytes.is_empty() { b".".as_slice() } else { bytes }).map_err(|_| Errno::EINVAL)
}

/// Opens (O_PATH) what lies at `path` below `root`, following symlinks inside the root only.
pub fn resolve(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    sys::openat2(
        root,
        &relative(path)?,
        libc::O_PATH,
        RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    )
}

/// Opens the mount point at `path` below `root`, making what is missing.
pub fn open(step: Step, root: BorrowedFd<'_>, path: &Path, point: Point) -> Result<OwnedFd> {
    if sensitive(path) {
        return open_strict(step, root, path);
    }
    match resolve(root, path) {
        Ok(fd) => Ok(fd),
        Err(Errno::ENOENT) => make(step, root, path, point),
        Err(errno) => Err(Error::step(
            step,
            format!("open the mount point {}", path.display()),
            errno,
        )),
    }
}

fn sensitive(path: &Path) -> bool {
    let mut parts = path
        .components()
        .filter(|c| matches!(c, std::path::Component::Normal(_)));
    match (parts.next(), parts.next()) {
        (Some(only), None) => NO_SYMLINK.iter().any(|p| only.as_os_str() == *p),
        _ => false,
    }
}

fn open_strict(step: Step, root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let doing = || format!("open the mount point {}", path.display());
    let name = relative(path).map_err(|e| Error::step(step, doing(), e))?;
    let flags = libc::O_PATH | libc::O_DIRECTORY;
    let open = || sys::openat2(root, &name, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
    match open() {
        Err(Errno::ENOENT) => {
            make(step, root, path, Point::Directory)?;
            open().map_err(|e| Error::step(step, doing(), e))
        }
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            let why = format!(
                "the image's {} is not a directory of its own (a symlink?): it is refused",
                path.display()
            );
            Err(Error::failed(step, why))
        }
        other => other.map_err(|e| Error::step(step, doing(), e)),
    }
}

fn make(step: Step, root: BorrowedFd<'_>, path: &Path, point: Point) -> Result<OwnedFd> {
    let failed = |e: pathrs::error::Error| {
        let errno = match e.kind() {
            pathrs::error::ErrorKind::OsError(Some(raw)) => Errno::from_raw(raw),
            _ => Errno::EINVAL,
        };
        Error::step(
            step,
            format!("make the mount point {} in the root file system", path.display()),
            errno,
        )
    };
    let inside = RootRef::from_fd(root);
    match point {
        Point::Directory => inside
            .mkdir_all(path, &Permissions::from_mode(0o755))
            .map(OwnedFd::from)
            .map_err(failed),
        Point::File => {
            if let Some(parent) = path.parent() {
                inside
                    .mkdir_all(parent, &Permissions::from_mode(0o755))
                    .map_err(failed)?;
            }
            let flags = OpenFlags::O_CREAT | OpenFlags::O_EXCL | OpenFlags::O_NOFOLLOW | OpenFlags::O_CLOEXEC;
            inside
                .create_file(path, flags, &Permissions::from_mode(0o644))
                .map_err(failed)?;
            resolve(root, path).map_err(|e| Error::step(step, format!("open {}", path.display()), e))
        }
    }
}

/// Where `path` leads inside the root (`/var/run` may be `/run`), for a path that exists.
pub fn real_path(root: &Root, path: &Path) -> Option<PathBuf> {
    let handle = root.resolve(path).ok()?;
    let fd = std::os::fd::AsRawFd::as_raw_fd(&handle.as_fd());
    std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()
}
