//! Collecting what is known of the host, before anything is decided. Everything of the spec that is a path on the host is
//! opened here, once: what is judged is what is used later, by descriptor.
//!
//! Nothing here judges. What cannot be looked at is a fact too (`Unreadable`); only what no decision can be made without is
//! an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions, read_link};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use nix::sys::resource::{Resource, getrlimit};
use nix::sys::statfs::{FsType, fstatfs};
use oci_spec::runtime::{Hook, Mount};

use super::{
    FileKind, HookFile, Host, MemfdNoexec, NsId, NsPath, NsType, OwnUserNs, Source, SourceFs, SourcePath, cgroups,
    image, lsm,
};
use crate::container::Settings;
use crate::error::{Error, Result};
use crate::policy::Policy;
use crate::policy::load::Reader;
use crate::request::Request;
use crate::request::read::open_rootfs;
use crate::sys;

/// The file system of namespace files (linux/magic.h, NSFS_MAGIC).
const NSFS: FsType = FsType(0x6e73_6673);

/// What was opened while collecting. create works on these, never on the paths again.
#[derive(Debug)]
pub struct Handles {
    /// The root file system (O_PATH).
    pub rootfs: OwnedFd,
    /// Namespaces that the spec names by path.
    pub ns: BTreeMap<PathBuf, OwnedFd>,
    /// By index in the spec's mounts: bind sources (O_PATH).
    pub sources: BTreeMap<usize, OwnedFd>,
}

/// The facts for a container that is to be made.
///
/// # Errors
/// A root file system that cannot be one, or a host whose own namespaces cannot be seen.
pub fn collect(request: &Request, policy: &Policy, settings: &Settings) -> Result<(Host, Handles)> {
    let rootfs = open_rootfs(request)?;
    let (host, ns, sources) = gather(request, policy, settings, Some(rootfs.as_fd()));
    for typ in NsType::ALL {
        // Kernels without time or cgroup namespaces have no file for them; the others are always there.
        let must = !matches!(typ, NsType::Time | NsType::Cgroup);
        if must && !host.namespaces.contains_key(&typ) {
            return Err(Error::File {
                doing: "see our own namespaces in",
                path: format!("/proc/self/ns/{}", typ.proc_name()).into(),
                source: io::ErrorKind::NotFound.into(),
            });
        }
    }
    Ok((host, Handles { rootfs, ns, sources }))
}

/// The facts for a container that is only judged: its bundle may belong to another machine.
pub fn survey(request: &Request, policy: &Policy, settings: &Settings) -> Host {
    let rootfs = open_rootfs(request).ok();
    gather(request, policy, settings, rootfs.as_ref().map(AsFd::as_fd)).0
}

/// Who is calling, as far as policy files depend on it.
pub fn reader() -> Reader {
    Reader {
        euid: nix::unistd::geteuid().as_raw(),
        user_ns: user_ns(),
    }
}

type Opened<K> = BTreeMap<K, OwnedFd>;

fn gather(
    request: &Request,
    policy: &Policy,
    settings: &Settings,
    rootfs: Option<BorrowedFd<'_>>,
) -> (Host, Opened<PathBuf>, Opened<usize>) {
    let (ns_paths, ns) = ns_paths(request);
    let (sources, source_fds) = sources(request);
    let euid = nix::unistd::geteuid().as_raw();
    let user_ns = user_ns();
    let cgroup = cgroups::facts(request, settings.systemd_cgroup, euid, user_ns);
    let host = Host {
        namespaces: own_namespaces(),
        ns_paths,
        sources,
        hooks: hooks(request),
        holes: rootfs.map(|fd| image::holes(fd, request, policy)).unwrap_or_default(),
        memory_total: nix::sys::sysinfo::sysinfo().map_or(0, |info| info.ram_total()),
        parent_memory: cgroup.memory,
        parent_pids: cgroup.pids,
        cgroup: cgroup.version,
        controllers: cgroup.controllers,
        swap_accounting: cgroup.swap,
        landlock_abi: sys::landlock_abi(),
        kernel: kernel(),
        memfd_noexec: if Path::new("/proc/sys/vm/memfd_noexec").exists() {
            MemfdNoexec::Present
        } else {
            MemfdNoexec::Absent
        },
        apparmor: lsm::apparmor(),
        selinux: lsm::selinux(),
        euid,
        user_ns,
        nofile: getrlimit(Resource::RLIMIT_NOFILE).map_or(0, |(_, hard)| hard),
        state_dirs: state_dirs(settings),
        ..Host::default()
    };
    (host, ns, source_fds)
}

fn id_of(meta: &std::fs::Metadata) -> NsId {
    NsId {
        dev: meta.dev(),
        ino: meta.ino(),
    }
}

/// «The host's»: those that this process is in, and init's where they may be seen.
fn own_namespaces() -> BTreeMap<NsType, BTreeSet<NsId>> {
    let mut all: BTreeMap<NsType, BTreeSet<NsId>> = BTreeMap::new();
    for process in ["self", "1"] {
        for typ in NsType::ALL {
            let path = format!("/proc/{process}/ns/{}", typ.proc_name());
            match std::fs::metadata(path) {
                Ok(meta) => {
                    all.entry(typ).or_default().insert(id_of(&meta));
                }
                // The first that may not be seen stands for all of init's.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => break,
                Err(_) => {}
            }
        }
    }
    all
}

fn ns_paths(request: &Request) -> (BTreeMap<PathBuf, NsPath>, Opened<PathBuf>) {
    let (mut facts, mut fds) = (BTreeMap::new(), BTreeMap::new());
    let linux = request.spec.linux().as_ref();
    let asked = linux.and_then(|l| l.namespaces().as_deref()).unwrap_or_default();
    // An empty path is a new namespace (runc).
    let paths = asked.iter().filter_map(|ns| ns.path().as_ref());
    for path in paths.filter(|p| !p.as_os_str().is_empty()) {
        if facts.contains_key(path) {
            continue;
        }
        let fact = match open_ns(path) {
            Ok((fact, fd)) => {
                if let Some(fd) = fd {
                    fds.insert(path.clone(), fd);
                }
                fact
            }
            Err(error) => NsPath::Unreadable(errno(&error)),
        };
        facts.insert(path.clone(), fact);
    }
    (facts, fds)
}

/// Opens a namespace file for setns(2). First as O_PATH: opening some other file or device might do something.
fn open_ns(path: &Path) -> io::Result<(NsPath, Option<OwnedFd>)> {
    let at = open_path(path)?;
    if fstatfs(&at)?.filesystem_type() != NSFS {
        return Ok((NsPath::NotANamespace, None));
    }
    let file = File::open(format!("/proc/self/fd/{}", at.as_raw_fd()))?;
    let Some(typ) = sys::ns_type(file.as_fd()).ok().and_then(ns_kind) else {
        return Ok((NsPath::NotANamespace, None));
    };
    let id = id_of(&file.metadata()?);
    Ok((NsPath::Namespace { typ, id }, Some(file.into())))
}

fn ns_kind(flag: libc::c_int) -> Option<NsType> {
    Some(match flag {
        libc::CLONE_NEWUSER => NsType::User,
        libc::CLONE_NEWNS => NsType::Mount,
        libc::CLONE_NEWPID => NsType::Pid,
        libc::CLONE_NEWIPC => NsType::Ipc,
        libc::CLONE_NEWUTS => NsType::Uts,
        libc::CLONE_NEWNET => NsType::Network,
        libc::CLONE_NEWCGROUP => NsType::Cgroup,
        // CLONE_NEWTIME (linux/sched.h); libc has no name for it everywhere.
        0x80 => NsType::Time,
        _ => return None,
    })
}

/// O_PATH, following symlinks: the file itself is not touched, a device or FIFO does not notice.
fn open_path(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)
}

fn errno(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EINVAL)
}

/// Whether a mount of the spec is a bind mount (runc: by option, or by type).
pub fn is_bind(mount: &Mount) -> bool {
    let by_option = mount.options().iter().flatten().any(|o| o == "bind" || o == "rbind");
    by_option || mount.typ().as_deref() == Some("bind")
}

fn sources(request: &Request) -> (BTreeMap<usize, SourcePath>, Opened<usize>) {
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

fn describe(file: &File) -> io::Result<Source> {
    let meta = file.metadata()?;
    let (typ, rdev) = (meta.file_type(), meta.rdev());
    let number = (libc::major(rdev).into(), libc::minor(rdev).into());
    let kind = if typ.is_dir() {
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
    };
    Ok(Source {
        real: read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?,
        kind,
        filesystem: source_fs(fstatfs(file)?.filesystem_type()),
    })
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

/// The hooks that run on the host. startContainer hooks are the image's own programs and run confined.
fn hooks(request: &Request) -> BTreeMap<PathBuf, HookFile> {
    let Some(hooks) = request.spec.hooks() else {
        return BTreeMap::new();
    };
    // Deprecated in the spec, and still sent.
    #[allow(deprecated)]
    let prestart = hooks.prestart();
    [
        prestart,
        hooks.create_runtime(),
        hooks.create_container(),
        hooks.poststart(),
        hooks.poststop(),
    ]
    .into_iter()
    .flatten()
    .flatten()
    .map(|hook: &Hook| (hook.path().clone(), hook_file(hook.path())))
    .collect()
}

fn hook_file(path: &Path) -> HookFile {
    match std::fs::metadata(path) {
        Ok(meta) if meta.is_file() => HookFile::Executable {
            uid: meta.uid(),
            mode: meta.mode() & 0o7777,
        },
        Ok(_) => HookFile::NotAFile,
        Err(error) => HookFile::Unreadable(errno(&error)),
    }
}

/// Whether user ids here are the host's. A namespace that maps every id to itself gives root no less, so it does not count.
pub fn user_ns() -> OwnUserNs {
    static KNOWN: OnceLock<OwnUserNs> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
        let fields: Vec<&str> = map.split_whitespace().collect();
        if fields.is_empty() || fields == ["0", "0", "4294967295"] {
            OwnUserNs::Initial
        } else {
            OwnUserNs::Nested
        }
    })
}

/// `6.12.3-amd64` as (6, 12).
fn kernel() -> (u32, u32) {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// gabion's own places, and those of runtimes that may run beside it.
fn state_dirs(settings: &Settings) -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = [
        "/etc/gabion",
        "/run/gabion",
        "/var/cache/gabion",
        "/var/lib/gabion",
        "/var/log/gabion",
        "/run/runc",
        "/run/crun",
        "/run/youki",
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect();
    if !dirs.contains(&settings.root) {
        dirs.push(settings.root.clone());
    }
    dirs
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn request(linux: &str, mounts: &str, hooks: &str) -> Request {
        let text = format!(
            r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"args":["sh"],"cwd":"/"}},
            "root":{{"path":"rootfs"}},"linux":{linux},"mounts":{mounts},"hooks":{hooks}}}"#
        );
        Request::from_reader("c".parse().unwrap(), Path::new("/tmp"), text.as_bytes(), Path::new("t")).unwrap()
    }

    fn facts(request: &Request) -> Host {
        let settings = Settings {
            root: "/run/elsewhere".into(),
            systemd_cgroup: crate::container::CgroupDriver::Cgroupfs,
            debug: crate::container::Diagnostics::Off,
        };
        survey(request, &Policy::default(), &settings)
    }

    #[test]
    fn namespaces_are_told_by_kind_and_identity() {
        let request = request(
            r#"{"namespaces":[{"type":"network","path":"/proc/self/ns/net"},{"type":"ipc","path":"/dev/null"},
                {"type":"uts","path":"/nowhere"},{"type":"pid","path":""},{"type":"mount"}]}"#,
            "[]",
            "{}",
        );
        let host = facts(&request);
        let NsPath::Namespace { typ, id } = host.ns_paths[Path::new("/proc/self/ns/net")] else {
            unreachable!("a namespace")
        };
        assert_eq!(typ, NsType::Network);
        assert!(host.namespaces[&NsType::Network].contains(&id));
        assert_eq!(host.ns_paths[Path::new("/dev/null")], NsPath::NotANamespace);
        assert_eq!(host.ns_paths[Path::new("/nowhere")], NsPath::Unreadable(libc::ENOENT));
        assert_eq!(host.ns_paths.len(), 3);
        assert_eq!(host.namespaces[&NsType::User].len(), 1);
    }

    #[test]
    fn sources_are_what_stands_behind_the_path() {
        let request = request(
            "{}",
            r#"[{"destination":"/a","type":"proc","source":"proc"},
                {"destination":"/b","source":"/proc/self/status","options":["rbind"]},
                {"destination":"/c","source":"/dev/null","type":"bind"},
                {"destination":"/d","source":"/nowhere","options":["bind"]},
                {"destination":"/e","source":"/proc/self/cwd/..","options":["bind"]}]"#,
            "{}",
        );
        let host = facts(&request);
        let open = |i: usize| match &host.sources[&i] {
            SourcePath::Open(source) => source.clone(),
            SourcePath::Unreadable(errno) => unreachable!("{errno}"),
        };
        assert!(!host.sources.contains_key(&0));
        assert_eq!((open(1).kind, open(1).filesystem), (FileKind::Regular, SourceFs::Proc));
        assert_eq!(open(2).kind, FileKind::CharDevice(1, 3));
        assert_eq!(host.sources[&3], SourcePath::Unreadable(libc::ENOENT));
        assert_eq!(open(4).kind, FileKind::Directory);
        assert_eq!(open(4).real, std::env::current_dir().unwrap().parent().unwrap());
    }

    #[test]
    fn hooks_of_the_host_are_looked_at_and_the_image_s_are_not() {
        let request = request(
            "{}",
            "[]",
            r#"{"poststop":[{"path":"/bin/sh"}],"createRuntime":[{"path":"/tmp"},{"path":"/nowhere"}],
                "startContainer":[{"path":"/in/the/image"}]}"#,
        );
        let hooks = facts(&request).hooks;
        assert!(matches!(
            hooks[Path::new("/bin/sh")],
            HookFile::Executable { uid: 0, .. }
        ));
        assert_eq!(hooks[Path::new("/tmp")], HookFile::NotAFile);
        assert_eq!(hooks[Path::new("/nowhere")], HookFile::Unreadable(libc::ENOENT));
        assert_eq!(hooks.len(), 3);
    }

    #[test]
    fn the_machine_is_seen() {
        let host = facts(&request("{}", "[]", "{}"));
        assert!(host.memory_total > 0 && host.kernel.0 >= 4 && host.nofile > 0);
        assert!(host.state_dirs.contains(&PathBuf::from("/run/elsewhere")));
    }

    #[test]
    fn a_root_that_cannot_be_one_is_an_error_for_create() {
        let settings = Settings {
            root: "/run/gabion".into(),
            systemd_cgroup: crate::container::CgroupDriver::Cgroupfs,
            debug: crate::container::Diagnostics::Off,
        };
        assert!(collect(&request("{}", "[]", "{}"), &Policy::default(), &settings).is_err());
    }
}
