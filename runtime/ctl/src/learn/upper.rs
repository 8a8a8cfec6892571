//! What a writable layer has: overlayfs keeps there what was created, a copy of what was opened for writing, and a mark for what was deleted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

use gabion_core::learn::{Before, Change, Kind, Written};

/// So many entries are looked at: what is beyond says no more about which places are written.
const MOST: usize = 100_000;

/// An entry of the layer at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    inode: u64,
    changed: (i64, i64),
    /// Of a directory: when something was created or deleted in it.
    entries: (i64, i64),
}

/// The layer before the program's first instruction: what the runtime made.
pub(super) type Marks = BTreeMap<PathBuf, Mark>;

/// What is the program's work, and what was made before it.
#[derive(Debug)]
pub(super) enum Since<'a> {
    Marks(&'a Marks),
    /// All that is younger, but for these places, which the runtime makes for mounts, and what they changed in their directory.
    Time((i64, i64), &'a BTreeSet<PathBuf>),
}

fn mark(meta: &Metadata) -> Mark {
    Mark {
        inode: meta.ino(),
        changed: (meta.ctime(), meta.ctime_nsec()),
        entries: (meta.mtime(), meta.mtime_nsec()),
    }
}

/// Whether all was looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whole {
    Yes,
    No,
}

/// All below the layer, by the path in the container.
fn entries(upper: &Path) -> io::Result<(BTreeMap<PathBuf, Metadata>, Whole)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![PathBuf::from("/")];
    while let Some(dir) = pending.pop() {
        let real = upper.join(dir.strip_prefix("/").unwrap_or(&dir));
        let meta = fs::symlink_metadata(&real)?;
        found.insert(dir.clone(), meta);
        for entry in fs::read_dir(&real)? {
            if found.len() >= MOST {
                return Ok((found, Whole::No));
            }
            let entry = entry?;
            let path = dir.join(entry.file_name());
            let meta = entry.metadata()?;
            if meta.is_dir() {
                pending.push(path);
            } else {
                found.insert(path, meta);
            }
        }
    }
    Ok((found, Whole::Yes))
}

pub(super) fn marks(upper: &Path) -> io::Result<Marks> {
    Ok(entries(upper)?
        .0
        .iter()
        .map(|(path, meta)| (path.clone(), mark(meta)))
        .collect())
}

/// What the program did to the layer. `lower` are the layers of the image, the uppermost first.
pub(super) fn written(
    upper: &Path,
    lower: &[PathBuf],
    since: &Since<'_>,
) -> io::Result<(BTreeMap<PathBuf, Written>, Whole)> {
    let (now, whole) = entries(upper)?;
    let mut found = BTreeMap::new();
    // A place for a mount, or a directory on the way to one where the image has none.
    let made = |path: &PathBuf, made: &BTreeSet<PathBuf>| {
        made.contains(path) || (made.iter().any(|place| place.starts_with(path)) && of_image(lower, path).is_none())
    };
    for (path, meta) in &now {
        let image = of_image(lower, path);
        let changed = match since {
            Since::Marks(marks) => change(meta, image.as_ref(), marks.get(path)),
            Since::Time(_, places) if made(path, places) => None,
            Since::Time(since, places) => {
                let below = places
                    .iter()
                    .filter_map(|place| place.ancestors().find(|at| at.parent() == Some(path)));
                let ours = below
                    .map(Path::to_owned)
                    .filter(|at| made(at, places))
                    .filter_map(|at| now.get(&at));
                let times = ours.map(|place| after(place.ctime(), place.ctime_nsec()));
                change_since(
                    meta,
                    image.as_ref(),
                    *since,
                    times.chain([*since]).max().unwrap_or(*since),
                )
            }
        };
        if let Some(change) = changed {
            found.insert(path.clone(), describe(change, meta, image.as_ref()));
        }
    }
    Ok((found, whole))
}

/// A directory's time is taken a little after that of what was made in it.
fn after(seconds: i64, nanoseconds: i64) -> (i64, i64) {
    const LITTLE: i64 = 20_000_000;
    const SECOND: i64 = 1_000_000_000;
    let sum = nanoseconds + LITTLE;
    (seconds + sum / SECOND, sum % SECOND)
}

/// What the image has at a path: the uppermost layer that says anything of it.
fn of_image(layers: &[PathBuf], path: &Path) -> Option<Metadata> {
    let parts: Vec<_> = path.strip_prefix("/").unwrap_or(path).components().collect();
    for layer in layers {
        let (mut at, mut opaque) = (layer.clone(), false);
        // A layer may be named by a link (podman's short names).
        let mut meta = fs::metadata(&at).ok()?;
        let mut missing = false;
        for part in &parts {
            opaque |= is_opaque(&at);
            at.push(part);
            match fs::symlink_metadata(&at) {
                Ok(found) if is_whiteout(&found) => return None,
                Ok(found) => meta = found,
                Err(_) => {
                    missing = true;
                    break;
                }
            }
        }
        match (missing, opaque) {
            (false, _) => return Some(meta),
            // What lies below is hidden by this layer.
            (true, true) => return None,
            (true, false) => {}
        }
    }
    None
}

/// A directory that hides the layers below it.
fn is_opaque(dir: &Path) -> bool {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let Ok(fd) = gabion_sys::open(dir, flags, Mode::empty()) else {
        return false;
    };
    let mut value = [0; 8];
    let said = [c"trusted.overlay.opaque", c"user.overlay.opaque"];
    said.into_iter()
        .any(|name| gabion_sys::fgetxattr(&fd, name, &mut value).is_ok_and(|length| value.get(..length) == Some(b"y")))
}

/// Directories whose size may matter: those written in, and the default holes.
pub(super) fn directories(written: &BTreeMap<PathBuf, Written>) -> BTreeSet<PathBuf> {
    let mut dirs: BTreeSet<PathBuf> = ["/tmp", "/var/tmp", "/run"].map(PathBuf::from).into();
    dirs.extend(written.keys().filter_map(|path| path.parent().map(Path::to_owned)));
    dirs.extend(
        written
            .iter()
            .filter(|(_, what)| what.kind == Kind::Directory)
            .map(|(path, _)| path.clone()),
    );
    dirs.remove(Path::new("/"));
    dirs
}

/// The same as [`change`], told by time alone. `latest` is when the runtime last made something in the directory.
fn change_since(meta: &Metadata, image: Option<&Metadata>, since: (i64, i64), latest: (i64, i64)) -> Option<Change> {
    let now = mark(meta);
    if now.changed <= since {
        return None;
    }
    if is_whiteout(meta) {
        return Some(Change::Deleted);
    }
    let image = image.filter(|image| image.is_dir() == meta.is_dir());
    if !meta.is_dir() || image.is_none() {
        return Some(if image.is_some() {
            Change::Changed
        } else {
            Change::Created
        });
    }
    if now.entries > latest {
        return Some(Change::Entries);
    }
    let same =
        image.is_some_and(|image| (image.uid(), image.gid(), image.mode()) == (meta.uid(), meta.gid(), meta.mode()));
    (!same).then_some(Change::Changed)
}

/// overlayfs marks what was deleted by a device 0:0.
fn is_whiteout(meta: &Metadata) -> bool {
    meta.file_type().is_char_device() && meta.rdev() == 0
}

fn change(meta: &Metadata, image: Option<&Metadata>, before: Option<&Mark>) -> Option<Change> {
    let now = mark(meta);
    if before.is_some_and(|before| before.inode == now.inode && before.changed == now.changed) {
        return None;
    }
    if is_whiteout(meta) {
        return Some(Change::Deleted);
    }
    if !meta.is_dir() {
        return Some(if image.is_some() {
            Change::Changed
        } else {
            Change::Created
        });
    }
    let then = match (before, image.filter(|image| image.is_dir())) {
        (Some(before), _) => before.entries,
        (None, Some(image)) => (image.mtime(), image.mtime_nsec()),
        (None, None) => return Some(Change::Created),
    };
    if then != now.entries {
        return Some(Change::Entries);
    }
    // A directory is also copied because of what is deeper in it: then it is as it was.
    let same =
        image.is_none_or(|image| (image.uid(), image.gid(), image.mode()) == (meta.uid(), meta.gid(), meta.mode()));
    (!same).then_some(Change::Changed)
}

fn kind(meta: &Metadata) -> Kind {
    let kind = meta.file_type();
    if kind.is_dir() {
        Kind::Directory
    } else if kind.is_file() {
        Kind::File
    } else if kind.is_symlink() {
        Kind::Link
    } else {
        Kind::Other
    }
}

fn describe(change: Change, meta: &Metadata, image: Option<&Metadata>) -> Written {
    let before = image.map(|meta| Before {
        kind: kind(meta),
        size: if meta.is_file() { meta.len() } else { 0 },
        uid: meta.uid(),
        gid: meta.gid(),
        mode: meta.mode() & 0o7777,
    });
    // Of what was deleted only the image can tell what it was.
    let what = match (change, image) {
        (Change::Deleted, Some(image)) => image,
        _ => meta,
    };
    Written {
        change,
        kind: kind(what),
        size: if change != Change::Deleted && what.is_file() {
            what.len()
        } else {
            0
        },
        uid: what.uid(),
        gid: what.gid(),
        mode: what.mode() & 0o7777,
        before,
    }
}

/// The bytes that files take below each of these directories, as the container saw them in the end.
pub(super) fn sizes(root: &Path, dirs: impl IntoIterator<Item = PathBuf>) -> BTreeMap<PathBuf, u64> {
    let mut sizes = BTreeMap::new();
    for dir in dirs {
        let real = root.join(dir.strip_prefix("/").unwrap_or(&dir));
        let mut count = 0;
        if let Ok(bytes) = size(&real, &mut count) {
            sizes.insert(dir, bytes);
        }
    }
    sizes
}

/// What a tmpfs would need for it: whole pages, and something for each entry.
fn size(dir: &Path, count: &mut usize) -> io::Result<u64> {
    const PAGE: u64 = 4096;
    let mut bytes = 0_u64;
    for entry in fs::read_dir(dir)? {
        *count += 1;
        if *count > MOST {
            break;
        }
        let entry = entry?;
        let meta = entry.metadata()?;
        let below = if meta.is_dir() { size(&entry.path(), count)? } else { 0 };
        let own = if meta.is_file() {
            meta.blocks().saturating_mul(512).next_multiple_of(PAGE)
        } else {
            PAGE
        };
        bytes = bytes.saturating_add(own).saturating_add(below);
    }
    Ok(bytes)
}
