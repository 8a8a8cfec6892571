//! A request: what a caller asks for, bounded in size and not trusted.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

pub mod annotations;
mod bounds;
pub mod idmap;
mod json;
pub mod mount_options;
mod parse;

pub use json::{Odd, Oddity};
pub use parse::{BadInput, INVALID, Read, from_json, parse_process, parse_resources};

/// The largest config.json or process.json that is read, in bytes. Engines write some 20 kB.
pub const MAX_CONFIG: u64 = 8 << 20;

/// A container id that is safe as a file name (runc's rule: `[a-zA-Z0-9_+.-]`, not `.` or `..`).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct ContainerId(String);

impl ContainerId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ContainerId {
    type Error = InvalidId;

    fn try_from(id: String) -> Result<Self, InvalidId> {
        let good = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if id.is_empty() || id == "." || id == ".." || id.len() > 1024 || !id.chars().all(good) {
            return Err(InvalidId(id));
        }
        Ok(Self(id))
    }
}

impl std::str::FromStr for ContainerId {
    type Err = InvalidId;
    fn from_str(id: &str) -> Result<Self, InvalidId> {
        id.to_owned().try_into()
    }
}

impl std::fmt::Display for ContainerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// An id that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidId(pub String);

impl std::fmt::Display for InvalidId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "invalid container id {:?}: use letters, digits, and _ + - . (at most 1024, not «.» or «..»)",
            self.0
        )
    }
}

/// What a container of a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PodType {
    Sandbox,
    Container,
}

/// A pod as its CRI names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pod<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    pub uid: &'a str,
    pub sandbox_id: &'a str,
    pub typ: PodType,
}

/// Who seems to have written the spec. It chooses the words of remedies, never a permission.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Caller {
    Cri,
    Podman,
    Docker,
    #[default]
    Bundle,
}

impl Caller {
    /// The remedy in this caller's own words. Docker's options are podman's but for a few, see [`Self::word_or`].
    pub fn word<'a>(self, cri: &'a str, podman: &'a str, bundle: &'a str) -> &'a str {
        match self {
            Self::Cri => cri,
            Self::Podman | Self::Docker => podman,
            Self::Bundle => bundle,
        }
    }

    /// The remedy in this caller's own words, where Docker has none of podman's.
    pub fn word_or<'a>(self, docker: &'a str, cri: &'a str, podman: &'a str, bundle: &'a str) -> &'a str {
        match self {
            Self::Docker => docker,
            _ => self.word(cri, podman, bundle),
        }
    }
}

/// How the host's root is to be left behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Leave {
    #[default]
    PivotRoot,
    /// `--no-pivot`: MS_MOVE and chroot, for a host whose root is a ramfs (runc).
    MoveRoot,
}

/// Through which door a request came. The call says it and nothing in the spec: podman, `ctr` and Docker let their callers write any
/// annotation. It is a claim until the host's own files confirm it ([`crate::host::CriFiles`]).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Channel {
    /// A bundle, podman, Docker, buildah: nobody who names pods.
    #[default]
    Direct,
    /// gabion's shim, for a container of this namespace of containerd's.
    Shim { namespace: String },
    /// The name under which only CRI-O's configuration calls gabion, [`CRI_O_NAME`].
    CriO,
}

/// The program's name by which CRI-O calls gabion, and nobody else.
pub const CRI_O_NAME: &str = "gabion-crio";

/// How a second name of the runtime begins: `gabion-ci` has the policy /etc/gabion/runtimes/ci.toml.
const NAMED: &str = "gabion-";

/// By which name the program was called, as far as a policy depends on it. podman, Docker and containerd keep a runtime's path with each container,
/// so that it is the same at every start; a flag of one call is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CalledAs<'a> {
    /// `gabion`, and CRI-O's name for it.
    Plain,
    /// A second name: what stands behind the hyphen.
    Runtime(&'a str),
    /// It begins as a second name does and cannot be one. Nobody's policy can be meant by it.
    Unusable,
}

impl<'a> CalledAs<'a> {
    /// Reads it off the program's name, argv\[0\].
    pub fn of_name(program: &'a std::ffi::OsStr) -> Self {
        let name = Path::new(program).file_name().unwrap_or_default();
        if name == CRI_O_NAME {
            return Self::Plain;
        }
        let good = |word: &str| {
            let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
            !word.is_empty() && word.len() <= 64 && word.chars().all(inner)
        };
        if !name.as_encoded_bytes().starts_with(NAMED.as_bytes()) {
            return Self::Plain;
        }
        match name.to_str().and_then(|name| name.strip_prefix(NAMED)) {
            Some(word) if good(word) => Self::Runtime(word),
            _ => Self::Unusable,
        }
    }
}

/// containerd's namespace that its CRI plugin keeps all of its containers in.
pub const CRI_NAMESPACE: &str = "k8s.io";

/// containerd's namespace that dockerd keeps its containers in.
pub const DOCKERS_NAMESPACE: &str = "moby";

impl Channel {
    /// Gives the channel of a call without the shim: by the name that the program was called by.
    pub fn of_name(program: &std::ffi::OsStr) -> Self {
        match Path::new(program).file_name() {
            Some(name) if name == CRI_O_NAME => Self::CriO,
            _ => Self::Direct,
        }
    }
}

/// An untrusted request for a container.
#[derive(Clone, Debug)]
pub struct Request {
    pub id: ContainerId,
    pub bundle: PathBuf,
    pub spec: Spec,
    pub channel: Channel,
    /// The one flag of create that no part of the spec says.
    pub leave: Leave,
    /// What only level permissive takes.
    pub odd: Vec<Odd>,
}

impl Request {
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.spec.annotations().as_ref()?.get(key).map(String::as_str)
    }

    /// The root file system's path as the spec gives it, made absolute.
    pub fn rootfs(&self) -> Option<PathBuf> {
        self.spec.root().as_ref().map(|root| self.bundle.join(root.path()))
    }

    pub fn process(&self) -> Option<&Process> {
        self.spec.process().as_ref()
    }

    pub fn caller(&self) -> Caller {
        if self.is_build_step() {
            return Caller::Podman;
        }
        if self.is_dockers() {
            return Caller::Docker;
        }
        caller_of(&self.spec)
    }

    /// A `RUN` of an image build. buildah, and podman by it, says so in nothing but these names: a bundle `buildah<n>`, and
    /// `buildah-` before its name for the container (buildah, `run_common.go`).
    pub fn is_build_step(&self) -> bool {
        is_build_step(self.id.as_str(), &self.bundle)
    }

    /// Whether dockerd asks, by what it alone says: its task in containerd, `…/io.containerd.runtime.v2.task/moby/<id>`. A user of Docker's may
    /// write any annotation, and neither a pod nor a user of Docker's can choose the bundle. Whoever calls gabion by hand can, as they can
    /// choose the id: what they win by it is a container's own files.
    pub fn is_dockers(&self) -> bool {
        let by_channel = match &self.channel {
            Channel::Direct => true,
            Channel::Shim { namespace } => is_dockers_namespace(namespace),
            Channel::CriO => false,
        };
        by_channel && is_dockers_task(self.id.as_str(), &self.bundle)
    }

    /// The annotation of this name for this container (`NAME.<container>` of a pod), else for all.
    pub fn asked(&self, name: &str) -> Option<&str> {
        let names = ["io.kubernetes.cri.container-name", "io.kubernetes.container.name"];
        let container = names.into_iter().find_map(|name| self.annotation(name));
        container
            .and_then(|c| self.annotation(&format!("{name}.{c}")))
            .or_else(|| self.annotation(name))
    }
}

/// Tells whether these are the names of a build's step.
pub fn is_build_step(id: &str, bundle: &Path) -> bool {
    let bundle = bundle.file_name().and_then(std::ffi::OsStr::to_str).unwrap_or_default();
    bundle.starts_with("buildah") && id.strip_prefix("buildah-") == Some(bundle)
}

/// Gives the namespace of the containerd task that a bundle is: `…/io.containerd.runtime.v2.task/<namespace>/<id>`.
pub fn task_namespace<'a>(id: &str, bundle: &'a Path) -> Option<&'a str> {
    let mut names = bundle.iter().rev().filter_map(std::ffi::OsStr::to_str);
    let own = names.next() == Some(id);
    let namespace = names.next()?;
    let tasks = names.next()?.starts_with("io.containerd.runtime.v");
    (own && tasks).then_some(namespace)
}

/// Tells whether a bundle is a task of dockerd's.
pub fn is_dockers_task(id: &str, bundle: &Path) -> bool {
    task_namespace(id, bundle).is_some_and(is_dockers_namespace)
}

/// Tells whether dockerd keeps its containers in this namespace: with userns-remap the numbers of its root stand behind (`moby-231072.231072`).
fn is_dockers_namespace(namespace: &str) -> bool {
    let Some(rest) = namespace.strip_prefix(DOCKERS_NAMESPACE) else {
        return false;
    };
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let remapped = || rest.strip_prefix('-')?.split_once('.');
    rest.is_empty() || remapped().is_some_and(|(uid, gid)| number(uid) && number(gid))
}

/// Who seems to have made a container that is there, for the words of what is refused later.
pub fn caller_of_container(id: &str, bundle: &Path, spec: &Spec) -> Caller {
    if is_dockers_task(id, bundle) {
        return Caller::Docker;
    }
    caller_of(spec)
}

/// Who seems to have written this spec (of a request, or a stored one).
pub fn caller_of(spec: &Spec) -> Caller {
    let annotation = |key: &str| spec.annotations().as_ref().and_then(|a| a.get(key)).map(String::as_str);
    if annotation("io.container.manager") == Some("libpod") {
        Caller::Podman
    } else if annotation("io.kubernetes.cri.container-type").is_some()
        || annotation("io.kubernetes.cri-o.ContainerType").is_some()
    {
        Caller::Cri
    } else {
        Caller::Bundle
    }
}

/// `path` without `.`, `..` and doubled slashes, as an absolute path. Symlinks are not looked at: no file is touched.
pub fn normalize(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            std::path::Component::Normal(name) => out.push(name),
            std::path::Component::ParentDir => {
                // Above the root is the root (path_resolution(7)).
                out.pop();
            }
            _ => {}
        }
    }
    out
}
