//! Collecting what is known of the host, before anything is decided. Everything of the spec that is a path on the host is
//! opened here, once: what is judged is what is used later, by descriptor.
//!
//! Nothing here judges. What cannot be looked at is a fact too (`Unreadable`); only what no decision can be made without is
//! an error.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::sys::resource::{Resource, getrlimit};

use self::files::Opened;
use crate::bundle::open_rootfs;
use crate::caller::{self, reader};
use crate::error::{Error, Result, Step};
use crate::policy::Loaded;
use gabion_core::caller::Reader;
use gabion_core::host::{CgroupDriver, Host, Mdwe, MemfdNoexec};
use gabion_core::namespace::NsType;
use gabion_core::policy::Policy;
use gabion_core::reach::Guard;
use gabion_core::request::Request;
use gabion_core::request::mount_options::is_bind;

mod cdi;
mod cgroups;
mod cri;
mod engines;
pub mod files;
mod hooks;
mod image;
pub mod lsm;
mod namespaces;
mod reach;
mod table;

pub use cri::door_of_bundle;

/// What was opened while collecting. create works on these, never on the paths again.
#[derive(Debug)]
pub struct Handles {
    /// The root file system (O_PATH).
    pub rootfs: OwnedFd,
    /// Namespaces that the spec names by path.
    pub ns: BTreeMap<PathBuf, OwnedFd>,
    /// By index in the spec's mounts: bind sources (O_PATH).
    pub sources: BTreeMap<usize, OwnedFd>,
    /// Programs of hooks that the spec names as a process's, by the spec's path (O_PATH).
    pub programs: BTreeMap<PathBuf, OwnedFd>,
    /// The socket of a seccomp profile's listener (O_PATH).
    pub listener: Option<OwnedFd>,
}

/// What was opened while gathering, but for the root.
struct Looked {
    ns: Opened<PathBuf>,
    sources: Opened<usize>,
    programs: Opened<PathBuf>,
    listener: Option<OwnedFd>,
}

/// The facts for a container that is to be made.
///
/// # Errors
/// A root file system that cannot be one, or a host whose own namespaces cannot be seen.
pub fn collect(request: &Request, policy: &Loaded, state_root: &Path, driver: CgroupDriver) -> Result<(Host, Handles)> {
    room(request)?;
    let rootfs = open_rootfs(request)?;
    let (host, looked) = gather(request, policy, state_root, driver, Some(rootfs.as_fd()));
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
    let Looked {
        ns,
        sources,
        programs,
        listener,
    } = looked;
    let handles = Handles {
        rootfs,
        ns,
        sources,
        programs,
        listener,
    };
    Ok((host, handles))
}

/// Tells whether all that is to be opened at once may be: who meets the limit in the middle can say little, and pathrs panics.
///
/// # Errors
/// There is less room than a container with as many binds takes.
pub fn room(request: &Request) -> Result<()> {
    /// Of a container without binds.
    const OTHERS: usize = 40;
    let binds = request.spec.mounts().iter().flatten().filter(|m| is_bind(m)).count();
    // Each source, and the mount that is made of it.
    let needed = binds.saturating_mul(2).saturating_add(OTHERS);
    let Ok((soft, _)) = getrlimit(Resource::RLIMIT_NOFILE) else {
        return Ok(());
    };
    if u64::try_from(needed).is_ok_and(|needed| needed <= soft) {
        return Ok(());
    }
    let why = format!(
        "{binds} binds need {needed} open files at once, and the limit of open files is {soft}: raise the hard limit \
         (`ulimit -Hn`, systemd's LimitNOFILE)"
    );
    Err(Error::failed(Step::Mounts, why))
}

/// The facts for a container that is only judged: its bundle may belong to another machine.
pub fn survey(request: &Request, policy: &Loaded, state_root: &Path, driver: CgroupDriver) -> Host {
    let rootfs = open_rootfs(request).ok();
    gather(request, policy, state_root, driver, rootfs.as_ref().map(AsFd::as_fd)).0
}

fn gather(
    request: &Request,
    loaded: &Loaded,
    state_root: &Path,
    driver: CgroupDriver,
    rootfs: Option<BorrowedFd<'_>>,
) -> (Host, Looked) {
    let policy = &loaded.policy;
    let (ns_paths, ns) = namespaces::by_path(request);
    let (mut sources, source_fds) = files::sources(request);
    let (hooks, programs) = hooks::look(request);
    let Reader { euid, user_ns } = reader();
    let dockers_root = engines::dockers_root(request, &sources);
    let build = engines::dockers_build(request, dockers_root.as_deref());
    let mut state_dirs = state_dirs(policy, state_root);
    state_dirs.extend(engines::places(request, dockers_root.as_ref()));
    let believed = believed(request, loaded, &state_dirs);
    let (mut listener, listener_fd) = files::listener(request);
    let asked = listener.as_mut().zip(listener_fd.as_ref());
    let places = reach::collect(request, policy, rootfs, (&mut sources, &source_fds), asked, &believed);
    let nofile = caller::limits::limit(Resource::RLIMIT_NOFILE).ok();
    let cgroup = cgroups::facts(request, state_root, driver, euid, user_ns);
    let selinux = lsm::selinux(state_root);
    let host = Host {
        namespaces: namespaces::own(),
        joined_users: namespaces::users(&ns_paths, &ns),
        ns_paths,
        sources,
        listener,
        targets: rootfs.map(|fd| image::targets(fd, request)).unwrap_or_default(),
        devices: files::devices(request),
        thermal_throttle: thermal_throttle(),
        kept_by_selinux: lsm::kept(&selinux),
        hooks,
        holes: rootfs.map(|fd| image::holes(fd, request, policy)).unwrap_or_default(),
        memory_total: cgroup.memory_total,
        tasks_total: cgroup.tasks_total,
        parent_memory: cgroup.memory,
        parent_pids: cgroup.pids,
        cgroup: cgroup.version,
        cgroup_driver: driver,
        controllers: cgroup.controllers,
        delegation: cgroup.delegation,
        cgroup_neighbour: cgroup.neighbour,
        swap_accounting: cgroup.swap,
        landlock_abi: gabion_sys::landlock_abi(),
        landlock_errata: gabion_sys::landlock_errata(),
        kernel: kernel(),
        memfd_noexec: memfd_noexec(&Path::new("/proc/sys/vm/memfd_noexec").try_exists()),
        mdwe: if gabion_sys::exec_gain().is_ok() {
            Mdwe::Present
        } else {
            Mdwe::Absent
        },
        apparmor: lsm::app_armor(),
        selinux,
        euid,
        user_ns,
        own_ids: caller::own_ids(),
        egid: nix::unistd::getegid().as_raw(),
        groups: caller::groups(),
        set_groups: caller::set_groups("self"),
        nofile: nofile.map_or(0, |(_, hard)| hard),
        nofile_soft: nofile.map(|(soft, _)| soft),
        oom_score_adj: caller::oom_score_adj(),
        rootfs: rootfs.and_then(|fd| image::real(fd).ok()),
        state_dirs,
        dockers_root,
        build,
        root: places.root,
        layers: places.layers,
        root_along: places.root_along,
        guarded: places.guarded,
        neighbours: places.neighbours,
        cdi: cdi::look(request, policy),
        cri: cri::files(request, policy, Reader { euid, user_ns }),
    };
    let looked = Looked {
        ns,
        sources: source_fds,
        programs,
        listener: listener_fd,
    };
    (host, looked)
}

/// What may not be looked at is not absent.
fn memfd_noexec(looked: &io::Result<bool>) -> MemfdNoexec {
    match looked {
        Ok(true) => MemfdNoexec::Present,
        Ok(false) => MemfdNoexec::Absent,
        Err(_) => MemfdNoexec::Hidden,
    }
}

fn thermal_throttle() -> Vec<PathBuf> {
    let cpus = Path::new("/sys/devices/system/cpu");
    // All processors have it or none: a machine of many need not be walked in vain.
    if !cpus.join("cpu0/thermal_throttle").exists() {
        return Vec::new();
    }
    let Ok(entries) = std::fs::read_dir(cpus) else {
        return Vec::new();
    };
    let mut found: Vec<PathBuf> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| name.strip_prefix("cpu").is_some_and(|n| n.parse::<u32>().is_ok()))
        .map(|name| cpus.join(name).join("thermal_throttle"))
        .filter(|dir| dir.exists())
        .collect();
    found.sort();
    found
}

/// `6.12.3-amd64` as (6, 12).
fn kernel() -> (u32, u32) {
    let release = crate::small::read("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut parts = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|n| n.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

/// gabion's own places, and those of runtimes that may run beside it.
fn state_dirs(policy: &Policy, state_root: &Path) -> Vec<PathBuf> {
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
    if !dirs.iter().any(|dir| dir == state_root) {
        dirs.push(state_root.to_owned());
    }
    if let Some(file) = &policy.audit.file {
        // The files alone: what else lies in a directory of the operator's choice is not ours.
        dirs.push(file.clone());
        dirs.push(crate::audit::head::file(policy.audit.head.as_deref(), file));
    } else {
        // The usual place is a directory of our own, with what was rotated away.
        let usual = crate::audit::place::file(&policy.audit, reader());
        let own = usual.as_deref().map(crate::audit::place::parent).map(Path::to_owned);
        dirs.extend(own.filter(|dir| !dirs.contains(dir)));
    }
    dirs
}

/// What gabion believes or runs: whoever writes there decides for it.
fn believed(request: &Request, loaded: &Loaded, state_dirs: &[PathBuf]) -> Vec<(PathBuf, Guard)> {
    let hooks = hooks::paths(request).cloned();
    let policy = match &loaded.source {
        crate::policy::Source::File(path) => std::path::absolute(path).ok(),
        crate::policy::Source::BuiltIn => None,
    };
    let files = hooks
        .chain(loaded.policy.hooks.allow.iter().cloned())
        .chain(policy)
        .chain(loaded.policy.audit.file.clone())
        .chain(reach::own_programs())
        .chain([request.bundle.join("config.json")]);
    let trees = state_dirs
        .iter()
        .filter(|dir| loaded.policy.audit.file.as_ref() != Some(dir));
    trees
        .map(|dir| (dir.clone(), Guard::Tree))
        .chain(files.map(|file| (file, Guard::File)))
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use gabion_core::host::{FileKind, HookFile, NsPath, SourceFs, SourcePath};

    fn request(linux: &str, mounts: &str, hooks: &str) -> Request {
        let text = format!(
            r#"{{"ociVersion":"1.0.2","process":{{"user":{{"uid":0,"gid":0}},"args":["sh"],"cwd":"/"}},
            "root":{{"path":"rootfs"}},"linux":{linux},"mounts":{mounts},"hooks":{hooks}}}"#
        );
        crate::bundle::from_reader("c".parse().unwrap(), Path::new("/tmp"), text.as_bytes(), Path::new("t")).unwrap()
    }

    fn facts(request: &Request) -> Host {
        survey(
            request,
            &Loaded::built_in(),
            Path::new("/run/elsewhere"),
            CgroupDriver::Cgroupfs,
        )
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
        // By a link of procfs, as the host's path never is; and the program of a process, held open.
        let own = format!("/proc/{}/exe", std::process::id());
        let text = format!(
            r#"{{"prestart":[{{"path":"{own}"}},{{"path":"/proc/self/exe"}},{{"path":"/proc/self/root/bin/sh"}},{{"path":"/proc/4294967295/exe"}}]}}"#
        );
        let (seen, held) = super::hooks::look(&self::request("{}", "[]", &text));
        let HookFile::OfProcess(exe) = &seen[Path::new(&own)] else {
            panic!("{seen:?}")
        };
        assert_eq!(exe.program, std::env::current_exe().ok());
        assert_eq!(exe.process, gabion_core::host::RunBy::Caller);
        assert_eq!(held.keys().collect::<Vec<_>>(), [Path::new(&own)]);
        for magic in ["/proc/self/exe", "/proc/self/root/bin/sh"] {
            assert_eq!(seen[Path::new(magic)], HookFile::MagicLink);
        }
        let gone = &seen[Path::new("/proc/4294967295/exe")];
        assert!(matches!(gone, HookFile::Unreadable(_)), "{gone:?}");
    }

    #[test]
    fn a_sysctl_that_may_not_be_looked_at_is_hidden() {
        let denied = Err(io::ErrorKind::PermissionDenied.into());
        let told = [denied, Ok(true), Ok(false)];
        let expected = [MemfdNoexec::Hidden, MemfdNoexec::Present, MemfdNoexec::Absent];
        assert_eq!(told.each_ref().map(memfd_noexec), expected);
    }

    #[test]
    fn the_machine_is_seen() {
        let host = facts(&request("{}", "[]", "{}"));
        assert!(host.memory_total > 0 && host.kernel.0 >= 4 && host.nofile > 0);
        assert!(host.state_dirs.contains(&PathBuf::from("/run/elsewhere")));
    }

    #[test]
    fn a_root_that_cannot_be_one_is_an_error_for_create() {
        assert!(
            collect(
                &request("{}", "[]", "{}"),
                &Loaded::built_in(),
                Path::new("/run/elsewhere"),
                CgroupDriver::Cgroupfs
            )
            .is_err()
        );
    }
}
