//! Taking a cgroup for a container, and giving it back.

use std::fs;
use std::path::Path;

use gabion_see::cgroup::members;
use gabion_see::error::{Error, Result, Step};
use gabion_see::neighbours::{self, OwnCgroup};
use nix::errno::Errno;

use super::{Cgroup, Files};

impl Cgroup {
    /// Takes the place: nobody is in it yet, and no other container's is above or below. It is made and marked before it is looked at
    /// again: of two that come at once at least one sees the other. `own` is the container's state directory.
    pub(crate) fn claim(&self, own: &Path, enforced: bool) -> Result<()> {
        members::unoccupied(&self.place(), &self.directories()?)?;
        let place = OwnCgroup {
            record: &self.record,
            own,
        };
        // systemd makes its scopes itself, one of each name and none in another.
        if self.scope_named() {
            return Ok(());
        }
        match self.files() {
            Files::None => return Ok(()),
            Files::V2(v2) => v2.make()?,
            Files::V1(_) => {
                if let Some(directory) = place.marked()? {
                    fs::create_dir_all(&directory).map_err(Error::file("make", &directory))?;
                }
            }
        }
        if mark(&place)? == Marked::No {
            tracing::debug!(place = %self.place().display(), "this caller cannot mark a cgroup");
        }
        match place.neighbour()?.filter(|_| enforced) {
            None => Ok(()),
            Some(found) => {
                let (path, who) = (found.path.display(), found.who);
                let why = format!("the cgroup {} lies with that of {who} ({path})", self.place().display());
                Err(Error::failed(Step::Cgroup, why))
            }
        }
    }

    /// Gives the place back where the state does not have it yet: nobody is ended, and what has another's mark stays.
    pub(crate) fn unclaim(&self, own: &Path) {
        let place = OwnCgroup {
            record: &self.record,
            own,
        };
        let made = place.marked().ok().flatten().filter(|_| !self.scope_named());
        let Some(made) = made else { return };
        let given_back = neighbours::open(&made).and_then(|dir| {
            if place.is_marked_by_another(&dir) {
                return Ok(());
            }
            fs::remove_dir(&made)
        });
        if let Err(error) = given_back {
            tracing::debug!(%error, "giving a cgroup back");
        }
    }
}

/// Whether a container's cgroup has its mark.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marked {
    Yes,
    /// This caller can make none: a user on v1, or root of a user namespace. Processes still tell.
    No,
}

/// Marks the directory as this container's. The kernel makes one mark of two that come at once.
fn mark(place: &OwnCgroup<'_>) -> Result<Marked> {
    let Some(directory) = place.marked()? else {
        return Ok(Marked::No);
    };
    let failed = |e: std::io::Error| Error::file("mark", &directory)(e);
    let dir = neighbours::open(&directory).map_err(failed)?;
    let (name, own) = (place.mark_name(), place.own.as_os_str().as_encoded_bytes());
    let made = match gabion_sys::fsetxattr_new(&dir, name, own) {
        Err(Errno::EEXIST) if place.others_mark(&dir).is_some() => {
            let why = format!("the cgroup {} is another container's", directory.display());
            return Err(Error::failed(Step::Cgroup, why));
        }
        // Of a container that is no more, or of ours.
        Err(Errno::EEXIST) => gabion_sys::fsetxattr(&dir, name, own),
        made => made,
    };
    match made {
        Ok(()) => Ok(Marked::Yes),
        Err(Errno::EPERM | Errno::EACCES | Errno::EOPNOTSUPP) => Ok(Marked::No),
        Err(errno) => Err(failed(errno.into())),
    }
}
