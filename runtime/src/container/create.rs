//! `create`: from a vetted container to a first process that waits for `start`.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use libcontainer::container::ContainerStatus;
use libcontainer::rootfs::utils::is_bind;
use libcontainer::user_ns::UserNamespaceConfig;
use nix::errno::Errno;
use nix::sys::stat::fstat;
use nix::unistd::Pid;
use oci_spec::runtime::{Hooks, LinuxSeccomp, Process};

use crate::container::cgroup::{Cgroup, CgroupRecord};
use crate::container::channel::{Channel, Message};
use crate::container::options::{CreateOptions, Keyring, Pivot, Settings};
use crate::container::precheck::Preserved;
use crate::container::spawn::{self, Entry};
use crate::container::state::{CreateLock, Init, Record, START_SOCKET, StateDir};
use crate::container::{delete, hooks, precheck, valid};
use crate::control::ControlId;
use crate::error::{Error, Result, Step};
use crate::faults::{self, Enforcement};
use crate::hardened::{Hardened, SeccompPlan};
use crate::host::NsType;
use crate::host::collect::{self, Handles};
use crate::init::mounts::{PointKind, Tree};
use crate::init::{Create, Filters, Kind, Leave, NotifyTarget, Proc, Setup, mounts, namespaces};
use crate::seccomp::{self, Program};
use crate::sys;
use crate::time::rfc3339_nanos;

/// Makes the container and gives its first process's pid.
///
/// # Errors
/// Whatever fails; nothing of the container is left behind then.
pub fn create(settings: &Settings, options: &CreateOptions, hardened: Hardened, handles: Handles) -> Result<i32> {
    let process = hardened.spec().process().as_ref();
    let console = match process {
        Some(process) => console_socket(options.console_socket.as_deref(), process)?,
        None => None,
    };
    create_on(settings, options, hardened, &handles, console)
}

/// The same, with the console's socket already connected.
pub fn create_on(
    settings: &Settings,
    options: &CreateOptions,
    hardened: Hardened,
    handles: &Handles,
    console: Option<OwnedFd>,
) -> Result<i32> {
    precheck::own_mounts(&hardened)?;
    valid::check(hardened.spec(), handles)?;
    let preserved = precheck::preserved(options.preserve_fds, precheck::listen_fds())?;
    let filters = filters(settings, &hardened)?;
    let (dir, lock) = StateDir::claim(&settings.root, &options.id)?;
    let record = record(settings, options, hardened, handles);
    let made = record.and_then(|record| {
        // Before anything is written down: what clears up after a failure kills whoever is in there.
        Cgroup::open(&record.cgroup).unoccupied()?;
        dir.write(&record)?;
        options.audit.save(&dir)?;
        make(
            options,
            &dir,
            &record,
            handles,
            Ready {
                filters,
                console,
                preserved,
            },
        )
    });
    match made {
        Ok(pid) => {
            drop(lock);
            Ok(pid)
        }
        Err(error) => {
            undo(dir, lock);
            Err(error)
        }
    }
}

/// After a failure: what was made goes, as `delete --force` would have it. The first error is the one to tell.
fn undo(dir: StateDir, lock: CreateLock) {
    // Deleted meanwhile, and the id given to another: that one is not ours to clear.
    if !dir.is_current() {
        return;
    }
    if let Err(error) = delete::clear(&dir) {
        tracing::error!(%error, "cleaning up after a failed create");
    }
    drop(lock);
}

fn record(settings: &Settings, options: &CreateOptions, hardened: Hardened, handles: &Handles) -> Result<Record> {
    let bundle = fs::canonicalize(&options.bundle).map_err(Error::file("find", &options.bundle))?;
    let rootfs = fs::read_link(format!("/proc/self/fd/{}", handles.rootfs.as_raw_fd()))
        .map_err(Error::file("find", "the root file system"))?;
    let asked = hardened.spec().linux().as_ref().and_then(|l| l.cgroups_path().clone());
    let cgroup = CgroupRecord {
        path: asked.unwrap_or_else(|| PathBuf::from(format!("/gabion/{}", options.id))),
        driver: settings.systemd_cgroup,
        name: options.id.to_string(),
    };
    let mut hardened = hardened;
    // A new one is every runtime's rule (runc), not only the control's; that one is not given up for a flag.
    hardened.plan.new_keyring = options.keyring == Keyring::New || hardened.enforces(ControlId::Fds);
    Ok(Record::new(
        options.id.clone(),
        bundle,
        rootfs,
        rfc3339_nanos(std::time::SystemTime::now()),
        collect::user_ns(),
        cgroup,
        hardened,
    ))
}

/// The filters, ready made: compiled or read from the cache before anything of the container exists.
pub fn filters(settings: &Settings, hardened: &Hardened) -> Result<Filters> {
    faults::at(Step::Seccomp)?;
    let profile = hardened.spec().linux().as_ref().and_then(|l| l.seccomp().as_ref());
    let plan = hardened.plan().seccomp;
    let floor = match plan {
        SeccompPlan::AsAsked => None,
        SeccompPlan::Default => Some(Program::default_profile()),
        SeccompPlan::ProfileAndFloor => Some(Program::floor()),
    };
    let Some(profile) = profile.filter(|_| plan != SeccompPlan::Default) else {
        return Ok(Filters {
            floor,
            ..Filters::default()
        });
    };
    let cache = settings.root.join(".seccomp-cache");
    let parent = settings.root.parent().filter(|_| !settings.root.exists());
    if let Some(parent) = parent {
        fs::create_dir_all(parent).map_err(Error::file("make", parent))?;
    }
    StateDir::root(&settings.root)?;
    let compiled =
        seccomp::load_or_compile(&cache, profile).map_err(|e| Error::failed(Step::Seccomp, e.to_string()))?;
    Ok(Filters {
        floor,
        profile: Some(compiled),
        notify: None,
    })
}

/// Where the notify descriptor goes, for a profile that has one.
pub fn notify_target(record: &Record, filters: &Filters) -> Result<Option<NotifyTarget>> {
    if !filters.profile.as_ref().is_some_and(|p| p.listener) {
        return Ok(None);
    }
    let profile: Option<&LinuxSeccomp> = record
        .hardened
        .spec()
        .linux()
        .as_ref()
        .and_then(|l| l.seccomp().as_ref());
    let path = profile.and_then(|p| p.listener_path().as_ref());
    let path =
        path.ok_or_else(|| Error::failed(Step::Seccomp, "the profile uses SCMP_ACT_NOTIFY without listenerPath"))?;
    let state = serde_json::json!({
        "ociVersion": record.hardened.spec().version(),
        "id": record.id.as_str(),
        "status": "creating",
        "bundle": record.bundle,
        "annotations": record.hardened.spec().annotations(),
    });
    let metadata = profile.and_then(|p| p.listener_metadata().clone()).unwrap_or_default();
    Ok(Some(NotifyTarget {
        socket: crate::executor::notify::connect(path)?,
        state,
        metadata,
    }))
}

/// What was looked at, compiled or connected before anything of the container existed.
struct Ready {
    filters: Filters,
    console: Option<OwnedFd>,
    preserved: Preserved,
}

fn make(options: &CreateOptions, dir: &StateDir, record: &Record, handles: &Handles, ready: Ready) -> Result<i32> {
    let Ready {
        mut filters,
        console: console_socket,
        preserved,
    } = ready;
    filters.notify = notify_target(record, &filters)?;
    let spec = record.hardened.spec();
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::failed(Step::Clone, "the spec has no process"))?;
    let listener =
        UnixListener::bind(dir.socket_path(START_SOCKET)).map_err(Error::file("make", dir.path.join(START_SOCKET)))?;
    let (ours, theirs) = Channel::pair()?;
    let (entry, joins) = entry(&record.hardened, handles)?;
    let create = Create {
        rootfs_tree: clone_tree(&handles.rootfs, sys::Reach::Tree)?,
        rootfs: record.rootfs.clone(),
        trees: trees(record, handles)?,
        leave: if options.pivot == Pivot::Pivot {
            Leave::PivotRoot
        } else {
            Leave::MoveRoot
        },
        listener: listener.into(),
        hooks: spec.hooks(),
        memory_cgroup: None,
    };
    let setup = Setup {
        hardened: &record.hardened,
        kind: Kind::Create(create),
        process,
        channel: theirs,
        proc: Proc::open()?,
        joins,
        console_socket,
        preserved,
        filters,
        annotations_state: spec
            .hooks()
            .as_ref()
            .map(|_| hooks::state_for(record, ContainerStatus::Creating, None)),
    };
    let new_user = entry.new.contains(&NsType::User);
    let pid = spawn::spawn(entry, setup, &ours)?;
    let init = Init::now(pid.as_raw())?;
    dir.write_init(init)?;
    into_cgroup(record, pid)?;
    if new_user {
        map_ids(record, pid)?;
    }
    ours.send(&Message::Go)?;
    accompany(record, &ours, pid, spec.hooks().as_ref())?;
    write_pid_file(options.pid_file.as_deref(), pid.as_raw())?;
    Ok(pid.as_raw())
}

/// What clone makes, and what the child joins.
fn entry(hardened: &Hardened, handles: &Handles) -> Result<(Entry, Vec<(NsType, OwnedFd)>)> {
    let mut entry = Entry {
        new: namespaces::new_types(hardened),
        offsets: clock_offsets(hardened),
        ..Entry::default()
    };
    if faults::enforcement(ControlId::Namespaces) != Enforcement::Do {
        entry.new.retain(|t| *t == NsType::Mount);
    }
    let wanted = namespaces::joined_types(hardened);
    let mut joins = Vec::new();
    for typ in namespaces::JOIN_ORDER {
        let Some((_, path)) = wanted.iter().find(|(t, _)| *t == typ) else {
            continue;
        };
        // The descriptor that was vetted, never the path again.
        let fd = handles.ns.get(path).ok_or_else(|| {
            Error::failed(
                Step::Namespaces,
                format!("cannot open the namespace {}", path.display()),
            )
        })?;
        let fd = fd.try_clone().map_err(Error::file("keep", path))?;
        match typ {
            NsType::User => entry.user = Some(fd),
            NsType::Pid => entry.pid = Some(fd),
            _ => joins.push((typ, fd)),
        }
    }
    Ok((entry, joins))
}

/// `linux.timeOffsets` as the kernel takes them, a line for each clock.
fn clock_offsets(hardened: &Hardened) -> Vec<String> {
    let offsets = hardened.spec().linux().as_ref().and_then(|l| l.time_offsets().as_ref());
    let line = |(clock, offset): (&String, &oci_spec::runtime::LinuxTimeOffset)| {
        format!(
            "{clock} {} {}\n",
            offset.secs().unwrap_or(0),
            offset.nanosecs().unwrap_or(0)
        )
    };
    offsets.into_iter().flatten().map(line).collect()
}

/// A detached clone, or None where only a user namespace of ours will allow it.
fn clone_tree(fd: &OwnedFd, reach: sys::Reach) -> Result<Option<OwnedFd>> {
    match sys::open_tree_clone(fd.as_fd(), reach) {
        Ok(tree) => Ok(Some(tree)),
        Err(Errno::EPERM) => Ok(None),
        Err(e) => Err(Error::step(Step::Mounts, "clone a mount", e)),
    }
}

fn trees(record: &Record, handles: &Handles) -> Result<BTreeMap<usize, Tree>> {
    let mut trees = BTreeMap::new();
    for (index, mount) in record.hardened.spec().mounts().iter().flatten().enumerate() {
        if !is_bind(mount) {
            continue;
        }
        let shown = mount.source().clone().unwrap_or_default();
        let fd = handles.sources.get(&index).ok_or_else(|| Error::Bundle {
            path: shown.clone(),
            why: format!(
                "the source of the mount at {} does not exist",
                mount.destination().display()
            ),
        })?;
        let stat = fstat(fd.as_raw_fd()).map_err(|e| Error::step(Step::Mounts, "look at a source", e))?;
        let point = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            PointKind::Directory
        } else {
            PointKind::File
        };
        let tree = match clone_tree(fd, mounts::reach(mount))? {
            Some(fd) => Tree::Detached { fd, point },
            None => Tree::Reopen {
                path: shown,
                dev: stat.st_dev,
                ino: stat.st_ino,
                point,
            },
        };
        trees.insert(index, tree);
    }
    Ok(trees)
}

/// Connected before the clone: its path is the host's. A terminal and a socket come together or not at all.
pub fn console_socket(path: Option<&Path>, process: &Process) -> Result<Option<OwnedFd>> {
    match (path, process.terminal().unwrap_or(false)) {
        (Some(path), true) => {
            let stream = UnixStream::connect(path).map_err(Error::file("connect to the console socket", path))?;
            Ok(Some(stream.into()))
        }
        (None, true) => Err(Error::Usage(
            "the process wants a terminal: give --console-socket".to_owned(),
        )),
        (Some(_), false) => Err(Error::Usage(
            "--console-socket needs a process with terminal: true".to_owned(),
        )),
        (None, false) => Ok(None),
    }
}

/// Puts the process into its cgroup, sets the limits, and reads them back while nothing of the workload runs.
fn into_cgroup(record: &Record, pid: Pid) -> Result<()> {
    faults::at(Step::Cgroup)?;
    let cgroup = Cgroup::open(&record.cgroup);
    cgroup.add(pid)?;
    let resources = record
        .hardened
        .spec()
        .linux()
        .as_ref()
        .and_then(|l| l.resources().as_ref());
    if let Some(resources) = resources {
        cgroup.limit(resources, &record.hardened)?;
    }
    cgroup.verify(&record.hardened, pid)
}

/// By libcontainer, which knows newuidmap for those who may not write the files themselves.
fn map_ids(record: &Record, pid: Pid) -> Result<()> {
    faults::at(Step::UserNamespace)?;
    let failed = |e: &dyn std::fmt::Display| Error::failed(Step::UserNamespace, e.to_string());
    let config = UserNamespaceConfig::new(record.hardened.spec()).map_err(|e| failed(&e))?;
    let Some(config) = config else { return Ok(()) };
    if !nix::unistd::geteuid().is_root() {
        // Without privileges groups may only be mapped once setgroups is off (user_namespaces(7)).
        let path = format!("/proc/{pid}/setgroups");
        if config.newgidmap.is_none() {
            fs::write(&path, "deny").map_err(Error::file("write", &path))?;
        }
    }
    config.write_uid_mapping(pid).map_err(|e| failed(&e))?;
    config.write_gid_mapping(pid).map_err(|e| failed(&e))
}

/// Serves the first process until it is ready.
fn accompany(record: &Record, channel: &Channel, pid: Pid, hooks: Option<&Hooks>) -> Result<()> {
    loop {
        match channel.receive()? {
            Some((Message::Ready, _)) => return Ok(()),
            Some((Message::RunHooks, _)) => {
                let state = hooks::state_for(record, ContainerStatus::Creating, Some(pid.as_raw()));
                #[allow(deprecated)]
                let prestart = hooks.and_then(|h| h.prestart().as_ref());
                hooks::run(prestart, Some(&state), Some(pid.as_raw()))?;
                hooks::run(
                    hooks.and_then(|h| h.create_runtime().as_ref()),
                    Some(&state),
                    Some(pid.as_raw()),
                )?;
                channel.send(&Message::HooksRan)?;
            }
            Some((Message::Failed(report), _)) => return Err(report.into()),
            Some((other, _)) => return Err(Error::failed(Step::Ready, format!("unexpected message {other:?}"))),
            None => {
                return Err(Error::failed(
                    Step::Ready,
                    "the container's first process died before it was ready",
                ));
            }
        }
    }
}

/// Whole or not at all: engines read it as soon as it is there.
pub fn write_pid_file(path: Option<&Path>, pid: i32) -> Result<()> {
    let Some(path) = path else { return Ok(()) };
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(".gabion-new");
    let temporary = path.with_file_name(name);
    fs::write(&temporary, pid.to_string()).map_err(Error::file("write", &temporary))?;
    fs::rename(&temporary, path).map_err(Error::file("write", path))
}
