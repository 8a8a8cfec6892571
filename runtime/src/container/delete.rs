//! `delete`: nothing of the container stays.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use libcontainer::container::ContainerStatus;

use crate::cgroup::Cgroup;
use crate::container::kill;
use crate::container::options::{Force, Settings};
use crate::contract::hooks;
use crate::state::{Mark, StateDir};
use gabion_common::cli::log;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::{Init, Record, Status};

/// How long a killed process may take to go.
const PATIENCE: Duration = Duration::from_secs(10);

/// How a container went.
#[must_use]
#[derive(Debug)]
pub(crate) enum Deleted {
    /// Nothing of it is left.
    Whole,
    /// Its state could not be read, and is gone too.
    Unread { damage: Error, left: Left },
}

/// What may be left of a container whose state could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Left {
    /// Its processes and its cgroup were found without the state. Its poststop hooks did not run.
    Nothing,
    /// Nothing that can be trusted tells which processes and which cgroup were its own: they were let be.
    Unknown,
}

/// Deletes a stopped container; with `force`, ends a running one first, and removes one whose state is damaged.
///
/// # Errors
/// It runs and `force` is not given; something of it cannot be removed (its state then stays, to try again).
pub(crate) fn delete(settings: &Settings, id: &ContainerId, force: Force) -> Result<Deleted> {
    delete_from(settings, id, force, HookDir::Callers)
}

/// Where poststop hooks run (runc, the same).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookDir {
    /// In the directory that `delete` is called in.
    Callers,
    /// `run`, which works in the bundle.
    Bundle,
}

/// The same, with a place for hooks.
pub(crate) fn delete_from(settings: &Settings, id: &ContainerId, force: Force, place: HookDir) -> Result<Deleted> {
    let dir = match (StateDir::open(&settings.root, id), force) {
        // runc: what is to be gone is gone.
        (Err(Error::NotFound { .. }), Force::Kill) => return Ok(Deleted::Whole),
        // One that others own or could write to names nobody who is to be killed, and nothing in it is removed.
        (other, _) => other?,
    };
    if dir.mark()? == Mark::None {
        let why = "gabion did not make this directory: it is no container, and stays as it is; remedy: the container's own --root";
        return Err(Error::State {
            path: dir.path().to_path_buf(),
            why: why.to_owned(),
        });
    }
    let brief = match dir.brief() {
        Err(damage) if force == Force::Refuse && !never_written(&damage) => return Err(with_remedy(damage)),
        other => other,
    };
    if force == Force::Refuse {
        has_ended(&dir, id).map_err(with_remedy)?;
    }
    // Hooks get to see what is about to be removed.
    match brief.and_then(|brief| brief.poststop.then(|| dir.record()).transpose()) {
        Ok(record) => {
            clear(&dir)?;
            if let Some(record) = record {
                let bundle = (place == HookDir::Bundle).then(|| record.bundle.clone());
                poststop(settings, record, bundle);
            }
            Ok(Deleted::Whole)
        }
        Err(damage) if never_written(&damage) => clear(&dir).map_err(with_remedy).map(|()| Deleted::Whole),
        Err(damage) if force == Force::Kill => {
            let left = salvage(&dir)?;
            Ok(Deleted::Unread { damage, left })
        }
        Err(damage) => Err(with_remedy(damage)),
    }
}

fn with_remedy(error: Error) -> Error {
    match error {
        Error::State { path, why } => {
            let why = format!("{why}; remedy: `delete --force`, which clears away what can be found of it");
            Error::State { path, why }
        }
        other => other,
    }
}

/// runc lets a container go, too, that was created and never started.
fn has_ended(dir: &StateDir, id: &ContainerId) -> Result<()> {
    match gabion_see::status::status(dir)? {
        Status::Stopped | Status::Created => Ok(()),
        status => Err(Error::WrongState {
            id: id.to_string(),
            status: status.as_str(),
            wanted: "stopped",
        }),
    }
}

/// Its maker died before it was written: nothing was made but the directory, and a cgroup that nobody is in.
fn never_written(error: &Error) -> bool {
    matches!(error, Error::File { source, .. } if source.kind() == std::io::ErrorKind::NotFound)
}

/// Without its state: by the first process, and by the cgroup that is written down beside its pid.
fn salvage(dir: &StateDir) -> Result<Left> {
    let left = match dir.traces() {
        Ok(Some((init, cgroup))) => {
            end(dir, init)?;
            Cgroup::open(&cgroup).remove()?;
            Left::Nothing
        }
        Ok(None) => Left::Unknown,
        Err(error) => {
            tracing::debug!(%error, "the pid file");
            Left::Unknown
        }
    };
    dir.remove()?;
    Ok(left)
}

/// Ends every process, removes the cgroup, then the state: as long as anything is left, so is what it can be found by.
pub(crate) fn clear(dir: &StateDir) -> Result<()> {
    empty(dir)?;
    dir.remove()
}

/// Ends every process and removes the cgroup; the state stays.
pub(crate) fn empty(dir: &StateDir) -> Result<()> {
    if let Some(init) = dir.init()? {
        end(dir, init)?;
    }
    match dir.cgroup() {
        Ok(cgroup) => Cgroup::open(&cgroup).remove(),
        Err(error) if never_written(&error) => {
            if let Some(taking) = dir.taking()? {
                Cgroup::open(&taking).unclaim(dir.path());
            }
            Ok(())
        }
        Err(error) => Err(error),
    }
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
            let cgroup = dir.cgroup()?;
            if gabion_see::status::frozen(&cgroup)? {
                Cgroup::open(&cgroup).thaw()?;
            }
        }
        if Instant::now() > deadline {
            return Err(Error::failed(
                Step::Delete,
                format!("process {} does not die", init.pid),
            ));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(10));
    }
    Ok(())
}

/// What is gone cannot come back: a hook that fails is told of, and the next one runs (runtime-spec, runtime.md#lifecycle).
pub(crate) fn poststop(settings: &Settings, record: &Record, dir: Option<PathBuf>) {
    let hooks = record
        .hardened
        .spec()
        .hooks()
        .as_ref()
        .and_then(|h| h.poststop().as_ref());
    let scene = hooks::Scene::of_runtime(&record.hardened, dir);
    for (index, hook) in hooks.into_iter().flatten().enumerate() {
        let state = hooks::state_for(record, ContainerStatus::Stopped, None);
        if let Err(error) = hooks::run_one(hooks::Kind::Poststop, index, hook, Some(&state), &scene) {
            log::report(&error, &settings.log);
        }
    }
}
