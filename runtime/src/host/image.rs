//! Where the paths of holes lead inside the image, resolved as the container would resolve them (RESOLVE_IN_ROOT).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Root;
use pathrs::RootRef;
use pathrs::error::ErrorKind;

use super::HoleTarget;
use crate::policy::Policy;
use crate::request::{Request, normalize};

/// The holes of a root that gabion closes itself; one that the spec closes gets only those that were asked for.
const DEFAULT: [&str; 3] = ["/tmp", "/var/tmp", "/run"];

/// Where default and declared holes lead. A path that cannot be looked at is absent.
pub(super) fn holes(rootfs: BorrowedFd<'_>, request: &Request, policy: &Policy) -> BTreeMap<PathBuf, HoleTarget> {
    let root = RootRef::from_fd(rootfs);
    let Ok(base) = real(rootfs) else {
        return BTreeMap::new();
    };
    // One beyond the bound, so that the control sees that it was passed; the annotation may be of any length.
    let bound = usize::try_from(policy.holes.max_count)
        .unwrap_or(usize::MAX)
        .saturating_add(1);
    let asked = request.asked("dev.gabion.holes").unwrap_or_default();
    let declared = asked
        .split(',')
        .map(|entry| entry.split(':').next().unwrap_or_default().trim())
        .filter(|path| !path.is_empty())
        .take(bound);
    let closed = request.spec.root().as_ref().and_then(Root::readonly) == Some(true);
    let default: &[&str] = if closed { &[] } else { &DEFAULT };
    let mut found = BTreeMap::new();
    for path in default.iter().copied().chain(declared) {
        let normal = normalize(Path::new(path));
        if !found.contains_key(&normal)
            && let Some(target) = target(&root, &base, &normal)
        {
            found.insert(normal, target);
        }
    }
    found
}

fn real(fd: BorrowedFd<'_>) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Resolves `path`; what is missing hangs from its nearest ancestor that is there.
fn target(root: &RootRef<'_>, base: &Path, path: &Path) -> Option<HoleTarget> {
    let mut missing = PathBuf::new();
    let mut at = path;
    loop {
        match root.resolve(at) {
            Ok(handle) => {
                let inside = Path::new("/").join(real(handle.as_fd()).ok()?.strip_prefix(base).ok()?);
                let directory =
                    nix::sys::stat::fstat(handle.as_fd().as_raw_fd()).ok()?.st_mode & libc::S_IFMT == libc::S_IFDIR;
                return Some(match (directory, missing.as_os_str().is_empty()) {
                    (true, true) => HoleTarget::Directory(inside),
                    (true, false) => HoleTarget::Missing(inside.join(missing)),
                    (false, _) => HoleTarget::NotADirectory(inside),
                });
            }
            Err(error) if os_error(&error) == Some(Errno::ENOENT) => {
                // Something that is there and leads nowhere: a dangling link, which no mount point can replace.
                if root.resolve_nofollow(at).is_ok() {
                    return Some(HoleTarget::NotADirectory(at.to_owned()));
                }
                let name = at.file_name()?;
                missing = if missing.as_os_str().is_empty() {
                    name.into()
                } else {
                    Path::new(name).join(missing)
                };
                at = at.parent()?;
            }
            Err(error) if os_error(&error) == Some(Errno::ENOTDIR) => {
                return Some(HoleTarget::NotADirectory(at.to_owned()));
            }
            Err(_) => return None,
        }
    }
}

fn os_error(error: &pathrs::error::Error) -> Option<Errno> {
    match error.kind() {
        ErrorKind::OsError(Some(errno)) => Some(Errno::from_raw(errno)),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_lead_where_the_container_would_see_them() {
        let dir = std::env::temp_dir().join(format!("gabion-image-{}", std::process::id()));
        for sub in ["run/lock", "var/lib"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        fs::write(dir.join("file"), "").unwrap();
        symlink("/run", dir.join("var/run")).unwrap();
        symlink("../../../../..", dir.join("up")).unwrap();
        symlink("/nowhere", dir.join("dangling")).unwrap();
        let fd = fs::File::open(&dir).unwrap();
        let base = real(fd.as_fd()).unwrap();
        let lead = |path: &str| target(&RootRef::from_fd(fd.as_fd()), &base, Path::new(path));
        for (path, expected) in [
            ("/run", HoleTarget::Directory("/run".into())),
            ("/var/run", HoleTarget::Directory("/run".into())),
            ("/var/run/lock", HoleTarget::Directory("/run/lock".into())),
            ("/up/run", HoleTarget::Directory("/run".into())),
            ("/var/lib/a/b", HoleTarget::Missing("/var/lib/a/b".into())),
            ("/var/run/new", HoleTarget::Missing("/run/new".into())),
            ("/file", HoleTarget::NotADirectory("/file".into())),
            ("/file/below", HoleTarget::NotADirectory("/file/below".into())),
            ("/dangling", HoleTarget::NotADirectory("/dangling".into())),
        ] {
            assert_eq!(lead(path), Some(expected), "{path}");
        }
        fs::remove_dir_all(dir).unwrap();
    }
}
