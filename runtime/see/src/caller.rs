//! Who calls, as the kernel shows us.

use std::sync::OnceLock;

use gabion_core::caller::{OwnUserNs, Reader};

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
