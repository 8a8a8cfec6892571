//! systemd's names for a container's cgroup, and where it puts what bears them.

use std::path::{Path, PathBuf};

use gabion_core::host::CgroupDriver;

use super::{ROOT, own_v2};
use crate::caller::host_uid;

/// The names that systemd knows a scope and its slice by.
#[derive(Debug, PartialEq, Eq)]
pub struct Unit {
    pub slice: String,
    pub name: String,
}

impl Unit {
    /// What `slice:prefix:name` or `prefix:name` asks for; without a slice it is the manager's own.
    pub fn named(asked: &Path, rooted: bool) -> Option<Self> {
        let text = asked.to_str()?;
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        let (slice, prefix, name) = match *parts.as_slice() {
            [slice, prefix, name] => (slice, prefix, name),
            [prefix, name] => ("", prefix, name),
            _ => return None,
        };
        let slice = if slice.is_empty() { default_slice(rooted) } else { slice };
        Some(Self {
            slice: slice.to_owned(),
            name: format!("{prefix}-{name}.scope"),
        })
    }

    /// Its directory, from its manager's cgroup.
    pub fn place(&self) -> PathBuf {
        slice_path(&self.slice).join(&self.name)
    }
}

/// Where the machine's systemd, or a user's, puts what does not say.
pub const fn default_slice(rooted: bool) -> &'static str {
    if rooted { "system.slice" } else { "user.slice" }
}

/// The cgroup of the systemd that makes the container's scope, from the hierarchy's root: the machine's own is the root, a user's
/// lies where that user's service is. systemd says where it really is when it makes the scope; one that is not where it is looked
/// for is an error.
pub fn manager(driver: CgroupDriver, rooted: bool) -> PathBuf {
    if driver != CgroupDriver::Systemd || rooted {
        return PathBuf::new();
    }
    let uid = host_uid();
    let service = format!("user@{uid}.service");
    let own = own_v2();
    let above = own.ancestors().find(|dir| dir.ends_with(&service));
    let above = above.and_then(|dir| dir.strip_prefix(ROOT).ok());
    above.map_or_else(
        || Path::new("user.slice").join(format!("user-{uid}.slice")).join(&service),
        Path::to_owned,
    )
}

/// `a-b.slice` lies below `a.slice` (systemd.slice(5)).
pub fn slice_path(slice: &str) -> PathBuf {
    let mut path = PathBuf::new();
    let Some(name) = slice.strip_suffix(".slice").filter(|n| !n.is_empty() && *n != "-") else {
        return path;
    };
    if name.contains('/') {
        return path;
    }
    for (end, _) in name.match_indices('-') {
        path.push(format!("{}.slice", &name[..end]));
    }
    path.push(slice);
    path
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn slices_nest() {
        assert_eq!(slice_path("system.slice"), Path::new("system.slice"));
        assert_eq!(
            slice_path("kubepods-burstable-pod1.slice"),
            Path::new("kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice")
        );
        assert_eq!(slice_path("-.slice"), Path::new(""));
        assert_eq!(slice_path("../x.slice"), Path::new(""));
    }

    #[test]
    fn a_unit_lies_in_its_slice() {
        let place = |asked: &str, rooted| Unit::named(Path::new(asked), rooted).unwrap().place();
        assert_eq!(place("system.slice:a:b", true), Path::new("system.slice/a-b.scope"));
        assert_eq!(place(":a:b", true), Path::new("system.slice/a-b.scope"));
        assert_eq!(place("a:b", false), Path::new("user.slice/a-b.scope"));
        assert_eq!(
            place("user-pod.slice:a:b", false),
            Path::new("user.slice/user-pod.slice/a-b.scope")
        );
        assert_eq!(place("a.slice:cri:x:y", true), Path::new("a.slice/cri-x:y.scope"));
        assert_eq!(Unit::named(Path::new("/a/b"), true), None);
    }

    #[test]
    fn only_a_user_s_systemd_is_not_at_the_top() {
        assert_eq!(manager(CgroupDriver::Cgroupfs, false), Path::new(""));
        assert_eq!(manager(CgroupDriver::Systemd, true), Path::new(""));
        let service = format!("user@{}.service", host_uid());
        assert!(manager(CgroupDriver::Systemd, false).ends_with(service));
    }
}
