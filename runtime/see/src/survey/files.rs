//! Files that a spec names: bind sources, devices, hooks. Opened or looked at once, told by descriptor.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, read_link};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use crate::caller::reader;
use gabion_core::caller::OwnUserNs;
use gabion_core::host::{Backing, Connects, FileKind, Listener, Source, SourceFs, SourcePath};
use gabion_core::reach::Spot;
use gabion_core::request::Request;
use gabion_core::request::mount_options::is_bind;
use nix::fcntl::OFlag;
use nix::sys::statfs::{FsType, fstatfs};

/// Descriptors by what they were opened for.
pub(super) type Opened<K> = BTreeMap<K, OwnedFd>;

/// O_PATH, following symlinks: the file itself is not touched, a device or FIFO does not notice.
pub(super) fn open_path(path: &Path) -> io::Result<File> {
    Ok(gabion_sys::open_path(path, OFlag::empty())?.into())
}

pub(super) fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

pub(super) fn sources(request: &Request) -> (BTreeMap<usize, SourcePath>, Opened<usize>) {
    let (mut facts, mut fds) = (BTreeMap::new(), BTreeMap::new());
    let mounts = request.spec.mounts().as_deref().unwrap_or_default();
    for (index, mount) in mounts.iter().enumerate().filter(|(_, m)| is_bind(m)) {
        let Some(source) = mount.source() else {
            facts.insert(index, SourcePath::Unreadable(libc::ENOENT));
            continue;
        };
        // A relative source hangs from the bundle (runtime spec, mounts).
        let fact = match open_path(&request.bundle.join(source)).and_then(|file| Ok((describe(&file)?, file))) {
            Ok((described, file)) => {
                fds.insert(index, file.into());
                SourcePath::Open(described)
            }
            Err(error) => SourcePath::Unreadable(errno(&error)),
        };
        facts.insert(index, fact);
    }
    (facts, fds)
}

/// The socket of `linux.seccomp.listenerPath`.
pub(super) fn listener(request: &Request) -> (Option<Listener>, Option<OwnedFd>) {
    let profile = request.spec.linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let Some(path) = profile
        .and_then(|p| p.listener_path().as_deref())
        .filter(|p| p.is_absolute())
    else {
        return (None, None);
    };
    let looked = open_path(path).and_then(|file| Ok((describe(&file)?, file.metadata()?.uid(), file)));
    match looked {
        Ok((source, uid, file)) => {
            let path = SourcePath::Open(source);
            (Some(Listener { path, uid }), Some(file.into()))
        }
        Err(error) => {
            let path = SourcePath::Unreadable(errno(&error));
            (Some(Listener { path, uid: 0 }), None)
        }
    }
}

fn describe(file: &File) -> io::Result<Source> {
    let meta = file.metadata()?;
    Ok(Source {
        real: read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?,
        kind: kind(&meta),
        filesystem: source_fs(fstatfs(file)?.filesystem_type()),
        spot: Spot::default(),
        links: meta.nlink(),
        along: Vec::new(),
        layers: Vec::new(),
        backing: Backing::Unknown,
        connects: connects(&meta),
    })
}

/// Inside a user namespace root is the user: what is closed to others is their own.
fn connects(meta: &Metadata) -> Connects {
    let closed = meta.file_type().is_socket() && meta.uid() == 0 && meta.mode() & 0o002 == 0;
    if closed && reader().user_ns == OwnUserNs::Initial {
        Connects::RootAlone
    } else {
        Connects::Others
    }
}

pub(super) fn kind(meta: &Metadata) -> FileKind {
    let (typ, rdev) = (meta.file_type(), meta.rdev());
    let number = (libc::major(rdev).into(), libc::minor(rdev).into());
    if typ.is_dir() {
        FileKind::Directory
    } else if typ.is_char_device() {
        FileKind::CharDevice(number.0, number.1)
    } else if typ.is_block_device() {
        FileKind::BlockDevice(number.0, number.1)
    } else if typ.is_socket() {
        FileKind::Socket
    } else if typ.is_fifo() {
        FileKind::Fifo
    } else if typ.is_symlink() {
        FileKind::Symlink
    } else {
        FileKind::Regular
    }
}

/// What stands at the paths of `linux.devices` here. They are made by number; this tells what they would stand for.
pub(super) fn devices(request: &Request) -> BTreeMap<PathBuf, FileKind> {
    let linux = request.spec.linux().as_ref();
    let asked = linux.and_then(|l| l.devices().as_deref()).unwrap_or_default();
    asked
        .iter()
        .filter_map(|device| Some((device.path().clone(), kind(&device.path().symlink_metadata().ok()?))))
        .collect()
}

/// By magic number (linux/magic.h; statfs(2)).
fn source_fs(magic: FsType) -> SourceFs {
    // The kernel's numbers are 32 bits wide; libc's field may be signed or wider.
    match magic.0 & 0xffff_ffff {
        0x9fa0 => SourceFs::Proc,
        0x6265_6572 => SourceFs::Sys,
        0x0027_e0eb | 0x6367_7270 => SourceFs::Cgroup,
        // debugfs, tracefs, securityfs, bpffs, efivarfs, configfs, selinuxfs, pstore, binfmt_misc, fusectl, resctrl, smackfs
        0x6462_6720 | 0x7472_6163 | 0x7363_6673 | 0xcafe_4a11 | 0xde5e_81e4 | 0x6265_6570 | 0xf97c_ff8c
        | 0x6165_676c | 0x4249_4e4d | 0x6573_5543 | 0x0765_5821 | 0x4341_5d53 => SourceFs::Kernel,
        _ => SourceFs::Ordinary,
    }
}
