//! Who calls, as the kernel shows us.

use std::fs::File;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;

use gabion_core::caller::{OwnUserNs, Reader};
use gabion_core::ids::{IdMap, Maps, OwnIds, SetGroups};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};

pub mod limits;

/// Who is calling, as far as policy files depend on it.
pub fn reader() -> Reader {
    Reader {
        euid: nix::unistd::geteuid().as_raw(),
        user_ns: user_ns(),
    }
}

/// Whether user ids here are the host's. A namespace that maps every id to itself gives root no less, so it does not count.
pub fn user_ns() -> OwnUserNs {
    static KNOWN: OnceLock<OwnUserNs> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let map = crate::small::read("/proc/self/uid_map").unwrap_or_default();
        let fields: Vec<&str> = map.split_whitespace().collect();
        if fields.is_empty() || fields == ["0", "0", "4294967295"] {
            OwnUserNs::Initial
        } else {
            OwnUserNs::Nested
        }
    })
}

/// What our ids are on the host, as far as the kernel shows it to us.
pub fn own_ids() -> OwnIds {
    let (root_user, root_group) = root_here();
    OwnIds {
        maps: own_map("uid_map")
            .zip(own_map("gid_map"))
            .map(|(uids, gids)| Maps { uids, gids }),
        root_user,
        root_group,
    }
}

fn own_map(name: &str) -> Option<IdMap> {
    match crate::small::read(format!("/proc/self/{name}")) {
        Ok(text) => IdMap::parse(&text),
        // A kernel without user namespaces.
        Err(error) if error.kind() == ErrorKind::NotFound => Some(IdMap::whole()),
        Err(_) => None,
    }
}

/// The numbers that the host's root, user and group, has here. A sysctl of the kernel is root's whichever namespace its procfs was mounted
/// in (fs/proc/proc_sysctl.c), and the kernel shows owners as our namespace has them. The overflow id stands for all that have no number
/// here, so that where it was mapped on purpose to the host's root, only the maps tell.
fn root_here() -> (Option<u32>, Option<u32>) {
    let owner = || {
        let file = File::open("/proc/sys/kernel/osrelease").ok()?;
        let kind = fstatfs(&file).ok()?;
        (kind.filesystem_type() == PROC_SUPER_MAGIC).then(|| file.metadata().ok())?
    };
    let Some(owner) = owner() else { return (None, None) };
    let shown = |id: u32, overflow: &str| {
        let unmapped = crate::small::read(format!("/proc/sys/kernel/{overflow}")).ok();
        let unmapped = unmapped.and_then(|text| text.trim().parse().ok()).unwrap_or(65534);
        (id != unmapped).then_some(id)
    };
    (shown(owner.uid(), "overflowuid"), shown(owner.gid(), "overflowgid"))
}

/// Whether groups may be set in the user namespace of a process (`self`, or a pid).
pub(crate) fn set_groups(who: &str) -> SetGroups {
    match crate::small::read(format!("/proc/{who}/setgroups")) {
        Ok(text) if text.trim() == "deny" => SetGroups::Denied,
        // Kernels before 3.19 have no such file and let everybody.
        _ => SetGroups::Allowed,
    }
}

/// Our supplementary groups.
pub(crate) fn groups() -> Vec<u32> {
    let groups = nix::unistd::getgroups().unwrap_or_default();
    groups.into_iter().map(nix::unistd::Gid::as_raw).collect()
}

/// Our OOM score, which a process of ours inherits.
pub fn oom_score_adj() -> i32 {
    let text = crate::small::read("/proc/self/oom_score_adj").unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

/// Who we are for the host: under rootless podman root is the user (user_namespaces(7)).
pub fn host_uid() -> u32 {
    let euid = nix::unistd::geteuid().as_raw();
    let map = crate::small::read("/proc/self/uid_map").unwrap_or_default();
    outside(&map, euid).unwrap_or(euid)
}

/// Whether this is the host's root, and not one of a user namespace.
pub fn is_host_root() -> bool {
    nix::unistd::geteuid().is_root() && user_ns() == OwnUserNs::Initial
}

/// What `uid_map` makes of a user of its namespace.
fn outside(map: &str, uid: u32) -> Option<u32> {
    map.lines().find_map(|line| {
        let mut fields = line.split_whitespace().map(str::parse::<u32>);
        let (first, there, count) = (fields.next()?.ok()?, fields.next()?.ok()?, fields.next()?.ok()?);
        let offset = uid.checked_sub(first).filter(|offset| *offset < count)?;
        there.checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_root_is_outside() {
        let podman = "         0       1000          1\n         1     100000      65536\n";
        assert_eq!(outside(podman, 0), Some(1000));
        assert_eq!(outside(podman, 1), Some(100_000));
        assert_eq!(outside(podman, 65537), None);
        assert_eq!(outside("0 0 4294967295", 1000), Some(1000));
        assert_eq!(outside("", 0), None);
    }
}
