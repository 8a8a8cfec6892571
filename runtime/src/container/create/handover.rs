//! What the runtime opens while it still may, for the first process to use: namespaces, mounts, the console's socket.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::stat::fstat;
use oci_spec::runtime::Process;

use super::idmap::Mapper;
use crate::build::{mounts, namespaces};
use crate::container::spawn::Entry;
use crate::contract::setup::{PointKind, Tree};
use crate::faults::{self, Enforcement};
use crate::wait;
use gabion_core::hardened::Hardened;
use gabion_core::id::ControlId;
use gabion_core::namespace::{self, NsType};
use gabion_core::request::mount_options::{MountOptions, is_bind};
use gabion_core::request::{BadInput, INVALID};
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::Record;
use gabion_see::survey::Handles;

/// What clone makes, and what the child joins.
pub(super) fn entry(hardened: &Hardened, handles: &Handles) -> Result<(Entry, Vec<(NsType, OwnedFd)>)> {
    let mut entry = Entry {
        new: namespace::made(hardened.spec()).collect(),
        offsets: namespaces::clock_offsets(hardened),
        ..Entry::default()
    };
    if faults::enforcement(ControlId::Namespaces) != Enforcement::Do {
        entry.new.retain(|t| *t == NsType::Mount);
    }
    let wanted = namespace::joined(hardened.spec()).collect::<Vec<_>>();
    let mut joins = Vec::new();
    for typ in namespace::JOIN_ORDER {
        let Some((_, path)) = wanted.iter().find(|(t, _)| *t == typ) else {
            continue;
        };
        // The descriptor that was vetted, never the path again.
        let fd = handles.ns.get(path).ok_or_else(|| {
            Error::failed(
                Step::Namespaces,
                format!("cannot open the namespace {}", path.display()),
            )
        })?;
        let fd = fd.try_clone().map_err(Error::file("keep", path))?;
        match typ {
            NsType::User => entry.user = Some(fd),
            NsType::Pid => entry.pid = Some(fd),
            _ => joins.push((typ, fd)),
        }
    }
    Ok((entry, joins))
}

/// A detached clone, or None where only a user namespace of ours will allow it.
pub(super) fn clone_tree(fd: &OwnedFd, reach: gabion_sys::Reach) -> Result<Option<OwnedFd>> {
    match gabion_sys::open_tree_clone(fd.as_fd(), reach) {
        Ok(tree) => Ok(Some(tree)),
        Err(Errno::EPERM) => Ok(None),
        Err(e) => Err(Error::step(Step::Mounts, "clone a mount", e)),
    }
}

pub(super) fn trees(record: &Record, handles: &Handles) -> Result<BTreeMap<usize, Tree>> {
    let mut trees = BTreeMap::new();
    let mut mapper = Mapper::new(record.hardened.spec(), handles);
    for (index, mount) in record.hardened.spec().mounts().iter().flatten().enumerate() {
        if !is_bind(mount) {
            continue;
        }
        let shown = mount.source().clone().unwrap_or_default();
        let fd = handles.sources.get(&index).ok_or_else(|| {
            Error::Bundle(BadInput {
                path: shown.clone(),
                why: format!(
                    "the source of the mount at {} does not exist",
                    mount.destination().display()
                ),
                code: INVALID,
            })
        })?;
        let stat = fstat(fd.as_raw_fd()).map_err(|e| Error::step(Step::Mounts, "look at a source", e))?;
        let point = if stat.st_mode & libc::S_IFMT == libc::S_IFDIR {
            PointKind::Directory
        } else {
            PointKind::File
        };
        let tree = clone_tree(fd, mounts::reach(&MountOptions::of(mount)))?;
        mapper.apply(mount, tree.as_ref())?;
        let tree = match tree {
            Some(fd) => Tree::Detached { fd, point },
            None => Tree::Reopen {
                path: shown,
                dev: stat.st_dev,
                ino: stat.st_ino,
                point,
            },
        };
        trees.insert(index, tree);
    }
    Ok(trees)
}

/// Connected before the clone: its path is the host's. A terminal and a socket come together or not at all.
pub(crate) fn console_socket(path: Option<&Path>, process: &Process) -> Result<Option<OwnedFd>> {
    match (path, process.terminal().unwrap_or(false)) {
        (Some(path), true) => wait::connect("connect to the console socket", path).map(Some),
        (None, true) => Err(Error::Usage(
            "the process wants a terminal: give --console-socket".to_owned(),
        )),
        (Some(_), false) => Err(Error::Usage(
            "--console-socket needs a process with terminal: true".to_owned(),
        )),
        (None, false) => Ok(None),
    }
}
