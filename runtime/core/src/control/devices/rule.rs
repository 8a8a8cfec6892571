//! A rule of the devices cgroup, in the kernel's own form: `c 1:3 rwm`.

use oci_spec::runtime::{LinuxDevice, LinuxDeviceCgroup, LinuxDeviceType};

/// What kind of device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    All,
    Block,
    Char,
    /// Not a device: no rule concerns it.
    Fifo,
}

impl Kind {
    pub(super) const fn letter(self) -> char {
        match self {
            Self::All => 'a',
            Self::Block => 'b',
            Self::Char => 'c',
            Self::Fifo => 'p',
        }
    }

    /// S_IFBLK, S_IFCHR, S_IFIFO (inode(7)).
    pub(super) const fn mode_bits(self) -> u32 {
        match self {
            Self::All => 0,
            Self::Block => 0o060_000,
            Self::Char => 0o020_000,
            Self::Fifo => 0o010_000,
        }
    }
}

/// Which devices, and what may be done with them. A number that is absent stands for all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) kind: Kind,
    pub(super) major: Option<u64>,
    pub(super) minor: Option<u64>,
    access: String,
}

impl Rule {
    pub(super) fn char(major: Option<u64>, minor: Option<u64>) -> Self {
        Self {
            kind: Kind::Char,
            major,
            minor,
            access: "rwm".to_owned(),
        }
    }

    pub(super) fn everything() -> Self {
        Self {
            kind: Kind::All,
            major: None,
            minor: None,
            access: "rwm".to_owned(),
        }
    }

    /// As the spec says it. No type is `a`, no number or -1 is all, no access is all.
    pub(super) fn of(rule: &LinuxDeviceCgroup) -> Self {
        let number = |n: Option<i64>| n.and_then(|n| u64::try_from(n).ok());
        let kind = rule.typ().map_or(Kind::All, Kind::from);
        let numbered = kind != Kind::All;
        let asked = rule.access().as_deref().unwrap_or_default();
        let access: String = ['r', 'w', 'm'].into_iter().filter(|c| asked.contains(*c)).collect();
        Self {
            kind,
            major: number(rule.major()).filter(|_| numbered),
            minor: number(rule.minor()).filter(|_| numbered),
            access: if access.is_empty() { "rwm".to_owned() } else { access },
        }
    }

    pub(super) fn of_device(device: &LinuxDevice) -> Self {
        Self {
            kind: device.typ().into(),
            major: u64::try_from(device.major()).ok(),
            minor: u64::try_from(device.minor()).ok(),
            access: "rwm".to_owned(),
        }
    }

    /// A line of devices.list.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let kind = match words.next()? {
            "a" => Kind::All,
            "b" => Kind::Block,
            "c" => Kind::Char,
            _ => return None,
        };
        let (major, minor) = words.next()?.split_once(':')?;
        let number = |text: &str| match text {
            "*" => Some(None),
            digits => digits.parse().ok().map(Some),
        };
        Some(Self {
            kind,
            major: number(major)?,
            minor: number(minor)?,
            access: words.next()?.to_owned(),
        })
    }

    /// As it is put into the spec.
    pub(super) fn spec(&self, allow: bool) -> LinuxDeviceCgroup {
        let number = |n: Option<u64>| n.and_then(|n| i64::try_from(n).ok());
        let mut rule = LinuxDeviceCgroup::default();
        let typ = match self.kind {
            Kind::All => None,
            Kind::Block => Some(LinuxDeviceType::B),
            Kind::Char => Some(LinuxDeviceType::C),
            Kind::Fifo => Some(LinuxDeviceType::P),
        };
        rule.set_allow(allow)
            .set_typ(typ)
            .set_major(number(self.major))
            .set_minor(number(self.minor))
            .set_access(Some(self.access.clone()));
        rule
    }

    /// The same devices, for making nodes only.
    pub(super) fn making(&self) -> Self {
        Self {
            access: "m".to_owned(),
            ..self.clone()
        }
    }

    /// The same devices, for this alone: letters of `rwm`.
    pub(super) fn limited_to(self, access: &str) -> Self {
        Self {
            access: ['r', 'w', 'm'].into_iter().filter(|c| access.contains(*c)).collect(),
            ..self
        }
    }

    /// Whether both name the same devices.
    pub(super) fn is_of(&self, other: &Self) -> bool {
        (self.kind, self.major, self.minor) == (other.kind, other.major, other.minor)
    }

    /// What either lets be done.
    pub(super) fn add(&mut self, other: &Self) {
        let both = |c: &char| self.access.contains(*c) || other.access.contains(*c);
        self.access = ['r', 'w', 'm'].into_iter().filter(both).collect();
    }

    /// Every device, of one kind or of all, for more than making nodes.
    pub(super) fn is_everything(&self) -> bool {
        match self.kind {
            Kind::All => true,
            _ => self.major.is_none() && self.access != "m",
        }
    }

    /// What runc, docker and podman write for everybody: mknod of anything, /dev/net/tun, and the host's console (a container's own
    /// is a terminal of devpts, bound to that name).
    pub(super) fn is_engine_default(&self) -> bool {
        let wildcard = self.major.is_none() && self.minor.is_none() && self.access == "m";
        let tun = self.kind == Kind::Char && self.major == Some(10) && self.minor == Some(200);
        let console = self.kind == Kind::Char && self.major == Some(5) && self.minor == Some(1);
        wildcard || tun || console
    }

    /// Whether all that `other` says is said by this one.
    pub(super) fn covers(&self, other: &Self) -> bool {
        let number = |own: Option<u64>, its: Option<u64>| own.is_none() || own == its;
        (self.kind == Kind::All || self.kind == other.kind)
            && number(self.major, other.major)
            && number(self.minor, other.minor)
            && other.access.chars().all(|c| self.access.contains(c))
    }
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = |n: Option<u64>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        write!(
            f,
            "{} {}:{} {}",
            self.kind.letter(),
            number(self.major),
            number(self.minor),
            self.access
        )
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        Rule::parse(text).unwrap()
    }

    #[test]
    fn rules_cover() {
        assert!(rule("a *:* rwm").covers(&rule("b 8:0 r")));
        assert!(rule("c 136:* rwm").covers(&rule("c 136:5 rw")));
        assert!(!rule("c 136:5 rw").covers(&rule("c 136:* rw")));
        assert!(!rule("c 1:3 r").covers(&rule("c 1:3 rw")));
        assert!(!rule("c 1:3 rwm").covers(&rule("b 1:3 r")));
        assert!(rule("c *:* rw").is_everything());
        assert!(!rule("c *:* m").is_everything());
        assert!(rule("b *:* m").is_engine_default());
        assert!(rule("c 5:1 rwm").is_engine_default());
        assert!(!rule("c 5:* rwm").is_engine_default());
    }

    #[test]
    fn the_spec_and_back() {
        for text in ["a *:* rwm", "c 1:3 rwm", "b 8:* r", "c *:* m"] {
            assert_eq!(Rule::of(&rule(text).spec(true)), rule(text), "{text}");
            assert_eq!(rule(text).to_string(), text);
        }
        for bad in ["", "c", "c 1", "x 1:3 rwm", "c 1:y rwm"] {
            assert_eq!(Rule::parse(bad), None, "{bad}");
        }
    }
}
