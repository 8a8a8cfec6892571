//! Mount options as the kernel takes them: in order, the last of two that contradict each other wins.

/// The options of one mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::control) struct Options(Vec<String>);

/// A restriction, the option that takes it back, and the recursive forms (OCI runtime spec, Linux mount options).
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

    pub(in crate::control) const fn opposite(self) -> &'static str {
        match self {
            Self::Ro => "rw",
            Self::Nosuid => "suid",
            Self::Nodev => "dev",
            Self::Noexec => "exec",
        }
    }
}

impl Options {
    pub(in crate::control) fn new(options: Option<&Vec<String>>) -> Self {
        Self(options.cloned().unwrap_or_default())
    }

    pub(in crate::control) fn into_vec(self) -> Vec<String> {
        self.0
    }

    pub(in crate::control) fn has(&self, option: &str) -> bool {
        self.0.iter().any(|o| o == option)
    }

    /// The value of `name=value`.
    pub(in crate::control) fn any(&self, names: &[&str]) -> Option<&str> {
        self.0.iter().map(String::as_str).find(|o| names.contains(o))
    }

    fn last_wins(&self, on: &str, off: &str) -> Option<bool> {
        self.0.iter().rev().find_map(|o| {
            if o == on {
                Some(true)
            } else if o == off {
                Some(false)
            } else {
                None
            }
        })
    }

    /// What the options say of a flag: on, off, or nothing. The recursive form is applied last, so it wins.
    fn says(&self, flag: Flag) -> Option<bool> {
        self.last_wins(&recursive(flag.name()), &recursive(flag.opposite()))
            .or_else(|| self.last_wins(flag.name(), flag.opposite()))
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
        let (on, off) = (flag.name().to_owned(), flag.opposite());
        self.0.retain(|o| o != off && *o != recursive(off));
        if !self.has(&on) {
            self.0.push(on.clone());
        }
        let deep = recursive(&on);
        if self.is_recursive() && !self.has(&deep) {
            self.0.push(deep);
        }
    }

    /// Takes out an option.
    pub(in crate::control) fn remove(&mut self, options: &[&str]) {
        self.0.retain(|o| !options.contains(&o.as_str()));
    }

    pub(in crate::control) fn push(&mut self, option: &str) {
        self.0.push(option.to_owned());
    }

    /// Submounts of the source come along.
    pub(in crate::control) fn is_recursive(&self) -> bool {
        self.has("rbind")
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

fn recursive(option: &str) -> String {
    format!("r{option}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(text: &str) -> Options {
        Options(text.split(',').filter(|o| !o.is_empty()).map(str::to_owned).collect())
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
