//! `start`: lets the created process go on to the workload, and hears whether it got there.

use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use libcontainer::container::ContainerStatus;

use crate::container::options::Settings;
use crate::container::{delete, kill};
use crate::contract::channel::Report;
use crate::contract::hooks;
use crate::state::StateDir;
use crate::wait;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::START_SOCKET;
use gabion_see::state::{Init, Status};

/// Starts a created container.
///
/// # Errors
/// It is not there or not created; or the last steps before the workload failed (Landlock, seccomp, execve), by name.
pub(crate) fn start(settings: &Settings, id: &ContainerId) -> Result<()> {
    start_in(&StateDir::open(&settings.root, id)?, id)
}

/// The same of a directory that is open.
pub(crate) fn start_in(dir: &StateDir, id: &ContainerId) -> Result<()> {
    let status = gabion_see::status::status(dir)?;
    if status != Status::Created {
        return Err(Error::WrongState {
            id: id.to_string(),
            status: status.as_str(),
            wanted: "created",
        });
    }
    // Before anything runs: what cannot be read cannot be looked at, or run, afterwards.
    let brief = dir.brief()?;
    if brief.poststart {
        dir.record()?;
    }
    release(dir, brief.start_hooks.map(|hooks| hooks + wait::STEP))?;
    dir.started()?;
    if let (Some(plan), Some(init)) = (&brief.lsm, dir.init()?) {
        crate::container::label::took_effect(plan, init.pid)
            .inspect_err(|_| end(init, "that runs under another label"))?;
    }
    if brief.poststart { poststart(dir) } else { Ok(()) }
}

fn poststart(dir: &StateDir) -> Result<()> {
    let record = dir.record()?;
    let list = record
        .hardened
        .spec()
        .hooks()
        .as_ref()
        .and_then(|h| h.poststart().as_ref());
    let init = dir.init()?;
    let pid = init.map(|init| init.pid);
    let state = hooks::state_for(record, ContainerStatus::Running, pid);
    let scene = hooks::Scene::of_runtime(&record.hardened, Some(record.bundle.clone()));
    let ran = hooks::run(hooks::Kind::Poststart, list, Some(&state), &scene);
    // runtime-spec, runtime.md#lifecycle: the container is stopped then.
    if let (Err(_), Some(init)) = (&ran, init) {
        end(init, "whose poststart hook failed");
    }
    ran
}

/// Tells the first process to go on, and hears within so long whether it reached execve.
fn release(dir: &StateDir, patience: Option<Duration>) -> Result<()> {
    let mut stream = UnixStream::connect(dir.socket_path(START_SOCKET))
        .map_err(Error::file("reach", dir.path().join(START_SOCKET)))?;
    wait::readable(stream.as_fd(), patience).map_err(|error| taken_down(dir, error))?;
    let mut said = Vec::new();
    // What it says comes at once and with the end, or it has nothing to say. Not for ever: it may be stopped in between.
    stream
        .set_read_timeout(Some(wait::STEP))
        .map_err(Error::file("bound the wait for", dir.path().join(START_SOCKET)))?;
    stream
        .read_to_end(&mut said)
        .map_err(Error::file("hear from", dir.path().join(START_SOCKET)))
        .map_err(|error| taken_down(dir, error))?;
    if !said.is_empty() {
        let report: Report = serde_json::from_slice(&said).map_err(|e| Error::State {
            path: dir.path().join(START_SOCKET),
            why: e.to_string(),
        })?;
        return Err(taken_down(dir, report.into()));
    }
    // The end of the stream without a word is execve's doing, or the process was killed on its way there.
    if dir.init()?.is_some_and(Init::never_executed) {
        let why = "the container's first process ended before it ran its program";
        return Err(taken_down(dir, Error::failed(Step::Execve, why)));
    }
    Ok(())
}

/// What its own process says did not start: its record stays for the caller's `delete`, nothing else of it does. Not after
/// any other error: another `start` may have won, and the workload runs.
fn taken_down(dir: &StateDir, error: Error) -> Error {
    // A `start` that lost hears an end, too; whose workload that is, its process tells.
    if !matches!(dir.init(), Ok(Some(init)) if init.never_executed()) {
        return error;
    }
    if let Err(left) = delete::empty(dir) {
        tracing::error!(%left, "cleaning up after a failed start");
    }
    error
}

/// Ends a workload that may not go on; the error that says why is told by the caller.
fn end(init: Init, why: &str) {
    if let Err(error) = kill::one(init, libc::SIGKILL) {
        tracing::error!(%error, "stopping the container {why}");
    }
}
