//! The root file system's mounts: made before the runtime sees the bundle, unmounted when the container is deleted.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use containerd_shim_protos::types::mount::Mount;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::error::{Error, Result};

/// The kernel takes one page of mount data, its end included.
const DATA_LIMIT: usize = 4095;
/// More mounts than this on one point are not ours.
const DEPTH_LIMIT: usize = 64;

/// A mount's options, taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parsed {
    flags: u64,
    propagation: u64,
    data: Vec<String>,
}

/// Options that are flags: name, bits to set, bits to clear.
const FLAGS: &[(&str, MsFlags, MsFlags)] = &[
    ("async", MsFlags::empty(), MsFlags::MS_SYNCHRONOUS),
    ("atime", MsFlags::empty(), MsFlags::MS_NOATIME),
    ("bind", MsFlags::MS_BIND, MsFlags::empty()),
    ("defaults", MsFlags::empty(), MsFlags::empty()),
    ("dev", MsFlags::empty(), MsFlags::MS_NODEV),
    ("diratime", MsFlags::empty(), MsFlags::MS_NODIRATIME),
    ("dirsync", MsFlags::MS_DIRSYNC, MsFlags::empty()),
    ("exec", MsFlags::empty(), MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME, MsFlags::empty()),
    ("nodev", MsFlags::MS_NODEV, MsFlags::empty()),
    ("nodiratime", MsFlags::MS_NODIRATIME, MsFlags::empty()),
    ("noexec", MsFlags::MS_NOEXEC, MsFlags::empty()),
    ("norelatime", MsFlags::empty(), MsFlags::MS_RELATIME),
    ("nostrictatime", MsFlags::empty(), MsFlags::MS_STRICTATIME),
    ("nosuid", MsFlags::MS_NOSUID, MsFlags::empty()),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC), MsFlags::empty()),
    ("relatime", MsFlags::MS_RELATIME, MsFlags::empty()),
    ("remount", MsFlags::MS_REMOUNT, MsFlags::empty()),
    ("ro", MsFlags::MS_RDONLY, MsFlags::empty()),
    ("rw", MsFlags::empty(), MsFlags::MS_RDONLY),
    ("strictatime", MsFlags::MS_STRICTATIME, MsFlags::empty()),
    ("suid", MsFlags::empty(), MsFlags::MS_NOSUID),
    ("sync", MsFlags::MS_SYNCHRONOUS, MsFlags::empty()),
];

/// Options that set the propagation, which the kernel takes in a call of its own.
const PROPAGATION: &[(&str, MsFlags)] = &[
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
];

fn parse(options: &[String]) -> Result<Parsed> {
    let mut parsed = Parsed::default();
    for option in options {
        if let Some((_, set, clear)) = FLAGS.iter().find(|(name, ..)| name == option) {
            parsed.flags = (parsed.flags | set.bits()) & !clear.bits();
        } else if let Some((_, bits)) = PROPAGATION.iter().find(|(name, _)| name == option) {
            parsed.propagation |= bits.bits();
        } else if option == "loop"
            || option.starts_with("uidmap=")
            || option.starts_with("gidmap=")
            || option.starts_with("X-")
        {
            // Things that a mount helper would do. Passing them on as data would be taken for something else, or ignored.
            return Err(Error::BadMount { option: option.clone() });
        } else {
            parsed.data.push(option.clone());
        }
    }
    Ok(parsed)
}

/// Makes `mounts` at `root`, in their order; on an error those already made are unmounted.
pub fn mount_all(mounts: &[Mount], root: &Path) -> Result<()> {
    for each in mounts {
        if let Err(error) = mount_one(each, root) {
            unmount_all(root)?;
            return Err(error);
        }
    }
    Ok(())
}

fn mount_one(each: &Mount, root: &Path) -> Result<()> {
    let target = target_below(root, &each.target)?;
    let parsed = parse(&each.options)?;
    let flags = MsFlags::from_bits_retain(parsed.flags);
    let data = parsed.data.join(",");
    let failed = |errno: Errno| Error::at("mounting the root file system at", &target, errno);
    if data.len() > DATA_LIMIT {
        mount_from_common_dir(each, &target, flags, &parsed.data)?;
    } else {
        mount(
            Some(each.source.as_str()),
            &target,
            Some(each.type_.as_str()),
            flags,
            Some(data.as_str()),
        )
        .map_err(failed)?;
    }
    // A bind mount ignores all other flags the first time.
    if flags.contains(MsFlags::MS_BIND) && !flags.difference(MsFlags::MS_BIND | MsFlags::MS_REC).is_empty() {
        mount(
            None::<&str>,
            &target,
            None::<&str>,
            flags | MsFlags::MS_REMOUNT,
            None::<&str>,
        )
        .map_err(failed)?;
    }
    if parsed.propagation != 0 {
        let flags = MsFlags::from_bits_retain(parsed.propagation);
        mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).map_err(failed)?;
    }
    Ok(())
}

fn target_below(root: &Path, target: &str) -> Result<PathBuf> {
    let relative = Path::new(target.trim_start_matches('/'));
    if relative.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(if target.is_empty() {
            root.to_owned()
        } else {
            root.join(relative)
        });
    }
    Err(Error::BadPath {
        path: target.into(),
        why: "a mount's target lies below the root file system",
    })
}

/// An image of many layers has more lower directories than a page of data holds by absolute paths: they are given relative to
/// their common parent. This thread is the only one, so its working directory is nobody else's.
fn mount_from_common_dir(each: &Mount, target: &Path, flags: MsFlags, data: &[String]) -> Result<()> {
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
        target,
        Some(each.type_.as_str()),
        flags,
        Some(data.as_str()),
    );
    nix::unistd::chdir("/").map_err(changed)?;
    result.map_err(|errno| Error::at("mounting the root file system at", target, errno))
}

/// The longest directory that all paths lie in.
fn common_dir<'a>(paths: &[&'a str]) -> Option<&'a str> {
    let first = *paths.first()?;
    let ancestors = Path::new(first).ancestors().skip(1).filter_map(Path::to_str);
    let holds = |dir: &&str| dir.len() > 1 && paths.iter().all(|path| Path::new(path).starts_with(dir));
    ancestors.filter(|dir| first.starts_with(*dir)).find(holds)
}

/// Unmounts everything that is mounted at `root` itself. Nothing mounted there is no error.
pub fn unmount_all(root: &Path) -> Result<()> {
    let failed = |errno: Errno| Error::at("unmounting", root, errno);
    for _ in 0..DEPTH_LIMIT {
        let flags = MntFlags::from_bits_retain(nix::libc::UMOUNT_NOFOLLOW);
        match umount2(root, flags) {
            Ok(()) => {}
            // EINVAL: not a mount point.
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            // Someone looks at it, a df for instance. Detached it is gone from here, and from the kernel when they leave.
            Err(Errno::EBUSY) => umount2(root, flags | MntFlags::MNT_DETACH).map_err(failed)?,
            Err(errno) => return Err(failed(errno)),
        }
    }
    Err(Error::BadPath {
        path: root.to_owned(),
        why: "more than 64 mounts lie on this point",
    })
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

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_are_flags_or_data_and_the_last_word_wins() {
        let parsed = parse(&strings(&["ro", "nosuid", "rw", "lowerdir=/a:/b", "rslave"])).unwrap();
        assert_eq!(parsed.flags, MsFlags::MS_NOSUID.bits());
        assert_eq!(parsed.propagation, (MsFlags::MS_SLAVE | MsFlags::MS_REC).bits());
        assert_eq!(parsed.data, ["lowerdir=/a:/b"]);
    }

    #[test]
    fn what_needs_a_helper_is_refused() {
        for option in ["loop", "uidmap=0:1:2", "X-containerd.mkdir.path=/x"] {
            assert!(
                matches!(parse(&strings(&[option])), Err(Error::BadMount { .. })),
                "{option}"
            );
        }
    }

    #[test]
    fn targets_stay_below_the_root() {
        assert_eq!(
            target_below(Path::new("/b/rootfs"), "").unwrap(),
            Path::new("/b/rootfs")
        );
        assert_eq!(
            target_below(Path::new("/b/rootfs"), "/etc/x").unwrap(),
            Path::new("/b/rootfs/etc/x")
        );
        assert!(target_below(Path::new("/b/rootfs"), "../x").is_err());
    }

    #[test]
    fn lower_directories_share_their_parent() {
        assert_eq!(common_dir(&["/s/1/fs", "/s/22/fs"]), Some("/s"));
        assert_eq!(common_dir(&["/s/1/fs", "/t/1/fs"]), None);
        assert_eq!(common_dir(&["/s/1/fs"]), Some("/s/1"));
    }
}
