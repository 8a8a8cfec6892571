//! Opening files whose path, or whose place, is somebody else's word: never a wait, never more than a bound.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::libc;

use crate::error::{Error, Result};

/// Whether the last part of a path may be a link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Links {
    /// It may: the path is an administrator's, whose files are links often (a mounted ConfigMap, /etc under version control).
    Follow,
    /// It may not: the file is one that containerd or we ourselves wrote.
    Refuse,
}

/// Opens a regular file for reading. Anything else is an error at once: opening a FIFO would wait for a writer.
pub fn open_regular(path: &Path, links: Links) -> Result<File> {
    let nofollow = if links == Links::Refuse { libc::O_NOFOLLOW } else { 0 };
    let mut options = OpenOptions::new();
    let options = options
        .read(true)
        .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY | nofollow);
    let failed = |error| Error::at("opening", path, error);
    let file = options.open(path).map_err(failed)?;
    if file.metadata().map_err(failed)?.is_file() {
        return Ok(file);
    }
    Err(Error::BadPath {
        path: path.to_owned(),
        why: "not a regular file",
    })
}

/// Reads a regular file of at most `limit` bytes.
pub fn read(path: &Path, links: Links, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = open_regular(path, links)?.take(limit + 1).read_to_end(&mut bytes);
    read.map_err(|error| Error::at("reading", path, error))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > limit {
        return Err(Error::TooLong {
            path: path.to_owned(),
            limit,
        });
    }
    Ok(bytes)
}

/// Reads a regular file of at most `limit` bytes as text.
pub fn read_text(path: &Path, links: Links, limit: u64) -> Result<String> {
    let not_text = |_| Error::Content {
        path: path.to_owned(),
        expected: "UTF-8",
    };
    String::from_utf8(read(path, links, limit)?).map_err(not_text)
}

/// The path without links, as the kernel's own tables have it; the path itself where there is no such place.
pub fn real(path: &Path) -> PathBuf {
    std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Opens a log file to append to, made if it is not there. It is a regular file, or /dev/null.
pub fn append(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    let flags = libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_NOFOLLOW;
    let options = options.append(true).create(true).mode(0o644).custom_flags(flags);
    let failed = |error| Error::at("opening", path, error);
    let file = options.open(path).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    let null = meta.file_type().is_char_device() && meta.rdev() == libc::makedev(1, 3);
    if meta.is_file() || null {
        return Ok(file);
    }
    Err(Error::BadPath {
        path: path.to_owned(),
        why: "a log file is a regular file",
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use std::time::{Duration, Instant};

    /// A FIFO without a writer and without a reader, one with both ends open, and a directory.
    fn odd(directory: &Path) -> [std::path::PathBuf; 3] {
        let odd = ["fifo", "open", "directory"].map(|name| directory.join(name));
        for fifo in &odd[..2] {
            mkfifo(fifo, Mode::S_IRWXU).unwrap();
        }
        std::fs::create_dir(&odd[2]).unwrap();
        odd
    }

    #[test]
    fn only_regular_files_are_read_and_nothing_waits() {
        let directory = std::env::temp_dir().join(format!("gabion-shim-files-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let began = Instant::now();
        let odd = odd(&directory);
        let _both = OpenOptions::new().read(true).write(true).open(&odd[1]).unwrap();
        for path in &odd {
            for links in [Links::Follow, Links::Refuse] {
                let read = read(path, links, 9);
                assert!(matches!(read, Err(Error::BadPath { .. })), "{path:?}: {read:?}");
            }
            assert!(append(path).is_err(), "{path:?}");
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        let (file, link) = (directory.join("file"), directory.join("link"));
        std::fs::write(&file, "123456789").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        assert_eq!(read(&link, Links::Follow, 9).unwrap(), b"123456789");
        assert!(matches!(
            read(&file, Links::Follow, 8),
            Err(Error::TooLong { limit: 8, .. })
        ));
        assert!(read(&link, Links::Refuse, 9).is_err());
        assert!(append(&link).is_err());
        assert!(append(Path::new("/dev/null")).is_ok());
        assert!(append(Path::new("/dev/zero")).is_err());
        std::fs::remove_dir_all(directory).unwrap();
    }
}
