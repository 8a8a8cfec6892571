//! What a call that is about to be made is, and whether it can succeed.
//!
//! Both are told from its arguments and the kernel's answer to our own question a moment earlier: the caller may change either. This is a record of
//! programs that have no reason to hide from it.

use std::collections::BTreeMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use gabion_core::learn::{self, Denied, Nameless, Port, Seen, Socket, watch};
use gabion_core::request::normalize;
use gabion_see::procfs::Proc;
use gabion_see::seccomp;
use gabion_sys::Call;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fstat};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use super::memory::{Who, bytes, text};

const RESOLVE_IN_ROOT: u64 = 0x10;

/// Looks at calls, and keeps what they show.
#[derive(Debug)]
pub(super) struct Looker {
    proc: Proc,
    names: BTreeMap<i32, &'static str>,
    arch: u32,
    /// The first port that needs no capability.
    free_port: u16,
    /// The container's root directory, from its first call on.
    root: Option<OwnedFd>,
    pub(super) seen: Seen,
    /// In the order of time; the last that failed is the likeliest reason for an end.
    pub(super) denied: Vec<Denied>,
}

/// AUDIT_ARCH_X86_64 and AUDIT_ARCH_AARCH64.
const ARCH: u32 = if cfg!(target_arch = "aarch64") {
    0xc000_00b7
} else {
    0xc000_003e
};

/// So many different denials are kept.
const MOST: usize = 4096;

impl Looker {
    pub(super) fn new(free_port: u16) -> gabion_see::error::Result<Self> {
        let calls = watch::ALWAYS
            .into_iter()
            .chain(["open", "openat", "mmap", "mprotect", "clone"]);
        let names = calls
            .filter_map(|name| seccomp::call_number(name).map(|number| (number, name)))
            .collect();
        Ok(Self {
            proc: Proc::open()?,
            names,
            arch: ARCH,
            free_port,
            root: None,
            seen: Seen::new(),
            denied: Vec::new(),
        })
    }

    /// Whether this is execve(2), under whatever name.
    pub(super) fn executes_program(&self, call: &Call) -> bool {
        call.arch == self.arch
            && self
                .names
                .get(&call.number)
                .is_some_and(|name| name.starts_with("execve"))
    }

    /// Looks at one call. What cannot be looked at is left out: its process may be gone.
    pub(super) fn look(&mut self, call: &Call) {
        if call.arch != self.arch {
            self.seen
                .unseen
                .insert("what programs of another architecture (32 bits) do".to_owned());
            return;
        }
        let Some(name) = self.names.get(&call.number).copied() else {
            return;
        };
        if self.root.is_none() {
            self.root = self.root_of(call.pid);
        }
        let [first, second, third, fourth, fifth, _] = call.args;
        let here = libc::AT_FDCWD;
        match name {
            "execve" => self.executes(call.pid, here, first, false),
            "execveat" => self.executes(call.pid, low(first), second, low(fifth) & libc::AT_EMPTY_PATH != 0),
            "open" => self.opens(call.pid, here, first, low(second)),
            "openat" => self.opens(call.pid, low(first), second, low(third)),
            "creat" => self.opens(call.pid, here, first, libc::O_WRONLY | libc::O_CREAT | libc::O_TRUNC),
            "openat2" => self.opens_by(call.pid, low(first), second, third),
            "mkdir" => self.makes(call.pid, here, first),
            "mkdirat" => self.makes(call.pid, low(first), second),
            "mknod" => self.changes(call.pid, here, first),
            "mknodat" => self.changes(call.pid, low(first), second),
            "rmdir" | "unlink" => self.removes(call.pid, here, first),
            "unlinkat" => self.removes(call.pid, low(first), second),
            "rename" | "link" => self.changes(call.pid, here, second),
            "renameat" | "renameat2" | "linkat" => self.changes(call.pid, low(third), fourth),
            "symlink" => self.changes(call.pid, here, second),
            "symlinkat" => self.changes(call.pid, low(second), third),
            "socket" => self.makes_socket(call.pid, first, second, third),
            "bind" => self.binds(call.pid, second, third),
            "connect" => {
                let port = Self::address(call.pid, second, third);
                self.seen.connects.extend(port);
            }
            "mmap" => self.maps(call.pid, low(fifth), third, fourth),
            "mprotect" => self.seen.jit = true,
            other => self.calls(call.pid, other, first),
        }
    }

    fn root_of(&self, pid: u32) -> Option<OwnedFd> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        gabion_sys::openat(self.proc.as_fd(), format!("{pid}/root").as_str(), flags, Mode::empty()).ok()
    }

    fn link(&self, path: &str) -> Option<PathBuf> {
        let target = nix::fcntl::readlinkat(Some(self.proc.as_fd().as_raw_fd()), path).ok()?;
        Some(PathBuf::from(target))
    }

    /// What a descriptor of the process is open at.
    fn descriptor(&self, pid: u32, fd: i32) -> Option<PathBuf> {
        self.link(&format!("{pid}/fd/{fd}"))
    }

    /// The path in the container that a call names, not yet resolved.
    fn path(&self, pid: u32, dir: i32, address: u64) -> Option<PathBuf> {
        let text = text(pid, address)?;
        let named = Path::new(OsStr::from_bytes(&text));
        let from = if named.is_absolute() {
            self.link(&format!("{pid}/root"))?
        } else if dir == libc::AT_FDCWD {
            self.link(&format!("{pid}/cwd"))?
        } else {
            self.descriptor(pid, dir)?
        };
        if named.as_os_str().is_empty() {
            return None;
        }
        let relative = named.strip_prefix("/").unwrap_or(named);
        Some(from.join(relative))
    }

    fn resolve(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let root = self.root.as_ref().ok_or(Errno::ESRCH)?;
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
        gabion_sys::openat2(root.as_fd(), &path, libc::O_PATH, RESOLVE_IN_ROOT)
    }

    /// Where in the container something lies that we have open.
    fn place(&self, fd: BorrowedFd<'_>) -> Option<PathBuf> {
        self.link(&format!("self/fd/{}", fd.as_raw_fd()))
    }

    /// Where a path leads that may not be there yet: as much of it as is, and the rest as it stands.
    fn real(&self, path: &Path) -> PathBuf {
        let mut rest = Vec::new();
        let mut at = path;
        loop {
            if let Some(place) = self.resolve(at).ok().and_then(|fd| self.place(fd.as_fd())) {
                return rest.iter().rev().fold(place, |place, name| place.join(name));
            }
            let (Some(parent), Some(name)) = (at.parent(), at.file_name()) else {
                return normalize(path);
            };
            rest.push(name);
            at = parent;
        }
    }

    fn deny(&mut self, denied: Denied) {
        self.denied.retain(|other| *other != denied);
        if self.denied.len() < MOST {
            self.denied.push(denied);
        }
    }

    fn executes(&mut self, pid: u32, dir: i32, address: u64, empty: bool) {
        let by_descriptor = || {
            let named = text(pid, address)?;
            if empty && named.is_empty() {
                return Some(dir);
            }
            let named = std::str::from_utf8(&named).ok()?;
            let number = named
                .strip_prefix("/proc/self/fd/")
                .or_else(|| named.strip_prefix("/dev/fd/"))?;
            number.parse().ok()
        };
        if let Some(fd) = by_descriptor() {
            match self.descriptor(pid, fd) {
                Some(path) if is_memfd(&path) => {
                    self.seen.nameless.insert(Nameless::Executed);
                }
                Some(path) => {
                    self.seen.programs.insert(path);
                }
                None => {}
            }
            return;
        }
        let Some(path) = self.path(pid, dir, address) else {
            return;
        };
        let Ok(fd) = self.resolve(&path) else { return };
        let file = fstat(fd.as_raw_fd()).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFREG);
        let Some(place) = self.place(fd.as_fd()).filter(|_| file) else {
            return;
        };
        if fstatvfs(&fd).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC)) {
            self.deny(Denied::NoExec { path: place.clone() });
        }
        self.seen.programs.insert(place);
    }

    fn maps(&mut self, pid: u32, fd: i32, protection: u64, flags: u64) {
        const ANONYMOUS: u64 = 0x20;
        if flags & ANONYMOUS != 0 {
            self.seen.jit |= protection & 2 != 0;
            return;
        }
        match self.descriptor(pid, fd) {
            Some(path) if is_memfd(&path) => {
                self.seen.nameless.insert(Nameless::Mapped);
            }
            Some(path) => {
                let path = alive(path);
                let noexec = |fd: OwnedFd| fstatvfs(&fd).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_NOEXEC));
                if self.resolve(&path).is_ok_and(noexec) {
                    self.deny(Denied::NoExec { path: path.clone() });
                }
                self.seen.mapped.insert(path);
            }
            None => {}
        }
    }

    fn opens_by(&mut self, pid: u32, dir: i32, address: u64, how: u64) {
        let Some(how) = bytes(pid, how, 8) else { return };
        let flags = how
            .first_chunk::<8>()
            .map_or(0, |flags| low(u64::from_ne_bytes(*flags)));
        if flags & (libc::O_ACCMODE | libc::O_CREAT) != 0 {
            self.opens(pid, dir, address, flags);
        }
    }

    /// A file is opened for writing, or created.
    fn opens(&mut self, pid: u32, dir: i32, address: u64, flags: i32) {
        let Some(path) = self.path(pid, dir, address).filter(|path| !is_kernels(path)) else {
            self.writes_sysctl(pid, dir, address);
            return;
        };
        match self.resolve(&path) {
            Ok(fd) => {
                let Ok(stat) = fstat(fd.as_raw_fd()) else { return };
                let kind = stat.st_mode & libc::S_IFMT;
                // A device, FIFO or socket is not the file system's; to open a directory for writing fails in its own way.
                if kind != libc::S_IFREG || flags & libc::O_ACCMODE == libc::O_RDONLY {
                    return;
                }
                let Some(place) = self.place(fd.as_fd()) else { return };
                self.writes(pid, fd.as_fd(), &stat, &place);
            }
            Err(Errno::ENOENT) if flags & libc::O_CREAT != 0 => self.creates(pid, &path),
            Err(_) => {}
        }
    }

    fn writes(&mut self, pid: u32, fd: BorrowedFd<'_>, stat: &libc::stat, place: &Path) {
        if is_read_only(fd) {
            self.deny(Denied::ReadOnly {
                dir: place.parent().unwrap_or(place).to_owned(),
                uid: Who::of(&self.proc, pid).map_or(0, |who| who.uid),
            });
            return;
        }
        // What anybody may write needs no look at who asks.
        if stat.st_mode & 0o222 == 0o222 {
            return;
        }
        if let Some(who) = Who::of(&self.proc, pid).filter(|who| !who.may(stat, 2)) {
            self.deny(Denied::ForeignFile {
                file: place.to_owned(),
                uid: who.uid,
            });
        }
    }

    /// Something is created, renamed to or removed at a path.
    fn changes(&mut self, pid: u32, dir: i32, address: u64) {
        if let Some(path) = self.path(pid, dir, address).filter(|path| !is_kernels(path)) {
            self.creates(pid, &path);
        }
    }

    /// A directory is made.
    fn makes(&mut self, pid: u32, dir: i32, address: u64) {
        let path = self.path(pid, dir, address).filter(|path| !is_kernels(path));
        if let Some(path) = path.filter(|path| self.resolve(path).is_err()) {
            self.into(pid, &path, Entry::Directory);
        }
    }

    fn creates(&mut self, pid: u32, path: &Path) {
        // A directory of the same name is as good as a new one: mkdir -p goes on.
        let entry = if self.resolve(path).is_ok() {
            Entry::Stays
        } else {
            Entry::Changes
        };
        self.into(pid, path, entry);
    }

    /// A directory gets or loses an entry.
    fn into(&mut self, pid: u32, path: &Path, entry: Entry) {
        if entry == Entry::Stays {
            return;
        }
        let Some(parent) = path.parent() else { return };
        match self.resolve(parent) {
            Ok(fd) => {
                let (Ok(stat), Some(place)) = (fstat(fd.as_raw_fd()), self.place(fd.as_fd())) else {
                    return;
                };
                if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
                    return;
                }
                if is_read_only(fd.as_fd()) {
                    let uid = Who::of(&self.proc, pid).map_or(0, |who| who.uid);
                    let own = path
                        .file_name()
                        .filter(|_| entry == Entry::Directory && learn::is_shared(&place));
                    let dir = own.map_or(place.clone(), |name| place.join(name));
                    self.deny(Denied::ReadOnly { dir, uid });
                    return;
                }
                if stat.st_mode & 0o003 == 0o003 {
                    return;
                }
                if let Some(who) = Who::of(&self.proc, pid).filter(|who| !who.may(&stat, 3)) {
                    self.deny(Denied::Foreign {
                        dir: place,
                        uid: who.uid,
                    });
                }
            }
            Err(Errno::ENOENT) => {
                let dir = self.real(parent);
                let uid = Who::of(&self.proc, pid).map_or(0, |who| who.uid);
                self.deny(Denied::Missing { dir, uid });
            }
            Err(_) => {}
        }
    }

    /// Something is removed. What is not there cannot be, at any level.
    fn removes(&mut self, pid: u32, dir: i32, address: u64) {
        let Some(path) = self.path(pid, dir, address).filter(|path| !is_kernels(path)) else {
            return;
        };
        let there = path
            .parent()
            .and_then(|parent| self.resolve(parent).ok())
            .is_some_and(|parent| {
                let name = path.file_name().map(OsStr::to_owned);
                let follow = nix::fcntl::AtFlags::AT_SYMLINK_NOFOLLOW;
                name.is_some_and(|name| {
                    nix::sys::stat::fstatat(Some(parent.as_raw_fd()), name.as_os_str(), follow).is_ok()
                })
            });
        if there {
            self.into(pid, &path, Entry::Changes);
        }
    }

    fn writes_sysctl(&mut self, pid: u32, dir: i32, address: u64) {
        let Some(path) = self.path(pid, dir, address) else {
            return;
        };
        if let Ok(name) = normalize(&path).strip_prefix("/proc/sys") {
            self.seen.sysctls.insert(name.to_string_lossy().replace('/', "."));
        }
    }

    fn makes_socket(&mut self, pid: u32, family: u64, kind: u64, protocol: u64) {
        const RAW: u32 = 3;
        const PACKET: u32 = 17;
        let word = |value: u64| low(value).cast_unsigned();
        let socket = Socket {
            family: word(family),
            kind: word(kind) & 0xf,
            protocol: word(protocol),
        };
        if socket.family == PACKET || ([2, 10].contains(&socket.family) && socket.kind == RAW) {
            self.needs(pid, "NET_RAW", "socket");
        }
        self.seen.sockets.insert(socket);
    }

    fn address(pid: u32, address: u64, length: u64) -> Option<Port> {
        let raw = bytes(pid, address, usize::try_from(length).ok()?.min(128))?;
        let (family, rest) = raw.split_first_chunk::<2>()?;
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_INET | libc::AF_INET6 => rest
                .first_chunk::<2>()
                .map(|port| Port::Inet(u16::from_be_bytes(*port))),
            libc::AF_UNIX => {
                let name = rest.split(|byte| *byte == 0).next().unwrap_or_default();
                match (name, rest) {
                    // Abstract: it has no file.
                    ([], [0, name @ ..]) if !name.is_empty() => {
                        Some(Port::Unix(format!("@{}", String::from_utf8_lossy(name))))
                    }
                    ([], _) => None,
                    (name, _) => Some(Port::Unix(String::from_utf8_lossy(name).into_owned())),
                }
            }
            _ => None,
        }
    }

    fn binds(&mut self, pid: u32, address: u64, length: u64) {
        let Some(port) = Self::address(pid, address, length) else {
            return;
        };
        match &port {
            Port::Inet(number)
                if *number != 0
                    && *number < self.free_port
                    && Who::of(&self.proc, pid).is_some_and(|who| !who.has("NET_BIND_SERVICE")) =>
            {
                self.deny(Denied::Port(*number));
            }
            Port::Unix(name) if !name.starts_with('@') => {
                let from = if name.starts_with('/') { "root" } else { "cwd" };
                if let Some(from) = self.link(&format!("{pid}/{from}")) {
                    let path = from.join(name.trim_start_matches('/'));
                    self.creates(pid, &path);
                }
            }
            _ => {}
        }
        self.seen.binds.insert(port);
    }

    /// A call that needs a capability beyond those that hardened keeps.
    fn needs(&mut self, pid: u32, capability: &str, call: &str) {
        let Some(who) = Who::of(&self.proc, pid) else { return };
        if who.has(capability) {
            self.seen
                .capabilities
                .entry(capability.to_owned())
                .or_default()
                .insert(call.to_owned());
        } else {
            self.deny(Denied::Capability {
                name: capability.to_owned(),
                call: call.to_owned(),
            });
        }
    }

    fn calls(&mut self, pid: u32, name: &str, first: u64) {
        /// Namespaces: mount, cgroup, uts, ipc, user, pid, network, time.
        const NEW: u64 = 0x7e02_0080;
        const USER: u64 = 0x1000_0000;
        const ATTACH: [u64; 2] = [0x10, 0x4206];
        let capability = match name {
            "chroot" => return self.needs(pid, "SYS_CHROOT", name),
            "unshare" | "clone" if first & NEW == 0 => return,
            "unshare" | "clone" if first & USER != 0 => None,
            "ptrace" if !ATTACH.contains(&first) => return,
            "ptrace" | "process_vm_readv" | "process_vm_writev" | "pidfd_getfd" | "kcmp" | "keyctl" | "add_key"
            | "request_key" | "perf_event_open" | "userfaultfd" | "io_uring_setup" | "vmsplice" | "process_madvise" => {
                None
            }
            "syslog" => Some("SYSLOG"),
            "bpf" => Some("BPF"),
            "open_by_handle_at" => Some("DAC_READ_SEARCH"),
            "settimeofday" | "clock_settime" => Some("SYS_TIME"),
            "reboot" => Some("SYS_BOOT"),
            "iopl" => Some("SYS_RAWIO"),
            "acct" => Some("SYS_PACCT"),
            _ => Some("SYS_ADMIN"),
        };
        if let Some(capability) = capability {
            self.needs(pid, capability, name);
            if !self.seen.capabilities.contains_key(capability) {
                return;
            }
        }
        self.seen.closed.insert(name.to_owned());
    }
}

/// Whether an entry of a directory is to change.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Entry {
    Changes,
    /// A new one, which may be a place of its own.
    Directory,
    Stays,
}

/// The low 32 bits, as the kernel takes an int.
fn low(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// Its files are not the image's: what may be written there is said by other controls.
fn is_kernels(path: &Path) -> bool {
    ["/proc", "/sys", "/dev"].iter().any(|tree| path.starts_with(tree))
}

fn is_memfd(path: &Path) -> bool {
    path.as_os_str().as_bytes().starts_with(b"/memfd:")
}

/// A file that has been removed meanwhile, by the name that it had.
fn alive(path: PathBuf) -> PathBuf {
    let mut bytes = path.into_os_string().into_vec();
    if bytes.ends_with(b" (deleted)") {
        bytes.truncate(bytes.len() - b" (deleted)".len());
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn is_read_only(fd: BorrowedFd<'_>) -> bool {
    fstatvfs(fd).is_ok_and(|fs| fs.flags().contains(FsFlags::ST_RDONLY))
}
