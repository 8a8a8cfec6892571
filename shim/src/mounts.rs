//! The root file system's mounts: made before the runtime sees the bundle, unmounted when the container is deleted.

mod idmapped;
mod options;
mod point;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Error, Result};
use idmapped::Lower;
use options::Parsed;
use point::MountPoint;

/// The kernel takes one page of mount data, its end included.
const DATA_LIMIT: usize = 4095;
/// More mounts than this on one point are not ours.
const DEPTH_LIMIT: usize = 64;

/// The most mounts of one root file system: each is held by a descriptor. containerd's snapshotters ask for one, at most a handful.
const MANY: usize = 64;

/// The mounts that were made for one container, each held by its root: exactly these are unmounted, whatever became of their paths.
#[derive(Default)]
pub struct Mounted(Vec<MountPoint>);

impl Mounted {
    /// Makes `mounts` at and below `root`, in their order; on an error those already made are unmounted.
    pub fn make(mounts: &[Mount], root: &Path) -> Result<Self> {
        if mounts.len() > MANY {
            return Err(Error::BadRequest("a root file system of more than 64 mounts"));
        }
        let mut made = Self::default();
        for each in mounts {
            if let Err(error) = made.add(each, root) {
                made.unmount()?;
                return Err(error);
            }
        }
        Ok(made)
    }

    fn add(&mut self, each: &Mount, root: &Path) -> Result<()> {
        let (maps, words) = idmapped::split(&each.options)?;
        let mut parsed = options::parse(&words)?;
        let lower = match maps {
            Some(maps) if each.type_ == "overlay" => Some(Lower::put(&maps, root, &mut parsed.data)?),
            Some(_) => {
                return Err(Error::BadRequest(
                    "a root file system with other owners that is no overlay",
                ));
            }
            None => None,
        };
        let made = self.mount(each, root, &parsed);
        lower.map_or(Ok(()), Lower::leave)?;
        made
    }

    fn mount(&mut self, each: &Mount, root: &Path, parsed: &Parsed) -> Result<()> {
        let below = MountPoint::find(root, &each.target)?;
        let data = parsed.data.join(",");
        if data.len() > DATA_LIMIT {
            mount_from_common_dir(each, &below.path(), parsed.flags, &parsed.data)?;
        } else {
            let (source, kind) = (Some(each.source.as_str()), Some(each.type_.as_str()));
            mount(source, &below.path(), kind, parsed.flags, Some(data.as_str()))
                .map_err(|errno| not_mounted(each, errno))?;
        }
        if parsed.flags.contains(MsFlags::MS_REMOUNT) {
            return Ok(());
        }
        // The same target now leads to what was mounted there, and the numbers of two mounts differ.
        let top = MountPoint::find(root, &each.target)?;
        if top.mount == below.mount {
            return Err(not_mounted(each, Errno::ESTALE));
        }
        let point = top.path();
        self.0.push(top);
        adjust(&point, parsed).map_err(|errno| not_mounted(each, errno))
    }

    /// The kernel's numbers of them, for a process that comes after this one.
    pub fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|place| place.mount).collect()
    }

    /// Unmounts them, the last one first. What could not be unmounted is tried again the next time.
    pub fn unmount(&mut self) -> Result<()> {
        while let Some(last) = self.0.last() {
            last.detach()
                .map_err(|errno| Error::system("unmounting a part of the root file system", errno))?;
            self.0.pop();
        }
        Ok(())
    }
}

/// Unmounts what another process mounted at and below `root`, by the numbers that it kept, the last one first.
pub fn unmount_numbers(numbers: &[u64], root: &Path) -> Result<()> {
    numbers
        .iter()
        .rev()
        .try_for_each(|number| point::detach_number(*number, root))
}

/// Says what a mount takes in calls of its own. `point` is its root.
fn adjust(point: &Path, parsed: &options::Parsed) -> nix::Result<()> {
    let change = |flags| mount(None::<&str>, point, None::<&str>, flags, None::<&str>);
    let flags = parsed.flags;
    // A bind mount ignores all other flags the first time.
    if flags.contains(MsFlags::MS_BIND) && !flags.difference(MsFlags::MS_BIND | MsFlags::MS_REC).is_empty() {
        change(flags | MsFlags::MS_REMOUNT)?;
    }
    if parsed.propagation.is_empty() {
        return Ok(());
    }
    change(parsed.propagation)
}

fn not_mounted(each: &Mount, errno: Errno) -> Error {
    let target = Path::new("/").join(each.target.trim_start_matches('/'));
    Error::at("mounting the root file system's part", &target, errno)
}

/// An image of many layers has more lower directories than a page of data holds by absolute paths: they are given relative to
/// their common parent. This thread is the only one, so its working directory is nobody else's.
fn mount_from_common_dir(each: &Mount, point: &Path, flags: MsFlags, data: &[String]) -> Result<()> {
    let too_long = || Error::BadRequest("a mount's options are longer than a page");
    let lower = data
        .iter()
        .find_map(|option| option.strip_prefix("lowerdir="))
        .ok_or_else(too_long)?;
    let directories: Vec<&str> = lower.split(':').collect();
    let common = common_dir(&directories).ok_or_else(too_long)?;
    let shorten = |path: &&str| {
        path.get(common.len()..)
            .unwrap_or(path)
            .trim_start_matches('/')
            .to_owned()
    };
    let short = format!(
        "lowerdir={}",
        directories.iter().map(shorten).collect::<Vec<_>>().join(":")
    );
    let options = data.iter().map(|option| {
        if option.starts_with("lowerdir=") {
            short.as_str()
        } else {
            option
        }
    });
    let data = options.collect::<Vec<_>>().join(",");
    if data.len() > DATA_LIMIT {
        return Err(too_long());
    }
    let changed = |errno: Errno| Error::at("changing into", Path::new(common), errno);
    nix::unistd::chdir(common).map_err(changed)?;
    let result = mount(
        Some(each.source.as_str()),
        point,
        Some(each.type_.as_str()),
        flags,
        Some(data.as_str()),
    );
    nix::unistd::chdir("/").map_err(changed)?;
    result.map_err(|errno| not_mounted(each, errno))
}

/// The longest directory that all paths lie in.
fn common_dir<'a>(paths: &[&'a str]) -> Option<&'a str> {
    let first = *paths.first()?;
    let ancestors = Path::new(first).ancestors().skip(1).filter_map(Path::to_str);
    let holds = |dir: &&str| dir.len() > 1 && paths.iter().all(|path| Path::new(path).starts_with(dir));
    ancestors.filter(|dir| first.starts_with(*dir)).find(holds)
}

/// Unmounts everything that is mounted at `root` itself and beside it: what is not known by its number. Nothing mounted there is no error.
pub fn unmount_all(root: &Path) -> Result<()> {
    idmapped::clean_beside(root)?;
    let not_unmounted = |errno: Errno| Error::at("unmounting", root, errno);
    for _ in 0..DEPTH_LIMIT {
        let flags = MntFlags::from_bits_retain(nix::libc::UMOUNT_NOFOLLOW);
        match umount2(root, flags) {
            Ok(()) => {}
            // EINVAL: not a mount point.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            // Someone looks at it, a df for instance. Detached it is gone from here, and from the kernel when they leave.
            Err(Errno::EBUSY) => umount2(root, flags | MntFlags::MNT_DETACH).map_err(not_unmounted)?,
            Err(errno) => return Err(not_unmounted(errno)),
        }
    }
    Err(too_deep(root))
}

fn too_deep(root: &Path) -> Error {
    Error::BadPath {
        path: root.to_owned(),
        why: "more than 64 mounts lie on this point",
    }
}

/// Whether `path` may stand as a bundle: absolute, without `..`, and a directory.
pub fn check_bundle(path: &str) -> Result<PathBuf> {
    let bundle = PathBuf::from(OsStr::from_bytes(path.as_bytes()));
    let clean = bundle
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if !bundle.is_absolute() || !clean {
        return Err(Error::BadPath {
            path: bundle,
            why: "a bundle is an absolute path without `..`",
        });
    }
    if !bundle.is_dir() {
        return Err(Error::BadPath {
            path: bundle,
            why: "no such bundle",
        });
    }
    Ok(bundle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three layers, of which the upper ones hide what is below, and each file is another's on the host.
    #[test]
    fn layers_have_other_owners() {
        use std::os::unix::fs::MetadataExt;
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let dir = std::env::temp_dir().join(format!("gabion-shim-layers-{}", std::process::id()));
        let at = |name: &str| dir.join(name).display().to_string();
        for name in ["a", "b", "c", "upper", "work", "rootfs"] {
            std::fs::create_dir_all(dir.join(name)).unwrap();
        }
        for (name, text) in [
            ("a/of", "a"),
            ("b/of", "b"),
            ("c/of", "c"),
            ("c/last", "c"),
            ("b/middle", "b"),
        ] {
            std::fs::write(dir.join(name), text).unwrap();
        }
        nix::unistd::chown(&dir.join("c/last"), Some(1000.into()), Some(1000.into())).unwrap();
        let options = [
            format!("lowerdir={}:{}:{}", at("a"), at("b"), at("c")),
            format!("upperdir={}", at("upper")),
            format!("workdir={}", at("work")),
            "uidmap=0:100000:65536".to_owned(),
            "gidmap=0:200000:65536".to_owned(),
        ];
        let overlay = Mount {
            type_: "overlay".into(),
            source: "overlay".into(),
            options: options.into(),
            ..Mount::default()
        };
        let root = dir.join("rootfs");
        match Mounted::make(&[overlay], &root) {
            // A kernel before 5.19, or a file system that cannot map: refused by name, and nothing is left.
            Err(error) => assert!(error.to_string().contains("owners of a layer"), "{error}"),
            Ok(mut mounted) => {
                let of = |name: &str| {
                    std::fs::metadata(root.join(name))
                        .map(|meta| (meta.uid(), meta.gid()))
                        .unwrap()
                };
                let owners = (of("of"), of("middle"), of("last"));
                let text = std::fs::read_to_string(root.join("of")).unwrap();
                mounted.unmount().unwrap();
                assert_eq!(owners, ((100_000, 200_000), (100_000, 200_000), (101_000, 201_000)));
                assert_eq!(text, "a");
            }
        }
        assert!(!dir.join("gabion-lower").exists());
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains(&at("")), "{table}");
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn lower_directories_share_their_parent() {
        assert_eq!(common_dir(&["/s/1/fs", "/s/22/fs"]), Some("/s"));
        assert_eq!(common_dir(&["/s/1/fs", "/t/1/fs"]), None);
        assert_eq!(common_dir(&["/s/1/fs"]), Some("/s/1"));
    }
}
