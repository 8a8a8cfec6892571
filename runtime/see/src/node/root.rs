//! A machine's root: reading below it, wherever it is mounted.

use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use gabion_core::caller::{OwnUserNs, Reader};
use gabion_core::doctor::node::{Owned, Program, Seen};
use libc::{O_CLOEXEC, O_DIRECTORY, O_NOCTTY, O_NONBLOCK, O_PATH, O_RDONLY, RESOLVE_IN_ROOT};
use nix::errno::Errno;
use nix::fcntl::OFlag;

use crate::error::{Error, Result};

/// The largest file that is read: modules.alias has 2 MiB.
const LARGEST: u64 = 16 << 20;

/// How many files of one directory are read.
const MANY: usize = 1024;

/// Where services find programs: systemd's own PATH for them, and what images of nodes add.
const PATH: [&str; 7] = [
    "/usr/local/sbin",
    "/usr/local/bin",
    "/usr/sbin",
    "/usr/bin",
    "/sbin",
    "/bin",
    "/opt/bin",
];

/// A machine's root directory: nothing that is named by a path here leads out of it, links neither.
#[derive(Debug)]
pub struct Root {
    pub(super) dir: OwnedFd,
}

/// An error in words, with the path.
fn why(path: &str, errno: Errno) -> String {
    format!("{path}: {}", errno.desc())
}

impl Root {
    /// Opens a machine's root.
    ///
    /// # Errors
    /// It is no directory that can be opened.
    pub fn open(path: &Path) -> Result<Self> {
        let opened = gabion_sys::open_path(path, OFlag::O_DIRECTORY);
        let dir = opened.map_err(|errno| Error::file("open", path)(errno.into()))?;
        Ok(Self { dir })
    }

    pub(super) fn at(&self, path: &str, flags: i32) -> std::result::Result<OwnedFd, Errno> {
        let name = CString::new(path).map_err(|_| Errno::EINVAL)?;
        gabion_sys::openat2(self.dir.as_fd(), &name, flags | O_CLOEXEC, RESOLVE_IN_ROOT)
    }

    pub(super) fn seen<T>(path: &str, got: std::result::Result<T, Errno>) -> Seen<T> {
        match got {
            Ok(value) => Seen::Is(value),
            Err(Errno::ENOENT | Errno::ENOTDIR) => Seen::Absent,
            Err(errno) => Seen::Unknown(why(path, errno)),
        }
    }

    /// Reads a text. A device or a pipe in its place is never opened for reading.
    pub fn text(&self, path: &str) -> Seen<String> {
        Self::seen(path, self.read(path))
    }

    fn read(&self, path: &str) -> std::result::Result<String, Errno> {
        let place = File::from(self.at(path, O_PATH)?);
        let errno = |e: std::io::Error| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO));
        if !place.metadata().map_err(errno)?.is_file() {
            return Err(Errno::EINVAL);
        }
        let file = File::from(self.at(path, O_RDONLY | O_NONBLOCK | O_NOCTTY)?);
        let mut bytes = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut bytes).map_err(errno)?;
        if bytes.len() as u64 > LARGEST {
            return Err(Errno::EFBIG);
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Gives the names in a directory, in order.
    pub(super) fn names(&self, path: &str) -> Seen<Vec<String>> {
        let listed = || {
            let dir = self.at(path, O_RDONLY | O_DIRECTORY)?;
            let mut names = Vec::new();
            for entry in gabion_sys::directory(dir)?.iter() {
                let name = entry?.file_name().to_string_lossy().into_owned();
                if name != "." && name != ".." {
                    names.push(name);
                }
                if names.len() > MANY {
                    return Err(Errno::EFBIG);
                }
            }
            names.sort();
            Ok(names)
        };
        Self::seen(path, listed())
    }

    /// Gives each file of a directory with its text.
    pub(super) fn texts(&self, path: &str) -> Seen<Vec<(String, String)>> {
        self.texts_but(path, &[])
    }

    /// The same without files of these names.
    pub(super) fn texts_but(&self, path: &str, without: &[&str]) -> Seen<Vec<(String, String)>> {
        let names = match self.names(path) {
            Seen::Is(names) => names,
            Seen::Absent => return Seen::Absent,
            Seen::Unknown(why) => return Seen::Unknown(why),
        };
        let mut found = Vec::new();
        for name in names.into_iter().filter(|name| !without.contains(&name.as_str())) {
            match self.text(&format!("{path}/{name}")) {
                Seen::Is(text) => found.push((name, text)),
                Seen::Absent => {}
                Seen::Unknown(why) => return Seen::Unknown(why),
            }
        }
        Seen::Is(found)
    }

    pub(super) fn owned(&self, path: &str, reader: Reader) -> Seen<Owned> {
        let seen = self.at(path, O_PATH).and_then(|fd| {
            let meta = File::from(fd).metadata();
            meta.map_err(|e| Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO)))
        });
        match Self::seen(path, seen) {
            // Whose it is the user namespace does not say.
            Seen::Is(meta) if reader.user_ns == OwnUserNs::Nested && meta.uid() == UNMAPPED => {
                Seen::Unknown(format!("{path} belongs to an id that our user namespace does not have"))
            }
            Seen::Is(meta) => Seen::Is(Owned {
                uid: meta.uid(),
                mode: meta.mode() & 0o7777,
            }),
            Seen::Absent => Seen::Absent,
            Seen::Unknown(why) => Seen::Unknown(why),
        }
    }

    /// Finds a program where services do.
    pub fn program(&self, name: &str, reader: Reader) -> Seen<Program> {
        let mut places = PATH.iter().map(|dir| format!("{dir}/{name}"));
        places
            .find_map(|path| match self.program_at(&path, reader) {
                Seen::Absent => None,
                seen => Some(seen),
            })
            .unwrap_or(Seen::Absent)
    }

    pub(super) fn program_at(&self, path: &str, reader: Reader) -> Seen<Program> {
        match self.owned(path, reader) {
            Seen::Is(owned) => Seen::Is(Program {
                path: path.into(),
                owned,
            }),
            Seen::Absent => Seen::Absent,
            Seen::Unknown(why) => Seen::Unknown(why),
        }
    }
}

/// What a foreign owner shows as (/proc/sys/kernel/overflowuid).
const UNMAPPED: u32 = 65534;
