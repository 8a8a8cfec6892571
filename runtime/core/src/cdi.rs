//! CDI: what a file of this host says that a container with a vendor's device has.
//!
//! An engine that is asked for `vendor.com/class=name` (podman's `--device`, a device plugin's answer to the kubelet, the annotations
//! `cdi.k8s.io/*`) has put the file's edits into the spec before gabion sees it. The file is root's; the spec is the caller's. So an item of the
//! spec is vouched for where it says the same as an edit of a kind that the policy names, and an item that differs in one field is nobody's.
//!
//! Only what a spec may not have by itself is read: device nodes, mounts and hooks. The environment is the workload's own, whoever wrote it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Hook, LinuxDevice, LinuxDeviceType, Mount};
use serde::Deserialize;

use crate::file::{Above, FileKind};

mod yaml;

/// Where CDI files are (container-device-interface, `DefaultSpecDirs`).
pub const DIRECTORIES: [&str; 2] = ["/etc/cdi", "/var/run/cdi"];

/// What this host's CDI files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cdi {
    pub files: Vec<File>,
    /// What stands on the host at the paths of nodes whose numbers a file leaves to the host.
    pub nodes: BTreeMap<PathBuf, FileKind>,
    /// Of the sources and programs that files name and this spec has: where they lead. What has no way is not vouched for.
    pub ways: BTreeMap<PathBuf, Way>,
}

/// Where a path leads by links that only root can exchange.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub leads: PathBuf,
    /// Whether others can put something else to where it leads.
    pub above: Above,
}

/// One file, and what it says or why it is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct File {
    pub path: PathBuf,
    pub says: Result<Says, String>,
}

/// What one file says.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Says {
    /// `nvidia.com/gpu`.
    pub kind: String,
    #[serde(default)]
    pub devices: Vec<Device>,
    /// What a container with any of the devices has.
    #[serde(rename = "containerEdits", default)]
    pub edits: Edits,
}

/// One device.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Device {
    pub name: String,
    #[serde(rename = "containerEdits", default)]
    pub edits: Edits,
}

/// What is put into a spec. Other edits than these (groups, resctrl) are no business of a file's: they are judged as anybody's.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Edits {
    pub device_nodes: Vec<NodeEdit>,
    pub mounts: Vec<MountEdit>,
    pub hooks: Vec<HookEdit>,
}

/// A device node. A field that is not known may change what the others mean, so that there is none.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeEdit {
    pub path: PathBuf,
    #[serde(default)]
    pub host_path: Option<PathBuf>,
    #[serde(rename = "type", default)]
    pub typ: Option<String>,
    #[serde(default)]
    pub major: Option<i64>,
    #[serde(default)]
    pub minor: Option<i64>,
    #[serde(default)]
    pub file_mode: Option<u32>,
    #[serde(default)]
    pub permissions: Option<String>,
    #[serde(default)]
    pub uid: Option<u32>,
    #[serde(default)]
    pub gid: Option<u32>,
}

/// A mount.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MountEdit {
    pub host_path: PathBuf,
    pub container_path: PathBuf,
    #[serde(default)]
    pub options: Vec<String>,
    #[serde(rename = "type", default)]
    pub typ: Option<String>,
}

/// A hook.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct HookEdit {
    /// `createContainer`.
    pub hook_name: String,
    pub path: PathBuf,
    #[serde(default)]
    pub args: Vec<String>,
    #[serde(default)]
    pub env: Vec<String>,
    #[serde(default)]
    pub timeout: Option<i64>,
}

/// How an item of a spec stands to an edit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Likeness {
    Equal,
    /// It is for the same place and differs in this many fields; the first of them, in words.
    Differs(usize, String),
    Unlike,
}

/// Reads one CDI file. JSON where it begins as that, else YAML as its generators write it.
///
/// # Errors
/// Why it is not understood, in one line.
pub fn parse(text: &[u8]) -> Result<Says, String> {
    let first = text.iter().find(|byte| !byte.is_ascii_whitespace());
    let said = |error: serde_json::Error| error.to_string().replace('\n', " ");
    let says: Says = if first == Some(&b'{') {
        serde_json::from_slice(text).map_err(said)?
    } else {
        let text = std::str::from_utf8(text).map_err(|_| "it is no UTF-8".to_owned())?;
        serde_json::from_value(yaml::parse(text)?).map_err(said)?
    };
    if is_kind(&says.kind) {
        Ok(says)
    } else {
        Err(format!("its kind {:?} is none: vendor.com/class", says.kind))
    }
}

/// Whether a word is a kind of devices: `vendor.com/class`.
pub fn is_kind(word: &str) -> bool {
    let good = |part: &str, marks: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.ends_with(|c: char| c.is_ascii_alphanumeric())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || marks.contains(c))
    };
    word.split_once('/')
        .is_some_and(|(vendor, class)| good(vendor, "_-.") && good(class, "_-."))
}

impl Says {
    /// Gives each device's edits with its full name; those of all devices have the kind's.
    pub fn each(&self) -> impl Iterator<Item = (String, &Edits)> {
        let own = self
            .devices
            .iter()
            .map(|device| (format!("{}={}", self.kind, device.name), &device.edits));
        std::iter::once((self.kind.clone(), &self.edits)).chain(own)
    }
}

impl Cdi {
    /// Gives all that is said, with who says it.
    pub fn each(&self) -> impl Iterator<Item = (&Path, &str, String, &Edits)> {
        let believed = self
            .files
            .iter()
            .filter_map(|file| Some((file, file.says.as_ref().ok()?)));
        believed.flat_map(|(file, says)| {
            says.each()
                .map(|(name, edits)| (file.path.as_path(), says.kind.as_str(), name, edits))
        })
    }

    /// Tells whether a source that was opened is what a file's path leads to, by no link of anybody else's.
    pub fn leads_to(&self, path: &Path, real: &Path) -> bool {
        self.ways.get(path).is_some_and(|way| way.leads == real)
    }

    /// Tells whether only root can exchange the program at a path.
    pub fn is_roots(&self, path: &Path) -> bool {
        self.ways.get(path).is_some_and(|way| way.above == Above::Closed)
    }
}

/// Collects what differs.
#[derive(Default)]
struct Differing {
    count: usize,
    first: Option<String>,
}

impl Differing {
    fn unless(&mut self, same: bool, what: impl FnOnce() -> String) {
        if !same {
            self.count += 1;
            self.first.get_or_insert_with(what);
        }
    }

    fn likeness(self) -> Likeness {
        match self.first {
            None => Likeness::Equal,
            Some(what) => Likeness::Differs(self.count, what),
        }
    }
}

impl NodeEdit {
    /// Where the host has it.
    pub fn on_host(&self) -> &Path {
        self.host_path.as_deref().unwrap_or(&self.path)
    }

    /// Whether the file leaves something of it to the host: then the engine asks the host, as the library does that they all use.
    pub fn is_left_to_the_host(&self) -> bool {
        let fifo = self.typ.as_deref() == Some("p");
        self.typ.as_deref().is_none_or(str::is_empty) || (self.major.unwrap_or(0) == 0 && !fifo)
    }

    /// What may be done with it: all, where nothing is said.
    pub fn permissions(&self) -> &str {
        self.permissions
            .as_deref()
            .filter(|words| !words.is_empty())
            .unwrap_or("rwm")
    }

    /// What device it is: type, major, minor. None where the host was to say it and does not, or says another type.
    fn device(&self, cdi: &Cdi) -> Option<(char, i64, i64)> {
        let letter = self.typ.as_deref().filter(|typ| !typ.is_empty());
        let letter = match letter {
            Some("b") => Some('b'),
            Some("c" | "u") => Some('c'),
            Some("p") => Some('p'),
            Some(_) => return None,
            None => None,
        };
        if !self.is_left_to_the_host() {
            return Some((letter?, self.major.unwrap_or(0), self.minor.unwrap_or(0)));
        }
        let (found, major, minor) = match cdi.nodes.get(self.on_host())? {
            FileKind::CharDevice(major, minor) => ('c', *major, *minor),
            FileKind::BlockDevice(major, minor) => ('b', *major, *minor),
            FileKind::Fifo => ('p', 0, 0),
            _ => return None,
        };
        if letter.is_some_and(|letter| letter != found) {
            return None;
        }
        match self.major.filter(|major| *major != 0) {
            Some(major) => Some((found, major, self.minor.unwrap_or(0))),
            None => Some((found, i64::try_from(major).ok()?, i64::try_from(minor).ok()?)),
        }
    }

    /// Compares it with a node of a spec.
    pub fn likeness(&self, device: &LinuxDevice, cdi: &Cdi) -> Likeness {
        if self.path != *device.path() {
            return Likeness::Unlike;
        }
        let mut differing = Differing::default();
        let letter = match device.typ() {
            LinuxDeviceType::B => 'b',
            LinuxDeviceType::C | LinuxDeviceType::U => 'c',
            LinuxDeviceType::P => 'p',
            LinuxDeviceType::A => 'a',
        };
        let (major, minor) = match letter {
            'p' => (0, 0),
            _ => (device.major(), device.minor()),
        };
        let said = self.device(cdi);
        differing.unless(said == Some((letter, major, minor)), || match said {
            Some((typ, a, b)) => format!("it is {letter} {major}:{minor}, not {typ} {a}:{b}"),
            None => format!("it is {letter} {major}:{minor}, and the host has no such device to compare it with"),
        });
        // The type bits, which podman passes on, are judged beside the type.
        let mode = device.file_mode().map(|mode| mode & 0o7777);
        let wanted = self.file_mode.map(|mode| mode & 0o7777);
        differing.unless(wanted.is_none() || wanted == mode, || {
            "its fileMode is another".to_owned()
        });
        differing.unless(self.uid.is_none() || self.uid == device.uid(), || {
            "its uid is another".to_owned()
        });
        differing.unless(self.gid.is_none() || self.gid == device.gid(), || {
            "its gid is another".to_owned()
        });
        differing.likeness()
    }
}

impl MountEdit {
    /// Compares it with a mount of a spec, which may have lost or gained the word `bind` as its type.
    pub fn likeness(&self, mount: &Mount) -> Likeness {
        let (source, destination) = (mount.source().as_deref(), mount.destination());
        let same_source = source == Some(self.host_path.as_path());
        if *destination != self.container_path && !same_source {
            return Likeness::Unlike;
        }
        let mut differing = Differing::default();
        differing.unless(same_source, || {
            let source = source.map_or_else(String::new, |source| source.display().to_string());
            format!("its source is {source}, not {}", self.host_path.display())
        });
        differing.unless(*destination == self.container_path, || {
            format!("its destination is not {}", self.container_path.display())
        });
        let options = mount.options().as_deref().unwrap_or_default();
        differing.unless(options == self.options, || {
            format!(
                "its options are {:?}, not {:?}",
                options.join(","),
                self.options.join(",")
            )
        });
        let plain = |typ: Option<&str>| match typ {
            None | Some("" | "bind" | "none") => None,
            Some(other) => Some(other.to_owned()),
        };
        differing.unless(plain(mount.typ().as_deref()) == plain(self.typ.as_deref()), || {
            "its type is another".to_owned()
        });
        differing.likeness()
    }
}

impl HookEdit {
    /// Compares it with a hook of a spec.
    pub fn likeness(&self, stage: &str, hook: &Hook) -> Likeness {
        if self.path != *hook.path() {
            return Likeness::Unlike;
        }
        let mut differing = Differing::default();
        differing.unless(self.hook_name == stage, || {
            format!("it is a {stage} hook, not one of {}", self.hook_name)
        });
        let args = hook.args().as_deref().unwrap_or_default();
        differing.unless(args == self.args, || {
            format!("its arguments are {:?}, not {:?}", args.join(" "), self.args.join(" "))
        });
        let env = hook.env().as_deref().unwrap_or_default();
        differing.unless(env == self.env, || "its environment is another".to_owned());
        differing.unless(hook.timeout() == self.timeout, || "its timeout is another".to_owned());
        differing.likeness()
    }
}

#[cfg(test)]
#[path = "cdi/tests.rs"]
mod tests;
