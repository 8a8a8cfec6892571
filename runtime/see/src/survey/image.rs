//! Where the paths of holes and mounts lead inside the image, resolved as the container would resolve them
//! (RESOLVE_IN_ROOT).

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use oci_spec::runtime::Root;
use pathrs::RootRef;
use pathrs::error::ErrorKind;

use gabion_core::host::HoleTarget;
use gabion_core::policy::Policy;
use gabion_core::request::{Request, normalize};

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

pub(super) fn real(fd: BorrowedFd<'_>) -> std::io::Result<PathBuf> {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Where a hole's path leads.
fn target(root: &RootRef<'_>, base: &Path, path: &Path) -> Option<HoleTarget> {
    Some(match follow(root, base, path)? {
        Led::There(inside, Kind::Directory) => HoleTarget::Directory(inside),
        Led::There(inside, Kind::Other) => HoleTarget::NotADirectory(inside),
        Led::Missing(inside) => HoleTarget::Missing(inside),
        // A link that leads nowhere, or a file in the way: no mount point can be made there.
        Led::Dangling(at, _) | Led::Blocked(at) => HoleTarget::NotADirectory(at),
    })
}

/// By index: where the destinations of the spec's mounts lead in the image. A destination below an earlier mount lands in
/// that one, not in the image.
pub(super) fn targets(rootfs: BorrowedFd<'_>, request: &Request) -> BTreeMap<usize, PathBuf> {
    let root = RootRef::from_fd(rootfs);
    let Ok(base) = real(rootfs) else {
        return BTreeMap::new();
    };
    let mut found: BTreeMap<usize, PathBuf> = BTreeMap::new();
    let mut earlier: Vec<(PathBuf, PathBuf)> = Vec::new();
    for (index, mount) in request.spec.mounts().iter().flatten().enumerate() {
        let path = normalize(mount.destination());
        let covered = earlier.iter().rev().find_map(|(destination, target)| {
            let rest = path.strip_prefix(destination).ok()?;
            Some(if rest.as_os_str().is_empty() {
                target.clone()
            } else {
                target.join(rest)
            })
        });
        let Some(target) = covered.or_else(|| destination(&root, &base, &path, 0)) else {
            continue;
        };
        if path != Path::new("/") {
            earlier.push((path, target.clone()));
        }
        found.insert(index, target);
    }
    found
}

/// Follows dangling links too: mount points are made where they lead.
fn destination(root: &RootRef<'_>, base: &Path, path: &Path, links: u32) -> Option<PathBuf> {
    /// As path_resolution(7).
    const MAX_LINKS: u32 = 40;
    match follow(root, base, path)? {
        Led::There(inside, _) | Led::Missing(inside) => Some(inside),
        Led::Dangling(at, rest) if links < MAX_LINKS => {
            let link = root.readlink(&at).ok()?;
            let Led::There(parent, _) = follow(root, base, at.parent()?)? else {
                return None;
            };
            destination(root, base, &normalize(&parent.join(link).join(rest)), links + 1)
        }
        Led::Dangling(..) | Led::Blocked(_) => None,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Other,
}

/// Where a path leads in the image.
enum Led {
    There(PathBuf, Kind),
    /// Nothing is there; it hangs from its nearest ancestor that is.
    Missing(PathBuf),
    /// This link leads nowhere; what of the path comes after it.
    Dangling(PathBuf, PathBuf),
    /// This part of the path is no directory.
    Blocked(PathBuf),
}

fn follow(root: &RootRef<'_>, base: &Path, path: &Path) -> Option<Led> {
    let mut missing = PathBuf::new();
    let mut at = path;
    loop {
        match root.resolve(at) {
            Ok(handle) => {
                let fd = handle.as_fd();
                let inside = Path::new("/").join(real(fd).ok()?.strip_prefix(base).ok()?);
                let mode = nix::sys::stat::fstat(fd.as_raw_fd()).ok()?.st_mode;
                let directory = mode & libc::S_IFMT == libc::S_IFDIR;
                return Some(match (directory, missing.as_os_str().is_empty()) {
                    (true, true) => Led::There(inside, Kind::Directory),
                    (false, true) => Led::There(inside, Kind::Other),
                    (true, false) => Led::Missing(inside.join(missing)),
                    (false, false) => Led::Blocked(inside),
                });
            }
            Err(error) if os_error(&error) == Some(Errno::ENOENT) => {
                if root.resolve_nofollow(at).is_ok() {
                    return Some(Led::Dangling(at.to_owned(), missing));
                }
                let name = at.file_name()?;
                missing = if missing.as_os_str().is_empty() {
                    name.into()
                } else {
                    Path::new(name).join(missing)
                };
                at = at.parent()?;
            }
            Err(error) if os_error(&error) == Some(Errno::ENOTDIR) => return Some(Led::Blocked(at.to_owned())),
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
        let mount = |path: &str| destination(&RootRef::from_fd(fd.as_fd()), &base, Path::new(path), 0);
        symlink("loop", dir.join("loop")).unwrap();
        symlink("run/../lost", dir.join("var/relative")).unwrap();
        for (path, expected) in [
            ("/var/run/secrets", Some("/run/secrets")),
            ("/file", Some("/file")),
            ("/dangling/x", Some("/nowhere/x")),
            ("/var/relative", Some("/var/lost")),
            ("/file/below", None),
            ("/loop", None),
        ] {
            assert_eq!(mount(path), expected.map(PathBuf::from), "{path}");
        }
        fs::remove_dir_all(dir).unwrap();
    }

    #[test]
    fn a_mount_below_another_lands_in_it() {
        let dir = std::env::temp_dir().join(format!("gabion-below-{}", std::process::id()));
        fs::create_dir_all(dir.join("data")).unwrap();
        symlink("data", dir.join("link")).unwrap();
        let spec = r#"{"ociVersion":"1.0.2","process":{"user":{"uid":0,"gid":0},"args":["sh"],"cwd":"/"},
            "root":{"path":"r"},"mounts":[{"destination":"/dev"},{"destination":"/dev/pts"},{"destination":"/link"},
            {"destination":"/link/sub"},{"destination":"/data/other"}]}"#;
        let request = crate::bundle::from_reader("c".parse().unwrap(), &dir, spec.as_bytes(), Path::new("t")).unwrap();
        let found = targets(fs::File::open(&dir).unwrap().as_fd(), &request);
        let found: Vec<_> = found.values().map(|p| p.to_str().unwrap()).collect();
        assert_eq!(found, ["/dev", "/dev/pts", "/data", "/data/sub", "/data/other"]);
        fs::remove_dir_all(dir).unwrap();
    }
}
