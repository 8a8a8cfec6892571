//! What ids of a container are outside of it: arithmetic over the kernel's own maps (user_namespaces(7)).
//!
//! The number in a spec says nothing of who a process is: uid 1000 is the host's root where a map says so. What is not known is
//! never taken for «not root».

use std::path::Path;

use oci_spec::runtime::{LinuxIdMapping, Spec, User};
use serde::{Deserialize, Serialize};

use crate::namespace::NsType;

/// The number that stands for no id: setresuid(2), setresgid(2) and chown(2) take it as «leave it as it is», so that a process
/// which asks for it stays root. The kernel shows it where an id has no number for the reader.
pub const NO_ID: u32 = u32::MAX;

/// Users' ids or groups'.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    User,
    Group,
}

/// One line of a map: `count` ids from `inside` on are those from `outside` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub inside: u32,
    pub outside: u32,
    pub count: u32,
}

impl Extent {
    /// The first id that is not mapped any more. It may lie beyond all ids.
    const fn end(first: u32, count: u32) -> u64 {
        // Widening, which `From` cannot do in a const fn.
        first as u64 + count as u64
    }

    /// The number that `id` has on the other side.
    fn other(id: u32, (from, to): (u32, u32), count: u32) -> Option<u32> {
        let offset = id.checked_sub(from).filter(|offset| *offset < count)?;
        to.checked_add(offset).filter(|other| *other != NO_ID)
    }
}

/// All lines of one map. Lines that overlap, which the kernel takes from nobody, all count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdMap(Vec<Extent>);

impl IdMap {
    /// Maps every id to itself, as the initial user namespace does.
    pub fn whole() -> Self {
        Self(vec![Extent {
            inside: 0,
            outside: 0,
            count: u32::MAX,
        }])
    }

    /// Parses /proc/PID/uid_map or gid_map. None: it says nothing yet, or something that cannot be understood whole.
    pub fn parse(text: &str) -> Option<Self> {
        let line = |line: &str| {
            let mut fields = line.split_whitespace().map(|field| field.parse::<u32>().ok());
            let (inside, outside, count) = (fields.next()??, fields.next()??, fields.next()??);
            // An id that has no number for us may be any.
            let good = fields.next().is_none() && count > 0 && outside != NO_ID;
            good.then_some(Extent { inside, outside, count })
        };
        let extents: Option<Vec<Extent>> = text.lines().map(line).collect();
        extents.filter(|extents| !extents.is_empty()).map(Self)
    }

    /// The map that a spec's list makes.
    pub fn of(mappings: &[LinuxIdMapping]) -> Self {
        let extent = |m: &LinuxIdMapping| Extent {
            inside: m.container_id(),
            outside: m.host_id(),
            count: m.size(),
        };
        Self(mappings.iter().map(extent).collect())
    }

    /// The ids outside that an id inside stands for: at most one, where the kernel has taken the map.
    pub fn outside(&self, id: u32) -> impl Iterator<Item = u32> {
        self.0
            .iter()
            .filter_map(move |e| Extent::other(id, (e.inside, e.outside), e.count))
    }

    /// The ids inside that stand for an id outside.
    pub fn inside(&self, id: u32) -> impl Iterator<Item = u32> {
        self.0
            .iter()
            .filter_map(move |e| Extent::other(id, (e.outside, e.inside), e.count))
    }

    /// What ids of this map are outside of the namespace around it.
    #[must_use]
    pub fn through(&self, around: &Self) -> Self {
        let both = self.0.iter().flat_map(|a| around.0.iter().map(move |b| (a, b)));
        Self(both.filter_map(|(a, b)| Self::overlap(*a, *b)).collect())
    }

    fn overlap(a: Extent, b: Extent) -> Option<Extent> {
        let first = a.outside.max(b.inside);
        let end = Extent::end(a.outside, a.count).min(Extent::end(b.inside, b.count));
        let count = u32::try_from(end.checked_sub(u64::from(first))?).unwrap_or(u32::MAX);
        let inside = a.inside.checked_add(first - a.outside)?;
        let outside = b.outside.checked_add(first - b.inside)?;
        (count > 0).then_some(Extent { inside, outside, count })
    }
}

impl IdMap {
    /// Whether both say the same: the kernel shows many lines in an order of its own.
    pub fn same_as(&self, other: &Self) -> bool {
        let sorted = |map: &Self| {
            let mut lines: Vec<(u32, u32, u32)> = map.0.iter().map(|e| (e.inside, e.outside, e.count)).collect();
            lines.sort_unstable();
            lines
        };
        sorted(self) == sorted(other)
    }
}

impl std::fmt::Display for IdMap {
    /// All lines in one, as newuidmap(1) takes them.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let lines = self.0.iter().map(|e| format!("{} {} {}", e.inside, e.outside, e.count));
        f.write_str(&lines.collect::<Vec<_>>().join(", "))
    }
}

/// Both maps of a user namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Maps {
    pub uids: IdMap,
    pub gids: IdMap,
}

impl Maps {
    pub fn whole() -> Self {
        Self {
            uids: IdMap::whole(),
            gids: IdMap::whole(),
        }
    }

    pub const fn of(&self, kind: Kind) -> &IdMap {
        match kind {
            Kind::User => &self.uids,
            Kind::Group => &self.gids,
        }
    }

    #[must_use]
    pub fn through(&self, around: &Self) -> Self {
        Self {
            uids: self.uids.through(&around.uids),
            gids: self.gids.through(&around.gids),
        }
    }
}

/// Whether a process may set its supplementary groups in a user namespace (/proc/PID/setgroups).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SetGroups {
    #[default]
    Allowed,
    Denied,
}

/// A user namespace that a spec names by path, as a process in it shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedUsers {
    /// To the ids of gabion's own user namespace.
    pub maps: Maps,
    pub set_groups: SetGroups,
}

/// What the ids of gabion's own user namespace are on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnIds {
    /// As the kernel shows them to us: to the ids of the namespace around ours. None: they could not be read.
    pub maps: Option<Maps>,
    /// The number that the host's root user has in our namespace, told by a file that is certainly root's: this holds however many
    /// namespaces lie around ours. None: root has none, or it cannot be told.
    #[serde(default)]
    pub root_user: Option<u32>,
    /// The same of root's group.
    #[serde(default)]
    pub root_group: Option<u32>,
}

/// gabion in the initial user namespace.
impl Default for OwnIds {
    fn default() -> Self {
        Self {
            maps: Some(Maps::whole()),
            root_user: Some(0),
            root_group: Some(0),
        }
    }
}

/// Who an id is on the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnHost {
    Root,
    NotRoot,
    /// The maps could not be read. Never as good as `NotRoot`.
    Unknown,
}

/// What a container's ids are outside of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerIds {
    /// The ids of gabion's own user namespace that they are. None: those of a namespace that is joined and cannot be looked into.
    pub here: Option<Maps>,
    pub own: OwnIds,
}

impl ContainerIds {
    /// Those of a container that has no user namespace of its own and whose runtime has none either.
    pub fn of_host() -> Self {
        Self {
            here: Some(Maps::whole()),
            own: OwnIds::default(),
        }
    }

    /// Who an id of the container is on the host.
    pub fn on_host(&self, kind: Kind, id: u32) -> OnHost {
        let Some(here) = &self.here else {
            return OnHost::Unknown;
        };
        worst(here.of(kind).outside(id).map(|here| self.own.on_host(kind, here)))
    }

    /// Whether any id of the container is the host's root.
    pub fn reaches_root(&self, kind: Kind) -> OnHost {
        let (Some(here), Some(own)) = (&self.here, &self.own.maps) else {
            return OnHost::Unknown;
        };
        let roots = own.of(kind).inside(0).chain(self.own.root(kind));
        let mut reached = roots.flat_map(|root| here.of(kind).inside(root));
        if reached.next().is_some() {
            OnHost::Root
        } else {
            OnHost::NotRoot
        }
    }

    /// The container's ids as the host has them, as far as they are known.
    pub fn host_maps(&self) -> Option<Maps> {
        Some(self.here.as_ref()?.through(self.own.maps.as_ref()?))
    }
}

impl OwnIds {
    const fn root(&self, kind: Kind) -> Option<u32> {
        match kind {
            Kind::User => self.root_user,
            Kind::Group => self.root_group,
        }
    }

    /// Who an id of gabion's own user namespace is on the host.
    pub fn on_host(&self, kind: Kind, id: u32) -> OnHost {
        let Some(maps) = &self.maps else {
            return OnHost::Unknown;
        };
        if self.root(kind) == Some(id) || maps.of(kind).outside(id).any(|outside| outside == 0) {
            OnHost::Root
        } else {
            OnHost::NotRoot
        }
    }
}

/// The gravest of all.
pub fn worst(all: impl Iterator<Item = OnHost>) -> OnHost {
    all.fold(OnHost::NotRoot, |worst, one| match (worst, one) {
        (OnHost::Root, _) | (_, OnHost::Root) => OnHost::Root,
        (OnHost::Unknown, _) | (_, OnHost::Unknown) => OnHost::Unknown,
        _ => OnHost::NotRoot,
    })
}

/// Whose user namespace the container lives in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Users<'a> {
    /// The runtime's own.
    Runtime,
    New,
    Joined(&'a Path),
}

/// What a spec says of the user namespace.
pub fn users(spec: &Spec) -> Users<'_> {
    let namespaces = spec.linux().iter().flat_map(|l| l.namespaces().iter().flatten());
    let mut asked = namespaces.filter(|ns| NsType::from(ns.typ()) == NsType::User);
    match asked.next().map(oci_spec::runtime::LinuxNamespace::path) {
        None => Users::Runtime,
        // Go's engines write an absent path as "".
        Some(path) => match path.as_deref().filter(|path| !path.as_os_str().is_empty()) {
            None => Users::New,
            Some(path) => Users::Joined(path),
        },
    }
}

/// Every id that a process has, with the field that asks for it.
pub fn in_use(user: &User) -> impl Iterator<Item = (Kind, String, u32)> + '_ {
    let groups = user.additional_gids().iter().flatten().enumerate();
    let groups = groups.map(|(i, gid)| (Kind::Group, format!("user.additionalGids[{i}]"), *gid));
    [
        (Kind::User, "user.uid".to_owned(), user.uid()),
        (Kind::Group, "user.gid".to_owned(), user.gid()),
    ]
    .into_iter()
    .chain(groups)
}

/// The first field of a user that asks for no id.
pub fn no_id_of(user: &User) -> Option<String> {
    in_use(user).find(|(_, _, id)| *id == NO_ID).map(|(_, field, _)| field)
}

/// The first field of a list of mappings that reaches the number which is no id.
pub fn no_id_in(mappings: &[LinuxIdMapping]) -> Option<String> {
    let beyond = |first: u32, count: u32| Extent::end(first, count.max(1)) > u64::from(NO_ID);
    mappings.iter().enumerate().find_map(|(i, m)| {
        [("containerID", m.container_id()), ("hostID", m.host_id())]
            .into_iter()
            .find(|(_, first)| beyond(*first, m.size()))
            .map(|(field, _)| format!("[{i}].{field}"))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
