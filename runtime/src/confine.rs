//! The last two stages before the workload.
//!
//! `validate` runs before `create` returns: credentials are set, everything already in force is read back from the kernel,
//! Landlock's paths are open, the filters are ready. `exec` runs after `start`: Landlock, seccomp, their probes, execve.
//!
//! Order, and why: capabilities → no_new_privs → label (takes effect on exec) → Landlock → seccomp → execve. Where
//! no_new_privs is off, Landlock and seccomp need CAP_SYS_ADMIN instead, so they come before the capabilities go.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::contract::channel::{Message, Report};
use crate::contract::hooks;
use crate::contract::setup::{Kind, Prepared, Setup};
use crate::filter::ProbeError;
use crate::{faults, filter};
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};
use gabion_see::seccomp::{Flags, Program};
use libcontainer::container::ContainerStatus;
use nix::errno::Errno;
use nix::fcntl::OFlag;

pub(crate) mod credentials;
pub(crate) mod environment;
pub(crate) mod label;
pub(crate) mod landlock;
pub(crate) mod notify;
pub(crate) mod verify;

use credentials::Privileges;
use notify::{Listening, Tells};

/// Whether Landlock and the filters are in force before the last stage.
#[derive(Debug)]
pub(crate) enum Confined {
    Not,
    /// A profile asks a listener, who was given the descriptor in `create`. None where a test has had the filter left out.
    Already(Option<Listening>),
}

/// A vetted process, ready to run.
#[derive(Debug)]
pub(crate) struct Workload {
    program: CString,
    args: Vec<CString>,
    env: Vec<CString>,
    ruleset: Option<landlock::Ruleset>,
    privileges: Privileges,
    probe: Option<OwnedFd>,
}

impl Workload {
    /// Stage one. A failure here reaches `create`.
    pub(crate) fn validate(setup: &Setup<'_>, prepared: Prepared) -> Result<Self> {
        let process = setup.process;
        let env = environment::build(setup)?;
        let program = credentials::as_the_program(setup, || environment::find_program(setup, &env))??;
        let text = |s: &String| crate::build::ids::c_string("an argument", s);
        let args = process.args().iter().flatten().map(text).collect::<Result<Vec<_>>>()?;
        // Opened while paths are still as the mounts left them; nothing is restricted yet. With what is still permitted: the
        // user may not be able to list a directory above a hole. The program, above, was looked for without.
        if setup.hardened.plan().landlock.is_some() {
            credentials::raise()?;
        }
        let ruleset = landlock::build(setup)?;
        let privileges = Privileges::of(setup);
        if privileges == Privileges::DropNow {
            credentials::drop_capabilities(setup)?;
        }
        credentials::no_new_privs(setup)?;
        credentials::memory(setup)?;
        label::on_exec(setup)?;
        verify::in_force(setup, privileges)?;
        // Here and not after `start`, which would wait for it.
        clear_signals()?;
        Ok(Self {
            program,
            args,
            env,
            ruleset,
            privileges,
            probe: prepared.landlock_probe,
        })
    }

    /// Tells the runtime that a container's first process is ready. A profile that asks a listener is in force from here on, as with runc: the
    /// listener has its descriptor when `create` returns, one for startContainer hooks and the workload together.
    pub(crate) fn ready(&self, setup: &Setup<'_>) -> Result<Confined> {
        if setup.filters.notify.is_none() {
            setup.channel.send(&Message::Ready)?;
            return Ok(Confined::Not);
        }
        let tells = match self.privileges {
            Privileges::DropNow => Tells::Helper,
            // Capabilities have still to be dropped, and that to be verified.
            Privileges::DropAfterConfinement => Tells::Process,
        };
        let listening = self.confine(setup, tells)?;
        match (&listening, tells) {
            (Some(_), Tells::Helper) => {}
            // A test has had the filter left out: nobody else tells.
            (None, _) | (_, Tells::Process) => setup.channel.write(&Message::Ready)?,
        }
        Ok(Confined::Already(listening))
    }

    /// Stage two. A failure here reaches `start`, or the caller of exec: `status` is a descriptor that execve closes.
    pub(crate) fn exec(
        self,
        setup: &Setup<'_>,
        status: Option<OwnedFd>,
        confined: Confined,
    ) -> Result<std::convert::Infallible> {
        let status = status.map(|status| match confined {
            Confined::Not => closed_first(status, self.probe.as_ref()),
            // A call less that somebody else may have to answer.
            Confined::Already(_) => status,
        });
        let result = self.exec_inner(setup, confined);
        let Some(status) = status else { return result };
        let Err(error) = result;
        let report = Report::from(&error);
        let text = serde_json::to_vec(&report).unwrap_or_default();
        // `start` waits for the end of this stream: without a message it would take it for success, so a message that cannot
        // be written ends the process by a signal that shows.
        if File::from(status).write_all(&text).is_err() {
            std::process::abort();
        }
        gabion_sys::exit_now(1)
    }

    fn exec_inner(self, setup: &Setup<'_>, confined: Confined) -> Result<std::convert::Infallible> {
        faults::at(Step::Start)?;
        if let Confined::Already(Some(listening)) = &confined {
            listening.settled();
        }
        if let Kind::Create(create) = &setup.kind {
            // These come from the image: they run confined as the workload, which is why they fork off below.
            self.start_hooks(setup, create.hooks.as_ref(), &confined)?;
        }
        let args: Vec<&CStr> = self.args.iter().map(CString::as_c_str).collect();
        let env: Vec<&CStr> = self.env.iter().map(CString::as_c_str).collect();
        // Kept to the end: a listener's descriptor is execve's to close.
        let _in_force = match confined {
            Confined::Not => self.confine(setup, Tells::Process)?,
            Confined::Already(listening) => listening,
        };
        faults::at(Step::Execve)?;
        let errno = match nix::unistd::execve(&self.program, &args, &env) {
            Ok(never) => match never {},
            Err(errno) => errno,
        };
        let (program, words) = (self.program.to_string_lossy(), errno.desc());
        Err(match errno {
            // Callers of runc read these, in small letters.
            Errno::ENOENT | Errno::EACCES => {
                let why = format!("cannot exec {program}: {}", words.to_ascii_lowercase());
                Error::failed(Step::Execve, why)
            }
            _ => Error::step(Step::Execve, format!("exec {program}"), errno),
        })
    }

    /// Landlock, then seccomp: the filter may forbid Landlock's calls. Each is probed: own return values are no evidence.
    fn confine(&self, setup: &Setup<'_>, tells: Tells) -> Result<Option<Listening>> {
        // Both opened before Landlock, which does not let us at the host's procfs.
        let limits = setup.proc.open_file("self/limits", libc::O_RDONLY);
        let limits = limits.map_err(|e| Error::step(Step::Verify, "open our limits", e))?;
        let status = match self.privileges {
            Privileges::DropNow => None,
            Privileges::DropAfterConfinement => {
                credentials::raise()?;
                Some(verify::Status::open(setup)?)
            }
        };
        faults::at(Step::Landlock)?;
        if let Some(ruleset) = &self.ruleset {
            landlock::enforce(ruleset, self.probe.as_ref())?;
        }
        crate::build::limits::of_the_program(setup, limits)?;
        faults::at(Step::Seccomp)?;
        let listening = filter(setup, tells)?;
        if let Some(status) = status {
            credentials::drop_capabilities(setup)?;
            verify::capabilities(setup, status)?;
        }
        Ok(listening)
    }

    /// startContainer hooks are programs of the image: they run in a child that is confined as the workload will be.
    fn start_hooks(
        &self,
        setup: &Setup<'_>,
        asked: Option<&oci_spec::runtime::Hooks>,
        confined: &Confined,
    ) -> Result<()> {
        let Some(list) = asked
            .and_then(|h| h.start_container().as_ref())
            .filter(|l| !l.is_empty())
        else {
            return Ok(());
        };
        let state = setup.annotations_state.as_ref();
        let state = state.map(|state| hooks::state_inside(state, ContainerStatus::Created, nix::unistd::getpid()));
        let scene = hooks::Scene::of_workload(&self.env);
        let (said, says) =
            nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(Step::Hooks.failing("make a pipe"))?;
        if let Confined::Already(Some(_)) = confined {
            // The helper's end was nobody's to see; that of hooks is.
            gabion_sys::default_signal(libc::SIGCHLD).map_err(Step::Hooks.failing("reset SIGCHLD"))?;
        }
        match gabion_sys::fork().map_err(Step::Hooks.failing("fork for startContainer hooks"))? {
            gabion_sys::Cloned::Child => {
                let run = || hooks::run(hooks::Kind::StartContainer, Some(list), state.as_ref(), &scene);
                let confine = || match confined {
                    Confined::Not => self.confine(setup, Tells::Process).map(drop),
                    Confined::Already(_) => Ok(()),
                };
                let ran = hold_pipe_signal().and_then(|()| confine()).and_then(|()| run());
                if let Err(error) = &ran {
                    tell(says, error);
                }
                gabion_sys::exit_now(i32::from(ran.is_err()))
            }
            gabion_sys::Cloned::Parent(pid) => {
                drop(says);
                match nix::sys::wait::waitpid(pid, None) {
                    Ok(nix::sys::wait::WaitStatus::Exited(_, 0)) => Ok(()),
                    Ok(_) => Err(told(said)),
                    Err(e) => Err(Error::step(Step::Hooks, "wait for startContainer hooks", e)),
                }
            }
        }
    }
}

/// Says what failed to the first process, whose stderr may be a terminal that nobody looks at. A profile may forbid even that: then the
/// exit code says it.
fn tell(says: OwnedFd, error: &Error) {
    if let Ok(text) = serde_json::to_vec(&Report::from(error))
        && let Err(error) = File::from(says).write_all(&text)
    {
        tracing::debug!(%error, "telling of a failed hook");
    }
}

/// What the ended child has said. Nobody else had that end of the pipe: hooks get none of our descriptors.
fn told(said: OwnedFd) -> Error {
    let mut text = Vec::new();
    // At most what a pipe holds, and it does not wait.
    let read = File::from(said).take(64 << 10).read_to_end(&mut text);
    match read.ok().and_then(|_| serde_json::from_slice::<Report>(&text).ok()) {
        Some(report) => report.into(),
        None => Error::failed(Step::Hooks, "a startContainer hook failed"),
    }
}

/// `status` behind `mount`. To close a mount that is attached nowhere takes the kernel a grace period of its RCU; execve closes the
/// highest descriptor first, and whoever waits for the end of `status` need not wait for that, too. Where there is no room it stays.
fn closed_first(status: OwnedFd, mount: Option<&OwnedFd>) -> OwnedFd {
    let Some(above) = mount.map(|mount| mount.as_raw_fd() + 1) else {
        return status;
    };
    gabion_sys::duplicate_above(status.as_fd(), above).unwrap_or(status)
}

/// The workload starts with no signal ignored or blocked, whatever our caller and std have set: execve(2) keeps both.
fn clear_signals() -> Result<()> {
    let failed = |e| Error::step(Step::Execve, "reset signals", e);
    gabion_sys::default_signals().map_err(failed)?;
    nix::sys::signal::SigSet::empty().thread_set_mask().map_err(failed)
}

/// A hook need not read the state that is written to it: to the helper that writes, this is an error to pass over, not its end. The hook
/// itself starts with nothing blocked.
fn hold_pipe_signal() -> Result<()> {
    nix::sys::signal::SigSet::from(nix::sys::signal::Signal::SIGPIPE)
        .thread_block()
        .map_err(|e| Error::step(Step::Hooks, "hold SIGPIPE", e))
}

/// Has the kernel log what this filter denies, if the policy says so. It comes after the filter's probes, which are no denials to be told of.
fn log_denials(setup: &Setup<'_>, program: &Program) -> Result<()> {
    if setup.hardened.plan().log.is_off() {
        return Ok(());
    }
    filter::install(&program.denials(), Flags::LOG)
        .map(drop)
        .map_err(Step::Seccomp.failing("install the filter that logs denials"))
}

fn not_in_force(control: ControlId, error: &ProbeError) -> Error {
    Error::Mismatch {
        control,
        expected: format!("{} gives {:?}", error.call, error.expected),
        observed: error
            .got
            .map_or_else(|| "success".to_owned(), |errno| format!("{errno:?}")),
    }
}

fn filter(setup: &Setup<'_>, tells: Tells) -> Result<Option<Listening>> {
    let skipped = !crate::faults::not_skipped_by_a_test(ControlId::Seccomp);
    let refused = |e| Error::step(Step::Seccomp, "install the seccomp filter", e);
    let helper = match (&setup.filters.notify, skipped) {
        (Some(target), false) => Some(notify::Helper::fork(setup, target, tells)?),
        _ => None,
    };
    if let Some(memory) = &setup.filters.memory {
        if crate::faults::not_skipped_by_a_test(ControlId::Memory) {
            filter::install(memory, Flags::NONE).map_err(refused)?;
        }
        filter::probe_memory(&setup.hardened.plan().memory).map_err(|e| not_in_force(ControlId::Memory, &e))?;
        log_denials(setup, memory)?;
    }
    if let Some(floor) = &setup.filters.floor {
        if !skipped {
            filter::install(&floor.program, Flags::NONE).map_err(refused)?;
        }
        filter::probe_floor(&setup.hardened.plan().opened, &floor.sockets)
            .map_err(|e| not_in_force(ControlId::Seccomp, &e))?;
        if !skipped {
            log_denials(setup, &floor.program)?;
        }
    }
    let Some(profile) = &setup.filters.profile else {
        return Ok(None);
    };
    if skipped {
        return Ok(None);
    }
    match helper {
        Some(helper) => helper.install(profile).map(Some),
        None => filter::install(&profile.program, profile.flags)
            .map(|_| None)
            .map_err(refused),
    }
}
