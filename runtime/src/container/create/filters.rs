//! The seccomp programs of a container, ready before anything of it exists.

use std::fs;

use oci_spec::runtime::LinuxSeccomp;

use crate::container::options::Settings;
use crate::contract::setup::{Filters, NotifyTarget};
use crate::state::make_root;
use crate::{faults, filter, wait};
use gabion_core::hardened::{Hardened, SeccompPlan};
use gabion_see::error::{Error, Result, Step};
use gabion_see::seccomp::{self, Program};
use gabion_see::state::Record;

/// The filters, ready made: compiled or read from the cache before anything of the container exists.
pub(crate) fn filters(settings: &Settings, hardened: &Hardened) -> Result<Filters> {
    faults::at(Step::Seccomp)?;
    let floor = match hardened.plan().seccomp {
        SeccompPlan::AsAsked => None,
        SeccompPlan::Default => Some(Program::default_profile()),
        SeccompPlan::ProfileAndFloor => Some(Program::floor()),
    };
    let floor = floor.map(|program| program.opening(&hardened.plan().opened));
    let Some(profile) = seccomp::in_use(hardened) else {
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
    make_root(&settings.root)?;
    let compiled = filter::load_or_compile(&cache, profile).map_err(|error| seccomp::refused(&error))?;
    Ok(Filters {
        floor,
        profile: Some(compiled),
        notify: None,
    })
}

/// Where the notify descriptor goes, for a profile that has one.
pub(crate) fn notify_target(record: &Record, filters: &Filters) -> Result<Option<NotifyTarget>> {
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
        socket: wait::connect("connect to the seccomp listener at", path)?,
        state,
        metadata,
    }))
}
