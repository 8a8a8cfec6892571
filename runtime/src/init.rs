//! The container's first process, from clone to execve. Every step stands here in its order, with the reason for the order.
//!
//! It runs in a copy of the runtime's memory, in new namespaces, and trusts nothing that lies in the image.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use nix::errno::Errno;
use oci_spec::runtime::Process;

use crate::container::channel::{Channel, Message, Report};
use crate::container::precheck::Preserved;
use crate::control::ControlId;
use crate::error::{Error, Result, Step};
use crate::executor::Workload;
use crate::faults::{self, Enforcement};
use crate::hardened::Hardened;
use crate::host::NsType;
use crate::request::Leave;
use crate::seccomp::{Compiled, Program};
use crate::sys;

pub mod cgroup_mount;
pub mod console;
pub mod devices;
pub mod fsmount;
pub mod holes;
pub mod ids;
pub mod limits;
pub mod masks;
pub mod memory_policy;
pub mod mounts;
pub mod namespaces;
pub mod pivot;
pub mod proc;
pub mod target;

pub use proc::Proc;

/// What the first process is handed by the runtime. Every descriptor is close-on-exec.
#[derive(Debug)]
pub struct Setup<'a> {
    pub hardened: &'a Hardened,
    pub kind: Kind<'a>,
    pub process: &'a Process,
    pub channel: Channel,
    /// The host's procfs: reading back what is in force does not depend on the image's /proc.
    pub proc: Proc,
    /// Namespaces to join, in the order of `namespaces::JOIN_ORDER`.
    pub joins: Vec<(NsType, OwnedFd)>,
    pub console_socket: Option<OwnedFd>,
    /// Descriptors above stdio that outlive execve.
    pub preserved: Preserved,
    pub filters: Filters,
    pub annotations_state: Option<libcontainer::container::State>,
}

/// The seccomp programs to install, ready made.
#[derive(Debug, Default)]
pub struct Filters {
    /// Installed and probed first: a profile may kill for the calls that the probe makes.
    pub floor: Option<Program>,
    /// The spec's own profile.
    pub profile: Option<Compiled>,
    pub notify: Option<NotifyTarget>,
}

/// Where the descriptor of a notify filter goes.
#[derive(Debug)]
pub struct NotifyTarget {
    /// Connected before the pivot, while its path can be reached.
    pub socket: OwnedFd,
    /// The container's OCI state, without the pid.
    pub state: serde_json::Value,
    /// `listenerMetadata`.
    pub metadata: String,
}

impl NotifyTarget {
    /// What is sent beside the descriptor (runtime-spec, config-linux.md, containerProcessState).
    pub fn state_of(&self, pid: &str) -> Result<Vec<u8>> {
        let number: i64 = pid
            .parse()
            .map_err(|_| Error::failed(Step::Seccomp, "our pid is not a number"))?;
        let mut state = self.state.clone();
        state["pid"] = number.into();
        let whole = serde_json::json!({
            "ociVersion": state["ociVersion"],
            "fds": ["seccompFd"],
            "pid": number,
            "metadata": self.metadata,
            "state": state,
        });
        serde_json::to_vec(&whole).map_err(|e| Error::failed(Step::Seccomp, e.to_string()))
    }
}

/// Whether a container is made, or a process added to one.
#[derive(Debug)]
pub enum Kind<'a> {
    Create(Create<'a>),
    Exec,
}

/// What only a new container needs.
#[derive(Debug)]
pub struct Create<'a> {
    /// A detached clone of the root file system's mounts, made while the runtime still saw them; None where that needs
    /// privileges that only the new user namespace gives.
    pub rootfs_tree: Option<OwnedFd>,
    pub rootfs: PathBuf,
    /// Detached clones of bind sources, by index in the spec's mounts; the vetted descriptors stand behind them.
    pub trees: mounts::Trees,
    pub leave: Leave,
    /// `start` connects here.
    pub listener: OwnedFd,
    pub hooks: &'a Option<oci_spec::runtime::Hooks>,
    pub memory_cgroup: Option<u64>,
    /// SELinux: what files of file systems that are made for the container are labelled.
    pub mount_label: Option<String>,
}

impl Setup<'_> {
    /// Whether this control is in force; a fault-injection build may say it is and then do nothing.
    pub fn applies(&self, control: ControlId) -> bool {
        // What the spec asks is done at every level; `Skip` exists in test builds only.
        faults::enforcement(control) == Enforcement::Do
    }

    fn enters_new(&self, typ: NsType) -> bool {
        namespaces::new_types(self.hardened).contains(&typ)
    }
}

/// Runs the whole walk; ends in execve or in an error that was reported.
pub fn run(setup: &Setup<'_>) -> ! {
    let error = match walk(setup) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    let report = Message::Failed(Report::from(&error));
    // The parent may be gone (start was reached long ago): nobody is left to hear it, and the exit code says the rest.
    let told = setup.channel.send(&report);
    sys::exit_now(if told.is_ok() { 1 } else { 255 })
}

fn walk(setup: &Setup<'_>) -> Result<std::convert::Infallible> {
    // Until the parent has put us into the cgroup and mapped our ids, nothing is charged or owned rightly.
    setup.channel.expect(&Message::Go)?;
    namespaces::become_root(setup)?;
    // Mount points are for every user of the container, whatever our caller's umask; the workload's is runc's.
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    let prepared = match &setup.kind {
        Kind::Create(create) => prepare_create(setup, create)?,
        Kind::Exec => prepare_exec(setup)?,
    };
    let workload = Workload::validate(setup, prepared)?;
    faults::at(Step::Ready)?;
    setup.channel.send(&Message::Ready)?;
    match &setup.kind {
        Kind::Create(create) => {
            let starter = wait_for_start(create.listener.as_fd())?;
            // From here on `start` hears of failures, not `create`, which has returned.
            workload.exec(setup, Some(starter))
        }
        Kind::Exec => workload.exec(setup, None),
    }
}

/// What the steps before the credentials leave for those after.
#[derive(Debug)]
pub struct Prepared {
    /// A directory outside everything that Landlock allows: opening it must fail once Landlock is in force.
    pub landlock_probe: Option<OwnedFd>,
}

fn prepare_create(setup: &Setup<'_>, create: &Create<'_>) -> Result<Prepared> {
    nix::unistd::setsid().map_err(|e| Error::step(Step::Clone, "start a session", e))?;
    // Rank in the host's scheduler and limits need the host's privileges: before any credential changes.
    limits::apply(setup)?;
    memory_policy::apply(setup)?;
    // Others in a joined pid namespace must not look into us while we hold the host's descriptors (CVE-2016-9962).
    namespaces::enter(setup)?;
    namespaces::set_names(setup)?;
    namespaces::loopback(setup)?;
    // All mounts while we are still fully privileged and before the root is left, since sources lie outside.
    let root = mounts::build(setup, create)?;
    run_hooks_before_pivot(setup, create)?;
    pivot::leave(&root, create.leave)?;
    ids::make_cwd(setup)?;
    // /proc/sys is still writable: the masks below close it.
    limits::sysctls(setup)?;
    console::attach(setup, console::Bind::Console)?;
    // Last of the mounts: everything above may still need to write below them.
    pivot::finish_root(setup)?;
    masks::apply(setup, create)?;
    finish_identity(setup)
}

fn prepare_exec(setup: &Setup<'_>) -> Result<Prepared> {
    nix::unistd::setsid().map_err(|e| Error::step(Step::Clone, "start a session", e))?;
    limits::apply(setup)?;
    memory_policy::apply(setup)?;
    namespaces::enter(setup)?;
    console::attach(setup, console::Bind::Nothing)?;
    finish_identity(setup)
}

/// What both have in common between the mounts and the credentials.
fn finish_identity(setup: &Setup<'_>) -> Result<Prepared> {
    // A mount needs privileges, so it is made before they go. One for both who try there what must be denied.
    let landlock = setup.hardened.plan().landlock.is_some();
    let place = if landlock || setup.hardened.enforces(ControlId::Devices) {
        let place = fsmount::detached_tmpfs()?;
        devices::probe(setup, &place)?;
        Some(place)
    } else {
        None
    };
    ids::keyring(setup)?;
    ids::stdio_owner(setup)?;
    // Before the ids change: runc's rule, some directories may be entered by root only.
    let entered = ids::enter_cwd(setup)?;
    ids::close_inherited(setup)?;
    ids::become_user(setup)?;
    ids::enter_cwd_again(setup, entered)?;
    ids::verify_cwd(setup)?;
    Ok(Prepared {
        landlock_probe: place.filter(|_| landlock),
    })
}

fn run_hooks_before_pivot(setup: &Setup<'_>, create: &Create<'_>) -> Result<()> {
    let Some(hooks) = create.hooks else { return Ok(()) };
    faults::at(Step::Hooks)?;
    setup.channel.send(&Message::RunHooks)?;
    setup.channel.expect(&Message::HooksRan)?;
    crate::container::hooks::run(
        hooks.create_container().as_ref(),
        setup.annotations_state.as_ref(),
        None,
    )
}

/// Waits for `start`: it connects, and stays connected until execve closes our end.
fn wait_for_start(listener: BorrowedFd<'_>) -> Result<OwnedFd> {
    use nix::sys::socket::{SockFlag, accept4, getsockopt, sockopt};
    use std::os::fd::AsRawFd;
    loop {
        let fd = match accept4(listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
            Err(Errno::EINTR) => continue,
            other => other.map_err(|e| Error::step(Step::Start, "wait for start", e))?,
        };
        let fd = sys::adopt(fd).map_err(|e| Error::step(Step::Start, "take start's connection", e))?;
        let peer = getsockopt(&fd, sockopt::PeerCredentials)
            .map_err(|e| Error::step(Step::Start, "look at who starts us", e))?;
        // The socket lies in a directory of the owner's alone; seen from a user namespace of ours, an unmapped root is 65534.
        let mapped_root = peer.uid() == 0 || peer.uid() == 65534 || peer.uid() == nix::unistd::getuid().as_raw();
        if mapped_root {
            return Ok(fd);
        }
    }
}
