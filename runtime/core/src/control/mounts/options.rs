//! The options of one mount while it is judged: the words stay as they were written, what they mean says the one table
//! (`request/mount_options.rs`).

use oci_spec::runtime::Mount;

use crate::request::mount_options::{
    self, Attributes, Change, Meaning, MountOptions, Propagation, Reach, attr, meaning,
};

/// The options of one mount, each word by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Options(Vec<String>);

/// A restriction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Flag {
    Ro,
    Nosuid,
    Nodev,
    Noexec,
}

impl Flag {
    pub(in crate::control) const ALL: [Self; 4] = [Self::Ro, Self::Nosuid, Self::Nodev, Self::Noexec];

    pub(in crate::control) const fn name(self) -> &'static str {
        match self {
            Self::Ro => "ro",
            Self::Nosuid => "nosuid",
            Self::Nodev => "nodev",
            Self::Noexec => "noexec",
        }
    }

    const fn attribute(self) -> u64 {
        match self {
            Self::Ro => attr::RDONLY,
            Self::Nosuid => attr::NOSUID,
            Self::Nodev => attr::NODEV,
            Self::Noexec => attr::NOEXEC,
        }
    }

    /// Whether a word takes the restriction back, here or in all that lies below.
    fn is_lifted_by(self, word: &str) -> bool {
        matches!(meaning(word), Some(Meaning::Attribute(_, Change::Clear(bit))) if bit == self.attribute())
    }
}

impl Options {
    pub(in crate::control) fn new(options: Option<&Vec<String>>) -> Self {
        let options = options.map_or(&[] as &[String], Vec::as_slice);
        Self(mount_options::words(options).map(str::to_owned).collect())
    }

    /// The options of a mount as it is in the spec.
    pub(in crate::control) fn of(mount: &Mount) -> Self {
        Self::new(mount.options().as_ref())
    }

    pub(in crate::control) fn into_vec(self) -> Vec<String> {
        self.0
    }

    fn has(&self, option: &str) -> bool {
        self.0.iter().any(|o| o == option)
    }

    fn read(&self) -> MountOptions {
        MountOptions::read(&self.0)
    }

    /// The first word that means something like this.
    pub(in crate::control) fn any(&self, wanted: fn(Meaning) -> bool) -> Option<&str> {
        self.0
            .iter()
            .map(String::as_str)
            .find(|o| meaning(o).is_some_and(wanted))
    }

    /// What the options say of a flag: on, off, or nothing. The recursive form is applied last, so it wins.
    fn says(&self, flag: Flag) -> Option<bool> {
        let all = self.read();
        let said = |attributes: Attributes| {
            let here = |bits: u64| bits & flag.attribute() != 0;
            (here(attributes.set) || here(attributes.clear)).then(|| here(attributes.set))
        };
        said(all.tree).or_else(|| said(all.one))
    }

    /// Whether the flag holds.
    pub(in crate::control) fn is(&self, flag: Flag) -> bool {
        self.says(flag) == Some(true)
    }

    /// Whether the option that takes the flag back was asked for in words, and holds.
    pub(in crate::control) fn asks_against(&self, flag: Flag) -> bool {
        self.says(flag) == Some(false)
    }

    /// Sets the flag, also for submounts where they come along.
    pub(in crate::control) fn set(&mut self, flag: Flag) {
        let on = flag.name().to_owned();
        self.0.retain(|o| !flag.is_lifted_by(o));
        if !self.has(&on) {
            self.0.push(on.clone());
        }
        let deep = format!("r{on}");
        if self.is_recursive() && !self.has(&deep) {
            self.0.push(deep);
        }
    }

    /// The number that the file system is given by `key=NUMBER`; of two the last counts. None: none, or no number.
    pub(in crate::control) fn number(&self, key: &str) -> Option<u64> {
        let value = |o: &String| Some(o.strip_prefix(key)?.strip_prefix('=')?.to_owned());
        self.0.iter().rev().find_map(value)?.parse().ok()
    }

    /// Gives the file system this number and no other.
    pub(in crate::control) fn set_number(&mut self, key: &str, number: u64) {
        self.0
            .retain(|o| !o.strip_prefix(key).is_some_and(|rest| rest.starts_with('=')));
        self.0.push(format!("{key}={number}"));
    }

    /// Takes a slave out of the host's group of mounts, and says so where it did.
    pub(in crate::control) fn close_propagation(&mut self) {
        let is_slave = |o: &str| meaning(o) == Some(Meaning::Propagation(Propagation::Slave));
        let Some(first) = self.0.iter().find(|o| is_slave(o)).cloned() else {
            return;
        };
        self.0.retain(|o| !is_slave(o));
        let closed = if first.starts_with('r') { "rprivate" } else { "private" };
        self.0.push(closed.to_owned());
    }

    /// Submounts of the source come along.
    pub(in crate::control) fn is_recursive(&self) -> bool {
        self.read().reach() == Reach::Tree
    }

    /// The flags of which two sets differ, for people.
    pub(in crate::control) fn added_to(&self, before: &Self) -> (String, String) {
        let only = |a: &Self, b: &Self| {
            let list: Vec<&str> = a.0.iter().filter(|o| !b.has(o)).map(String::as_str).collect();
            if list.is_empty() {
                "-".to_owned()
            } else {
                list.join(",")
            }
        };
        (only(before, self), only(self, before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options(text.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect())
    }

    #[test]
    fn a_string_of_several_is_judged_word_by_word() {
        let list = vec!["rbind,noexec,exec".to_owned(), "size=1m,ro".to_owned()];
        let o = Options::new(Some(&list));
        assert!(o.is_recursive() && o.is(Flag::Ro) && o.asks_against(Flag::Noexec));
    }

    #[test]
    fn a_slave_becomes_private() {
        for (before, after) in [
            ("bind,slave,ro", "bind,ro,private"),
            ("rbind,rslave", "rbind,rprivate"),
            ("bind,private", "bind,private"),
        ] {
            let mut o = options(before);
            o.close_propagation();
            assert_eq!(o, options(after));
        }
    }

    #[test]
    fn a_number_is_the_last_and_the_only_one() {
        let mut o = options("max=7,maximum=3,gid=5,max=900");
        assert_eq!(
            (o.number("max"), o.number("gid"), o.number("mode")),
            (Some(900), Some(5), None)
        );
        assert_eq!(options("max=many").number("max"), None);
        o.set_number("max", 256);
        assert_eq!(o, options("maximum=3,gid=5,max=256"));
    }

    #[test]
    fn the_last_one_wins() {
        assert!(options("ro").is(Flag::Ro));
        assert!(!options("").is(Flag::Ro));
        assert!(!options("ro,rw").is(Flag::Ro));
        assert!(options("rw,ro").is(Flag::Ro));
        assert!(options("exec").asks_against(Flag::Noexec));
        assert!(!options("exec,noexec").asks_against(Flag::Noexec));
        assert!(options("rexec").asks_against(Flag::Noexec));
    }

    #[test]
    fn set_covers_submounts_and_is_stable() {
        let mut o = options("rbind,suid,rsuid,rw");
        o.set(Flag::Nosuid);
        assert_eq!(o, options("rbind,rw,nosuid,rnosuid"));
        let before = o.clone();
        o.set(Flag::Nosuid);
        assert_eq!(o, before);
        let mut single = options("bind,nosuid,suid");
        single.set(Flag::Nosuid);
        assert_eq!(single, options("bind,nosuid"));
    }
}
