//! Options that Docker, podman and compose files have in common.

use std::path::Path;

use gabion_core::size::Size;

use super::wish::{Filter, Wish};

/// What a word of `--security-opt` asks for. A word that is not known is told.
pub(super) fn security(word: &str, place: &str, wish: &mut Wish) {
    let (key, value) = word.split_once(['=', ':']).unwrap_or((word, ""));
    match (key, value) {
        ("no-new-privileges", "false") => {}
        ("no-new-privileges", _) => wish.no_new_privs = true,
        ("seccomp", "unconfined") => {
            wish.filter = Filter::None;
            wish.note("linux.seccomp", place);
        }
        ("seccomp", profile) => {
            wish.filter = Filter::OfEngine;
            wish.note("linux.seccomp", place);
            if profile != "builtin" && profile != "default" {
                wish.assume(format!("{place}: that the profile is there, and compiles"));
            }
        }
        ("apparmor", profile) => {
            wish.apparmor = Some(profile.to_owned());
            wish.note("process.apparmorProfile", place);
        }
        ("label", "disable") => {
            wish.selinux = Some("system_u:system_r:spc_t:s0".to_owned());
            wish.note("process.selinuxLabel", place);
        }
        ("label", part) => {
            if let Some(typ) = part.strip_prefix("type:") {
                wish.selinux = Some(format!("system_u:system_r:{typ}:s0:c1,c2"));
                wish.note("process.selinuxLabel", place);
            }
        }
        ("systempaths", "unconfined") | ("unmask", _) => {
            wish.unmasked = true;
            wish.note("linux.maskedPaths", place);
            wish.note("linux.readonlyPaths", place);
        }
        ("mask", _) => {}
        _ => wish.assume(format!("{place}: {word}: nothing was made of it")),
    }
}

/// Capabilities as people write them: with the prefix or without, in any letters.
pub(super) fn bare(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

/// `UID[:GID]`. A name is in the image's /etc/passwd, which is not here.
pub(super) fn user(text: &str, place: &str, wish: &mut Wish) {
    let (user, group) = text.split_once(':').unwrap_or((text, ""));
    wish.note("process.user.uid", place);
    wish.note("process.user.gid", place);
    match user.parse() {
        Ok(uid) => wish.uid = uid,
        Err(_) if user.is_empty() || user == "root" => {}
        Err(_) => {
            wish.uid = 65_532;
            wish.assume(format!("{place}: that {user:?} is not root in the image's /etc/passwd"));
        }
    }
    match group.parse() {
        Ok(gid) => wish.gid = gid,
        Err(_) if group.is_empty() && wish.uid == 0 => {}
        Err(_) if group.is_empty() => {
            wish.assume(format!(
                "{place}: no group: the image's /etc/passwd is not known; judged as group 0"
            ));
        }
        Err(_) => {
            wish.gid = 65_532;
            wish.assume(format!(
                "{place}: that {group:?} is not root's in the image's /etc/group"
            ));
        }
    }
}

/// A number of bytes as Docker takes it.
pub(super) fn bytes(text: &str) -> Option<i64> {
    let size: Size = text.parse().ok()?;
    i64::try_from(size.0).ok()
}

/// RLIMIT_NOFILE of `nofile`.
pub(super) fn rlimit(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    format!("RLIMIT_{}", upper.strip_prefix("RLIMIT_").unwrap_or(&upper))
}

/// The options of a mount that say something to a kernel; SELinux's and Docker's own words are left out.
pub(super) fn of_mount(words: &str) -> Vec<String> {
    const KEPT: [&str; 20] = [
        "ro",
        "rw",
        "exec",
        "noexec",
        "suid",
        "nosuid",
        "dev",
        "nodev",
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "unbindable",
        "runbindable",
        "bind",
        "rbind",
        "idmap",
        "noatime",
    ];
    let tmpfs = |word: &str| ["size=", "mode=", "nr_inodes="].iter().any(|key| word.starts_with(key));
    let words = words.split(',').map(str::trim);
    words
        .filter(|word| KEPT.contains(word) || tmpfs(word))
        .map(str::to_owned)
        .collect()
}

/// Whether what stands before the colon is a path and no volume's name.
pub(super) fn is_path(source: &str) -> bool {
    source.starts_with(['/', '.', '~']) || Path::new(source).is_absolute()
}
