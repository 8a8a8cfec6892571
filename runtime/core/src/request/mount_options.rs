//! The options of a mount: one table of what each word means, for who judges and for who mounts.
//!
//! The words are those of mount(8) that are the kernel's, and of the runtime spec's table (config.md, Linux mount options). What is
//! none of them is the file system's own (`size=64k`). fstab's words for people and programs (`noauto`, `user`, `x-…`) are none.

use oci_spec::runtime::Mount;

/// MOUNT_ATTR_* of mount_setattr(2) (linux/mount.h).
pub mod attr {
    pub const RDONLY: u64 = 0x1;
    pub const NOSUID: u64 = 0x2;
    pub const NODEV: u64 = 0x4;
    pub const NOEXEC: u64 = 0x8;
    /// The field of the three below: it holds one value.
    pub const ATIME: u64 = 0x70;
    pub const RELATIME: u64 = 0;
    pub const NOATIME: u64 = 0x10;
    pub const STRICTATIME: u64 = 0x20;
    pub const NODIRATIME: u64 = 0x80;
    pub const NOSYMFOLLOW: u64 = 0x0020_0000;
}

/// How far something reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// This mount alone.
    One,
    /// With all mounts below it.
    Tree,
}

/// A way of propagation (mount_namespaces(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    Private,
    Slave,
    Shared,
    Unbindable,
}

impl Propagation {
    /// Reads `private`, `rslave` and the like: as a mount's option, or as `linux.rootfsPropagation`.
    pub fn named(word: &str) -> Option<Self> {
        match meaning(word) {
            Some(Meaning::Propagation(how)) => Some(how),
            _ => None,
        }
    }
}

/// What a word changes of a mount.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Set(u64),
    /// Takes it back, and takes it off what a bind brings along.
    Clear(u64),
    /// Access times, as this value of the field.
    Time(u64),
    /// Access times, not as this value.
    NotTime(u64),
}

/// What a word means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// An attribute of this mount, or with `r` before it of all below it too.
    Attribute(Reach, Change),
    Propagation(Propagation),
    Bind(Reach),
    IdMap(Reach),
    /// The image's files at the mount point come along (tmpfs).
    CopyUp,
    /// Said to the file system when it is made (fsconfig(2)). A bind's is made already: nothing is done.
    FileSystem,
    /// Says what is so anyhow, or what no kernel of today acts on.
    Nothing,
    /// Refused: nothing that is mounted is changed.
    Remount,
}

use Change::{Clear, NotTime, Set, Time};
use Meaning::{Attribute, Bind, CopyUp, FileSystem, IdMap, Nothing, Remount};
use Reach::{One, Tree};

/// Every word, in order.
pub const TABLE: [(&str, Meaning); 62] = [
    ("async", FileSystem),
    ("atime", Attribute(One, NotTime(attr::NOATIME))),
    ("bind", Bind(One)),
    ("defaults", Nothing),
    ("dev", Attribute(One, Clear(attr::NODEV))),
    ("diratime", Attribute(One, Clear(attr::NODIRATIME))),
    ("dirsync", FileSystem),
    ("exec", Attribute(One, Clear(attr::NOEXEC))),
    ("idmap", IdMap(One)),
    ("iversion", Nothing),
    ("lazytime", FileSystem),
    ("loud", Nothing),
    ("mand", FileSystem),
    ("noatime", Attribute(One, Time(attr::NOATIME))),
    ("nodev", Attribute(One, Set(attr::NODEV))),
    ("nodiratime", Attribute(One, Set(attr::NODIRATIME))),
    ("noexec", Attribute(One, Set(attr::NOEXEC))),
    ("noiversion", Nothing),
    ("nolazytime", FileSystem),
    ("nomand", FileSystem),
    ("norelatime", Attribute(One, NotTime(attr::RELATIME))),
    ("nostrictatime", Attribute(One, NotTime(attr::STRICTATIME))),
    ("nosuid", Attribute(One, Set(attr::NOSUID))),
    ("nosymfollow", Attribute(One, Set(attr::NOSYMFOLLOW))),
    ("private", Meaning::Propagation(Propagation::Private)),
    ("ratime", Attribute(Tree, NotTime(attr::NOATIME))),
    ("rbind", Bind(Tree)),
    ("rdev", Attribute(Tree, Clear(attr::NODEV))),
    ("rdiratime", Attribute(Tree, Clear(attr::NODIRATIME))),
    ("relatime", Attribute(One, Time(attr::RELATIME))),
    ("remount", Remount),
    ("rexec", Attribute(Tree, Clear(attr::NOEXEC))),
    ("ridmap", IdMap(Tree)),
    ("rnoatime", Attribute(Tree, Time(attr::NOATIME))),
    ("rnodev", Attribute(Tree, Set(attr::NODEV))),
    ("rnodiratime", Attribute(Tree, Set(attr::NODIRATIME))),
    ("rnoexec", Attribute(Tree, Set(attr::NOEXEC))),
    ("rnorelatime", Attribute(Tree, NotTime(attr::RELATIME))),
    ("rnostrictatime", Attribute(Tree, NotTime(attr::STRICTATIME))),
    ("rnosuid", Attribute(Tree, Set(attr::NOSUID))),
    ("rnosymfollow", Attribute(Tree, Set(attr::NOSYMFOLLOW))),
    ("ro", Attribute(One, Set(attr::RDONLY))),
    ("rprivate", Meaning::Propagation(Propagation::Private)),
    ("rrelatime", Attribute(Tree, Time(attr::RELATIME))),
    ("rro", Attribute(Tree, Set(attr::RDONLY))),
    ("rrw", Attribute(Tree, Clear(attr::RDONLY))),
    ("rshared", Meaning::Propagation(Propagation::Shared)),
    ("rslave", Meaning::Propagation(Propagation::Slave)),
    ("rstrictatime", Attribute(Tree, Time(attr::STRICTATIME))),
    ("rsuid", Attribute(Tree, Clear(attr::NOSUID))),
    ("rsymfollow", Attribute(Tree, Clear(attr::NOSYMFOLLOW))),
    ("runbindable", Meaning::Propagation(Propagation::Unbindable)),
    ("rw", Attribute(One, Clear(attr::RDONLY))),
    ("shared", Meaning::Propagation(Propagation::Shared)),
    ("silent", Nothing),
    ("slave", Meaning::Propagation(Propagation::Slave)),
    ("strictatime", Attribute(One, Time(attr::STRICTATIME))),
    ("suid", Attribute(One, Clear(attr::NOSUID))),
    ("symfollow", Attribute(One, Clear(attr::NOSYMFOLLOW))),
    ("sync", FileSystem),
    ("tmpcopyup", CopyUp),
    ("unbindable", Meaning::Propagation(Propagation::Unbindable)),
];

/// Gives what a word means; None for one that only a file system may know.
pub fn meaning(word: &str) -> Option<Meaning> {
    let at = TABLE.binary_search_by(|(name, _)| (*name).cmp(word)).ok()?;
    TABLE.get(at).map(|(_, meaning)| *meaning)
}

/// Splits a mount's options into words: each string may hold several, separated by commas (mount(8)). A comma between double quotes
/// (`context="…:c1,c2"`) or after a backslash (overlay's paths) separates nothing.
pub fn words(options: &[String]) -> impl Iterator<Item = &str> {
    options.iter().flat_map(|text| split(text))
}

/// The words of a mount as it is in the spec.
pub fn of(mount: &Mount) -> impl Iterator<Item = &str> {
    words(mount.options().as_deref().unwrap_or_default())
}

fn split(text: &str) -> impl Iterator<Item = &str> {
    let (mut quoted, mut escaped) = (false, false);
    let separates = move |c: char| {
        let here = c == ',' && !quoted && !escaped;
        quoted ^= c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        here
    };
    text.split(separates).filter(|word| !word.is_empty())
}

/// Tells whether a mount is a bind: a file or directory that is there already, not a file system of its own (runc: by option; its
/// callers also by type).
pub fn is_bind(mount: &Mount) -> bool {
    mount.typ().as_deref() == Some("bind") || of(mount).any(|word| matches!(meaning(word), Some(Bind(_))))
}

/// Attributes that are set and taken away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
    /// The value of the field of access times, where one was named.
    pub time: Option<u64>,
}

impl Attributes {
    /// Gives what mount_setattr(2) is to set, access times included.
    pub fn to_set(self) -> u64 {
        self.set | self.time.unwrap_or(0)
    }

    /// Gives the field of access times where it is set: the kernel wants it cleared in the same call.
    pub fn field_to_clear(self) -> u64 {
        self.time.map_or(0, |_| attr::ATIME)
    }

    /// The last of two words that contradict each other wins.
    fn apply(&mut self, reach: Reach, change: Change) {
        match change {
            Set(bit) => (self.set, self.clear) = (self.set | bit, self.clear & !bit),
            Clear(bit) => (self.set, self.clear) = (self.set & !bit, self.clear | bit),
            Time(value) => self.time = Some(value),
            // Of one mount it takes back what was said before; of a tree it gives the kernel's default to what is there (runc).
            NotTime(value) if self.time.is_none_or(|time| time == value) => {
                self.time = (reach == Tree).then_some(attr::RELATIME);
            }
            NotTime(_) => {}
        }
    }
}

/// What all options of a mount come to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MountOptions {
    pub one: Attributes,
    /// Set after those of the one, so that they win.
    pub tree: Attributes,
    pub bind: Option<Reach>,
    pub propagation: Option<Propagation>,
    pub idmap: Option<Reach>,
    pub copy_up: bool,
    pub remount: bool,
    /// For the file system, in order: `key=value`, or a flag.
    pub data: Vec<String>,
}

impl MountOptions {
    /// Reads the options of a mount.
    pub fn of(mount: &Mount) -> Self {
        Self::read(mount.options().as_deref().unwrap_or_default())
    }

    /// Reads a list of options.
    pub fn read(options: &[String]) -> Self {
        let mut all = Self::default();
        let wider = |now: Option<Reach>, reach| if now == Some(Tree) { now } else { Some(reach) };
        for word in words(options) {
            match meaning(word) {
                Some(Attribute(One, change)) => all.one.apply(One, change),
                Some(Attribute(Tree, change)) => all.tree.apply(Tree, change),
                Some(Meaning::Propagation(how)) => all.propagation = Some(how),
                Some(Bind(reach)) => all.bind = wider(all.bind, reach),
                Some(IdMap(reach)) => all.idmap = wider(all.idmap, reach),
                Some(CopyUp) => all.copy_up = true,
                Some(Remount) => all.remount = true,
                Some(Nothing) => {}
                Some(FileSystem) => all.data.push(word.to_owned()),
                None => all.data.push(unquoted(word)),
            }
        }
        all
    }

    /// Tells whether an attribute is set on the mount itself when all words are done.
    pub const fn holds(&self, bit: u64) -> bool {
        self.tree.set & bit != 0 || (self.one.set & bit != 0 && self.tree.clear & bit == 0)
    }

    /// How far a bind takes what lies below its source.
    pub fn reach(&self) -> Reach {
        self.bind.unwrap_or(One)
    }
}

/// `key="a,b"` without its quotes: they were for who splits.
fn unquoted(word: &str) -> String {
    let value = word.split_once('=').and_then(|(key, value)| {
        let inner = value.strip_prefix('"')?.strip_suffix('"')?;
        Some(format!("{key}={inner}"))
    });
    value.unwrap_or_else(|| word.to_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(text: &str) -> MountOptions {
        MountOptions::read(&text.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    fn mount(value: Value) -> Mount {
        serde_json::from_value(value).unwrap()
    }

    #[test]
    fn the_table_is_in_order() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 < pair[1].0));
        for (word, means) in TABLE {
            assert_eq!(meaning(word), Some(means));
        }
        assert_eq!(meaning("size=3"), None);
        assert_eq!(meaning("noexce"), None);
    }

    /// Each attribute has a word that takes it back, and both forms of both.
    #[test]
    fn attributes_come_in_fours() {
        for (word, means) in TABLE {
            let Attribute(One, change) = means else { continue };
            assert_eq!(meaning(&format!("r{word}")), Some(Attribute(Tree, change)), "{word}");
            let back = match change {
                Set(bit) => Clear(bit),
                Clear(bit) => Set(bit),
                Time(value) => NotTime(value),
                NotTime(value) => Time(value),
            };
            assert!(TABLE.iter().any(|(_, m)| *m == Attribute(One, back)), "{word}");
        }
    }

    #[test]
    fn the_last_word_wins() {
        let all = read("bind ro rw nosuid suid nodev dev nodev noexec");
        assert_eq!(all.one.set, attr::NODEV | attr::NOEXEC);
        assert_eq!(all.one.clear, attr::RDONLY | attr::NOSUID);
        let all = read("rbind rro rrw rnoexec");
        assert_eq!((all.tree.set, all.tree.clear), (attr::NOEXEC, attr::RDONLY));
        assert_eq!(read("slave private").propagation, Some(Propagation::Private));
        assert_eq!((read("rbind bind").reach(), read("bind").reach()), (Tree, One));
        assert_eq!(read("idmap").idmap, Some(One));
        assert_eq!(read("ridmap idmap").idmap, Some(Tree));
    }

    #[test]
    fn the_tree_s_words_come_after_the_one_s() {
        for (text, holds) in [
            ("ro", true),
            ("rro", true),
            ("rro rw", true),
            ("ro rrw", false),
            ("rro rrw", false),
            ("", false),
        ] {
            assert_eq!(read(text).holds(attr::RDONLY), holds, "{text}");
        }
    }

    #[test]
    fn access_times_are_one_field() {
        for (text, value) in [
            ("noatime", Some(attr::NOATIME)),
            ("noatime strictatime", Some(attr::STRICTATIME)),
            ("strictatime relatime", Some(attr::RELATIME)),
            ("noatime atime", None),
            ("strictatime atime", Some(attr::STRICTATIME)),
            ("relatime norelatime", None),
            ("atime", None),
        ] {
            let one = read(text).one;
            assert_eq!(one.time, value, "{text}");
            assert_eq!(one.field_to_clear(), value.map_or(0, |_| attr::ATIME), "{text}");
        }
        assert_eq!(read("ratime").tree.time, Some(attr::RELATIME));
        assert_eq!(read("rnoatime ratime").tree.time, Some(attr::RELATIME));
        assert_eq!(read("rstrictatime").tree.to_set(), attr::STRICTATIME);
        assert_eq!(
            read("nodiratime noatime").one.to_set(),
            attr::NODIRATIME | attr::NOATIME
        );
    }

    #[test]
    fn one_string_may_hold_many() {
        let all = read("size=1m,mode=700,,noexec ro");
        assert_eq!(all.data, ["size=1m", "mode=700"]);
        assert_eq!(all.one.set, attr::NOEXEC | attr::RDONLY);
        let labelled = read(r#"context="system_u:object_r:container_file_t:s0:c1,c2",nodev"#);
        assert_eq!(labelled.data, ["context=system_u:object_r:container_file_t:s0:c1,c2"]);
        assert_eq!(labelled.one.set, attr::NODEV);
        assert_eq!(read(r"lowerdir=/a\,b,ro").data, [r"lowerdir=/a\,b"]);
        assert_eq!(
            read("sync lazytime silent iversion defaults").data,
            ["sync", "lazytime"]
        );
    }

    #[test]
    fn binds_are_told_from_file_systems() {
        for (value, bind) in [
            (json!({"type": "bind"}), true),
            (json!({"options": ["bind"]}), true),
            (json!({"type": "none", "options": ["ro,rbind"]}), true),
            (json!({"type": "tmpfs"}), false),
            (json!({}), false),
            (json!({"type": "tmpfs", "options": ["x=bind"]}), false),
        ] {
            let mut whole = json!({"destination": "/d"});
            whole
                .as_object_mut()
                .unwrap()
                .extend(value.as_object().unwrap().clone());
            assert_eq!(is_bind(&mount(whole)), bind, "{value}");
        }
    }
}
