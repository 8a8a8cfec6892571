//! Where a path of an image leads whose last steps are missing: through symlinks that dangle, step by step, never out of the root.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{SFlag, fstat};

/// As path_resolution(7).
const MAX_LINKS: u32 = 40;

/// Gives the path without symlinks that `path` comes to below `root`. What is missing is taken as it is written.
pub(super) fn led_to(root: BorrowedFd<'_>, path: &Path) -> nix::Result<PathBuf> {
    let mut led = PathBuf::from("/");
    let mut ahead: VecDeque<OsString> = VecDeque::new();
    let mut links = 0;
    push_front(&mut ahead, path);
    while let Some(name) = ahead.pop_front() {
        if name == ".." {
            // At the root it stays there.
            led.pop();
            continue;
        }
        let next = led.join(&name);
        let Some(target) = link(root, &next)? else {
            led = next;
            continue;
        };
        links += 1;
        if links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        if target.is_absolute() {
            led = PathBuf::from("/");
        }
        push_front(&mut ahead, &target);
    }
    Ok(led)
}

fn push_front(ahead: &mut VecDeque<OsString>, path: &Path) {
    for part in path.components().rev() {
        match part {
            Component::Normal(name) => ahead.push_front(name.to_owned()),
            Component::ParentDir => ahead.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

/// What the symlink at `path` holds; None where there is none. `path` has no symlink before its last part.
fn link(root: BorrowedFd<'_>, path: &Path) -> nix::Result<Option<PathBuf>> {
    let flags = libc::O_PATH | libc::O_NOFOLLOW;
    let resolve = super::RESOLVE_IN_ROOT | super::RESOLVE_NO_SYMLINKS;
    match gabion_sys::openat2(root, &super::relative(path)?, flags, resolve) {
        Ok(fd) if fstat(fd.as_raw_fd())?.st_mode & libc::S_IFMT == SFlag::S_IFLNK.bits() => {
            nix::fcntl::readlinkat(Some(fd.as_raw_fd()), "").map(|target| Some(target.into()))
        }
        Ok(_) | Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_that_dangle_lead_below_the_root() {
        let dir = std::env::temp_dir().join(format!("gabion-links-{}", std::process::id()));
        fs::create_dir_all(dir.join("etc")).unwrap();
        for (to, at) in [
            ("../run/x/stub", "etc/up"),
            ("/run/x", "etc/absolute"),
            ("../../../../../far", "etc/climbs"),
            ("up", "etc/again"),
            ("loop", "etc/loop"),
            (".", "etc/here"),
        ] {
            symlink(to, dir.join(at)).unwrap();
        }
        let root = fs::File::open(&dir).unwrap();
        for (path, led) in [
            ("/etc/up", Ok("/run/x/stub")),
            ("/etc/up/below", Ok("/run/x/stub/below")),
            ("etc/absolute/a/../b", Ok("/run/x/b")),
            ("/etc/climbs", Ok("/far")),
            ("/etc/again", Ok("/run/x/stub")),
            ("/etc/here/new", Ok("/etc/new")),
            ("/../..", Ok("/")),
            ("/etc/loop", Err(Errno::ELOOP)),
        ] {
            assert_eq!(led_to(root.as_fd(), Path::new(path)), led.map(PathBuf::from), "{path}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
