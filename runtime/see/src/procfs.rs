//! The host's procfs, held open: what is in force is read through it, whatever the image has at /proc.

use std::ffi::CString;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use crate::error::{Error, Result, Step};

/// Longest procfs file that is read whole: mountinfo of a host with thousands of mounts.
const MAX: u64 = 16 << 20;

/// An open /proc, close-on-exec.
#[derive(Debug)]
pub struct Proc {
    dir: OwnedFd,
}

impl Proc {
    pub fn open() -> Result<Self> {
        let dir = gabion_sys::open_path("/proc", nix::fcntl::OFlag::O_DIRECTORY)
            .map_err(|e| Error::step(Step::Procfs, "open /proc", e))?;
        let kind = nix::sys::statfs::fstatfs(&dir).map_err(|e| Error::step(Step::Procfs, "look at /proc", e))?;
        // Something mounted over it would show us what it likes.
        if kind.filesystem_type() != nix::sys::statfs::PROC_SUPER_MAGIC {
            return Err(Error::failed(Step::Procfs, "the host's /proc is not a procfs"));
        }
        Ok(Self { dir })
    }

    /// Opens a file below it, never through a symlink beyond `self` or onto another mount.
    pub fn open_file(&self, path: &str, flags: i32) -> nix::Result<File> {
        const RESOLVE_NO_XDEV: u64 = 0x01;
        const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
        let path = CString::new(path).map_err(|_| Errno::EINVAL)?;
        gabion_sys::openat2(self.dir.as_fd(), &path, flags, RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS).map(File::from)
    }

    pub fn read(&self, path: &str) -> nix::Result<String> {
        let mut text = String::with_capacity(4096);
        let file = self.open_file(path, libc::O_RDONLY)?;
        file.take(MAX)
            .read_to_string(&mut text)
            .map_err(|e| e.raw_os_error().map_or(Errno::EILSEQ, Errno::from_raw))?;
        Ok(text)
    }

    /// The device and inode of the program that this process runs.
    pub fn own_program(&self) -> nix::Result<(u64, u64)> {
        use std::os::fd::AsRawFd;
        let follow = nix::fcntl::AtFlags::empty();
        let stat = nix::sys::stat::fstatat(Some(self.dir.as_raw_fd()), c"self/exe", follow)?;
        Ok((stat.st_dev, stat.st_ino))
    }

    pub fn write(&self, path: &str, content: &str) -> nix::Result<()> {
        let mut file = self.open_file(path, libc::O_WRONLY)?;
        file.write_all(content.as_bytes())
            .map_err(|e| e.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    }
}

impl AsFd for Proc {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.dir.as_fd()
    }
}
