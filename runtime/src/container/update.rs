//! `update`: new limits for a container that runs, through the door that create went through.

use nix::unistd::Pid;
use oci_spec::runtime::LinuxResources;

use crate::cgroup::Cgroup;
use crate::container::options::Settings;
use crate::state::StateDir;
use gabion_common::audit::Trail;
use gabion_common::cli::log;
use gabion_core::control::cgroup::update as vet;
use gabion_core::hardened::Denial;
use gabion_core::request::{ContainerId, Read};
use gabion_see::error::{Error, Result};
use gabion_see::state::{Record, Status};

/// Sets limits and keeps them in the state.
///
/// # Errors
/// «container not running»; a refusal; a limit that the kernel does not take or does not show: the old ones are back then.
pub(crate) fn update(settings: &Settings, id: &ContainerId, asked: &Read<LinuxResources>) -> Result<()> {
    let dir = StateDir::open(&settings.root, id)?;
    // One at a time: the record is read, changed and written back.
    let _turn = dir.turn()?;
    let not_running = || Error::NotRunning { id: id.to_string() };
    if matches!(gabion_see::status::status(&dir)?, Status::Creating | Status::Stopped) {
        return Err(not_running());
    }
    let pid = Pid::from_raw(dir.init()?.ok_or_else(not_running)?.pid);
    let record = dir.record()?;
    Denial::unless_odd(record.hardened.level(), &asked.odd)?;
    log::warn_of(&asked.odd);
    let vetted = vet::vet(id, &asked.value, &record.hardened)?;
    tracing::debug!(%id, verdict = vetted.decision.verdict.as_str(), "update decided");
    let cgroup = Cgroup::open(&record.cgroup);
    let new = record.with(vetted.hardened);
    let done = cgroup
        .apply(&vetted.apply)
        .and_then(|()| cgroup.verify(&new.hardened, pid, Some(&vetted.apply)))
        .and_then(|()| dir.write(&new));
    done.inspect_err(|_| put_back(&cgroup, record))?;
    if let Some(trail) = Trail::load(&dir)? {
        trail.updated(&vetted.apply, &vetted.decision);
    }
    Ok(())
}

/// Some limits may have been written before one failed.
fn put_back(cgroup: &Cgroup, record: &Record) {
    let Some(resources) = record
        .hardened
        .spec()
        .linux()
        .as_ref()
        .and_then(|l| l.resources().as_ref())
    else {
        return;
    };
    let mut limits = resources.clone();
    limits.set_devices(None);
    if let Err(error) = cgroup.apply(&limits) {
        tracing::error!(%error, "putting the old limits back");
    }
}
