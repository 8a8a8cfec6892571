//! Read-only and masked paths, after the pivot: they are paths of the container.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{FileStat, Mode};

use crate::build::fsmount;
use crate::contract::setup::{Create, Setup};
use crate::faults;
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, MountAttr, Reach};

fn cannot(doing: &'static str, path: &Path) -> impl Fn(Errno) -> Error {
    let path = path.display().to_string();
    move |e| Error::step(Step::MaskedPaths, format!("{doing} {path}"), e)
}

/// Applies both lists.
pub(crate) fn apply(setup: &Setup<'_>, create: &Create<'_>) -> Result<()> {
    faults::at(Step::MaskedPaths)?;
    if !crate::faults::not_skipped_by_a_test(ControlId::MaskedPaths) {
        return Ok(());
    }
    let Some(linux) = setup.hardened.spec().linux() else {
        return Ok(());
    };
    let root = root_of(setup)?;
    let mut seen = BTreeSet::new();
    for path in linux
        .readonly_paths()
        .iter()
        .flatten()
        .filter(|path| seen.insert(*path))
    {
        make_read_only(Path::new(path), root)?;
    }
    let masked = linux.masked_paths().as_deref().unwrap_or_default();
    if masked.is_empty() {
        return Ok(());
    }
    let mut covers = Covers {
        null: null_device()?,
        empty: None,
        label: create.mount_label.as_deref(),
        root,
    };
    masked.iter().try_for_each(|path| covers.mask(Path::new(path)))
}

/// What masked paths are covered with: one thing for all files, one for all directories. A file system for each directory would be as empty.
struct Covers<'a> {
    null: OwnedFd,
    empty: Option<OwnedFd>,
    label: Option<&'a str>,
    root: Option<Object>,
}

/// Device and inode.
type Object = (u64, u64);

/// The root, over which nothing may be laid; None where the lists are taken as they are.
fn root_of(setup: &Setup<'_>) -> Result<Option<Object>> {
    if !setup.hardened.enforces(ControlId::MaskedPaths) {
        return Ok(None);
    }
    let root = Path::new("/");
    let stat = nix::sys::stat::stat(root).map_err(cannot("look at", root))?;
    Ok(Some((stat.st_dev, stat.st_ino)))
}

/// Refuses a path that an image's links bring to the root: what was laid over it would be no mount that anybody sees.
fn not_root(fd: &OwnedFd, path: &Path, root: Option<Object>) -> Result<()> {
    let stat = nix::sys::stat::fstat(fd.as_raw_fd()).map_err(cannot("look at", path))?;
    if root != Some((stat.st_dev, stat.st_ino)) {
        return Ok(());
    }
    Err(Error::RefusedCall {
        code: "masked_paths.root",
        what: format!("{} leads to the root in this image", path.display()),
        remedy: "name files and directories below / in `linux.maskedPaths` and `linux.readonlyPaths`".to_owned(),
    })
}

/// Opens a path of the container without following a last symlink; None only where there is nothing: EACCES is not «absent».
fn open(path: &Path) -> Result<Option<OwnedFd>> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    match gabion_sys::open(path, flags, Mode::empty()) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(e) => Err(cannot("open", path)(e)),
    }
}

fn make_read_only(path: &Path, root: Option<Object>) -> Result<()> {
    let Some(fd) = open(path)? else { return Ok(()) };
    not_root(&fd, path, root)?;
    let tree = gabion_sys::open_tree_clone(fd.as_fd(), Reach::Tree).map_err(cannot("clone the mount of", path))?;
    // Nothing but that: a clone keeps what its mount has, and programs below a read-only path run.
    gabion_sys::mount_setattr(
        tree.as_fd(),
        Reach::Tree,
        &MountAttr {
            set: MOUNT_ATTR_RDONLY,
            ..MountAttr::default()
        },
    )
    .map_err(cannot("make read-only", path))?;
    gabion_sys::move_mount(tree.as_fd(), fd.as_fd()).map_err(cannot("attach over", path))
}

/// The container's /dev/null, verified by number: an image or a race may have put something else there (CVE-2025-31133).
fn null_device() -> Result<OwnedFd> {
    let path = Path::new("/dev/null");
    let fd = open(path)?.ok_or_else(|| Error::failed(Step::MaskedPaths, "/dev/null is missing"))?;
    let stat = nix::sys::stat::fstat(fd.as_raw_fd()).map_err(cannot("look at", path))?;
    let is_null = stat.st_mode & libc::S_IFMT == libc::S_IFCHR && stat.st_rdev == libc::makedev(1, 3);
    if !is_null {
        return Err(Error::failed(Step::MaskedPaths, "/dev/null is not the null device"));
    }
    Ok(fd)
}

impl Covers<'_> {
    /// Tells whether what is there is a cover of ours: the list may name a path twice, or by two names.
    fn covers_already(&self, there: &FileStat, directory: bool) -> nix::Result<bool> {
        let cover = if directory {
            self.empty.as_ref()
        } else {
            Some(&self.null)
        };
        let Some(cover) = cover else { return Ok(false) };
        let cover = nix::sys::stat::fstat(cover.as_raw_fd())?;
        Ok((cover.st_dev, cover.st_ino) == (there.st_dev, there.st_ino))
    }

    fn mask(&mut self, path: &Path) -> Result<()> {
        let Some(fd) = open(path)? else { return Ok(()) };
        not_root(&fd, path, self.root)?;
        let stat = nix::sys::stat::fstat(fd.as_raw_fd()).map_err(cannot("look at", path))?;
        let directory = stat.st_mode & libc::S_IFMT == libc::S_IFDIR;
        if self
            .covers_already(&stat, directory)
            .map_err(cannot("look at the cover of", path))?
        {
            return Ok(());
        }
        let template = if directory {
            self.empty.as_ref()
        } else {
            Some(&self.null)
        };
        let cover = match template {
            Some(template) => gabion_sys::open_tree_clone(template.as_fd(), Reach::One),
            None => empty_directory(self.label),
        };
        let cover = cover.map_err(cannot("make a cover for", path))?;
        gabion_sys::move_mount(cover.as_fd(), fd.as_fd()).map_err(cannot("mask", path))?;
        // Only now: a mount that is attached nowhere cannot be cloned before Linux 6.15.
        if directory {
            self.empty.get_or_insert(cover);
        }
        Ok(())
    }
}

/// Read-only, as its clones are then, and with no room for a second inode.
fn empty_directory(label: Option<&str>) -> nix::Result<OwnedFd> {
    let attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
    let mut options = vec!["nr_inodes=2".to_owned(), "mode=0555".to_owned()];
    options.extend(fsmount::context(label));
    fsmount::create("tmpfs", "tmpfs", &options, attributes)
}
