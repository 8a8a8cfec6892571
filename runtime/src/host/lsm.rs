//! Which Linux security modules are here.

use std::path::Path;

use super::{AppArmor, Parser, SeLinux};
use crate::apparmor;
use crate::sys;

pub(super) fn app_armor() -> AppArmor {
    match std::fs::read_to_string("/sys/module/apparmor/parameters/enabled") {
        Ok(text) if text.starts_with('Y') => AppArmor::Enabled {
            loaded: std::fs::read_to_string(apparmor::LOADED)
                .ok()
                .map(|text| apparmor::enforced(&text).map(str::to_owned).collect()),
            parser: if apparmor::parser().is_some() {
                Parser::Here
            } else {
                Parser::Missing
            },
        },
        _ => AppArmor::Absent,
    }
}

pub(super) fn selinux() -> SeLinux {
    if !is_here(&Path::new("/sys/fs/selinux/enforce").try_exists()) {
        return SeLinux::Absent;
    }
    let mut random = [0_u8; 4];
    match sys::random(&mut random) {
        Ok(()) => SeLinux::Enabled { mcs: mcs(random) },
        // No pair, no container: a label with an empty level is one that the kernel does not take.
        Err(_) => SeLinux::Enabled { mcs: String::new() },
    }
}

/// What may not be looked at is there: Debian's policy keeps SELinux's file system from runtimes, and a container without a label
/// would run as spc_t.
fn is_here(looked: &std::io::Result<bool>) -> bool {
    !matches!(looked, Ok(false))
}

/// Two different categories of the 1024 that policies have, the lower one first.
fn mcs(random: [u8; 4]) -> String {
    let pick = |low, high| u16::from_le_bytes([low, high]) % 1024;
    let first = pick(random[0], random[1]);
    // From the other 1023, so that the pair is always two.
    let second = (first + 1 + pick(random[2], random[3]) % 1023) % 1024;
    format!("s0:c{},c{}", first.min(second), first.max(second))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_categories_in_order() {
        assert_eq!(mcs([5, 0, 0, 0]), "s0:c5,c6");
        assert_eq!(mcs([0xff, 3, 0, 0]), "s0:c0,c1023");
    }

    #[test]
    fn what_may_not_be_looked_at_is_there() {
        let denied = Err(std::io::Error::from(std::io::ErrorKind::PermissionDenied));
        let told = [denied, Ok(true), Ok(false)];
        assert_eq!(told.each_ref().map(is_here), [true, true, false]);
    }
}
