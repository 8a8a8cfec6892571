//! Options of a mount, as containerd writes them, in the form that mount(2) takes. What each word means is said by the runtime's own
//! table, so that the shim and the runtime cannot differ.

use gabion_core::request::mount_options::{MountOptions, Propagation, Reach, attr, words};
use nix::mount::MsFlags;

use crate::error::{Error, Result};

/// A mount's options, taken apart.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) flags: MsFlags,
    pub(super) propagation: MsFlags,
    pub(super) data: Vec<String>,
}

/// MS_NOSYMFOLLOW (linux/mount.h), which nix does not name.
const NOSYMFOLLOW: MsFlags = MsFlags::from_bits_retain(256);

/// An attribute of a mount as mount(2) has it.
const ATTRIBUTES: [(u64, MsFlags); 6] = [
    (attr::RDONLY, MsFlags::MS_RDONLY),
    (attr::NOSUID, MsFlags::MS_NOSUID),
    (attr::NODEV, MsFlags::MS_NODEV),
    (attr::NOEXEC, MsFlags::MS_NOEXEC),
    (attr::NODIRATIME, MsFlags::MS_NODIRATIME),
    (attr::NOSYMFOLLOW, NOSYMFOLLOW),
];

/// Takes the options of one mount apart; the last word wins.
pub(super) fn parse(options: &[String]) -> Result<Parsed> {
    // Things that a mount helper would do. Passing them on as data would be taken for something else, or ignored.
    let helpers =
        |word: &&str| *word == "loop" || ["uidmap=", "gidmap=", "X-"].iter().any(|start| word.starts_with(start));
    if let Some(option) = words(options).find(helpers) {
        return Err(Error::BadMount {
            option: option.to_owned(),
        });
    }
    let read = MountOptions::read(options);
    let mut flags = MsFlags::empty();
    for (bit, flag) in ATTRIBUTES {
        flags.set(flag, read.holds(bit));
    }
    flags |= match read.tree.time.or(read.one.time) {
        Some(attr::NOATIME) => MsFlags::MS_NOATIME,
        Some(attr::STRICTATIME) => MsFlags::MS_STRICTATIME,
        Some(_) => MsFlags::MS_RELATIME,
        None => MsFlags::empty(),
    };
    flags |= match read.bind {
        Some(reach) => MsFlags::MS_BIND | recursive(reach == Reach::Tree),
        None => MsFlags::empty(),
    };
    flags.set(MsFlags::MS_REMOUNT, read.remount);
    let mut data = Vec::new();
    for word in read.data {
        match flag_of_file_systems(&word) {
            Some((flag, on)) => flags.set(flag, on),
            None => data.push(quoted(word)),
        }
    }
    Ok(Parsed {
        flags,
        propagation: propagation(options),
        data,
    })
}

/// Gives a word as mount(2) wants it, which has all of them in one string: a value with a comma stands in quotes again (SELinux takes a level's categories so:
/// `context="…:c1,c2"`). A comma after a backslash, in overlay's paths, parts nothing.
fn quoted(word: String) -> String {
    let mut before = ' ';
    let parts = |c: char| {
        let parts = c == ',' && before != '\\';
        before = if before == '\\' { ' ' } else { c };
        parts
    };
    match word.split_once('=') {
        Some((key, value)) if value.chars().any(parts) => format!("{key}=\"{value}\""),
        _ => word,
    }
}

/// What fsconfig(2) takes by its name is a flag to mount(2).
fn flag_of_file_systems(word: &str) -> Option<(MsFlags, bool)> {
    Some(match word {
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        "lazytime" => (MsFlags::MS_LAZYTIME, true),
        "nolazytime" => (MsFlags::MS_LAZYTIME, false),
        "mand" => (MsFlags::MS_MANDLOCK, true),
        "nomand" => (MsFlags::MS_MANDLOCK, false),
        _ => return None,
    })
}

/// The last word of propagation, with what lies below where it begins with an `r`.
fn propagation(options: &[String]) -> MsFlags {
    let last = words(options)
        .filter_map(|word| Some((word, Propagation::named(word)?)))
        .last();
    let Some((word, how)) = last else {
        return MsFlags::empty();
    };
    let flag = match how {
        Propagation::Private => MsFlags::MS_PRIVATE,
        Propagation::Slave => MsFlags::MS_SLAVE,
        Propagation::Shared => MsFlags::MS_SHARED,
        Propagation::Unbindable => MsFlags::MS_UNBINDABLE,
    };
    flag | recursive(word.starts_with('r'))
}

fn recursive(yes: bool) -> MsFlags {
    if yes { MsFlags::MS_REC } else { MsFlags::empty() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(ToString::to_string).collect()
    }

    /// containerd gives a root's label so under SELinux, and mount(2) has all data in one string.
    #[test]
    fn a_comma_in_a_value_parts_nothing() {
        for word in [
            r#"context="system_u:object_r:container_file_t:s0:c708,c857""#,
            r"lowerdir=/a\,b:/c",
            r"upperdir=/a\\",
            "context=system_u:object_r:container_file_t:s0",
        ] {
            let parsed = parse(&["ro".to_owned(), word.to_owned()]).unwrap();
            assert_eq!(parsed.data, [word]);
        }
    }

    #[test]
    fn options_are_flags_or_data_and_the_last_word_wins() {
        let parsed = parse(&strings(&["ro", "nosuid", "rw", "lowerdir=/a:/b", "rslave"])).unwrap();
        assert_eq!(parsed.flags, MsFlags::MS_NOSUID);
        assert_eq!(parsed.propagation, MsFlags::MS_SLAVE | MsFlags::MS_REC);
        assert_eq!(parsed.data, ["lowerdir=/a:/b"]);
    }

    #[test]
    fn flags_are_those_of_mount_2() {
        for (words, flags) in [
            (
                "rbind ro nosymfollow",
                MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY | NOSYMFOLLOW,
            ),
            (
                "bind nodev noexec nosuid dev",
                MsFlags::MS_BIND | MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID,
            ),
            ("noatime nodiratime", MsFlags::MS_NOATIME | MsFlags::MS_NODIRATIME),
            ("noatime strictatime", MsFlags::MS_STRICTATIME),
            (
                "relatime sync dirsync lazytime",
                MsFlags::MS_RELATIME | MsFlags::MS_SYNCHRONOUS | MsFlags::MS_DIRSYNC | MsFlags::MS_LAZYTIME,
            ),
            ("sync async remount defaults silent", MsFlags::MS_REMOUNT),
        ] {
            let options: Vec<_> = words.split(' ').map(str::to_owned).collect();
            let parsed = parse(&options).unwrap();
            assert_eq!(parsed.flags, flags, "{words}");
            assert!(parsed.data.is_empty(), "{words}");
            assert!(parsed.propagation.is_empty(), "{words}");
        }
    }

    #[test]
    fn what_needs_a_helper_is_refused() {
        for option in ["loop", "uidmap=0:1:2", "X-containerd.mkdir.path=/x", "ro,loop"] {
            assert!(
                matches!(parse(&strings(&[option])), Err(Error::BadMount { .. })),
                "{option}"
            );
        }
    }
}
