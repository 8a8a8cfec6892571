//! What can be asked of containers: `state`, `list`, `ps`.

use std::fs;
use std::path::PathBuf;

use crate::cgroup::Cgroup;
use crate::container::options::{ListEntry, Settings};
use crate::state::StateDir;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result};
use gabion_see::named::Names;
use gabion_see::pid_namespace;
use gabion_see::state;
use gabion_see::state::Status;
use gabion_see::status::status;

/// The container's state (runtime-spec, runtime.md#state), with runc's `rootfs`, `created` and `owner`.
///
/// # Errors
/// «does not exist» for an id that is not there.
pub(crate) fn state(settings: &Settings, id: &ContainerId) -> Result<ListEntry> {
    entry(settings, id, None)
}

/// `names`: whom to ask for the name that the engine gave it.
fn entry(settings: &Settings, id: &ContainerId, names: Option<&mut Names>) -> Result<ListEntry> {
    let dir = StateDir::open(&settings.root, id)?;
    let status = status(&dir)?;
    let record = match dir.record() {
        // Between its directory and its state a container does not exist yet.
        Err(Error::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::NotFound { id: id.to_string() });
        }
        other => other?,
    };
    let alive = !matches!(status, Status::Stopped | Status::Creating);
    let pid = if alive {
        dir.init()?.map_or(0, |init| init.pid)
    } else {
        0
    };
    let spec = record.hardened.spec();
    Ok(ListEntry {
        oci_version: spec.version().clone(),
        id: record.id.to_string(),
        pid,
        status: status.as_str().to_owned(),
        bundle: record.bundle.clone(),
        rootfs: record.rootfs.clone(),
        created: record.created.clone(),
        annotations: spec.annotations().clone().unwrap_or_default().into_iter().collect(),
        owner: user_name(record.owner),
        named: names.and_then(|names| names.of_record(record)),
    })
}

/// The name of a user by /etc/passwd, else the number.
fn user_name(uid: u32) -> String {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    });
    found.unwrap_or_else(|| uid.to_string())
}

/// Every container below the root, and why others cannot be told of. One that is deleted meanwhile is left out.
///
/// # Errors
/// The root, which was named, is not there: a mistyped one must not look like one without containers.
pub(crate) fn list(settings: &Settings) -> Result<(Vec<ListEntry>, Vec<Error>)> {
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    fs::metadata(&settings.root).map_err(Error::file("list", &settings.root))?;
    let mut names = Names::default();
    for id in state::ids(&settings.root)? {
        match entry(settings, &id, Some(&mut names)) {
            Ok(entry) => entries.push(entry),
            Err(Error::NotFound { .. }) => {}
            Err(error) => damaged.push(error),
        }
    }
    Ok((entries, damaged))
}

/// Every container below these roots. They may be other runtimes' too: what is not ours is left out.
pub(crate) fn list_all(roots: &[PathBuf], settings: &Settings) -> Vec<ListEntry> {
    let mut entries = Vec::new();
    let mut names = Names::default();
    for root in roots {
        let settings = Settings {
            root: root.clone(),
            ..settings.clone()
        };
        for id in state::ids(root).unwrap_or_default() {
            match entry(&settings, &id, Some(&mut names)) {
                Ok(entry) => entries.push(entry),
                Err(error) => tracing::debug!(%id, root = %root.display(), %error, "left out"),
            }
        }
    }
    entries
}

/// The processes of a container, as the host numbers them.
pub(crate) fn pids(settings: &Settings, id: &ContainerId) -> Result<Vec<i32>> {
    let dir = StateDir::open(&settings.root, id)?;
    let record = dir.record()?;
    if status(&dir)? == Status::Stopped {
        // As runc: whoever is left in its cgroup, and nobody is no error.
        return if record.cgroup.delegation.is_none() {
            Ok(Vec::new())
        } else {
            Cgroup::open(&record.cgroup).pids()
        };
    }
    if record.cgroup.delegation.is_none() {
        let init = dir.init()?.ok_or_else(|| Error::NotRunning { id: id.to_string() })?;
        return Ok(pid_namespace::processes(record, init)?.into_iter().collect());
    }
    Cgroup::open(&record.cgroup).pids()
}
