//! Loading a policy: from a file that nobody but its owner could have written, opened once.
//!
//! Which file: `--policy FILE`, else that of the name by which the program was called (`gabion-ci`: /etc/gabion/runtimes/ci.toml), else
//! /etc/gabion/policy.toml, else the built-in default. With `lock = true` in
//! /etc/gabion/policy.toml the caller's word may only tighten: `--level` must not be below the file's, and another file must be
//! provably no weaker (`Policy::weaker_than`).

use std::ffi::{CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use gabion_core::caller::{OwnUserNs, Reader};
use gabion_core::digest::sha256_hex;
use gabion_core::policy::{BUILT_IN, Date, Exception, Level, Lock, Policy, parse, text};
use gabion_core::request::CalledAs;
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::vetted::{self, Fault, Kind, Links, Owner, Rules};

/// Where a machine's policy is.
pub const SYSTEM: &str = "/etc/gabion/policy.toml";

/// Where the policies of second names are.
pub const RUNTIMES: &str = "/etc/gabion/runtimes";

/// The largest policy file.
const MAX_POLICY: u64 = 1 << 20;

/// Where a policy came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    BuiltIn,
    File(PathBuf),
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

/// A policy with its identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// With the caller's `--level`, where it may have it.
    pub policy: Policy,
    /// SHA-256 of the file's text, in hex.
    pub digest: String,
    pub source: Source,
    /// Exceptions of the file that are past their day: they count as absent.
    pub expired: Vec<Exception>,
}

/// Gives the file that the name of the program means. None: the machine's policy.
///
/// # Errors
/// The name looks like a second one and cannot be.
pub fn of_name(program: &OsStr) -> Result<Option<PathBuf>> {
    match CalledAs::of_name(program) {
        CalledAs::Plain => Ok(None),
        CalledAs::Runtime(name) => Ok(Some(Path::new(RUNTIMES).join(format!("{name}.toml")))),
        CalledAs::Unusable => Err(Error::Usage(format!(
            "called as {}: a second name is gabion- and lower-case letters, digits, - and _; its policy is {RUNTIMES}/NAME.toml",
            Path::new(program).display()
        ))),
    }
}

/// The policy that holds for this call.
pub fn load(file: Option<&Path>, level: Option<Level>, reader: Reader) -> Result<Loaded> {
    load_from(file.map(|path| (path, Choice::Given)), level, reader, Path::new(SYSTEM))
}

/// The same for a call by a second name, whose file only root can have put there.
pub fn load_of_name(file: &Path, level: Option<Level>, reader: Reader) -> Result<Loaded> {
    load_from(Some((file, Choice::System)), level, reader, Path::new(SYSTEM))
}

fn load_from(given: Option<(&Path, Choice)>, level: Option<Level>, reader: Reader, system: &Path) -> Result<Loaded> {
    let file = given.map(|(path, _)| path);
    let base = read(system, reader, Choice::System)?;
    let locked = base.as_ref().filter(|b| b.policy.lock == Lock::Locked);
    let mut loaded = match (given, &base) {
        (None, Some(base)) => base.clone(),
        (None, None) => Loaded::built_in(),
        (Some((path, place)), _) => read(path, reader, place)?.ok_or_else(|| Error::Policy {
            path: path.to_owned(),
            why: match place {
                Choice::Given => "the file is missing".to_owned(),
                Choice::System => {
                    "the file is missing: it is the policy of the name that gabion was called by".to_owned()
                }
            },
        })?,
    };
    if let (Some(path), Some(base)) = (file, locked)
        && let Some(how) = loaded.policy.weaker_than(&base.policy)
    {
        return Err(Error::Policy {
            path: path.to_owned(),
            why: format!("{} is locked, and this one is weaker: {how}", system.display()),
        });
    }
    if let Some(level) = level {
        if loaded.policy.lock == Lock::Locked && level < loaded.policy.level {
            return Err(Error::Usage(format!(
                "--level {level} is below {}, and {} is locked: flags may only tighten",
                loaded.policy.level, loaded.source
            )));
        }
        loaded.policy.level = level;
    }
    Ok(loaded)
}

impl Loaded {
    pub fn built_in() -> Self {
        // The test below holds the text and `Policy::default()` together, so nothing is parsed here.
        Self {
            policy: Policy::default(),
            digest: sha256_hex(BUILT_IN.as_bytes()),
            source: Source::BuiltIn,
            expired: Vec::new(),
        }
    }
}

/// Whose choice the path is. Only root can put a file at the system's place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Choice {
    System,
    Given,
}

/// Reads one policy file. None: there is none.
fn read(path: &Path, reader: Reader, place: Choice) -> Result<Option<Loaded>> {
    let rules = rules(reader, place);
    let file = match vetted::open(path, &rules) {
        Ok(file) => file,
        Err(Fault::Missing | Fault::Open(Errno::ENOTDIR)) if is_absent(path) => return Ok(None),
        Err(fault @ Fault::Open(_)) => return Err(Error::file("open the policy", path)(fault.into())),
        Err(fault) => {
            return Err(Error::Policy {
                path: path.to_owned(),
                why: refused(fault, reader),
            });
        }
    };
    read_open(path, file, &rules, reader).map(Some)
}

/// Reads the policy of a machine whose root is mounted somewhere, by the rules of that machine's own. None: there is none.
///
/// # Errors
/// It cannot be believed or used.
pub fn read_in(root: &impl AsFd, path: &str, reader: Reader) -> Result<Option<Loaded>> {
    let shown = Path::new(path);
    let name = CString::new(path).map_err(|e| Error::file("open the policy", shown)(e.into()))?;
    let open = |flags| gabion_sys::openat2(root.as_fd(), &name, flags, libc::RESOLVE_IN_ROOT);
    let rules = rules(reader, Choice::System);
    let vet = |file: &File| {
        vetted::judge(file, &rules).map_err(|fault| Error::Policy {
            path: shown.to_owned(),
            why: refused(fault, reader),
        })
    };
    let failed = |errno: Errno| Error::file("open the policy", shown)(errno.into());
    match open(libc::O_PATH) {
        // A link that leads nowhere is a policy that somebody meant to have.
        Err(Errno::ENOENT | Errno::ENOTDIR) if open(libc::O_PATH | libc::O_NOFOLLOW).is_err() => return Ok(None),
        Err(errno) => return Err(failed(errno)),
        Ok(place) => vet(&File::from(place))?,
    }
    let file = File::from(open(libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY).map_err(failed)?);
    vet(&file)?;
    read_open(shown, file, &rules, reader).map(Some)
}

fn read_open(path: &Path, file: File, rules: &Rules, reader: Reader) -> Result<Loaded> {
    let bad = |why: String| Error::Policy {
        path: path.to_owned(),
        why,
    };
    let text = vetted::read(file, rules).map_err(|fault| bad(refused(fault, reader)))?;
    let text = text::text(&text).map_err(|p| bad(format!("line {}, column {}: {}", p.line, p.column, p.what)))?;
    let mut policy = parse(text).map_err(bad)?;
    // Here and not where they are matched: deciding knows no clock.
    let today = Date::of(crate::clock::now());
    let past = |exception: &Exception| exception.expires.is_some_and(|day| day < today);
    let (expired, live) = std::mem::take(&mut policy.exceptions).into_iter().partition(past);
    policy.exceptions = live;
    Ok(Loaded {
        expired,
        policy,
        digest: sha256_hex(text.as_bytes()),
        source: Source::File(path.to_owned()),
    })
}

/// Reads the bytes of a policy that is only to be judged: whoever wrote it, and where it is to lie is not here. What is no file is not waited for.
///
/// # Errors
/// It cannot be read, or cannot be a policy at all.
pub fn read_to_judge(path: &Path) -> Result<Vec<u8>> {
    let rules = Rules {
        kind: Kind::File,
        owner: Owner::Anybody,
        forbidden: 0,
        largest: MAX_POLICY,
        links: Links::Follow,
    };
    let read = vetted::open(path, &rules).and_then(|file| vetted::read(file, &rules));
    read.map_err(|fault| match fault {
        Fault::Missing | Fault::Open(_) => Error::file("read", path)(fault.into()),
        fault => Error::Policy {
            path: path.to_owned(),
            why: refused(
                fault,
                Reader {
                    euid: 0,
                    user_ns: OwnUserNs::Initial,
                },
            ),
        },
    })
}

/// A policy belongs to root or to the caller, and nobody else may write to it. In a user namespace the host's root shows as the overflow
/// uid; at the system's place that can be nobody else.
fn rules(reader: Reader, place: Choice) -> Rules {
    let unmapped = place == Choice::System && reader.user_ns == OwnUserNs::Nested;
    Rules {
        kind: Kind::File,
        owner: if unmapped {
            Owner::CallerRootOrUnmapped
        } else {
            Owner::CallerOrRoot
        },
        forbidden: 0o022,
        largest: MAX_POLICY,
        links: Links::Follow,
    }
}

fn refused(fault: Fault, reader: Reader) -> String {
    match fault {
        Fault::Missing => "what it leads to is missing".to_owned(),
        Fault::NotAFile => "the policy is not a regular file".to_owned(),
        Fault::Mode(mode) => format!("others can write the policy (mode {mode:04o}): chmod go-w"),
        Fault::Owner(uid) => {
            let or = if reader.euid == 0 { "" } else { " or the caller's" };
            format!("the policy belongs to uid {uid}: it must be root's{or}")
        }
        Fault::Larger(bytes) => format!("the policy is larger than {} MiB", bytes >> 20),
        other => format!("the policy: {other}"),
    }
}

/// Whether nothing at all is there. A link that leads nowhere, or a file in the place of a directory above it, is a policy that somebody
/// meant to have: without it the container would run under a weaker one.
fn is_absent(path: &Path) -> bool {
    let nothing = |path: &Path| matches!(path.symlink_metadata(), Err(e) if e.kind() == io::ErrorKind::NotFound);
    let mut above = path.ancestors().skip(1).filter(|dir| !dir.as_os_str().is_empty());
    match above.find(|dir| !nothing(dir)) {
        // `path` itself may be a link that leads nowhere.
        Some(dir) if dir.is_dir() => nothing(path),
        Some(_) => false,
        None => nothing(path),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("gabion-policy-{}-{name}", std::process::id()));
            fs::create_dir_all(&dir).unwrap();
            Self(dir)
        }

        fn file(&self, name: &str, text: &str) -> PathBuf {
            let path = self.0.join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
            path
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn load_from(file: Option<&Path>, level: Option<Level>, reader: Reader, system: &Path) -> Result<Loaded> {
        super::load_from(file.map(|path| (path, super::Choice::Given)), level, reader, system)
    }

    fn me() -> Reader {
        Reader {
            euid: nix::unistd::geteuid().as_raw(),
            user_ns: OwnUserNs::Initial,
        }
    }

    fn load_text(name: &str, text: &str) -> Result<Loaded> {
        let place = Scratch::new(name);
        let file = place.file("p.toml", text);
        load_from(Some(&file), None, me(), &place.0.join("none"))
    }

    #[test]
    fn the_built_in_text_is_the_default() {
        assert_eq!(parse(BUILT_IN).unwrap(), Policy::default());
    }

    #[test]
    fn every_commented_key_of_the_built_in_text_parses() {
        let mut text = String::new();
        for line in BUILT_IN.lines() {
            let bare = line.strip_prefix("# ").unwrap_or(line);
            let key = bare.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
            text.push_str(if key || bare.starts_with('[') { bare } else { "" });
            text.push('\n');
        }
        let policy = parse(&text).unwrap();
        assert_eq!(policy.cgroup.memory, Some(gabion_core::size::Size(2 << 30)));
        assert_eq!(policy.exceptions.len(), 1);
    }

    #[test]
    fn without_files_the_built_in_one_holds() {
        let place = Scratch::new("none");
        let loaded = load_from(None, None, me(), &place.0.join("none")).unwrap();
        assert_eq!((loaded.source, loaded.digest.len()), (Source::BuiltIn, 64));
        assert_eq!(loaded.policy.level, Level::Hardened);
    }

    #[test]
    fn faults_name_their_line() {
        for (name, text, words) in [
            (
                "key",
                "level = \"hardened\"\n\nlevle = \"x\"\n",
                "line 3, column 1: unknown field `levle`",
            ),
            (
                "table",
                "[mounts]\nalow = []\n",
                "line 2, column 1: unknown field `alow`",
            ),
            (
                "level",
                "level = \"soft\"\n",
                "line 1, column 9: unknown variant `soft`",
            ),
            ("syntax", "level = \n", "line 1, column "),
            (
                "control",
                "[controls]\nfoo = \"observe\"\n",
                "line 2, column 1: unknown variant `foo`",
            ),
            (
                "cap",
                "[capabilities]\nallow = [\"CAP_FLY\"]\n",
                "line 2, column 10: `capabilities.allow`: unknown capability \"CAP_FLY\"",
            ),
            (
                "reason",
                "[[exception]]\nmatch = { namespace = \"a\" }\n",
                "missing field `reason`",
            ),
            (
                "blank",
                "[[exception]]\nreason = \" \"\nmatch = { namespace = \"a\" }\n",
                "`reason` is empty",
            ),
        ] {
            let text = load_text(name, text).unwrap_err().to_string();
            assert!(text.contains(words) && !text.contains('\n'), "{name}: {text}");
        }
    }

    #[test]
    fn a_file_that_others_can_write_is_not_believed() {
        let place = Scratch::new("mode");
        let file = place.file("p.toml", "lock = false\n");
        for (mode, words) in [(0o664, "mode 0664"), (0o646, "mode 0646")] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let text = load_from(Some(&file), None, me(), &place.0.join("none"))
                .unwrap_err()
                .to_string();
            assert!(
                text.contains("others can write the policy") && text.contains(words),
                "{text}"
            );
        }
        let text = load_from(Some(&place.0), None, me(), &place.0.join("none"))
            .unwrap_err()
            .to_string();
        assert!(text.contains("not a regular file"), "{text}");
        let text = load_from(Some(&place.0.join("x")), None, me(), &place.0.join("none"))
            .unwrap_err()
            .to_string();
        assert!(text.contains("the file is missing"), "{text}");
    }

    #[test]
    fn a_policy_is_root_s_or_the_caller_s() {
        let reader = |euid, user_ns| Reader { euid, user_ns };
        if me().euid != 0 {
            return;
        }
        let at = Scratch::new("owner");
        let file = at.file("p.toml", "lock = false\n");
        for (uid, place, ns, good) in [
            (0, super::Choice::Given, OwnUserNs::Initial, true),
            (1000, super::Choice::System, OwnUserNs::Initial, false),
            (65534, super::Choice::System, OwnUserNs::Initial, false),
            (65534, super::Choice::System, OwnUserNs::Nested, true),
            (65534, super::Choice::Given, OwnUserNs::Nested, false),
        ] {
            std::os::unix::fs::chown(&file, Some(uid), None).unwrap();
            assert_eq!(super::read(&file, reader(0, ns), place).is_ok(), good, "{uid}");
        }
    }

    #[test]
    fn a_policy_that_is_meant_to_be_there_and_is_not_is_an_error() {
        let at = Scratch::new("dangling");
        let system = |path: &Path| load_from(None, None, me(), path).map(|loaded| loaded.source);
        assert_eq!(system(&at.0.join("none/none/policy.toml")).unwrap(), Source::BuiltIn);
        let link = at.0.join("policy.toml");
        std::os::unix::fs::symlink("/nowhere/policy.toml", &link).unwrap();
        assert!(
            system(&link)
                .unwrap_err()
                .to_string()
                .contains("what it leads to is missing")
        );
        let directory = at.0.join("dangling");
        std::os::unix::fs::symlink("/nowhere", &directory).unwrap();
        assert!(system(&directory.join("policy.toml")).is_err());
        let file = at.file("file", "");
        assert!(system(&file.join("policy.toml")).is_err());
        let circle = at.0.join("circle");
        std::os::unix::fs::symlink(&circle, &circle).unwrap();
        assert!(system(&circle).is_err());
        fs::create_dir(at.0.join("directory")).unwrap();
        assert!(system(&at.0.join("directory")).is_err());
    }

    #[test]
    fn flags_override_an_open_policy() {
        let place = Scratch::new("open");
        let system = place.file("system.toml", "level = \"restricted\"\n");
        let other = place.file("other.toml", "level = \"permissive\"\n");
        let level = |file: Option<&Path>, level| load_from(file, level, me(), &system).unwrap().policy.level;
        assert_eq!(level(None, None), Level::Restricted);
        assert_eq!(level(None, Some(Level::Permissive)), Level::Permissive);
        assert_eq!(level(Some(&other), None), Level::Permissive);
        assert_eq!(level(Some(&other), Some(Level::Hardened)), Level::Hardened);
    }

    #[test]
    fn a_second_name_has_its_own_file() {
        assert_eq!(of_name(OsStr::new("/usr/bin/gabion")).unwrap(), None);
        assert_eq!(of_name(OsStr::new("gabion-crio")).unwrap(), None);
        let file = of_name(OsStr::new("/usr/bin/gabion-ci")).unwrap();
        assert_eq!(file, Some("/etc/gabion/runtimes/ci.toml".into()));
        assert!(of_name(OsStr::new("gabion-../x/gabion-A")).is_err());
        let place = Scratch::new("named");
        let (system, named) = (
            place.file("system.toml", "lock = true\n"),
            place.file("ci.toml", "lock = true\n[capabilities]\nallow = [\"CAP_NET_ADMIN\"]\n"),
        );
        let load =
            |file: &Path, system: &Path| super::load_from(Some((file, super::Choice::System)), None, me(), system);
        let none = place.0.join("none");
        assert_eq!(load(&named, &none).unwrap().source, Source::File(named.clone()));
        // A name is the caller's choice as much as a flag is.
        let text = load(&named, &system).unwrap_err().to_string();
        assert!(
            text.contains("is locked, and this one is weaker: `capabilities.allow`"),
            "{text}"
        );
        let text = load(&place.0.join("gone.toml"), &none).unwrap_err().to_string();
        assert!(
            text.contains("the policy of the name that gabion was called by"),
            "{text}"
        );
    }

    #[test]
    fn an_exception_ends_with_its_day() {
        let today = Date::of(crate::clock::now());
        let exception = |name: &str, day: String| {
            format!(
                "[[exception]]\nreason = \"{name}\"\nmatch.namespace = \"a\"\nlevel = \"permissive\"\nexpires = \"{day}\"\n"
            )
        };
        let text = exception("old", "2020-02-29".to_owned()) + &exception("today", today.to_string());
        let loaded = load_text("expires", &text).unwrap();
        assert_eq!((loaded.policy.exceptions.len(), loaded.expired.len()), (1, 1));
        assert_eq!(
            (
                loaded.policy.exceptions[0].reason.as_str(),
                loaded.expired[0].reason.as_str()
            ),
            ("today", "old")
        );
    }

    #[test]
    fn a_locked_policy_can_only_be_tightened() {
        let place = Scratch::new("locked");
        let system = place.file("system.toml", "lock = true\nlevel = \"hardened\"\n");
        let weaker = place.file("weaker.toml", "lock = true\nlevel = \"permissive\"\n");
        let open = place.file("open.toml", "level = \"restricted\"\n");
        let stricter = place.file("stricter.toml", "lock = true\nlevel = \"restricted\"\n");
        let load = |file: Option<&Path>, level| load_from(file, level, me(), &system);
        assert_eq!(
            load(None, Some(Level::Restricted)).unwrap().policy.level,
            Level::Restricted
        );
        let text = load(None, Some(Level::Permissive)).unwrap_err().to_string();
        assert!(text.contains("flags may only tighten"), "{text}");
        assert!(
            load(Some(&weaker), None)
                .unwrap_err()
                .to_string()
                .contains("weaker: `level`")
        );
        assert!(load(Some(&weaker), Some(Level::Restricted)).is_err());
        assert!(
            load(Some(&open), None)
                .unwrap_err()
                .to_string()
                .contains("weaker: `lock`")
        );
        assert!(load(Some(&stricter), None).is_ok());
        assert!(load(Some(&stricter), Some(Level::Hardened)).is_err());
    }
}
