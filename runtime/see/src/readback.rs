//! Reading what the kernel shows of a process, through a procfs that is held open.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstat, fstatat};

use crate::error::{Error, Result, Step};
use crate::procfs::Proc;
use gabion_core::control::namespaces::is_joined;
use gabion_core::fact::{Fact, Holds};
use gabion_core::hardened::Hardened;
use gabion_core::namespace::{NsId, NsType};
use gabion_core::observed::{IdsSeen, Masked, MountPoint, Observed, parse};
use gabion_core::policy::MemoryRule;

fn unreadable(what: &str) -> impl Fn(Errno) -> Error {
    let what = what.to_owned();
    move |e| Error::step(Step::Verify, format!("read {what} back"), e)
}

/// This process, from inside the container: all that is in force before Landlock and seccomp.
pub fn own(proc: &Proc, hardened: &Hardened, first_free_fd: i32) -> Result<Observed> {
    let mut seen = of(proc, "self")?;
    seen.ids = IdsSeen::Inside;
    if hardened.plan().memory.contains(&MemoryRule::Mdwe) {
        seen.mdwe = Some(gabion_sys::exec_gain().map_err(unreadable("PR_GET_MDWE"))?);
    }
    for name in sysctl_names(hardened) {
        let path = format!("sys/{}", name.replace('.', "/"));
        if let Ok(value) = proc.read(&path) {
            seen.sysctls.insert(name, words(&value));
        }
    }
    // Of a path that is to be read-only, too, whether it is there at all decides.
    let linux = hardened.spec().linux().as_ref();
    let lists = linux.into_iter().flat_map(|l| [l.masked_paths(), l.readonly_paths()]);
    for path in lists.flatten().flatten() {
        seen.masked.insert(PathBuf::from(path), look_at_mask(Path::new(path)));
    }
    seen.inherited_fds = inherited(proc, first_free_fd)?;
    Ok(seen)
}

/// Any process, by its directory in procfs (`self`, or a pid).
pub fn of(proc: &Proc, who: &str) -> Result<Observed> {
    let read = |file: &str| proc.read(&format!("{who}/{file}")).map_err(unreadable(file));
    Ok(Observed {
        status: parse::parse_status(&read("status")?),
        mounts: mounts(&read("mountinfo")?)?,
        namespaces: namespaces(proc, who)?,
        limits: read("limits")?.lines().filter_map(parse::parse_limit).collect(),
        label: proc.read(&format!("{who}/attr/current")).ok().map(clean_label),
        label_on_exec: proc
            .read(&format!("{who}/attr/exec"))
            .ok()
            .map(clean_label)
            .filter(|l| !l.is_empty()),
        ..Observed::default()
    })
}

/// Every mount: one that is not understood would be one that nobody judged.
fn mounts(text: &str) -> Result<Vec<MountPoint>> {
    let parse = |line: &str| {
        let told = || Error::failed(Step::Verify, format!("a line of mountinfo is not understood: {line:?}"));
        parse::parse_mount(line).ok_or_else(told)
    };
    text.lines().map(parse).collect()
}

fn clean_label(text: String) -> String {
    text.trim_end_matches(['\0', '\n']).to_owned()
}

/// A sysctl's value with one blank between its words.
pub fn words(value: &str) -> String {
    value.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

/// The sysctls that facts are about.
pub fn sysctl_names(hardened: &Hardened) -> Vec<String> {
    let asked = hardened.spec().linux().as_ref().and_then(|l| l.sysctl().as_ref());
    let mut names: Vec<String> = asked.into_iter().flat_map(|m| m.keys().cloned()).collect();
    if hardened.plan().memfd_noexec.is_some() || is_joined(hardened.spec(), NsType::Pid) {
        names.push("vm.memfd_noexec".to_owned());
    }
    names
}

/// The namespaces of a process, by identity.
pub fn namespaces(proc: &Proc, who: &str) -> Result<BTreeMap<NsType, NsId>> {
    use std::os::fd::AsFd;
    let dir = Some(proc.as_fd().as_raw_fd());
    let mut found = BTreeMap::new();
    for typ in NsType::ALL {
        let path = format!("{who}/ns/{}", typ.proc_name());
        match fstatat(dir, path.as_str(), AtFlags::empty()) {
            Ok(stat) => {
                found.insert(
                    typ,
                    NsId {
                        dev: stat.st_dev,
                        ino: stat.st_ino,
                    },
                );
            }
            // A kernel without this kind.
            Err(Errno::ENOENT) => {}
            Err(e) => return Err(unreadable(&path)(e)),
        }
    }
    Ok(found)
}

fn look_at_mask(path: &Path) -> Masked {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    classify_mask(gabion_sys::open(path, flags, Mode::empty()))
}

/// What an O_PATH descriptor of a masked path leads to.
pub fn classify_mask(opened: nix::Result<std::os::fd::OwnedFd>) -> Masked {
    let fd = match opened {
        Ok(fd) => fd,
        Err(Errno::ENOENT | Errno::ENOTDIR) => return Masked::Absent,
        Err(e) => return Masked::Unreadable(e as i32),
    };
    let stat = match fstat(fd.as_raw_fd()) {
        Ok(stat) => stat,
        Err(e) => return Masked::Unreadable(e as i32),
    };
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFCHR if stat.st_rdev == libc::makedev(1, 3) => Masked::NullDevice,
        libc::S_IFDIR => match nix::sys::statfs::fstatfs(&fd) {
            // An empty directory has two links, and ours can hold no second inode.
            Ok(fs) if fs.filesystem_type() == nix::sys::statfs::TMPFS_MAGIC && stat.st_nlink == 2 => Masked::EmptyTmpfs,
            Ok(_) => Masked::Open,
            Err(e) => Masked::Unreadable(e as i32),
        },
        _ => Masked::Open,
    }
}

/// Descriptors from `first` on that execve would pass on, with what they are.
fn inherited(proc: &Proc, first: i32) -> Result<BTreeMap<i32, String>> {
    use std::os::fd::AsFd;
    let dir = gabion_sys::openat(
        proc.as_fd(),
        "self/fd",
        OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )
    .map_err(unreadable("our descriptors"))?;
    let mut dir = gabion_sys::directory(dir).map_err(unreadable("our descriptors"))?;
    let mut found = BTreeMap::new();
    for entry in dir.iter() {
        let entry = entry.map_err(unreadable("our descriptors"))?;
        let Some(number) = entry.file_name().to_str().ok().and_then(|n| n.parse::<i32>().ok()) else {
            continue;
        };
        let flags = match nix::fcntl::fcntl(number, nix::fcntl::FcntlArg::F_GETFD) {
            Ok(flags) => flags,
            Err(Errno::EBADF) => continue,
            Err(e) => return Err(unreadable("a descriptor's flags")(e)),
        };
        if flags & libc::FD_CLOEXEC != 0 {
            continue;
        }
        let stat = fstat(number).map_err(unreadable("a descriptor"))?;
        let kind = match stat.st_mode & libc::S_IFMT {
            libc::S_IFDIR => "directory",
            libc::S_IFREG => "file",
            libc::S_IFSOCK => "socket",
            libc::S_IFIFO => "pipe",
            libc::S_IFCHR => "character device",
            libc::S_IFBLK => "block device",
            _ => "other",
        };
        // Stdio may be anything but a directory; the rest must not be there at all.
        if number >= first || kind == "directory" {
            found.insert(number, kind.to_owned());
        }
    }
    Ok(found)
}

/// Fails by the first fact that does not hold. What cannot be seen from here is not a mismatch: it is probed, or seen by
/// others.
pub fn all_hold(facts: Vec<Fact>) -> Result<()> {
    match facts.into_iter().find(|f| f.holds == Holds::No) {
        None => Ok(()),
        Some(fact) => Err(Error::Mismatch {
            control: fact.control,
            expected: fact.expected,
            observed: fact.observed,
        }),
    }
}
