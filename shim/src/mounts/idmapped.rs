//! Overlays whose lower directories have other owners inside: what containerd asks for with `uidmap=` and `gidmap=`, for the root of a
//! pod with a user namespace of its own (`hostUsers: false`).
//!
//! An overlay cannot be mapped as a whole; the image's layers can, each by a copy of its mount. The copies lie on a directory of the bundle
//! while the overlay is made, since the kernel takes layers only from mounts of this namespace, and are gone from there afterwards: the overlay holds
//! them. They are read-only: whoever removes the bundle in the middle of it removes no layer of an image.

use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use gabion_sys::{ChildOf, Cloned, MOUNT_ATTR_RDONLY, MountAttr, NewNamespaces, Reach};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::wait::waitpid;

use crate::error::{Error, Result};

/// Where the copies lie, in the bundle.
const PLACE: &str = "gabion-lower";

/// More layers than an overlay may have (fs/overlayfs, OVL_MAX_STACK).
const MOST: usize = 500;

/// As many lines as a map may have (user_namespaces(7)).
const MOST_LINES: usize = 340;

/// The maps, as lines of uid_map and gid_map.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Maps {
    uids: String,
    gids: String,
}

/// Takes the maps out of a mount's options, and gives the rest.
pub(super) fn split(options: &[String]) -> Result<(Option<Maps>, Vec<String>)> {
    let (mut uids, mut gids, mut rest) = (None, None, Vec::new());
    for option in options {
        let bad = || Error::BadMount { option: option.clone() };
        let (slot, text) = match option.split_once('=') {
            Some(("uidmap", text)) => (&mut uids, text),
            Some(("gidmap", text)) => (&mut gids, text),
            _ => {
                rest.push(option.clone());
                continue;
            }
        };
        let lines = lines(text).ok_or_else(bad)?;
        if slot.replace(lines).is_some() {
            return Err(bad());
        }
    }
    match (uids, gids) {
        (Some(uids), Some(gids)) => Ok((Some(Maps { uids, gids }), rest)),
        (None, None) => Ok((None, rest)),
        _ => Err(Error::BadRequest(
            "a root file system's mount maps users or groups, and not both",
        )),
    }
}

/// `0:100000:65536,…`: inside, outside, how many.
fn lines(text: &str) -> Option<String> {
    let line = |entry: &str| {
        let numbers: Vec<u32> = entry.split(':').map(|n| n.parse().ok()).collect::<Option<_>>()?;
        let [inside, outside, count] = numbers.as_slice() else {
            return None;
        };
        let ends = |start: &u32| *count > 0 && start.checked_add(*count).is_some();
        (ends(inside) && ends(outside)).then(|| format!("{inside} {outside} {count}\n"))
    };
    let all: Vec<String> = text.split(',').map(line).collect::<Option<_>>()?;
    (all.len() <= MOST_LINES).then(|| all.concat())
}

/// Mapped copies of an overlay's lower directories. The overlay that is made of them keeps them.
pub(super) struct Lower {
    place: PathBuf,
    trees: Vec<OwnedFd>,
}

impl Lower {
    /// Makes them beside `root`, and puts them into an overlay's options in the place of the directories.
    pub(super) fn put(maps: &Maps, root: &Path, data: &mut [String]) -> Result<Self> {
        let place = root.with_file_name(PLACE);
        let mut words = data.iter_mut().filter(|word| word.starts_with("lowerdir="));
        let (Some(word), None) = (words.next(), words.next()) else {
            return Err(Error::BadRequest(
                "a mapped root file system without one list of lower directories",
            ));
        };
        let directories = word.strip_prefix("lowerdir=").unwrap_or_default().to_owned();
        // A backslash would quote a colon, and two colons part layers of data only: containerd writes neither.
        let plain = !directories.contains('\\') && directories.split(':').all(|path| path.starts_with('/'));
        if !plain || directories.split(':').count() > MOST {
            return Err(Error::BadRequest(
                "lower directories that are not a list of absolute paths",
            ));
        }
        clean(&place)?;
        fs::create_dir(&place).map_err(|error| Error::at("making", &place, error))?;
        let mut lower = Self {
            place,
            trees: Vec::new(),
        };
        if let Err(error) = lower.fill(maps, &directories) {
            clean(&lower.place)?;
            return Err(error);
        }
        let named = lower
            .trees
            .iter()
            .map(|tree| format!("/proc/self/fd/{}", tree.as_raw_fd()));
        *word = format!("lowerdir={}", named.collect::<Vec<_>>().join(":"));
        Ok(lower)
    }

    fn fill(&mut self, maps: &Maps, directories: &str) -> Result<()> {
        let place = self.place.as_path();
        let none = None::<&str>;
        // What is mounted on a private mount comes to nobody else's namespace.
        mount(Some(place), place, none, MsFlags::MS_BIND, none)
            .and_then(|()| mount(none, place, none, MsFlags::MS_PRIVATE, none))
            .map_err(|errno| Error::at("preparing a place for layers at", place, errno))?;
        let users = carrier(maps)?;
        for path in directories.split(':') {
            self.add(Path::new(path), &users)?;
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, users: &OwnedFd) -> Result<()> {
        let failed = |doing| move |errno: Errno| Error::at(doing, path, errno);
        let directory = gabion_sys::open_path(path, OFlag::O_DIRECTORY).map_err(failed("opening a layer"))?;
        let tree =
            gabion_sys::open_tree_clone(directory.as_fd(), Reach::One).map_err(failed("copying a layer's mount"))?;
        let closed = MountAttr {
            set: MOUNT_ATTR_RDONLY,
            propagation: MsFlags::MS_PRIVATE.bits(),
            ..MountAttr::default()
        };
        gabion_sys::mount_setattr(tree.as_fd(), Reach::One, &closed).map_err(failed("closing a layer"))?;
        gabion_sys::map_ids(tree.as_fd(), Reach::One, users.as_fd()).map_err(failed(
            "mapping the owners of a layer (its file system may not be able to)",
        ))?;
        // The uppermost of those that lie there.
        let place =
            gabion_sys::open_path(self.place.as_path(), OFlag::O_DIRECTORY).map_err(failed("attaching a layer"))?;
        gabion_sys::move_mount(tree.as_fd(), place.as_fd()).map_err(failed("attaching a layer"))?;
        self.trees.push(tree);
        Ok(())
    }

    /// Takes them away from their place.
    pub(super) fn leave(self) -> Result<()> {
        clean(&self.place)
    }
}

/// Unmounts what an interrupted shim left beside `root`.
pub(super) fn clean_beside(root: &Path) -> Result<()> {
    clean(&root.with_file_name(PLACE))
}

fn clean(place: &Path) -> Result<()> {
    // One lies on the other: each is a mount of its own.
    for _ in 0..=MOST {
        let flags = MntFlags::MNT_DETACH | MntFlags::from_bits_retain(nix::libc::UMOUNT_NOFOLLOW);
        match umount2(place, flags) {
            Ok(()) => {}
            Err(Errno::EINVAL) => break,
            Err(Errno::ENOENT) => return Ok(()),
            Err(errno) => return Err(Error::at("unmounting", place, errno)),
        }
    }
    fs::remove_dir(place).map_err(|error| Error::at("removing", place, error))
}

/// A user namespace with these maps and nobody in it: mount_setattr(2) takes a mapping from one.
fn carrier(maps: &Maps) -> Result<OwnedFd> {
    let failed = |error: std::io::Error| Error::system("making a user namespace for a mapping of owners", error);
    let (ours, mut theirs) = UnixStream::pair().map_err(failed)?;
    let pid = match gabion_sys::clone3(NewNamespaces::USER, ChildOf::Us, None).map_err(|e| failed(e.into()))? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            // It lives until the shim lets go of its end, or dies.
            drop(ours);
            let ended = theirs.read(&mut [0]);
            gabion_sys::exit_now(i32::from(ended.is_err()))
        }
    };
    drop(theirs);
    let made = fs::write(format!("/proc/{pid}/uid_map"), &maps.uids)
        .and_then(|()| fs::write(format!("/proc/{pid}/gid_map"), &maps.gids))
        .and_then(|()| fs::File::open(format!("/proc/{pid}/ns/user")));
    drop(ours);
    match waitpid(pid, None) {
        // The reactor may have been told of it first.
        Ok(_) | Err(Errno::ECHILD) => made.map(OwnedFd::from).map_err(failed),
        Err(errno) => Err(failed(errno.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(options: &[&str]) -> Result<(Option<Maps>, Vec<String>)> {
        split(&options.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn maps_are_taken_out_whole() {
        let (maps, rest) = of(&[
            "uidmap=0:2856189952:65536",
            "ro",
            "gidmap=0:1:2,5:10:1",
            "lowerdir=/a:/b",
        ])
        .unwrap();
        let maps = maps.unwrap();
        assert_eq!(
            (maps.uids.as_str(), maps.gids.as_str()),
            ("0 2856189952 65536\n", "0 1 2\n5 10 1\n")
        );
        assert_eq!(rest, ["ro", "lowerdir=/a:/b"]);
        assert_eq!(of(&["ro"]).unwrap(), (None, vec!["ro".to_owned()]));
    }

    #[test]
    fn what_is_no_map_is_refused() {
        for bad in [
            &["uidmap=0:1:2"][..],
            &["uidmap=", "gidmap=0:1:2"],
            &["uidmap=0:1", "gidmap=0:1:2"],
            &["uidmap=0:1:0", "gidmap=0:1:2"],
            &["uidmap=0:1:2:3", "gidmap=0:1:2"],
            &["uidmap=-1:1:2", "gidmap=0:1:2"],
            &["uidmap=0:4294967295:2", "gidmap=0:1:2"],
            &["uidmap=0:1:2\n9 9 9", "gidmap=0:1:2"],
            &["uidmap=0:1:2", "uidmap=0:1:2", "gidmap=0:1:2"],
        ] {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
