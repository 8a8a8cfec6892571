//! `delete`: nothing of the container stays.

use std::time::{Duration, Instant};

use libcontainer::container::ContainerStatus;

use crate::container::cgroup::Cgroup;
use crate::container::options::{Force, Settings};
use crate::container::state::{Init, Record, StateDir, Status};
use crate::container::{hooks, kill, query};
use crate::error::{Error, Result, Step};
use crate::request::ContainerId;

/// How long a killed process may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// Deletes a stopped container; with `force`, ends a running one first.
///
/// # Errors
/// It runs and `force` is not given; something of it cannot be removed (its state then stays, to try again).
pub fn delete(settings: &Settings, id: &ContainerId, force: Force) -> Result<()> {
    let dir = match StateDir::open(&settings.root, id) {
        // runc: what is to be gone is gone.
        Err(Error::NotFound { .. }) if force == Force::Kill => return Ok(()),
        other => other?,
    };
    let status = query::status(&dir)?;
    match (status, force) {
        (Status::Stopped, _) | (_, Force::Kill) => {}
        // runc lets a container go that was created and never started.
        (Status::Created, Force::Refuse) => {}
        (status, Force::Refuse) => {
            return Err(Error::WrongState {
                id: id.to_string(),
                status: status.as_str(),
                wanted: "stopped",
            });
        }
    }
    let record = dir.record();
    clear(&dir)?;
    if let Ok(record) = record {
        poststop(&record);
    }
    Ok(())
}

/// Ends every process, removes the cgroup, then the state: as long as anything is left, so is what it can be found by.
pub fn clear(dir: &StateDir) -> Result<()> {
    empty(dir)?;
    dir.remove()
}

/// Ends every process and removes the cgroup; the state stays.
pub fn empty(dir: &StateDir) -> Result<()> {
    if let Some(init) = dir.init()? {
        end(dir, init)?;
    }
    match dir.record() {
        Ok(record) => remove_cgroup(&record)?,
        // Died before it was written: nothing but the directory was made.
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

fn remove_cgroup(record: &Record) -> Result<()> {
    let cgroup = Cgroup::open(&record.cgroup);
    // Frozen processes cannot die.
    cgroup.remove()
}

fn end(dir: &StateDir, init: Init) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    match kill::one(init, libc::SIGKILL) {
        Ok(()) | Err(Error::NotRunning { .. }) => {}
        Err(error) => return Err(error),
    }
    let mut pause = Duration::from_micros(100);
    let mut looked = false;
    while init.lives() {
        // A frozen process dies when it is thawed (v1 freezer). Most are gone before this is worth a look.
        if pause > Duration::from_millis(2) && !looked {
            looked = true;
            let record = dir.record()?;
            if query::frozen(&record)? {
                Cgroup::open(&record.cgroup).thaw()?;
            }
        }
        if Instant::now() > deadline {
            return Err(Error::failed(Step::Start, format!("process {} does not die", init.pid)));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

/// What is gone cannot come back: a hook that fails is told of, and the next one runs (runtime-spec, runtime.md#lifecycle).
fn poststop(record: &Record) {
    let hooks = record
        .hardened
        .spec()
        .hooks()
        .as_ref()
        .and_then(|h| h.poststop().as_ref());
    for hook in hooks.into_iter().flatten() {
        let state = hooks::state_for(record, ContainerStatus::Stopped, None);
        if let Err(error) = hooks::run(Some(&vec![hook.clone()]), Some(&state), None) {
            tracing::warn!(%error, hook = %hook.path().display(), "a poststop hook failed");
        }
    }
}
