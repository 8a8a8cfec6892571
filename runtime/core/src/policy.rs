//! The policy, typed: what is enforced on this machine, and what is excepted.
//!
//! `Policy` is what a file says. `Effective` is what holds for one request, after exceptions and the caller's flags: the
//! controls see nothing else.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::decision::Mode;
use crate::id::ControlId;
use crate::size::Size;
use crate::sockets::SocketWord;

mod compare;
pub mod date;
pub mod exception;
pub mod here;
pub mod keys;
pub mod log;
pub mod memory;
pub mod narrow;
mod sense;
pub mod text;
pub mod validate;

pub use date::Date;
pub use exception::{Exception, Match, Vouched};
pub use log::{Anchor, LogMode, RepeatedExec};
pub use memory::{MemoryPolicy, MemoryRule};

/// How much is enforced. Ordered from weakest to strongest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Runs what runc would run; decisions are only written down.
    Permissive,
    /// Every control; ordinary images, also those that start as root.
    #[default]
    Hardened,
    /// For workloads written for it.
    Restricted,
}

impl Level {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Permissive => "permissive",
            Self::Hardened => "hardened",
            Self::Restricted => "restricted",
        }
    }
}

impl std::fmt::Display for Level {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether flags of a call may loosen what the file says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum Lock {
    #[default]
    Open,
    /// Flags may only tighten.
    Locked,
}

impl From<bool> for Lock {
    fn from(locked: bool) -> Self {
        if locked { Self::Locked } else { Self::Open }
    }
}

impl From<Lock> for bool {
    fn from(lock: Lock) -> Self {
        lock == Lock::Locked
    }
}

/// Whose annotations name a pod truthfully.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Cri {
    /// Nobody's: exceptions match nothing.
    #[default]
    None,
    /// containerd writes `io.kubernetes.cri.*` after the pod's own annotations.
    Containerd,
    /// CRI-O copies pod annotations in; only the labels that it writes afterwards count.
    #[serde(rename = "cri-o")]
    CriO,
}

/// Whether exec may enter containers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecRule {
    #[default]
    Allow,
    Deny,
}

/// Whether a layer that the kernel may lack must be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Without it: `Warned`.
    #[default]
    BestEffort,
    /// Without it: refused.
    Required,
}

/// `/etc/gabion/policy.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Policy {
    pub level: Level,
    pub lock: Lock,
    pub cri: Cri,
    /// One control on or off, whatever the level says.
    pub controls: BTreeMap<ControlId, Mode>,
    pub exec: ExecRule,
    pub holes: HolesPolicy,
    pub mounts: MountsPolicy,
    pub devices: DevicesPolicy,
    pub cgroup: CgroupPolicy,
    pub sysctl: SysctlPolicy,
    pub rlimits: RlimitsPolicy,
    pub hooks: HooksPolicy,
    pub cdi: CdiPolicy,
    pub capabilities: CapabilitiesPolicy,
    pub memory: MemoryPolicy,
    pub seccomp: SeccompPolicy,
    pub images: ImagesPolicy,
    pub lsm: LsmPolicy,
    pub landlock: LandlockPolicy,
    pub audit: AuditPolicy,
    #[serde(rename = "exception")]
    pub exceptions: Vec<Exception>,
}

/// `[holes]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HolesPolicy {
    /// Largest hole that an annotation may ask for.
    pub max_size: Size,
    /// Size where the annotation gives none.
    pub default_size: Size,
    /// How many holes an annotation may ask for.
    pub max_count: u32,
}

impl Default for HolesPolicy {
    fn default() -> Self {
        Self {
            max_size: Size(1 << 30),
            default_size: Size(64 << 20),
            max_count: 16,
        }
    }
}

/// `[mounts]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MountsPolicy {
    /// Host paths (and all below them) that may be bound although they are sensitive, or a hostPath under CRI.
    pub allow: Vec<PathBuf>,
    /// Container paths that may be both writable and executable.
    pub exec_paths: Vec<PathBuf>,
    pub kubelet_root: PathBuf,
    pub containerd_root: PathBuf,
    pub containerd_state: PathBuf,
}

impl Default for MountsPolicy {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            exec_paths: Vec::new(),
            kubelet_root: "/var/lib/kubelet".into(),
            containerd_root: "/var/lib/containerd".into(),
            containerd_state: "/run/containerd".into(),
        }
    }
}

/// `[devices]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DevicesPolicy {
    /// Device nodes by path, `/dev/fuse`.
    pub allow: Vec<PathBuf>,
}

/// `[cgroup]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CgroupPolicy {
    /// Tasks, where the spec sets none.
    pub pids: u32,
    /// The most tasks a spec may ask for.
    pub max_pids: u32,
    /// Bytes, where the spec sets none. None: half of the host's memory, clamped to the parent's limit.
    pub memory: Option<Size>,
    /// The most memory a spec may ask for. None: no bound.
    pub max_memory: Option<Size>,
    /// CPU quota in percent of one CPU, where the spec sets none. None: no quota.
    pub cpu_percent: Option<u32>,
}

impl Default for CgroupPolicy {
    fn default() -> Self {
        Self {
            pids: 4096,
            max_pids: 65536,
            memory: None,
            max_memory: None,
            cpu_percent: None,
        }
    }
}

/// `[sysctl]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SysctlPolicy {
    /// Namespaced sysctls beyond the safe list.
    pub allow: Vec<String>,
    /// `observe` lets memfd_create make executable files.
    pub memfd_noexec: Mode,
}

impl Default for SysctlPolicy {
    fn default() -> Self {
        Self {
            allow: Vec::new(),
            memfd_noexec: Mode::Enforce,
        }
    }
}

/// `[rlimits]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RlimitsPolicy {
    /// The largest RLIMIT_NOFILE.
    pub max_nofile: u64,
}

impl Default for RlimitsPolicy {
    fn default() -> Self {
        Self { max_nofile: 1_048_576 }
    }
}

/// `[hooks]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HooksPolicy {
    /// Programs of the host that a spec may have run, or directories of such.
    pub allow: Vec<PathBuf>,
}

/// `[cdi]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CdiPolicy {
    /// Kinds of devices, `nvidia.com/gpu`, for which this host's CDI files are believed.
    pub allow: Vec<String>,
}

/// `[capabilities]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CapabilitiesPolicy {
    /// Capabilities beyond the eight that a spec may keep, `CAP_SYS_CHROOT`.
    pub allow: Vec<String>,
}

/// `[seccomp]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SeccompPolicy {
    /// Groups of calls that gabion's own filters do not refuse.
    pub allow: Vec<SeccompGroup>,
    /// Sockets beyond the usual ones that a container may make.
    pub sockets: Vec<SocketWord>,
    /// Whether the kernel logs what gabion's own filters deny.
    pub log: DenialLog,
}

/// Whether denials of gabion's own filters go into the kernel's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum DenialLog {
    #[default]
    Off,
    On,
}

impl DenialLog {
    pub const fn is_off(&self) -> bool {
        matches!(self, Self::Off)
    }
}

impl From<bool> for DenialLog {
    fn from(on: bool) -> Self {
        if on { Self::On } else { Self::Off }
    }
}

impl From<DenialLog> for bool {
    fn from(log: DenialLog) -> Self {
        log == DenialLog::On
    }
}

/// A group of calls that gabion's filters refuse and a policy may open. Which calls they are is in runtime/policy/seccomp.toml.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompGroup {
    /// Asynchronous I/O past the filter: databases.
    IoUring,
    /// New namespaces, which a user namespace gives everybody: browsers' sandboxes.
    Userns,
    /// Taking over processes that did not ask for it: debuggers and profilers.
    Ptrace,
    /// Kernel keyrings: Kerberos.
    Keyring,
    /// Counters of the processor and the kernel: profilers.
    Perf,
}

impl SeccompGroup {
    pub const ALL: [Self; 5] = [Self::IoUring, Self::Userns, Self::Ptrace, Self::Keyring, Self::Perf];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::IoUring => "io_uring",
            Self::Userns => "userns",
            Self::Ptrace => "ptrace",
            Self::Keyring => "keyring",
            Self::Perf => "perf",
        }
    }
}

/// `[images]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ImagesPolicy {
    /// Globs of names that a pod's images may have. None: any.
    pub allow: Vec<String>,
}

/// `[lsm]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LsmPolicy {
    /// Whether AppArmor or SELinux must be there.
    pub need: Need,
}

/// `[landlock]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LandlockPolicy {
    pub need: Need,
    /// The lowest ABI that counts as being there (3: TRUNCATE, kernel 6.2).
    pub min_abi: u32,
}

impl Default for LandlockPolicy {
    fn default() -> Self {
        Self {
            need: Need::BestEffort,
            min_abi: 1,
        }
    }
}

/// `[audit]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditPolicy {
    /// Where records go. None: /var/log/gabion/audit.jsonl, or below XDG_STATE_HOME for a user.
    pub file: Option<PathBuf>,
    /// None: by level, see `on_failure`.
    pub on_failure: Option<OnFailure>,
    pub redact_args: ArgsRule,
    /// A file that would grow beyond this is put aside.
    pub max_size: Size,
    /// How many files that were put aside are kept.
    pub files: u32,
    /// A file whose first record is so many days old is put aside. None: by size alone.
    pub rotate_days: Option<u32>,
    /// No file is removed whose last record is younger than so many days.
    pub keep_days: u32,
    /// None: 0600, or what the file before had.
    pub mode: Option<LogMode>,
    /// A name or a number. None: the writer's, or that of the file before.
    pub group: Option<String>,
    pub repeated_exec: RepeatedExec,
    /// Where the newest record's hash is kept. None: /var/lib/gabion/audit.head for root's usual log, beside any other.
    pub head: Option<PathBuf>,
    /// Where it is told besides.
    pub anchors: Vec<Anchor>,
}

impl Default for AuditPolicy {
    fn default() -> Self {
        Self {
            file: None,
            on_failure: None,
            redact_args: ArgsRule::Keep,
            max_size: Size(64 << 20),
            files: 5,
            rotate_days: None,
            keep_days: 0,
            mode: None,
            group: None,
            repeated_exec: RepeatedExec::Write,
            head: None,
            anchors: Vec::new(),
        }
    }
}

impl AuditPolicy {
    /// What holds: the file's word, else refusing at level restricted and warning below.
    pub fn on_failure(&self, level: Level) -> OnFailure {
        let default = if level == Level::Restricted {
            OnFailure::Refuse
        } else {
            OnFailure::Warn
        };
        self.on_failure.unwrap_or(default)
    }
}

/// What a record that cannot be written means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// A warning on stderr.
    Warn,
    /// Nothing starts without its record.
    Refuse,
}

/// Whether arguments of programs are written down: they may hold secrets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "bool", into = "bool")]
pub enum ArgsRule {
    #[default]
    Keep,
    /// The program's name and how many arguments there were.
    Redact,
}

impl From<bool> for ArgsRule {
    fn from(redact: bool) -> Self {
        if redact { Self::Redact } else { Self::Keep }
    }
}

impl From<ArgsRule> for bool {
    fn from(rule: ArgsRule) -> Self {
        rule == ArgsRule::Redact
    }
}

/// What holds for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effective {
    pub level: Level,
    pub policy: Policy,
    /// The reasons of the exceptions that apply.
    pub exceptions: Vec<String>,
    /// SHA-256 of the policy file's text (or of the built-in one).
    pub digest: String,
    /// Whose word names this request's pod.
    pub cri: Vouched,
    /// Controls that an exception loosens.
    pub loosened: Vec<ControlId>,
}

impl Effective {
    /// Whether this control is carried out or only written down.
    pub fn mode(&self, control: ControlId) -> Mode {
        self.policy.mode_at(self.level, &self.loosened, control)
    }
}

impl Policy {
    /// Gives a control's mode at this level, where an exception loosens these controls.
    fn mode_at(&self, level: Level, loosened: &[ControlId], control: ControlId) -> Mode {
        if loosened.contains(&control) {
            return Mode::Observe;
        }
        match self.controls.get(&control) {
            Some(mode) => *mode,
            None if level == Level::Permissive => Mode::Observe,
            None => Mode::Enforce,
        }
    }
}

/// The policy that holds where there is no file, with every key and its reason.
pub const BUILT_IN: &str = include_str!("../../policy/default.toml");

/// Parses a policy's text; an error is one line with the place.
pub fn parse(text: &str) -> std::result::Result<Policy, String> {
    let at = |(line, column): (usize, usize)| format!("line {line}, column {column}");
    let policy = typed(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let what = error.message().replace('\n', " ");
        format!("{}: {what}", at(validate::place(text, start)))
    })?;
    let faults = sense::faults(&policy);
    match faults.iter().find(|fault| fault.gravity == validate::Gravity::Error) {
        Some(fault) => {
            let meant = fault.meant.as_ref().map(|meant| format!("; did you mean `{meant}`?"));
            let (name, what) = (fault.name(), &fault.what);
            Err(format!(
                "{}: `{name}`: {what}{}",
                at(fault.place(text)),
                meant.unwrap_or_default()
            ))
        }
        None => Ok(policy),
    }
}

/// Parses the form alone.
fn typed(text: &str) -> std::result::Result<Policy, toml::de::Error> {
    toml::from_str(text)
}
