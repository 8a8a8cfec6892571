//! Writing a file whole or not at all: into a new temporary file beside it, which then takes its place.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use nix::NixPath;
use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// Writes `content` to `name` in `dir` with exactly `mode`, whatever the caller's umask. The temporary file has a name that nobody can
/// foresee and must not be there (O_EXCL), and no link is followed: what was at `name` before is replaced, never written to.
///
/// # Errors
/// The errno of the call that failed; nothing is left behind then.
pub fn write_at(dir: BorrowedFd<'_>, name: &Path, mode: Mode, content: &[u8]) -> Result<(), Errno> {
    let temporary = temporary(name)?;
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = File::from(gabion_sys::openat(
        dir,
        temporary.as_os_str(),
        flags,
        Mode::S_IRUSR | Mode::S_IWUSR,
    )?);
    let done = fill(&file, mode, content).and_then(|()| {
        let at = Some(dir.as_raw_fd());
        renameat(at, temporary.as_os_str(), at, name)
    });
    if let Err(errno) = done {
        // The first error is the one to tell.
        remove(dir, temporary.as_os_str()).unwrap_or_else(|e| tracing::warn!(error = %e, "a temporary file is left"));
        return Err(errno);
    }
    Ok(())
}

fn fill(mut file: &File, mode: Mode, content: &[u8]) -> Result<(), Errno> {
    fchmod(file.as_raw_fd(), mode)?;
    file.write_all(content)
        .map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
}

fn remove<P: NixPath + ?Sized>(dir: BorrowedFd<'_>, name: &P) -> Result<(), Errno> {
    unlinkat(Some(dir.as_raw_fd()), name, UnlinkatFlags::NoRemoveDir)
}

/// `.NAME.` and sixteen digits that the kernel drew.
fn temporary(name: &Path) -> Result<OsString, Errno> {
    let mut drawn = [0; 8];
    gabion_sys::random(&mut drawn)?;
    let mut text = OsString::from(".");
    text.push(name.file_name().ok_or(Errno::EINVAL)?);
    text.push(format!(".{:016x}", u64::from_ne_bytes(drawn)));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn links_are_replaced_and_the_mode_is_as_asked() {
        let dir = std::env::temp_dir().join(format!("gabion-whole-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("victim"), "theirs").unwrap();
        symlink(dir.join("victim"), dir.join("file")).unwrap();
        let open = File::open(&dir).unwrap();
        let mode = Mode::from_bits_truncate(0o644);
        write_at(open.as_fd(), Path::new("file"), mode, b"ours").unwrap();
        assert_eq!(fs::read_to_string(dir.join("victim")).unwrap(), "theirs");
        assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "ours");
        let meta = fs::symlink_metadata(dir.join("file")).unwrap();
        assert_eq!(meta.permissions().mode() & 0o7777, 0o644);
        // A directory cannot be replaced: nothing of the try is left.
        fs::create_dir(dir.join("taken")).unwrap();
        assert!(write_at(open.as_fd(), Path::new("taken"), mode, b"x").is_err());
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 3);
        fs::remove_dir_all(&dir).unwrap();
    }
}
