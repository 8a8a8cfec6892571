//! Mount points inside an untrusted root: found and made without ever leaving it.

use std::ffi::CString;
use std::fs::Permissions;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use pathrs::RootRef;
use pathrs::flags::OpenFlags;

use gabion_see::error::{Error, Result, Step};

mod links;

const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
const RESOLVE_NO_SYMLINKS: u64 = 0x04;
const RESOLVE_IN_ROOT: u64 = 0x10;

/// What a mount point must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Point {
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
pub(crate) fn resolve(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    gabion_sys::openat2(
        root,
        &relative(path)?,
        libc::O_PATH,
        RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
    )
}

/// Opens the mount point at `path` below `root`, making what is missing: where a symlink leads nowhere, what it leads to.
pub(crate) fn open(step: Step, root: BorrowedFd<'_>, path: &Path, point: Point) -> Result<OwnedFd> {
    if sensitive(path) {
        return open_strict(step, root, path);
    }
    match resolve(root, path) {
        Ok(fd) => as_written(step, path, fd),
        Err(Errno::ENOENT) => {
            let led = links::led_to(root, path).map_err(|errno| unreachable(step, path, errno))?;
            as_written(step, path, make(step, root, &led, point)?)
        }
        Err(errno) => Err(unreachable(step, path, errno)),
    }
}

/// Opens the mount point that was judged: `vetted` is where `written` led in the image, symlinks followed. The tree may have
/// changed since, by a volume that was mounted over what was looked at: no symlink may lead anywhere now, or a second /proc
/// would lie where nothing of it is masked.
pub(crate) fn open_vetted(
    step: Step,
    root: BorrowedFd<'_>,
    written: &Path,
    vetted: &Path,
    point: Point,
) -> Result<OwnedFd> {
    if sensitive(written) {
        return open_strict(step, root, written);
    }
    match resolve_vetted(root, vetted) {
        Err(Errno::ENOENT) => drop(make(step, root, vetted, point)?),
        Err(Errno::ELOOP) => {}
        Err(errno) => return Err(unreachable(step, vetted, errno)),
        Ok(fd) => return as_written(step, vetted, fd),
    }
    match resolve_vetted(root, vetted) {
        Err(Errno::ELOOP) => Err(Error::RefusedCall {
            code: "mounts.led-elsewhere",
            what: format!(
                "the mount point {} was to be {}, and a symlink in a volume or in the image leads away from there",
                written.display(),
                vetted.display()
            ),
            remedy: "name the place itself, without symlinks, as the mount's destination".to_owned(),
        }),
        Err(errno) => Err(unreachable(step, vetted, errno)),
        Ok(fd) => as_written(step, vetted, fd),
    }
}

/// Opens (O_PATH) what lies at `path` below `root`, by no symlink at all.
pub(crate) fn resolve_vetted(root: BorrowedFd<'_>, path: &Path) -> nix::Result<OwnedFd> {
    gabion_sys::openat2(
        root,
        &relative(path)?,
        libc::O_PATH,
        RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS,
    )
}

fn unreachable(step: Step, path: &Path, errno: Errno) -> Error {
    Error::step(step, format!("open the mount point {}", path.display()), errno)
}

/// A symlink, in the image or in a volume mounted before, must not lead a mount onto what the kernel shows (CVE-2019-16884):
/// masks and read-only paths lie there, and label files.
fn as_written(step: Step, path: &Path, place: OwnedFd) -> Result<OwnedFd> {
    let kernels = ["proc", "sys"]
        .iter()
        .any(|top| path.strip_prefix("/").unwrap_or(path).starts_with(top));
    if kernels {
        return Ok(place);
    }
    let fs = nix::sys::statfs::fstatfs(&place).map_err(|e| Error::step(step, "look at a mount point", e))?;
    let typ = fs.filesystem_type();
    if typ == nix::sys::statfs::PROC_SUPER_MAGIC || typ == nix::sys::statfs::SYSFS_MAGIC {
        let why = format!(
            "the mount point {} leads into /proc or /sys: it is refused",
            path.display()
        );
        return Err(Error::failed(step, why));
    }
    Ok(place)
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
    let open = || gabion_sys::openat2(root, &name, flags, RESOLVE_IN_ROOT | RESOLVE_NO_SYMLINKS);
    match open() {
        Err(Errno::ENOENT) => {
            make(step, root, path, Point::Directory)?;
            open().map_err(|e| Error::step(step, doing(), e))
        }
        Err(Errno::ELOOP | Errno::ENOTDIR) => {
            let why = format!(
                "{0} must be mounted on ordinary directory, and the image's {0} is none (a symlink?): it is refused",
                path.display()
            );
            Err(Error::failed(step, why))
        }
        other => other.map_err(|e| Error::step(step, doing(), e)),
    }
}

fn make(step: Step, root: BorrowedFd<'_>, path: &Path, point: Point) -> Result<OwnedFd> {
    let not_made = |e: pathrs::error::Error| {
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
    // Most often only the last part is missing, in a directory that is there.
    if let Some(fd) =
        make_last(root, path, point).map_err(|e| Error::step(step, format!("make {}", path.display()), e))?
    {
        return Ok(fd);
    }
    let inside = RootRef::from_fd(root);
    match point {
        Point::Directory => inside
            .mkdir_all(path, &Permissions::from_mode(0o755))
            .map(OwnedFd::from)
            .map_err(not_made),
        Point::File => {
            if let Some(parent) = path.parent() {
                inside
                    .mkdir_all(parent, &Permissions::from_mode(0o755))
                    .map_err(not_made)?;
            }
            let flags = OpenFlags::O_CREAT | OpenFlags::O_EXCL | OpenFlags::O_NOFOLLOW | OpenFlags::O_CLOEXEC;
            inside
                .create_file(path, flags, &Permissions::from_mode(0o644))
                .map_err(not_made)?;
            resolve(root, path).map_err(|e| Error::step(step, format!("open {}", path.display()), e))
        }
    }
}

/// Makes and opens the last part of a path whose parent exists. None: it is not that simple.
fn make_last(root: BorrowedFd<'_>, path: &Path, point: Point) -> nix::Result<Option<OwnedFd>> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(None);
    };
    if parent
        .components()
        .chain(path.components())
        .any(|c| c == std::path::Component::ParentDir)
    {
        return Ok(None);
    }
    let Ok(parent) = resolve(root, parent) else {
        return Ok(None);
    };
    let made = match point {
        Point::Directory => nix::sys::stat::mkdirat(Some(parent.as_raw_fd()), name, Mode::from_bits_truncate(0o755)),
        Point::File => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            gabion_sys::openat(parent.as_fd(), name, flags, Mode::from_bits_truncate(0o644)).map(drop)
        }
    };
    match made {
        Ok(()) => {
            let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            gabion_sys::openat(parent.as_fd(), name, flags, Mode::empty()).map(Some)
        }
        // A dangling symlink: where it leads is resolved inside the root, step by step.
        Err(Errno::EEXIST | Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(e),
    }
}
