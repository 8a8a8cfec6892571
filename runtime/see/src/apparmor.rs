//! The bundled AppArmor profile: its text is part of this program, and what the kernel says of it. The crate gabion-common loads it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

#[cfg(test)]
use gabion_core::control::lsm::DEFAULT_PROFILE;

/// The profile, with a reason for each rule.
pub const PROFILE: &str = include_str!("../../policy/gabion-default.apparmor");

/// Where distributions put it. Not looked for on PATH: what it is given decides what holds containers.
const PARSERS: [&str; 2] = ["/usr/sbin/apparmor_parser", "/sbin/apparmor_parser"];

/// Where the kernel lists what is loaded.
pub const LOADED: &str = "/sys/kernel/security/apparmor/profiles";

/// The compiler, if it is root's and nobody else may write to it.
pub fn parser() -> Option<&'static Path> {
    PARSERS
        .iter()
        .map(Path::new)
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.uid() == 0 && meta.mode() & 0o022 == 0))
}

/// Lines of `name (mode)`; a name may hold blanks. Only what is enforced confines anything.
pub fn enforced(list: &str) -> impl Iterator<Item = &str> {
    list.lines().filter_map(|line| line.strip_suffix(" (enforce)"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn profiles_in_force_are_known_by_name() {
        let list = "docker-default (enforce)\nmy prof (enforce)\nloose (complain)\nfree (unconfined)\n";
        assert_eq!(enforced(list).collect::<Vec<_>>(), ["docker-default", "my prof"]);
    }

    #[test]
    fn the_profile_has_the_name_that_containers_get() {
        assert!(PROFILE.contains(&format!("\nprofile {DEFAULT_PROFILE} ")));
    }
}
