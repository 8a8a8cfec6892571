//! Opening files that others may have prepared. One way for all of them: relative to a directory's descriptor, without hanging on a FIFO,
//! judged by the descriptor before a byte of it is read or written.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;

/// What a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    /// A file, or a pipe that it is read from: `<(…)` of a shell, /dev/stdin.
    FileOrPipe,
    Directory,
}

/// Whose a file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Anybody,
    /// The caller's own.
    Caller,
    CallerOrRoot,
    /// The caller's, root's, or the overflow uid's: in a user namespace the host's root shows as that (user_namespaces(7)).
    CallerRootOrUnmapped,
}

/// Whether links are believed: a symbolic one at the end of the path, a hard one to the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Links {
    Refuse,
    /// What it leads to is judged.
    Follow,
    /// Refused, and so is a file that has a second name (a hard link): whoever holds that one holds the file.
    OneName,
}

/// The rules that one kind of file is opened by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    pub kind: Kind,
    pub owner: Owner,
    /// Permission bits that nobody may have: 0o022 where others must not write, 0o077 where they must not read either.
    pub forbidden: u32,
    /// The most bytes that are read.
    pub largest: u64,
    pub links: Links,
}

/// The directory of a container's state, and the root above it: nobody else's to write to.
pub const DIRECTORY: Rules = Rules {
    kind: Kind::Directory,
    owner: Owner::CallerOrRoot,
    forbidden: 0o022,
    largest: 0,
    links: Links::Refuse,
};

/// The files in it. A config.json has at most 8 MiB, and the state has it once.
pub const FILES: Rules = Rules {
    kind: Kind::File,
    owner: Owner::CallerOrRoot,
    forbidden: 0o022,
    largest: 64 << 20,
    links: Links::Refuse,
};

/// The overflow uid.
const UNMAPPED: u32 = 65534;

/// Why a file was not opened or not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Missing,
    /// The call failed.
    Open(Errno),
    NotAFile,
    NotAPipe,
    NotADirectory,
    Symlink,
    /// The file has other names.
    Names,
    Owner(u32),
    /// The mode of a file that others may change or read.
    Mode(u32),
    /// It is larger than this many bytes.
    Larger(u64),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the file is missing"),
            Self::Open(errno) => write!(f, "cannot be opened: {}", errno.desc()),
            Self::NotAFile => f.write_str("not a regular file"),
            Self::NotAPipe => f.write_str("neither a regular file nor a pipe"),
            Self::NotADirectory => f.write_str("not a directory"),
            Self::Symlink => f.write_str("a symbolic link"),
            Self::Names => f.write_str("it has a second name (a hard link)"),
            Self::Owner(uid) => write!(f, "it belongs to uid {uid}"),
            Self::Mode(mode) if mode & 0o022 != 0 => write!(f, "others can write to it (mode {mode:04o})"),
            Self::Mode(mode) => write!(f, "others can read it (mode {mode:04o})"),
            Self::Larger(bytes) if *bytes >= 1 << 20 => write!(f, "larger than {} MiB", bytes >> 20),
            Self::Larger(bytes) => write!(f, "larger than {bytes} bytes"),
        }
    }
}

impl std::error::Error for Fault {}

impl From<Fault> for std::io::Error {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Missing => Errno::ENOENT.into(),
            Fault::Open(errno) => errno.into(),
            other => Self::other(other.to_string()),
        }
    }
}

/// Opens `path` for reading, from the working directory where it is relative.
///
/// # Errors
/// It cannot be opened, or is not what `rules` say.
pub fn open(path: &Path, rules: &Rules) -> Result<File, Fault> {
    open_with(None, path, OFlag::O_RDONLY, rules)
}

/// Opens `name` in `dir` for reading.
///
/// # Errors
/// It cannot be opened, or is not what `rules` say.
pub fn open_at(dir: BorrowedFd<'_>, name: &str, rules: &Rules) -> Result<File, Fault> {
    open_with(Some(dir), Path::new(name), OFlag::O_RDONLY, rules)
}

/// Opens as `flags` say, and judges what was opened. A file that O_CREAT makes is only its owner's.
///
/// # Errors
/// It cannot be opened, or is not what `rules` say.
pub fn open_with(dir: Option<BorrowedFd<'_>>, path: &Path, flags: OFlag, rules: &Rules) -> Result<File, Fault> {
    let mut flags = flags | OFlag::O_CLOEXEC | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    if rules.links != Links::Follow {
        flags |= OFlag::O_NOFOLLOW;
    }
    if rules.kind == Kind::Directory {
        flags |= OFlag::O_DIRECTORY;
    }
    let why = |errno| match errno {
        Errno::ENOENT => Fault::Missing,
        Errno::ELOOP if rules.links != Links::Follow => Fault::Symlink,
        Errno::ENOTDIR if rules.kind == Kind::Directory => Fault::NotADirectory,
        // A socket, or a FIFO that is opened for writing without a reader.
        Errno::ENXIO => Fault::NotAFile,
        other => Fault::Open(other),
    };
    let opened = if rules.links == Links::Follow && rules.kind != Kind::Directory && !flags.contains(OFlag::O_CREAT) {
        open_where_links_lead(dir, path, flags, rules, why)?
    } else {
        open_raw(dir, path, flags).map_err(why)?
    };
    let file = File::from(opened);
    judge(&file, rules)?;
    Ok(file)
}

/// Opens what a link may lead to, once it is known to be a file: to open a device acts on it (/dev/watchdog counts down from then on), and
/// whoever owns a directory can put a link to any device there. Where links are refused nobody but root can have prepared one.
fn open_where_links_lead(
    dir: Option<BorrowedFd<'_>>,
    path: &Path,
    flags: OFlag,
    rules: &Rules,
    why: impl Fn(Errno) -> Fault,
) -> Result<OwnedFd, Fault> {
    let seen = File::from(open_raw(dir, path, OFlag::O_PATH | OFlag::O_CLOEXEC).map_err(&why)?);
    judge(&seen, rules)?;
    let same = format!("/proc/self/fd/{}", seen.as_raw_fd());
    open_raw(None, Path::new(&same), flags).map_err(why)
}

fn open_raw(dir: Option<BorrowedFd<'_>>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let mode = Mode::S_IRUSR | Mode::S_IWUSR;
    match dir {
        Some(dir) => gabion_sys::openat(dir, path, flags, mode),
        None => gabion_sys::open(path, flags, mode),
    }
}

/// Judges an open file by `rules`.
///
/// # Errors
/// It is not what they say.
pub fn judge(file: &File, rules: &Rules) -> Result<(), Fault> {
    let meta = file
        .metadata()
        .map_err(|e| Fault::Open(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))))?;
    match rules.kind {
        Kind::File if !meta.is_file() => return Err(Fault::NotAFile),
        Kind::FileOrPipe if !meta.is_file() && !meta.file_type().is_fifo() => return Err(Fault::NotAPipe),
        Kind::Directory if !meta.is_dir() => return Err(Fault::NotADirectory),
        _ => {}
    }
    let (uid, caller) = (meta.uid(), nix::unistd::geteuid().as_raw());
    let owned = match rules.owner {
        Owner::Anybody => true,
        Owner::Caller => uid == caller,
        Owner::CallerOrRoot => uid == caller || uid == 0,
        Owner::CallerRootOrUnmapped => uid == caller || uid == 0 || uid == UNMAPPED,
    };
    if !owned {
        return Err(Fault::Owner(uid));
    }
    if meta.mode() & rules.forbidden != 0 {
        return Err(Fault::Mode(meta.mode() & 0o7777));
    }
    if rules.links == Links::OneName && rules.kind != Kind::Directory && meta.nlink() != 1 {
        return Err(Fault::Names);
    }
    if rules.kind != Kind::Directory && meta.len() > rules.largest {
        return Err(Fault::Larger(rules.largest));
    }
    Ok(())
}

/// Reads a vetted file to its end. The size that was judged may have grown since: what is beyond the bound is an error here, too.
///
/// # Errors
/// It cannot be read, or is larger than `rules` allow.
pub fn read(file: File, rules: &Rules) -> Result<Vec<u8>, Fault> {
    let size = file.metadata().map_or(0, |meta| meta.len());
    let mut content = Vec::with_capacity(usize::try_from(size.min(rules.largest)).unwrap_or(0));
    file.take(rules.largest.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|e| Fault::Open(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))))?;
    if content.len() as u64 > rules.largest {
        return Err(Fault::Larger(rules.largest));
    }
    Ok(content)
}

/// Opens and reads `name` in `dir`.
///
/// # Errors
/// As of [`open_at`] and [`read`].
pub fn read_at(dir: &impl AsFd, name: &str, rules: &Rules) -> Result<Vec<u8>, Fault> {
    read(open_at(dir.as_fd(), name, rules)?, rules)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::PathBuf;

    use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

    use super::*;

    const RULES: Rules = Rules {
        kind: Kind::File,
        owner: Owner::Caller,
        forbidden: 0o022,
        largest: 8,
        links: Links::Refuse,
    };

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("gabion-vetted-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn file(&self, name: &str, content: &str, mode: u32) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn fault(path: &Path, rules: &Rules) -> Fault {
        open(path, rules).unwrap_err()
    }

    #[test]
    fn each_rule_refuses_what_it_is_for_and_nothing_else() {
        let at = Scratch::new("rules");
        let good = at.file("good", "12345678", 0o600);
        assert_eq!(read(open(&good, &RULES).unwrap(), &RULES).unwrap(), b"12345678");
        assert_eq!(fault(&at.0.join("none"), &RULES), Fault::Missing);
        assert_eq!(fault(&at.0, &RULES), Fault::NotAFile);
        assert_eq!(fault(&at.file("open", "", 0o620), &RULES), Fault::Mode(0o620));
        assert_eq!(fault(&at.file("large", "123456789", 0o600), &RULES), Fault::Larger(8));
        symlink(&good, at.0.join("link")).unwrap();
        assert_eq!(fault(&at.0.join("link"), &RULES), Fault::Symlink);
        let follow = Rules {
            links: Links::Follow,
            ..RULES
        };
        assert!(open(&at.0.join("link"), &follow).is_ok());
        let one_name = Rules {
            links: Links::OneName,
            ..RULES
        };
        assert!(open(&good, &one_name).is_ok());
        fs::hard_link(&good, at.0.join("second")).unwrap();
        assert_eq!(fault(&good, &one_name), Fault::Names);
        let directory = Rules {
            kind: Kind::Directory,
            ..RULES
        };
        assert!(open(&at.0, &directory).is_ok());
        assert_eq!(fault(&good, &directory), Fault::NotADirectory);
    }

    #[test]
    fn a_fifo_does_not_hang_and_is_no_file() {
        let at = Scratch::new("fifo");
        let path = at.0.join("fifo");
        nix::unistd::mkfifo(&path, Mode::S_IRWXU).unwrap();
        assert_eq!(fault(&path, &RULES), Fault::NotAFile);
        let write = open_with(None, &path, OFlag::O_WRONLY, &RULES);
        assert_eq!(write.unwrap_err(), Fault::NotAFile);
    }

    #[test]
    fn a_device_that_a_link_leads_to_is_not_opened() {
        let at = Scratch::new("device");
        let pty = nix::pty::openpty(None, None).unwrap();
        let device = nix::unistd::ttyname(&pty.slave).unwrap();
        let link = at.0.join("link");
        symlink(&device, &link).unwrap();
        let follow = Rules {
            links: Links::Follow,
            owner: Owner::Anybody,
            ..RULES
        };
        let opens = Inotify::init(InitFlags::IN_NONBLOCK).unwrap();
        opens.add_watch(&device, AddWatchFlags::IN_OPEN).unwrap();
        assert_eq!(fault(&link, &follow), Fault::NotAFile);
        assert_eq!(opens.read_events().unwrap_err(), Errno::EAGAIN);
        // That the watch sees one who opens it.
        drop(File::open(&link).unwrap());
        assert_eq!(opens.read_events().unwrap().len(), 1);
        let file = at.file("file", "12", 0o600);
        fs::remove_file(&link).unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(read(open(&link, &follow).unwrap(), &follow).unwrap(), b"12");
    }

    #[test]
    fn an_owner_that_is_somebody_else_is_refused() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let at = Scratch::new("owner");
        let path = at.file("theirs", "", 0o600);
        for (uid, owner, believed) in [
            (1000, Owner::Anybody, true),
            (1000, Owner::Caller, false),
            (1000, Owner::CallerOrRoot, false),
            (1000, Owner::CallerRootOrUnmapped, false),
            (UNMAPPED, Owner::CallerOrRoot, false),
            (UNMAPPED, Owner::CallerRootOrUnmapped, true),
        ] {
            std::os::unix::fs::chown(&path, Some(uid), None).unwrap();
            let opened = open(&path, &Rules { owner, ..RULES });
            assert_eq!(opened.is_ok(), believed, "{uid} {owner:?}: {opened:?}");
        }
    }
}
