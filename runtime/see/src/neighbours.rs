//! Whose a cgroup is: what lies above a container's and below it.
//!
//! Whoever removes a cgroup ends all that is in it, and its limits bind all below. So no container's is inside another's, above it or the
//! same. Processes tell of those that run; a mark on the directory, an extended attribute, of those that are made or have ended, whatever
//! root their state is in. The mark goes with the directory.

use std::ffi::CStr;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gabion_core::host::{CgroupNeighbour, NeighbourIs};
use nix::errno::Errno;

use crate::cgroup::members::{below, pids};
use crate::cgroup::{CgroupRecord, ROOT, relative, unified};
use crate::error::{Error, Result, Step};
use crate::state::STATE;

/// The mark of a container of the host's root, and a user's (v2 alone lets users have them).
const MARKS: [&CStr; 2] = [c"trusted.gabion.container", c"user.gabion.container"];

/// v1's hierarchies that are looked into: every engine's containers are in these, and systemd's units. Others where none of them is there.
const TELLING: [&str; 3] = ["memory", "pids", "systemd"];

/// The longest mark that is read.
const LONGEST: usize = 4096;

/// Where a container's cgroup is, and what its own mark is.
pub struct OwnCgroup<'r> {
    pub record: &'r CgroupRecord,
    /// The state directory of the container.
    pub own: &'r Path,
}

impl OwnCgroup<'_> {
    /// Tells of the first cgroup that is somebody else's and above this one, the same, or below it.
    ///
    /// # Errors
    /// A cgroup cannot be looked into.
    pub fn neighbour(&self) -> Result<Option<CgroupNeighbour>> {
        let listing = crate::small::read("/proc/self/cgroup").unwrap_or_default();
        for directory in telling(self.record.directories()?) {
            let found = self.look(&directory, &listing);
            let found =
                found.map_err(|e| Error::step(Step::Cgroup, format!("look into {}", directory.display()), e))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The directory that has the mark.
    ///
    /// # Errors
    /// The hierarchies cannot be listed.
    pub fn marked(&self) -> Result<Option<PathBuf>> {
        Ok(telling(self.record.directories()?).into_iter().next())
    }

    /// The name of this container's mark.
    pub fn mark_name(&self) -> &'static CStr {
        MARKS[usize::from(!self.record.delegation.is_whole())]
    }

    /// The mark of another container that there still is.
    pub fn others_mark(&self, dir: &fs::File) -> Option<PathBuf> {
        let mark = PathBuf::from(std::ffi::OsString::from_vec(mark_of(dir)?));
        (mark != self.own && mark.is_absolute() && mark.join(STATE).exists()).then_some(mark)
    }

    /// Tells whether it has a mark, and not this container's.
    pub fn is_marked_by_another(&self, dir: &fs::File) -> bool {
        mark_of(dir).is_some_and(|mark| mark != self.own.as_os_str().as_encoded_bytes())
    }

    fn look(&self, directory: &Path, listing: &str) -> nix::Result<Option<CgroupNeighbour>> {
        let top = top_of(directory);
        for above in directory
            .ancestors()
            .skip(1)
            .take_while(|at| *at != top && at.starts_with(&top))
        {
            let found = if holds_us(above, &top, listing) {
                None
            } else {
                self.who(above)?
            };
            if let Some(who) = found {
                let path = shown(above, &top);
                return Ok(Some(CgroupNeighbour {
                    path,
                    is: NeighbourIs::Above,
                    who,
                }));
            }
        }
        self.down(directory, &top, NeighbourIs::Same)
    }

    fn down(&self, at: &Path, top: &Path, is: NeighbourIs) -> nix::Result<Option<CgroupNeighbour>> {
        if let Some(who) = self.who(at)? {
            let path = shown(at, top);
            return Ok(Some(CgroupNeighbour { path, is, who }));
        }
        for child in below(at)? {
            let found = self.down(&child, top, NeighbourIs::Below)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// Who has this one directory, if anybody but this container.
    fn who(&self, directory: &Path) -> nix::Result<Option<String>> {
        let dir = match open(directory) {
            Ok(dir) => dir,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))),
        };
        if let Some(state) = self.others_mark(&dir) {
            return Ok(Some(format!("the container whose state is {}", state.display())));
        }
        // What a user was given lies among what else is theirs.
        if !self.record.delegation.is_whole() {
            return Ok(None);
        }
        Ok(pids(directory)?.first().map(|pid| format!("process {pid}")))
    }
}

/// Opens a cgroup's directory, for its marks.
///
/// # Errors
/// It cannot be opened.
pub fn open(directory: &Path) -> std::io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.read(true).custom_flags(libc::O_DIRECTORY | libc::O_NOFOLLOW);
    options.open(directory)
}

fn mark_of(dir: &fs::File) -> Option<Vec<u8>> {
    let mut buffer = vec![0; LONGEST];
    let length = MARKS
        .iter()
        .find_map(|name| gabion_sys::fgetxattr(dir, name, &mut buffer).ok())?;
    buffer.truncate(length);
    Some(buffer)
}

/// Those of v1's directories that are looked into; v2's only one.
fn telling(directories: Vec<PathBuf>) -> Vec<PathBuf> {
    let tells = |d: &PathBuf| TELLING.iter().any(|name| d.starts_with(Path::new(ROOT).join(name)));
    if unified() || !directories.iter().any(tells) {
        return directories;
    }
    let mut telling: Vec<PathBuf> = directories.into_iter().filter(tells).collect();
    telling.sort();
    telling
}

/// The hierarchy's mount.
fn top_of(directory: &Path) -> PathBuf {
    let root = Path::new(ROOT);
    if unified() {
        return root.to_owned();
    }
    let name = directory
        .strip_prefix(root)
        .ok()
        .and_then(|rest| rest.components().next());
    name.map_or_else(|| root.to_owned(), |name| root.join(name))
}

/// Whether we are in it ourselves, or below it: it is the engine's, in which its containers may lie.
fn holds_us(directory: &Path, top: &Path, listing: &str) -> bool {
    let place = directory.strip_prefix(top).unwrap_or(directory);
    let name = top.file_name().unwrap_or_default().to_string_lossy();
    listing.lines().any(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let same = match controllers {
            "" => unified() || name == "unified",
            "name=systemd" => name == "systemd",
            list => list == name || list.split(',').any(|c| c == name),
        };
        same && relative(Path::new(path)).starts_with(place)
    })
}

/// As a spec names it.
fn shown(directory: &Path, top: &Path) -> PathBuf {
    Path::new("/").join(directory.strip_prefix(top).unwrap_or(directory))
}
