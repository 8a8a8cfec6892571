//! What can be asked of containers: `state`, `list`, `ps`.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::container::cgroup::{Cgroup, CgroupRecord};
use crate::container::namespace;
use crate::container::options::{ListEntry, Settings};
use crate::container::state::{self, StateDir, Status};
use crate::error::{Error, Result};
use crate::request::ContainerId;

/// The status, read off the kernel.
pub fn status(dir: &StateDir) -> Result<Status> {
    let Some(init) = dir.init()? else {
        return Ok(if dir.being_created()? {
            Status::Creating
        } else {
            Status::Stopped
        });
    };
    if !init.lives() {
        return Ok(Status::Stopped);
    }
    // In this order: what is unready becomes what waits, never the other way round.
    let unready = dir.is_unready();
    let waits = dir.awaits_start();
    if unready || (waits && dir.being_created()?) {
        return Ok(Status::Creating);
    }
    // Before «created»: one that waits for `start` can be frozen, too, and would not hear it.
    if frozen(dir.cgroup()?.as_ref())? {
        return Ok(Status::Paused);
    }
    Ok(if waits { Status::Created } else { Status::Running })
}

/// Whether the freezer holds the container's processes.
pub fn frozen(cgroup: &CgroupRecord) -> Result<bool> {
    let read = |path: &Path| match crate::small::read(path) {
        Ok(text) => Ok(Some(text)),
        // ENODEV: removed between open and read, as systemd does with a scope whose last process has ended.
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENODEV)) => Ok(None),
        Err(e) => Err(Error::File {
            doing: "read",
            path: path.to_path_buf(),
            source: e,
        }),
    };
    for file in cgroup.freezer_files() {
        // v1 shows a word (freezer-subsystem.rst), v2 a digit.
        if let Some(state) = read(&file)? {
            return Ok(!matches!(state.trim(), "THAWED" | "0"));
        }
    }
    Ok(false)
}

/// The container's state (runtime-spec, runtime.md#state), with runc's `rootfs`, `created` and `owner`.
///
/// # Errors
/// «does not exist» for an id that is not there.
pub fn state(settings: &Settings, id: &ContainerId) -> Result<Value> {
    let entry = entry(settings, id)?;
    Ok(json!({
        "ociVersion": entry.oci_version,
        "id": entry.id,
        "pid": entry.pid,
        "status": entry.status,
        "bundle": entry.bundle,
        "rootfs": entry.rootfs,
        "created": entry.created,
        "annotations": entry.annotations,
        "owner": entry.owner,
    }))
}

fn entry(settings: &Settings, id: &ContainerId) -> Result<ListEntry> {
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
pub fn list(settings: &Settings) -> Result<(Vec<ListEntry>, Vec<Error>)> {
    let (mut entries, mut damaged) = (Vec::new(), Vec::new());
    for id in state::ids(&settings.root)? {
        match entry(settings, &id) {
            Ok(entry) => entries.push(entry),
            Err(Error::NotFound { .. }) => {}
            Err(error) => damaged.push(error),
        }
    }
    Ok((entries, damaged))
}

/// Every container below these roots. They may be other runtimes' too: what is not ours is left out.
pub fn list_all(roots: &[PathBuf], settings: &Settings) -> Vec<ListEntry> {
    let mut entries = Vec::new();
    for root in roots {
        let settings = Settings {
            root: root.clone(),
            ..settings.clone()
        };
        for id in state::ids(root).unwrap_or_default() {
            match entry(&settings, &id) {
                Ok(entry) => entries.push(entry),
                Err(error) => tracing::debug!(%id, root = %root.display(), %error, "left out"),
            }
        }
    }
    entries
}

/// The processes of a container, as the host numbers them.
pub fn pids(settings: &Settings, id: &ContainerId) -> Result<Vec<i32>> {
    let dir = StateDir::open(&settings.root, id)?;
    if status(&dir)? == Status::Stopped {
        return Err(Error::NotRunning { id: id.to_string() });
    }
    let record = dir.record()?;
    if record.cgroup.delegation.is_none() {
        let init = dir.init()?.ok_or_else(|| Error::NotRunning { id: id.to_string() })?;
        return Ok(namespace::processes(record, init)?.into_iter().collect());
    }
    Cgroup::open(&record.cgroup).pids()
}
