//! Which Linux security modules are here.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::apparmor;
use crate::vetted::{self, DIRECTORY, FILES};
use gabion_core::control::masked_paths::MASKED;
use gabion_core::host::{AppArmor, Parser, SeLinux};

pub(super) fn app_armor() -> AppArmor {
    let enabled = std::fs::read_to_string("/sys/module/apparmor/parameters/enabled");
    if !enforces(&enabled) {
        return AppArmor::Absent;
    }
    AppArmor::Enabled {
        loaded: std::fs::read_to_string(apparmor::LOADED)
            .ok()
            .map(|text| apparmor::enforced(&text).map(str::to_owned).collect()),
        parser: if apparmor::parser().is_some() {
            Parser::Here
        } else {
            Parser::Missing
        },
    }
}

/// Whether the kernel's word is that AppArmor is on. What may not be read is on, as with SELinux: a container without its profile
/// that nobody hears of is the worse mistake. ENOTDIR and ENOENT: no such module, or no sysfs.
fn enforces(enabled: &std::io::Result<String>) -> bool {
    match enabled {
        Ok(text) => text.starts_with('Y'),
        Err(error) => !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    }
}

/// Whether AppArmor is on.
pub fn app_armor_is_here() -> bool {
    enforces(&std::fs::read_to_string("/sys/module/apparmor/parameters/enabled"))
}

/// Whether SELinux is on. What may not be looked at is there: Debian's policy keeps its file system from runtimes, and a container
/// without a label would run as spc_t.
pub fn selinux_is_here() -> bool {
    is_here(&Path::new("/sys/fs/selinux/enforce").try_exists())
}

fn is_here(looked: &std::io::Result<bool>) -> bool {
    !matches!(looked, Ok(false))
}

pub(super) fn selinux(state_root: &Path) -> SeLinux {
    if !selinux_is_here() {
        return SeLinux::Absent;
    }
    // No pair, no container: a label with an empty level is one that the kernel does not take.
    let pair = levels_in_use(state_root).and_then(|in_use| unused(&in_use, random_pair));
    let mcs = pair.unwrap_or_default();
    SeLinux::Enabled { mcs }
}

/// Gives those of the files that every container has masked which SELinux does not let us look at, nor then mount over (Debian's policy: kallsyms
/// is `system_map_t`, which is closed to `container_engine_t`). Root is told EACCES there by nobody else.
pub(super) fn kept(selinux: &SeLinux) -> BTreeSet<PathBuf> {
    if matches!(selinux, SeLinux::Absent) {
        return BTreeSet::new();
    }
    let closed = |path: &&Path| std::fs::symlink_metadata(path).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied);
    MASKED
        .iter()
        .map(Path::new)
        .filter(closed)
        .map(Path::to_owned)
        .collect()
}

/// The first pair drawn that is nobody's. Random alone is not enough: among a thousand containers two would most likely share one.
fn unused(in_use: &BTreeSet<String>, mut draw: impl FnMut() -> std::io::Result<String>) -> Option<String> {
    /// As long as not nearly all of half a million pairs are taken, one of these is free.
    const TRIES: usize = 64;
    (0..TRIES).find_map(|_| draw().ok().filter(|pair| !in_use.contains(pair)))
}

/// The levels of the containers whose state lies below `root`, waiting ones among them. Not of all processes: a runtime's domain
/// may not look at most of them, and each try would be a line in the audit log. None where the root cannot be listed.
fn levels_in_use(root: &Path) -> Option<BTreeSet<String>> {
    let containers = match std::fs::read_dir(root) {
        Ok(entries) => entries.collect::<std::io::Result<Vec<_>>>().ok()?,
        Err(error) if error.kind() == ErrorKind::NotFound => return Some(BTreeSet::new()),
        Err(_) => return None,
    };
    let states = containers.iter().filter_map(|entry| {
        let dir = vetted::open(&entry.path(), &DIRECTORY).ok()?;
        vetted::read_at(&dir, "state.json", &FILES).ok()
    });
    let level = |state: Vec<u8>| {
        let state: Value = serde_json::from_slice(&state).ok()?;
        let label = state.pointer("/hardened/plan/lsm/selinux")?.as_str()?;
        // user:role:type:level
        Some(label.splitn(4, ':').nth(3)?.to_owned())
    };
    // One that is damaged or just being deleted holds none.
    Some(states.filter_map(level).collect())
}

fn random_pair() -> std::io::Result<String> {
    let mut random = [0_u8; 4];
    gabion_sys::random(&mut random)?;
    Ok(mcs(random))
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_two_categories_in_order() {
        assert_eq!(mcs([5, 0, 0, 0]), "s0:c5,c6");
        assert_eq!(mcs([0xff, 3, 0, 0]), "s0:c0,c1023");
    }

    #[test]
    fn what_may_not_be_looked_at_is_there() {
        let denied = || std::io::Error::from(ErrorKind::PermissionDenied);
        let told = [Err(denied()), Ok(true), Ok(false)];
        assert_eq!(told.each_ref().map(is_here), [true, true, false]);
        let missing = || std::io::Error::from(ErrorKind::NotFound);
        let read = [
            Err(denied()),
            Ok("Y\n".to_owned()),
            Ok("N\n".to_owned()),
            Err(missing()),
        ];
        assert_eq!(read.each_ref().map(enforces), [true, true, false, false]);
    }

    #[test]
    fn a_pair_of_another_container_is_drawn_again() {
        let root = std::env::temp_dir().join(format!("gabion-levels-{}", std::process::id()));
        for (id, state) in [
            (
                "a",
                r#"{"hardened": {"plan": {"lsm": {"selinux": "system_u:system_r:container_t:s0:c1,c2"}}}}"#,
            ),
            (
                "b",
                r#"{"hardened": {"plan": {"lsm": {"selinux": "u:r:mine_t:s0:c3,c4"}}}}"#,
            ),
            ("none", r#"{"hardened": {"plan": {"lsm": {}}}}"#),
            ("damaged", "{"),
        ] {
            std::fs::create_dir_all(root.join(id)).unwrap();
            std::fs::write(root.join(id).join("state.json"), state).unwrap();
        }
        let in_use = levels_in_use(&root).unwrap();
        std::fs::remove_dir_all(&root).unwrap();
        assert_eq!(in_use, BTreeSet::from(["s0:c1,c2".to_owned(), "s0:c3,c4".to_owned()]));
        let mut drawn = ["s0:c1,c2", "s0:c3,c4", "s0:c7,c8"].into_iter();
        let next = || Ok(drawn.next().unwrap().to_owned());
        assert_eq!(unused(&in_use, next).as_deref(), Some("s0:c7,c8"));
        assert_eq!(unused(&in_use, || Ok("s0:c1,c2".to_owned())), None);
    }
}
