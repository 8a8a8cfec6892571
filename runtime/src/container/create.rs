//! `create`: from a vetted container to a first process that waits for `start`.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use libcontainer::container::ContainerStatus;
use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use crate::cgroup::Cgroup;
use crate::container::options::{CreateOptions, Settings};
use crate::container::pid_file::PidFile;
use crate::container::pidfd_socket::{Of, PidfdSocket};
use crate::container::spawn::{self, Born};
use crate::container::{affinity, as_host, delete, id_maps, precheck};
use crate::contract::channel::{Channel, Message};
use crate::contract::hooks;
use crate::contract::setup::Preserved;
use crate::contract::setup::{Console, Create, Filters, Kind, Setup};
use crate::faults;
use crate::state::{CreateLock, StateDir};
use crate::wait;
use gabion_core::hardened::{Amendment, Hardened};
use gabion_core::id::ControlId;
use gabion_core::namespace::NsType;
use gabion_core::time::rfc3339_nanos;
use gabion_see::cgroup::CgroupRecord;
use gabion_see::error::{Error, Result, Step};
use gabion_see::procfs::Proc;
use gabion_see::state::UNREADY_SOCKET;
use gabion_see::state::{Init, Record};
use gabion_see::survey::Handles;
use gabion_see::survey::lsm;

mod filters;
mod handover;
mod idmap;
mod net_devices;

pub(crate) use filters::{filters, listener_again, notify_target};
pub(crate) use handover::console_socket;
use handover::{clone_tree, entry, trees};

/// Makes the container and gives its first process's pid.
///
/// # Errors
/// Whatever fails; nothing of the container is left behind then.
pub(crate) fn create(
    settings: &Settings,
    options: &CreateOptions,
    hardened: Hardened,
    handles: Handles,
) -> Result<i32> {
    let process = hardened.spec().process().as_ref();
    let console = match process {
        Some(process) => console_socket(options.console_socket.as_deref(), process)?.map(Console::of_callers),
        None => None,
    };
    create_on(settings, options, hardened, &handles, console).map(|(pid, _)| pid)
}

/// The same, with the console's socket already connected.
pub(crate) fn create_on(
    settings: &Settings,
    options: &CreateOptions,
    hardened: Hardened,
    handles: &Handles,
    console: Option<Console>,
) -> Result<(i32, StateDir)> {
    let preserved = precheck::preserved(options.preserve_fds, precheck::listen_fds())?;
    if hardened.enforces(ControlId::Lsm) && hardened.plan().lsm.load_default {
        gabion_common::apparmor::load()?;
    }
    let pidfd = PidfdSocket::connect(options.pidfd_socket.as_deref())?;
    let filters = filters(settings, &hardened)?;
    wait::hold_ends()?;
    let (mut dir, lock) = StateDir::claim(&settings.root, &options.id)?;
    let ready = Ready {
        filters,
        console,
        preserved,
        pidfd,
    };
    let begun = record(settings, options, hardened, handles).and_then(|mut record| {
        record.filters = ready.filters.digests();
        begin(options, &dir, record)
    });
    let (record, killed) = match begun {
        Ok(begun) => begun,
        Err(error) => {
            let undone = undo(dir, lock);
            tracing::debug!(?undone, "nothing had begun");
            return Err(error);
        }
    };
    match make(options, &dir, &record, handles, ready) {
        Ok(pid) => {
            drop(lock);
            dir.keep(record);
            Ok((pid, dir))
        }
        Err(error) => {
            let error = named(error, &Cgroup::open(&record.cgroup), killed);
            // What its other hooks did is taken back by these (runtime-spec, runtime.md#lifecycle: on to the destruction; runc, the same).
            if undo(dir, lock) == Undone::Whole {
                delete::poststop(settings, &record, Some(record.bundle.clone()));
            }
            Err(error)
        }
    }
}

/// Names a memory limit that the first process does not fit into. The kernel kills the process for that, and it dies without a word.
fn named(error: Error, cgroup: &Cgroup, killed_before: u64) -> Error {
    if !error.may_follow_an_end() || cgroup.killed_for_memory() <= killed_before {
        return error;
    }
    tracing::debug!(%error, "killed for its memory");
    let why = "container init was OOM-killed (memory limit too low?): raise linux.resources.memory.limit";
    Error::failed(Step::Cgroup, why)
}

/// Writes it down, in a cgroup that is free for it. How many of that cgroup's processes were killed for its memory before, comes with it.
fn begin(options: &CreateOptions, dir: &StateDir, record: Record) -> Result<(Record, u64)> {
    // Before anything is written down: what clears up after a failure kills whoever is in there.
    let enforced = record.hardened.enforces(ControlId::Cgroup);
    let cgroup = Cgroup::open(&record.cgroup);
    cgroup.thawed()?;
    let killed = cgroup.killed_for_memory();
    // A runtime may die at any step: what is made is always written down before. This file alone ends nobody who is in that cgroup.
    dir.write_taking(&record.cgroup)?;
    cgroup.claim(dir.path(), enforced)?;
    dir.write(&record)?;
    dir.taken()?;
    options.audit.save(dir)?;
    Ok((record, killed))
}

/// What became of a container whose create failed.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Undone {
    /// Nothing is left.
    Whole,
    /// Its state stays, for a `delete`; or somebody deleted it meanwhile.
    Not,
}

/// After a failure: what was made goes, as `delete --force` would have it. The first error is the one to tell.
fn undo(dir: StateDir, lock: CreateLock) -> Undone {
    // Deleted meanwhile, and the id given to another: that one is not ours to clear.
    if !dir.is_current() {
        return Undone::Not;
    }
    let undone = match delete::clear(&dir) {
        Ok(()) => Undone::Whole,
        Err(error) => {
            tracing::error!(%error, "cleaning up after a failed create");
            Undone::Not
        }
    };
    drop(lock);
    undone
}

fn record(settings: &Settings, options: &CreateOptions, hardened: Hardened, handles: &Handles) -> Result<Record> {
    let bundle = fs::canonicalize(&options.bundle).map_err(Error::file("find", &options.bundle))?;
    let rootfs = fs::read_link(format!("/proc/self/fd/{}", handles.rootfs.as_raw_fd()))
        .map_err(Error::file("find", "the root file system"))?;
    let asked = hardened.spec().linux().as_ref().and_then(|l| l.cgroups_path().clone());
    let asked = asked.filter(|path| !path.as_os_str().is_empty());
    let cgroup = CgroupRecord {
        path: asked.unwrap_or_else(|| gabion_see::cgroup::default_place(settings.cgroup_driver, &options.id)),
        driver: settings.cgroup_driver,
        name: options.id.to_string(),
        manager: gabion_see::cgroup::unit::manager(settings.cgroup_driver, gabion_see::caller::is_host_root()),
        delegation: hardened.plan().delegation.clone(),
    };
    let hardened = hardened.amend(Amendment::Keyring(options.keyring));
    Ok(Record::new(
        options.id.clone(),
        bundle,
        rootfs,
        rfc3339_nanos(gabion_see::clock::now()),
        gabion_see::caller::user_ns(),
        cgroup,
        hardened,
    ))
}

/// What was looked at, compiled or connected before anything of the container existed.
struct Ready {
    filters: Filters,
    console: Option<Console>,
    preserved: Preserved,
    pidfd: Option<PidfdSocket>,
}

fn make(options: &CreateOptions, dir: &StateDir, record: &Record, handles: &Handles, ready: Ready) -> Result<i32> {
    let Ready {
        mut filters,
        console,
        preserved,
        pidfd,
    } = ready;
    filters.notify = notify_target(record, &filters, (handles.listener.as_ref(), None))?;
    let spec = record.hardened.spec();
    let process = spec
        .process()
        .as_ref()
        .ok_or_else(|| Error::failed(Step::Clone, "the spec has no process"))?;
    let listener = UnixListener::bind(dir.socket_path(UNREADY_SOCKET))
        .map_err(Error::file("make", dir.path().join(UNREADY_SOCKET)))?;
    let (ours, theirs) = Channel::pair()?;
    let (entry, joins) = entry(&record.hardened, handles)?;
    let joined_net = joins.iter().find(|(typ, _)| *typ == NsType::Network);
    let joined_net = joined_net.map(|(_, fd)| fd.try_clone()).transpose();
    let joined_net = joined_net.map_err(Error::file("keep", "the network namespace"))?;
    let create = Create {
        rootfs_tree: clone_tree(&handles.rootfs, gabion_sys::Reach::Tree)?,
        rootfs: record.rootfs.clone(),
        trees: trees(record, handles)?,
        leave: options.leave,
        listener: listener.into(),
        hooks: spec.hooks(),
        mount_label: mount_label(&record.hardened),
    };
    let setup = Setup {
        hardened: &record.hardened,
        kind: Kind::Create(create),
        process,
        channel: theirs,
        proc: Proc::open()?,
        joins,
        console,
        preserved,
        filters,
        annotations_state: spec
            .hooks()
            .as_ref()
            .map(|_| hooks::state_for(record, ContainerStatus::Creating, None)),
    };
    let new_user = entry.new.contains(&NsType::User);
    let cgroup = Cgroup::open(&record.cgroup);
    let settle = |pid| cgroup.add(pid, resources(record));
    let spawn::Spawned {
        pid,
        born,
        channel: ours,
    } = spawn::spawn(&entry, setup, ours, cgroup.cradle()?, &settle)?;
    let init = Init::now(pid.as_raw())?;
    dir.write_init(init, &record.cgroup)?;
    into_cgroup(record, &cgroup, pid, born)?;
    affinity::of_the_cgroup(pid);
    if new_user {
        id_maps::write(record.hardened.spec(), pid)?;
    }
    net_devices::hand_over(record, pid, joined_net.as_ref())?;
    ours.send(&Message::Go)?;
    accompany(record, &ours, pid, handles)?;
    as_host::verify(&record.hardened, pid.as_raw())?;
    dir.ready()?;
    // From here on it is made.
    wait::told_to_end()?;
    if let Some(pidfd) = pidfd {
        pidfd.send(Of::First, pid)?;
    }
    if let Some(path) = &options.pid_file {
        PidFile::write(path, pid)?;
    }
    Ok(pid.as_raw())
}

/// The label of mounts, where a kernel is that can take it (runc: ignored without SELinux).
fn mount_label(hardened: &Hardened) -> Option<String> {
    let linux = hardened.spec().linux().as_ref();
    let label = linux.and_then(|l| l.mount_label().clone()).filter(|l| !l.is_empty());
    label.filter(|_| lsm::selinux_is_here())
}

fn resources(record: &Record) -> Option<&LinuxResources> {
    let linux = record.hardened.spec().linux().as_ref();
    linux.and_then(|l| l.resources().as_ref())
}

/// Puts the process into its cgroup, sets the limits, and reads them back while nothing of the workload runs.
fn into_cgroup(record: &Record, cgroup: &Cgroup, pid: Pid, born: Born) -> Result<()> {
    faults::at(Step::Cgroup)?;
    let resources = resources(record);
    if born == Born::Outside {
        cgroup.add(pid, resources)?;
    }
    if let Some(resources) = resources {
        cgroup.limit(resources, &record.hardened)?;
    }
    cgroup.verify(&record.hardened, pid, resources)
}

/// Serves the first process until it is ready.
fn accompany(record: &Record, channel: &Channel, pid: Pid, handles: &Handles) -> Result<()> {
    let hooks = record.hardened.spec().hooks().as_ref();
    let mut patience = Some(wait::BUILD);
    loop {
        match channel.hear(patience)? {
            Some((Message::Ready, _)) => return Ok(()),
            Some((Message::RunHooks, _)) => {
                let state = hooks::state_for(record, ContainerStatus::Creating, Some(pid.as_raw()));
                let scene =
                    hooks::Scene::of_runtime(&record.hardened, Some(record.bundle.clone())).holding(&handles.programs);
                #[allow(deprecated)]
                let prestart = hooks.and_then(|h| h.prestart().as_ref());
                hooks::run(hooks::Kind::Prestart, prestart, Some(&state), &scene)?;
                let create = hooks.and_then(|h| h.create_runtime().as_ref());
                hooks::run(hooks::Kind::CreateRuntime, create, Some(&state), &scene)?;
                channel.send(&Message::HooksRan)?;
                // It runs hooks of its own now.
                let own = hooks::patience(hooks.and_then(|h| h.create_container().as_ref()));
                patience = own.map(|own| own + wait::BUILD);
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
