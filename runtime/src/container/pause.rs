//! `pause` and `resume`: the freezer.

use crate::cgroup::Cgroup;
use crate::container::options::Settings;
use crate::state::StateDir;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::Status;

/// Stops every process of the container where it is.
///
/// # Errors
/// «container not running»; the kernel cannot freeze it in bounded time (it is thawed again then).
pub(crate) fn pause(settings: &Settings, id: &ContainerId) -> Result<()> {
    let dir = StateDir::open(&settings.root, id)?;
    match gabion_see::status::status(&dir)? {
        Status::Running | Status::Created => {}
        Status::Paused => return Err(wrong(id, Status::Paused, "running")),
        Status::Creating | Status::Stopped => return Err(Error::NotRunning { id: id.to_string() }),
    }
    let record = dir.record()?;
    let cgroup = Cgroup::open(&record.cgroup);
    if !cgroup.freezes() {
        let why = "the container has no freezer: no cgroup with one is delegated to who made it";
        return Err(Error::failed(Step::Cgroup, why));
    }
    cgroup.freeze()?;
    if gabion_see::status::frozen(&record.cgroup)? {
        Ok(())
    } else {
        Err(Error::failed(
            Step::Cgroup,
            "the kernel does not show the container as frozen",
        ))
    }
}

/// Lets them go on.
///
/// # Errors
/// It is not paused.
pub(crate) fn resume(settings: &Settings, id: &ContainerId) -> Result<()> {
    let dir = StateDir::open(&settings.root, id)?;
    let status = gabion_see::status::status(&dir)?;
    if status != Status::Paused {
        return Err(wrong(id, status, "paused"));
    }
    let record = dir.record()?;
    Cgroup::open(&record.cgroup).thaw()?;
    if gabion_see::status::frozen(&record.cgroup)? {
        return Err(Error::failed(
            Step::Cgroup,
            "the kernel still shows the container as frozen",
        ));
    }
    Ok(())
}

fn wrong(id: &ContainerId, status: Status, wanted: &'static str) -> Error {
    Error::WrongState {
        id: id.to_string(),
        status: status.as_str(),
        wanted,
    }
}
