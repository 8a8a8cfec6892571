//! What a value may be beyond its type: bounds, and what cannot work. One table, asked when a policy is loaded, by `policy validate`, and by
//! the test that holds docs/POLICY.md to it.

use std::path::{Component, Path, PathBuf};

use toml::de::{DeTable, DeValue};

use super::validate::{Gravity, place};
use super::{Cri, Exception, Policy, keys};
use crate::capability;
use crate::sysctl;

/// What is asked of one key.
#[derive(Clone, Copy)]
pub(super) enum Bound {
    /// From the first to the last, both included.
    Number(u64, u64, fn(&Policy) -> Option<u64>),
    /// Bytes, likewise.
    Size(u64, u64, fn(&Policy) -> Option<u64>),
    /// Absolute paths.
    Paths(fn(&Policy) -> Vec<&Path>),
    /// The same, of programs that run as hooks.
    Hooks(fn(&Policy) -> Vec<&Path>),
    Capabilities(fn(&Policy) -> &[String]),
    Sysctls(fn(&Policy) -> &[String]),
    Images(fn(&Policy) -> &[String]),
    Kinds(fn(&Policy) -> &[String]),
}

const MIB: u64 = 1 << 20;
/// More memory than any machine has.
const PIB: u64 = 1 << 50;
/// The kernel's largest pid (proc_sys_kernel(5), pid_max).
const PIDS: u64 = 1 << 22;

fn paths(list: &[PathBuf]) -> Vec<&Path> {
    list.iter().map(PathBuf::as_path).collect()
}

fn path(one: &Path) -> Vec<&Path> {
    vec![one]
}

pub(super) static BOUNDS: [(&str, Bound); 25] = [
    ("holes.max_size", Bound::Size(4096, PIB, |p| Some(p.holes.max_size.0))),
    (
        "holes.default_size",
        Bound::Size(4096, PIB, |p| Some(p.holes.default_size.0)),
    ),
    (
        "holes.max_count",
        Bound::Number(0, 256, |p| Some(p.holes.max_count.into())),
    ),
    ("mounts.allow", Bound::Paths(|p| paths(&p.mounts.allow))),
    ("mounts.exec_paths", Bound::Paths(|p| paths(&p.mounts.exec_paths))),
    ("mounts.kubelet_root", Bound::Paths(|p| path(&p.mounts.kubelet_root))),
    (
        "mounts.containerd_root",
        Bound::Paths(|p| path(&p.mounts.containerd_root)),
    ),
    (
        "mounts.containerd_state",
        Bound::Paths(|p| path(&p.mounts.containerd_state)),
    ),
    ("devices.allow", Bound::Paths(|p| paths(&p.devices.allow))),
    ("cgroup.pids", Bound::Number(1, PIDS, |p| Some(p.cgroup.pids.into()))),
    (
        "cgroup.max_pids",
        Bound::Number(1, PIDS, |p| Some(p.cgroup.max_pids.into())),
    ),
    ("cgroup.memory", Bound::Size(MIB, PIB, |p| p.cgroup.memory.map(|m| m.0))),
    (
        "cgroup.max_memory",
        Bound::Size(MIB, PIB, |p| p.cgroup.max_memory.map(|m| m.0)),
    ),
    (
        "cgroup.cpu_percent",
        Bound::Number(1, 819_200, |p| p.cgroup.cpu_percent.map(u64::from)),
    ),
    ("sysctl.allow", Bound::Sysctls(|p| &p.sysctl.allow)),
    (
        "rlimits.max_nofile",
        // The kernel's largest fs.nr_open.
        Bound::Number(16, 1_073_741_816, |p| Some(p.rlimits.max_nofile)),
    ),
    ("hooks.allow", Bound::Hooks(|p| paths(&p.hooks.allow))),
    ("cdi.allow", Bound::Kinds(|p| &p.cdi.allow)),
    ("capabilities.allow", Bound::Capabilities(|p| &p.capabilities.allow)),
    ("images.allow", Bound::Images(|p| &p.images.allow)),
    (
        "landlock.min_abi",
        Bound::Number(1, 64, |p| Some(p.landlock.min_abi.into())),
    ),
    ("audit.max_size", Bound::Size(MIB, PIB, |p| Some(p.audit.max_size.0))),
    ("audit.files", Bound::Number(1, 1000, |p| Some(p.audit.files.into()))),
    (
        "audit.rotate_days",
        Bound::Number(1, 3650, |p| p.audit.rotate_days.map(u64::from)),
    ),
    (
        "audit.keep_days",
        Bound::Number(0, 3650, |p| Some(p.audit.keep_days.into())),
    ),
];

/// One thing that is wrong with a policy that has the right form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) key: &'static str,
    /// The exception whose key it is.
    pub(super) exception: Option<usize>,
    /// Of a list the entry.
    pub(super) entry: Option<String>,
    pub(super) gravity: Gravity,
    pub(super) what: String,
    pub(super) meant: Option<String>,
}

/// All of them: of the policy's own keys, then of its exceptions'.
pub(super) fn faults(policy: &Policy) -> Vec<Fault> {
    let mut found = Vec::new();
    for (key, bound) in &BOUNDS {
        bound.ask(key, None, policy, &mut found);
    }
    audit(policy, &mut found);
    pairs(policy, &mut found);
    for (index, exception) in policy.exceptions.iter().enumerate() {
        of_exception(index, exception, policy, &mut found);
    }
    found
}

fn audit(policy: &Policy, found: &mut Vec<Fault>) {
    let audit = &policy.audit;
    for (key, file) in [("audit.file", &audit.file), ("audit.head", &audit.head)] {
        if file.as_ref().is_some_and(|file| !file.is_absolute()) {
            found.push(Fault::error(key, None, "give an absolute path, from / on".to_owned()));
        }
    }
    if audit.head.is_some() && audit.head == audit.file {
        let what = "is the log itself: the head would be written over its records".to_owned();
        found.push(Fault::error("audit.head", None, what));
    }
    let usual = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let named =
        |group: &String| !group.is_empty() && group.len() <= 32 && !group.starts_with('-') && group.chars().all(usual);
    if audit.group.as_ref().is_some_and(|group| !named(group)) {
        found.push(Fault::error(
            "audit.group",
            None,
            "give the name of a group, or its number".to_owned(),
        ));
    }
}

/// What two keys say together.
fn pairs(policy: &Policy, found: &mut Vec<Fault>) {
    let (holes, cgroup) = (&policy.holes, &policy.cgroup);
    let sizes = cgroup.memory.zip(cgroup.max_memory);
    for (key, contrary, what) in [
        (
            "holes.default_size",
            holes.default_size > holes.max_size,
            "is more than holes.max_size: a hole without a size would be refused",
        ),
        (
            "cgroup.pids",
            cgroup.pids > cgroup.max_pids,
            "is more than cgroup.max_pids, the most that a spec may ask for",
        ),
        (
            "cgroup.memory",
            sizes.is_some_and(|(memory, max)| memory > max),
            "is more than cgroup.max_memory, the most that a spec may ask for",
        ),
        (
            "images.allow",
            !policy.images.allow.is_empty() && policy.cri != Cri::Containerd,
            "nobody's word for an image's name counts without cri = \"containerd\"",
        ),
    ] {
        if contrary {
            found.push(Fault::warning(key, None, what.to_owned()));
        }
    }
}

fn of_exception(index: usize, exception: &Exception, policy: &Policy, found: &mut Vec<Fault>) {
    let of = |fault: Fault| Fault {
        exception: Some(index),
        ..fault
    };
    if exception.reason.trim().is_empty() {
        found.push(of(Fault::error("reason", None, "`reason` is empty".to_owned())));
    }
    let mut own = Policy {
        cri: policy.cri,
        ..Policy::default()
    };
    exception.over(&mut own);
    for (key, bound) in &BOUNDS {
        bound.ask(key, Some(index), &own, found);
    }
    let (by_container, sandbox) = (
        exception.matches.container.is_some() || exception.matches.image.is_some(),
        exception.matches.typ == Some(crate::request::PodType::Sandbox),
    );
    if by_container && (sandbox || policy.cri == Cri::CriO) {
        let what =
            "it matches nothing: only a container that containerd made has a name and an image that are vouched for";
        found.push(of(Fault::warning("match", None, what.to_owned())));
    }
}

impl Fault {
    fn error(key: &'static str, entry: Option<String>, what: String) -> Self {
        Self {
            key,
            exception: None,
            entry,
            gravity: Gravity::Error,
            what,
            meant: None,
        }
    }

    pub(super) fn warning(key: &'static str, entry: Option<String>, what: String) -> Self {
        Self {
            gravity: Gravity::Warning,
            ..Self::error(key, entry, what)
        }
    }

    /// Gives the key as a person writes it.
    pub(super) fn name(&self) -> String {
        let table = if self.exception.is_some() { "exception." } else { "" };
        format!("{table}{}", self.key)
    }

    /// Finds its line and column in the policy's text.
    pub(super) fn place(&self, text: &str) -> (usize, usize) {
        let (table, _) = DeTable::parse_recoverable(text);
        place(text, self.offset(table.get_ref()).unwrap_or(0))
    }

    fn offset(&self, table: &DeTable<'_>) -> Option<usize> {
        let (mut at, mut offset) = (table, 0);
        if let Some(index) = self.exception {
            let DeValue::Array(list) = table.get("exception")?.get_ref() else {
                return None;
            };
            let entry = list.get(index)?;
            let DeValue::Table(inner) = entry.get_ref() else {
                return None;
            };
            (at, offset) = (inner, entry.span().start);
        }
        let (tables, last) = self.key.rsplit_once('.').unwrap_or(("", self.key));
        for name in tables.split('.').filter(|name| !name.is_empty()) {
            match at.get(name).map(toml::Spanned::get_ref) {
                Some(DeValue::Table(inner)) => at = inner,
                _ => return Some(offset),
            }
        }
        let Some(value) = at.get(last) else { return Some(offset) };
        let entry = match value.get_ref() {
            DeValue::Array(list) => list
                .iter()
                .find(|item| item.get_ref().as_str() == self.entry.as_deref()),
            _ => None,
        };
        Some(entry.unwrap_or(value).span().start)
    }
}

impl Bound {
    fn ask(&self, key: &'static str, exception: Option<usize>, policy: &Policy, found: &mut Vec<Fault>) {
        let before = found.len();
        match self {
            Self::Number(low, high, of) => {
                if of(policy).is_some_and(|n| n < *low || n > *high) {
                    found.push(Fault::error(key, None, format!("give a number from {low} to {high}")));
                }
            }
            Self::Size(low, high, of) => {
                if of(policy).is_some_and(|n| n < *low || n > *high) {
                    let what = format!("give a size from {} to {}", short(*low), short(*high));
                    found.push(Fault::error(key, None, what));
                }
            }
            Self::Paths(of) => of(policy).into_iter().for_each(|path| of_path(key, path, found)),
            Self::Hooks(of) => {
                for path in of(policy) {
                    of_path(key, path, found);
                    of_hook(key, path, found);
                }
            }
            Self::Capabilities(of) => of(policy).iter().for_each(|name| of_capability(key, name, found)),
            Self::Sysctls(of) => of(policy).iter().for_each(|name| of_sysctl(key, name, found)),
            Self::Images(of) => of(policy).iter().for_each(|glob| of_image(key, glob, found)),
            Self::Kinds(of) => of(policy).iter().for_each(|kind| of_kind(key, kind, found)),
        }
        for fault in found.iter_mut().skip(before) {
            fault.exception = exception;
        }
    }

    /// Says it as docs/POLICY.md does.
    #[cfg(test)]
    fn values(&self) -> Option<String> {
        match self {
            Self::Number(low, high, _) => Some(format!("number, {low} to {high}")),
            Self::Size(low, high, _) => Some(format!("size, {} to {}", short(*low), short(*high))),
            Self::Paths(_) | Self::Hooks(_) => None,
            Self::Capabilities(_) | Self::Sysctls(_) => Some("names".to_owned()),
            Self::Images(_) => Some("globs".to_owned()),
            Self::Kinds(_) => Some("kinds".to_owned()),
        }
    }
}

/// A size as the policy has it.
fn short(bytes: u64) -> String {
    let units = [(30, "g"), (20, "m"), (10, "k")];
    let whole = units.into_iter().find(|(shift, _)| bytes.trailing_zeros() >= *shift);
    whole.map_or_else(
        || bytes.to_string(),
        |(shift, unit)| format!("{}{unit}", bytes >> shift),
    )
}

fn of_path(key: &'static str, path: &Path, found: &mut Vec<Fault>) {
    let entry = path.to_str().map(str::to_owned);
    let shown = path.display();
    let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
    if !path.is_absolute() {
        let what = format!("{shown:?} is not an absolute path: it would never be met");
        found.push(Fault::error(key, entry, what));
    } else if !path.components().all(plain) || path.to_str().is_none_or(|p| p.contains('\0')) {
        let what = format!("{shown:?} is not written straight: leave «..» out, it would never be met");
        found.push(Fault::error(key, entry, what));
    } else if path == Path::new("/") {
        found.push(Fault::warning(key, entry, "/ is everything".to_owned()));
    }
}

/// A kind, and not a device of it, nor a glob.
fn of_kind(key: &'static str, kind: &str, found: &mut Vec<Fault>) {
    if !crate::cdi::is_kind(kind) {
        let what =
            format!("{kind:?} is no kind of CDI devices: write vendor.com/class, without `=` and a device's name");
        found.push(Fault::error(key, Some(kind.to_owned()), what));
    }
}

/// Programs that run what their arguments name: whoever writes a spec would have the runtime's rights.
const RUN_ANYTHING: [&str; 19] = [
    "sh", "ash", "bash", "dash", "ksh", "mksh", "zsh", "fish", "csh", "tcsh", "busybox", "toybox", "env", "perl",
    "python", "python3", "ruby", "awk", "xargs",
];
/// Directories that hold them.
const OF_THE_SYSTEM: [&str; 8] = [
    "/bin",
    "/sbin",
    "/usr",
    "/usr/bin",
    "/usr/sbin",
    "/usr/local",
    "/usr/local/bin",
    "/",
];

/// Whether the program runs what its arguments name.
pub(super) fn runs_anything(path: &Path) -> bool {
    let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    // python3.13, perl5.40
    let bare = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    RUN_ANYTHING.contains(&name) || RUN_ANYTHING.contains(&bare)
}

fn of_hook(key: &'static str, path: &Path, found: &mut Vec<Fault>) {
    let entry = path.to_str().map(str::to_owned);
    let name = path.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    if runs_anything(path) {
        let what =
            format!("{name} runs whatever its arguments name, and a spec gives those: with the runtime's rights");
        found.push(Fault::warning(key, entry, what));
    } else if OF_THE_SYSTEM.iter().any(|dir| path == Path::new(dir)) {
        let what = format!(
            "{} holds shells and programs that run others: name the hook itself",
            path.display()
        );
        found.push(Fault::warning(key, entry, what));
    }
}

fn of_capability(key: &'static str, name: &str, found: &mut Vec<Fault>) {
    if capability::parse(name).is_some() {
        return;
    }
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let near = keys::nearest(bare, capability::NAMES);
    let fault = Fault::error(key, Some(name.to_owned()), format!("unknown capability {name:?}"));
    found.push(Fault {
        meant: near.map(|near| format!("CAP_{near}")),
        ..fault
    });
}

fn of_sysctl(key: &'static str, name: &str, found: &mut Vec<Fault>) {
    let what = if !sysctl::is_name(name) {
        format!("{name:?} is not the name of a sysctl: it is written with dots, and each by itself")
    } else if sysctl::namespace(name).is_none() {
        format!("{name} is the whole machine's, not a namespace's: no container may set it, set it on the host")
    } else {
        return;
    };
    found.push(Fault::error(key, Some(name.to_owned()), what));
}

fn of_image(key: &'static str, glob: &str, found: &mut Vec<Fault>) {
    if glob.is_empty() {
        let what = "an empty name is no image's".to_owned();
        found.push(Fault::error(key, Some(String::new()), what));
    } else if !glob.contains('/') && !glob.starts_with('*') {
        let what = format!("{glob} has no registry: containerd's names begin with one, `docker.io/library/{glob}`");
        found.push(Fault::warning(key, Some(glob.to_owned()), what));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::policy::keys::KEYS;
    use crate::policy::parse;

    #[test]
    fn bounds_stand_in_the_list_of_keys_and_so_in_the_document() {
        for (key, bound) in &BOUNDS {
            let listed = KEYS.iter().find(|k| k.name == *key).unwrap();
            if let Some(values) = bound.values() {
                assert_eq!(listed.values, values, "{key}");
            } else {
                assert!(listed.values.starts_with("absolute path"), "{key}: {}", listed.values);
            }
        }
        // And no key of a kind that has bounds is left out.
        for key in &KEYS {
            let bounded = ["number", "size", "paths", "path", "names", "globs", "kinds", "absolute"];
            let kind = key.values.split([' ', ',']).next().unwrap();
            let listed =
                BOUNDS.iter().any(|(name, _)| *name == key.name) || matches!(key.name, "audit.file" | "audit.head");
            assert_eq!(bounded.contains(&kind), listed, "{}", key.name);
        }
    }

    #[test]
    fn the_bounds_are_where_they_are_said_to_be() {
        for (key, bound) in &BOUNDS {
            let (low, high, quote) = match bound {
                Bound::Number(low, high, _) => (*low, *high, ""),
                Bound::Size(low, high, _) => (*low, *high, "\""),
                _ => continue,
            };
            let said = |value: u64| parse(&format!("{key} = {quote}{value}{quote}\n"));
            assert!(said(low).is_ok(), "{key} = {low}");
            assert!(said(high).is_ok(), "{key} = {high}");
            for beyond in [low.checked_sub(1), high.checked_add(1)].into_iter().flatten() {
                let why = said(beyond).unwrap_err();
                let column = key.len() + 4;
                assert!(
                    why.starts_with(&format!("line 1, column {column}: `{key}`: give a ")),
                    "{why}"
                );
            }
        }
    }

    #[test]
    fn what_cannot_work_is_not_loaded() {
        for (text, place, what) in [
            (
                "[mounts]\nallow = [\"/a\", \"srv/data\"]",
                "line 2, column 16",
                "absolute",
            ),
            ("[mounts]\nexec_paths = [\"jit\"]", "line 2, column 15", "absolute"),
            ("[mounts]\nallow = [\"/srv/../etc\"]", "line 2, column 10", "straight"),
            ("[hooks]\nallow = [\"hook\"]", "line 2, column 10", "absolute"),
            ("[cdi]\nallow = [\"nvidia.com/gpu=0\"]", "line 2, column 10", "no kind"),
            ("[cdi]\nallow = [\"*\"]", "line 2, column 10", "no kind"),
            ("[devices]\nallow = [\"fuse\"]", "line 2, column 10", "absolute"),
            ("[sysctl]\nallow = [\"bogus\"]", "line 2, column 10", "whole machine"),
            (
                "[sysctl]\nallow = [\"vm.max_map_count\"]",
                "line 2, column 10",
                "whole machine",
            ),
            ("[sysctl]\nallow = [\"net.*\"]", "line 2, column 10", "not the name"),
            ("[cgroup]\nmemory = \"0\"", "line 2, column 10", "from 1m"),
            ("[cgroup]\npids = 0", "line 2, column 8", "from 1 "),
            ("[landlock]\nmin_abi = 99", "line 2, column 11", "from 1 to 64"),
            ("[images]\nallow = [\"\"]", "line 2, column 10", "empty"),
            (
                "[[exception]]\nreason = \"r\"\nmatch.namespace = \"a\"\ncapabilities.allow = [\"CAP_KILL\", \"CAP_SYS_CHROT\"]",
                "line 4, column 35",
                "unknown capability \"CAP_SYS_CHROT\"; did you mean `CAP_SYS_CHROOT`?",
            ),
            (
                "[[exception]]\nreason = \" \"\nmatch.namespace = \"a\"",
                "line 2, column 10",
                "`reason` is empty",
            ),
        ] {
            let why = parse(text).unwrap_err();
            assert!(why.starts_with(place) && why.contains(what), "{text}: {why}");
        }
    }

    #[test]
    fn what_works_and_is_hardly_meant_is_loaded_with_a_warning() {
        for (text, what) in [
            ("[hooks]\nallow = [\"/bin/sh\"]", "whatever its arguments name"),
            ("[hooks]\nallow = [\"/usr/bin\"]", "name the hook itself"),
            ("[mounts]\nallow = [\"/\"]", "everything"),
            (
                "cri = \"containerd\"\n[images]\nallow = [\"nginx:*\"]",
                "docker.io/library/nginx:*",
            ),
            ("[images]\nallow = [\"registry.example/*\"]", "cri = \"containerd\""),
            ("[cgroup]\npids = 9\nmax_pids = 8", "cgroup.max_pids"),
            ("[holes]\ndefault_size = \"2g\"", "holes.max_size"),
            (
                "cri = \"cri-o\"\n[[exception]]\nreason = \"r\"\nmatch = { namespace = \"a\", image = \"i\" }",
                "matches nothing",
            ),
        ] {
            let found = faults(&parse(text).unwrap());
            assert!(found.iter().any(|fault| fault.what.contains(what)), "{text}: {found:?}");
            assert!(found.iter().all(|fault| fault.gravity == Gravity::Warning), "{found:?}");
        }
        assert_eq!(faults(&Policy::default()), []);
    }
}
