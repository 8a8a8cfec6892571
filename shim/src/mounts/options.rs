//! Options of a mount, as containerd writes them: flags of the kernel's, propagation, and data for the file system.

use nix::mount::MsFlags;

use crate::error::{Error, Result};

/// A mount's options, taken apart.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) flags: MsFlags,
    pub(super) propagation: MsFlags,
    pub(super) data: Vec<String>,
}

/// Options that are flags: name, bits to set, bits to clear.
const FLAGS: &[(&str, MsFlags, MsFlags)] = &[
    ("async", MsFlags::empty(), MsFlags::MS_SYNCHRONOUS),
    ("atime", MsFlags::empty(), MsFlags::MS_NOATIME),
    ("bind", MsFlags::MS_BIND, MsFlags::empty()),
    ("defaults", MsFlags::empty(), MsFlags::empty()),
    ("dev", MsFlags::empty(), MsFlags::MS_NODEV),
    ("diratime", MsFlags::empty(), MsFlags::MS_NODIRATIME),
    ("dirsync", MsFlags::MS_DIRSYNC, MsFlags::empty()),
    ("exec", MsFlags::empty(), MsFlags::MS_NOEXEC),
    ("noatime", MsFlags::MS_NOATIME, MsFlags::empty()),
    ("nodev", MsFlags::MS_NODEV, MsFlags::empty()),
    ("nodiratime", MsFlags::MS_NODIRATIME, MsFlags::empty()),
    ("noexec", MsFlags::MS_NOEXEC, MsFlags::empty()),
    ("norelatime", MsFlags::empty(), MsFlags::MS_RELATIME),
    ("nostrictatime", MsFlags::empty(), MsFlags::MS_STRICTATIME),
    ("nosuid", MsFlags::MS_NOSUID, MsFlags::empty()),
    ("rbind", MsFlags::MS_BIND.union(MsFlags::MS_REC), MsFlags::empty()),
    ("relatime", MsFlags::MS_RELATIME, MsFlags::empty()),
    ("remount", MsFlags::MS_REMOUNT, MsFlags::empty()),
    ("ro", MsFlags::MS_RDONLY, MsFlags::empty()),
    ("rw", MsFlags::empty(), MsFlags::MS_RDONLY),
    ("strictatime", MsFlags::MS_STRICTATIME, MsFlags::empty()),
    ("suid", MsFlags::empty(), MsFlags::MS_NOSUID),
    ("sync", MsFlags::MS_SYNCHRONOUS, MsFlags::empty()),
];

/// Options that set the propagation, which the kernel takes in a call of its own.
const PROPAGATION: &[(&str, MsFlags)] = &[
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
];

/// Takes the options of one mount apart; the last word wins.
pub(super) fn parse(options: &[String]) -> Result<Parsed> {
    let mut parsed = Parsed {
        flags: MsFlags::empty(),
        propagation: MsFlags::empty(),
        data: Vec::new(),
    };
    for option in options {
        if let Some((_, set, clear)) = FLAGS.iter().find(|(name, ..)| name == option) {
            parsed.flags = (parsed.flags | *set) & !*clear;
        } else if let Some((_, bits)) = PROPAGATION.iter().find(|(name, _)| name == option) {
            parsed.propagation |= *bits;
        } else if option == "loop"
            || option.starts_with("uidmap=")
            || option.starts_with("gidmap=")
            || option.starts_with("X-")
        {
            // Things that a mount helper would do. Passing them on as data would be taken for something else, or ignored.
            return Err(Error::BadMount { option: option.clone() });
        } else {
            parsed.data.push(option.clone());
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(options: &[&str]) -> Vec<String> {
        options.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn options_are_flags_or_data_and_the_last_word_wins() {
        let parsed = parse(&strings(&["ro", "nosuid", "rw", "lowerdir=/a:/b", "rslave"])).unwrap();
        assert_eq!(parsed.flags, MsFlags::MS_NOSUID);
        assert_eq!(parsed.propagation, MsFlags::MS_SLAVE | MsFlags::MS_REC);
        assert_eq!(parsed.data, ["lowerdir=/a:/b"]);
    }

    #[test]
    fn what_needs_a_helper_is_refused() {
        for option in ["loop", "uidmap=0:1:2", "X-containerd.mkdir.path=/x"] {
            assert!(
                matches!(parse(&strings(&[option])), Err(Error::BadMount { .. })),
                "{option}"
            );
        }
    }
}
