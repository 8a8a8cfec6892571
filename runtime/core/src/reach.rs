//! What the container will reach, as objects: two paths that lead to one file are one thing here, whatever they are called.
//!
//! An object is known by its device and inode, and those of the directories above it; and by the place in its file system that the
//! kernel gives it (mountinfo's root), which a bind mount of a part, a second mount and a subvolume do not change. Either is enough.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// A file or directory by identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Object {
    pub dev: u64,
    pub ino: u64,
}

/// A place in a file system, whatever is mounted where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OnFs {
    /// Major and minor number of the file system, as mountinfo has them.
    pub fs: (u32, u32),
    /// The path from the file system's own root.
    pub path: PathBuf,
}

/// Where an object is. What could not be found out is absent, and then proves nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spot {
    /// The object and the directories above it, across mounts, up to the root.
    pub chain: Vec<Object>,
    pub on: Option<OnFs>,
}

impl Spot {
    /// Tells whether `other` is this object or lies in it.
    pub fn holds(&self, other: &Self) -> bool {
        let by_identity = self.chain.first().is_some_and(|own| other.chain.contains(own));
        by_identity || self.place_in(other).is_some()
    }

    /// Tells whether one is in the other, or they are the same.
    pub fn meets(&self, other: &Self) -> bool {
        self.holds(other) || other.holds(self)
    }

    /// Gives the way from this place to `other`, which lies in it, by file system.
    fn place_in<'a>(&self, other: &'a Self) -> Option<&'a Path> {
        let (own, other) = (self.on.as_ref()?, other.on.as_ref()?);
        let same = own.fs == other.fs;
        same.then(|| other.path.strip_prefix(&own.path).ok()).flatten()
    }

    /// Gives what `other`, which is called `real`, is called by way of this place, called `path`; None where it does not lie in it.
    pub fn name_of(&self, path: &Path, other: &Self, real: &Path) -> Option<PathBuf> {
        if let Some(rest) = self.place_in(other) {
            return Some(path.join(rest).components().collect());
        }
        let own = self.chain.first()?;
        let depth = other.chain.iter().position(|object| object == own)?;
        let names: Vec<_> = real.components().collect();
        let rest: PathBuf = names.get(names.len().checked_sub(depth)?..)?.iter().collect();
        Some(path.join(rest).components().collect())
    }
}

/// How a guarded place is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// The place, what lies in it, and what it lies in.
    Tree,
    /// The file itself and what it lies in: whoever may write that may put another in its place.
    File,
}

/// A place of the host that means something, and where it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded {
    pub path: PathBuf,
    pub guard: Guard,
    pub spot: Spot,
}

/// What comes along below the source of a recursive bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Along {
    /// Where it is mounted on the host.
    pub path: PathBuf,
    pub fstype: String,
    pub spot: Spot,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spot(chain: &[u64], on: Option<&str>) -> Spot {
        Spot {
            chain: chain.iter().map(|ino| Object { dev: 1, ino: *ino }).collect(),
            on: on.map(|path| OnFs {
                fs: (8, 1),
                path: path.into(),
            }),
        }
    }

    #[test]
    fn a_place_is_known_by_identity_and_by_its_file_system() {
        let etc = spot(&[5, 2], Some("/etc"));
        for alias in [
            spot(&[5, 30, 2], None),
            spot(&[9, 5, 30, 2], None),
            spot(&[77, 30, 2], Some("/etc/ssh")),
            spot(&[5, 2], Some("/etc")),
        ] {
            assert!(etc.holds(&alias) && etc.meets(&alias), "{alias:?}");
        }
        for other in [spot(&[7, 2], Some("/etcetera")), spot(&[2], Some("/")), Spot::default()] {
            assert!(!etc.holds(&other), "{other:?}");
        }
        assert!(spot(&[2], Some("/")).holds(&etc) && spot(&[], Some("/")).meets(&etc));
        assert!(!Spot::default().meets(&Spot::default()));
    }

    #[test]
    fn an_alias_is_called_by_the_name_of_what_it_is() {
        let etc = spot(&[5, 2], Some("/etc"));
        let name = |alias: &Spot, real: &str| etc.name_of(Path::new("/etc"), alias, Path::new(real));
        let is = |path: &str| Some(PathBuf::from(path));
        assert_eq!(name(&spot(&[], Some("/etc/ssh/x")), "/srv/a"), is("/etc/ssh/x"));
        assert_eq!(name(&spot(&[], Some("/etc")), "/srv/a"), is("/etc"));
        assert_eq!(name(&spot(&[9, 8, 5, 30], None), "/srv/a/ssh/x"), is("/etc/ssh/x"));
        assert_eq!(name(&spot(&[5, 30], None), "/srv/a"), is("/etc"));
        assert_eq!(name(&spot(&[9, 30], Some("/srv")), "/srv/a"), None);
    }
}
