//! The seccomp programs of a container, ready before anything of it exists.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::time::{TimeVal, TimeValLike};
use oci_spec::runtime::LinuxSeccomp;

use crate::container::options::Settings;
use crate::contract::setup::{Filters, Floor, NotifyTarget};
use crate::state::make_root;
use crate::{faults, filter, wait};
use gabion_core::control::seccomp::sockets::rules;
use gabion_core::hardened::Hardened;
use gabion_core::id::ControlId;
use gabion_see::error::{Error, Result, Step};
use gabion_see::seccomp;
use gabion_see::state::Record;

/// How long a listener may take to read its message, in seconds.
const PATIENCE: i64 = 10;

/// The filters, ready made: compiled or read from the cache before anything of the container exists.
pub(crate) fn filters(settings: &Settings, hardened: &Hardened) -> Result<Filters> {
    faults::at(Step::Seccomp)?;
    let refused = |error| seccomp::refused(&error);
    let own = seccomp::own(hardened).map_err(refused)?;
    let floor = own.floor.map(|program| Floor {
        program,
        sockets: rules(hardened),
    });
    let memory = own.memory;
    let Some(profile) = seccomp::in_use(hardened) else {
        return Ok(Filters {
            memory,
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
    let compiled = filter::load_or_compile(&cache, profile).map_err(refused)?;
    Ok(Filters {
        memory,
        floor,
        profile: Some(compiled),
        notify: None,
    })
}

/// Where the notify descriptor goes, for a profile that has one: to `listener`, where it was opened and judged. `running` is the pid of a
/// container's first process that runs already.
pub(crate) fn notify_target(
    record: &Record,
    filters: &Filters,
    (listener, running): (Option<&OwnedFd>, Option<i32>),
) -> Result<Option<NotifyTarget>> {
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
    let mut state = serde_json::json!({
        "ociVersion": record.hardened.spec().version(),
        "id": record.id.as_str(),
        "status": if running.is_some() { "running" } else { "creating" },
        "bundle": record.bundle,
    });
    if let Some(pid) = running {
        state["pid"] = pid.into();
    }
    if let Some(annotations) = record.hardened.spec().annotations() {
        state["annotations"] = serde_json::json!(annotations);
    }
    let metadata = profile.and_then(|p| p.listener_metadata().clone()).unwrap_or_default();
    Ok(Some(NotifyTarget {
        socket: bounded(connect(path, listener)?)?,
        state,
        metadata,
    }))
}

/// For a later process: the listener's socket, as long as it lies where it was judged, and is root's or this caller's. None: it was not judged.
pub(crate) fn listener_again(record: &Record) -> Result<Option<OwnedFd>> {
    let hardened = &record.hardened;
    let judged = hardened
        .plan()
        .listener
        .as_deref()
        .filter(|_| hardened.enforces(ControlId::Seccomp));
    let Some(judged) = judged else { return Ok(None) };
    let failed = |e: nix::Error| Error::file("open the seccomp listener at", judged)(e.into());
    let fd = gabion_sys::open_path(judged, OFlag::O_NOFOLLOW).map_err(failed)?;
    let real = nix::fcntl::readlink(format!("/proc/self/fd/{}", fd.as_raw_fd()).as_str()).map_err(failed)?;
    let stat = nix::sys::stat::fstat(fd.as_raw_fd()).map_err(failed)?;
    let ours = stat.st_uid == 0 || stat.st_uid == nix::unistd::geteuid().as_raw();
    if Path::new(&real) == judged && ours && stat.st_mode & libc::S_IFMT == libc::S_IFSOCK {
        return Ok(Some(fd));
    }
    Err(Error::RefusedCall {
        code: "seccomp.listener",
        what: format!(
            "{} is no longer the socket that was judged when the container was made",
            judged.display()
        ),
        remedy: "start the seccomp agent again, with its socket at that path".to_owned(),
    })
}

/// Connects to a listener while its path can still be reached.
fn connect(path: &Path, judged: Option<&OwnedFd>) -> Result<OwnedFd> {
    let at = judged.map(|fd| PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd())));
    wait::connect_at(
        "connect to the seccomp listener at",
        path,
        at.as_deref().unwrap_or(path),
    )
}

/// What is sent there is as long as the annotations are: to one who does not read it, no longer than this.
fn bounded(socket: OwnedFd) -> Result<OwnedFd> {
    use nix::sys::socket::{setsockopt, sockopt};
    setsockopt(&socket, sockopt::SendTimeout, &TimeVal::seconds(PATIENCE))
        .map_err(Step::Seccomp.failing("bound what is sent to the listener"))?;
    Ok(socket)
}
