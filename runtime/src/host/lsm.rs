//! Which Linux security modules are here.

use std::collections::BTreeSet;
use std::io::Read;
use std::path::Path;

use super::{AppArmor, SeLinux};

pub(super) fn apparmor() -> AppArmor {
    match std::fs::read_to_string("/sys/module/apparmor/parameters/enabled") {
        Ok(text) if text.starts_with('Y') => AppArmor::Enabled {
            loaded: std::fs::read_to_string("/sys/kernel/security/apparmor/profiles")
                .ok()
                .map(|text| profiles(&text)),
        },
        _ => AppArmor::Absent,
    }
}

/// Lines of `name (mode)`; a name may hold blanks. Only what is enforced confines anything.
fn profiles(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter_map(|line| line.strip_suffix(" (enforce)").map(str::to_owned))
        .collect()
}

pub(super) fn selinux() -> SeLinux {
    if !Path::new("/sys/fs/selinux/enforce").exists() {
        return SeLinux::Absent;
    }
    let mut random = [0_u8; 4];
    match std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)) {
        Ok(()) => SeLinux::Enabled { mcs: mcs(random) },
        // No pair, no container: a label with an empty level is one that the kernel does not take.
        Err(_) => SeLinux::Enabled { mcs: String::new() },
    }
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
    fn profiles_in_force_are_known_by_name() {
        let names = profiles("docker-default (enforce)\nmy prof (enforce)\nloose (complain)\nfree (unconfined)\n");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["docker-default", "my prof"]);
    }

    #[test]
    fn a_pair_is_two_categories_in_order() {
        assert_eq!(mcs([5, 0, 0, 0]), "s0:c5,c6");
        assert_eq!(mcs([0xff, 3, 0, 0]), "s0:c0,c1023");
    }
}
