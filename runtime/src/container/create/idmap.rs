//! Idmapped mounts: the files behind a bind have other owners inside (mount_setattr(2) MOUNT_ATTR_IDMAP).
//!
//! The kernel takes the mapping from a user namespace: the one that the container joins, or one that is made here to carry the
//! mapping and holds nobody. The runtime does it, on the detached clone: the container has no power over the file system itself.

use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use oci_spec::runtime::{Mount, Spec};

use gabion_core::namespace::NsType;
use gabion_core::request::idmap::{self, IdMap};
use gabion_see::error::{Error, Result, Step};
use gabion_see::survey::Handles;
use gabion_sys::{ChildOf, Cloned, NewNamespaces, Reach};

/// Maps mounts; a mapping that many of them share is made once.
pub(super) struct Mapper<'a> {
    spec: &'a Spec,
    handles: &'a Handles,
    made: Vec<(IdMap, OwnedFd)>,
}

impl<'a> Mapper<'a> {
    pub(super) const fn new(spec: &'a Spec, handles: &'a Handles) -> Self {
        Self {
            spec,
            handles,
            made: Vec::new(),
        }
    }

    /// Maps the clone of a mount's source as the mount asks, if it does.
    pub(super) fn apply(&mut self, mount: &Mount, tree: Option<&OwnedFd>) -> Result<()> {
        let at = || mount.destination().display().to_string();
        let half = |_| Error::failed(Step::Mounts, format!("half a mapping of ids for the mount at {}", at()));
        let Some(asked) = idmap::asked(mount).map_err(half)? else {
            return Ok(());
        };
        let tree = tree.ok_or_else(|| Error::Unsupported {
            field: format!("idmapped mount at {}", at()),
            why: "only root may map the ids of a file system; a container of an ordinary user has none".to_owned(),
        })?;
        let namespace = self.namespace(&asked, &at())?;
        let reach = if idmap::is_recursive(mount) {
            Reach::Tree
        } else {
            Reach::One
        };
        gabion_sys::map_ids(tree.as_fd(), reach, namespace.as_fd()).map_err(|e| refused(e, &at()))
    }

    fn namespace(&mut self, asked: &IdMap, at: &str) -> Result<&OwnedFd> {
        let wanted = match asked {
            IdMap::Own { .. } => asked.clone(),
            IdMap::Container => {
                if let Some(joined) = joined(self.spec, self.handles) {
                    return Ok(joined);
                }
                idmap::of_container(self.spec).ok_or_else(|| {
                    Error::failed(
                        Step::Mounts,
                        format!("no mapping of the container's for the mount at {at}"),
                    )
                })?
            }
        };
        let known = self.made.iter().position(|(map, _)| *map == wanted);
        let index = if let Some(index) = known {
            index
        } else {
            let namespace = carrier(&wanted)?;
            self.made.push((wanted, namespace));
            self.made.len() - 1
        };
        let found = self.made.get(index).map(|(_, namespace)| namespace);
        found.ok_or_else(|| Error::failed(Step::Mounts, "a mapping was lost"))
    }
}

/// The user namespace that the container joins: the descriptor that was vetted.
fn joined<'a>(spec: &Spec, handles: &'a Handles) -> Option<&'a OwnedFd> {
    let namespaces = spec.linux().as_ref()?.namespaces().as_ref()?;
    let user = namespaces.iter().find(|n| NsType::from(n.typ()) == NsType::User)?;
    handles.ns.get(user.path().as_ref()?)
}

/// The kernel's answer in words: which file systems can do it is not guessed from anywhere else.
fn refused(errno: Errno, at: &str) -> Error {
    let why = match errno {
        Errno::EINVAL => "its file system cannot map ids, or its source is mapped already",
        Errno::EPERM => "its file system is another user namespace's, or the mapping is the whole host's",
        _ => return Error::step(Step::Mounts, format!("map the ids of the mount at {at}"), errno),
    };
    Error::Unsupported {
        field: format!("idmapped mount at {at}"),
        why: why.to_owned(),
    }
}

/// A user namespace with this mapping and nobody in it.
fn carrier(map: &IdMap) -> Result<OwnedFd> {
    let IdMap::Own { uids, gids } = map else {
        return Err(Error::failed(Step::Mounts, "a mapping without lines"));
    };
    let failed = |e: Errno| Error::step(Step::Mounts, "make a user namespace for a mapping of ids", e);
    let (ours, mut theirs) = UnixStream::pair().map_err(Error::file("make", "a pair of sockets"))?;
    let pid = match gabion_sys::clone3(NewNamespaces::USER, ChildOf::Us, None).map_err(failed)? {
        Cloned::Parent(pid) => pid,
        Cloned::Child => {
            // It lives until the runtime lets go of its end, or dies.
            drop(ours);
            let ended = theirs.read(&mut [0]);
            gabion_sys::exit_now(i32::from(ended.is_err()))
        }
    };
    drop(theirs);
    let namespace = fill(pid, uids, gids);
    drop(ours);
    match waitpid(pid, None) {
        // Whoever ignores SIGCHLD has no children to wait for.
        Ok(_) | Err(Errno::ECHILD) => namespace,
        Err(e) => Err(failed(e)),
    }
}

fn fill(pid: Pid, uids: &str, gids: &str) -> Result<OwnedFd> {
    for (file, lines) in [("uid_map", uids), ("gid_map", gids)] {
        let path = format!("/proc/{pid}/{file}");
        std::fs::write(&path, lines).map_err(|error| Error::Unsupported {
            field: format!("the mapping of ids {:?}", lines.trim_end()),
            why: format!("the kernel does not take it ({})", error.kind()),
        })?;
    }
    let path = format!("/proc/{pid}/ns/user");
    std::fs::File::open(&path)
        .map(OwnedFd::from)
        .map_err(Error::file("open the user namespace", path))
}
