//! Device nodes and the links beside them. The nodes are libcontainer's.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use libcontainer::rootfs::Device;
use libcontainer::rootfs::utils::default_devices;
use nix::errno::Errno;

use crate::error::{Error, Result, Step};
use crate::faults;
use crate::host::NsType;
use crate::init::target;
use crate::init::{Create, Setup};

/// What a runtime puts into /dev (runtime-spec, config-linux.md#default-devices, and runc's links).
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Makes the nodes of the spec and the default ones.
pub fn make(setup: &Setup<'_>, create: &Create<'_>, root: &OwnedFd) -> Result<()> {
    faults::at(Step::Devices)?;
    let linux = setup.hardened.spec().linux().as_ref();
    let asked = linux.and_then(|l| l.devices().as_deref()).unwrap_or_default();
    let defaults = default_devices();
    let missing = defaults.iter().filter(|d| asked.iter().all(|a| a.path() != d.path()));
    // mknod is not for user namespaces (user_namespaces(7)): the host's nodes are bound.
    let bind = setup.hardened.spec().linux().is_some()
        && (setup.enters_new(NsType::User) || setup.joins.iter().any(|(t, _)| *t == NsType::User) || nested(setup)?);
    Device::new()
        .create_devices(&create.rootfs, asked.iter().chain(missing), bind)
        .map_err(|e| Error::failed(Step::Devices, chain(&e)))?;
    link(root)
}

/// A library's error with its causes, in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Whether gabion itself runs in a user namespace that is not the host's (rootless podman).
fn nested(setup: &Setup<'_>) -> Result<bool> {
    let map = setup
        .proc
        .read("self/uid_map")
        .map_err(|e| Error::step(Step::Devices, "read our uid map", e))?;
    Ok(!map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

fn link(root: &OwnedFd) -> Result<()> {
    let failed = |e| Error::step(Step::Devices, "link what belongs into /dev", e);
    let dev = target::resolve(root.as_fd(), Path::new("/dev")).map_err(failed)?;
    let mut links = LINKS.to_vec();
    if target::resolve(root.as_fd(), Path::new("/dev/pts")).is_ok() {
        links.push(("pts/ptmx", "ptmx"));
    }
    for (to, name) in links {
        match nix::unistd::symlinkat(to, Some(dev.as_raw_fd()), name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(())
}
