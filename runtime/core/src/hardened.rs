//! What `harden` gives, and the only thing `create` accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use oci_spec::runtime::{Linux, LinuxResources, Spec, User};
use serde::{Deserialize, Serialize};

use crate::decision::{Change, Decision};
use crate::host::{CgroupVersion, Delegation, SwapAccounting};
use crate::id::ControlId;
use crate::ids::ContainerIds;
use crate::namespace::{NsId, NsType};
use crate::policy::{CgroupPolicy, DenialLog, Level, MemoryRule, SeccompGroup};
use crate::reach::OnFs;
use crate::request::Odd;
use crate::sockets::SocketWord;
use crate::valid::{self, Invalid, Kind};

/// What the OCI spec has no words for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Plan {
    /// Controls that are in force. A control that is absent is only observed: nothing of it is applied or verified.
    pub enforced: BTreeSet<ControlId>,
    /// What the policy, or a mount's own option, let off from a control that is in force: a line for each.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub let_off: BTreeMap<ControlId, BTreeSet<String>>,
    /// Controls that an exception of the policy took out of force.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub loosened: BTreeSet<ControlId>,
    /// The reasons of the exceptions that apply.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exceptions: Vec<String>,
    pub holes: Vec<Hole>,
    /// Namespaces that are joined by path, with the identity that was vetted.
    pub joined: Vec<Joined>,
    /// The host's own namespaces when this was decided: a new one must be none of them.
    pub host_namespaces: BTreeMap<NsType, BTreeSet<NsId>>,
    /// By index in the spec's mounts: where the destination leads inside the image, symlinks followed. What is absent
    /// here was not looked at: the destination as it is written counts.
    pub targets: BTreeMap<usize, PathBuf>,
    /// By index in the spec's mounts: binds of sensitive host paths that the policy names. What lies below them was meant.
    pub sensitive: BTreeSet<usize>,
    /// By index in the spec's mounts: read-only directories that the engine made for this container and mounts more into. They
    /// become read-only once those mount points are made.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub read_only_late: BTreeSet<usize>,
    /// By index in the spec's mounts: read-only binds of files that another bind lets be written. They are not executable, nor does Landlock
    /// let anything in them be executed.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub twins: BTreeSet<usize>,
    /// Those of them that stay executable, as the policy or the mount itself says.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub twins_excepted: BTreeSet<usize>,
    /// The layers of the image, where somebody's own files are bound beside it: none of those mounts lets them be written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layers: Vec<OnFs>,
    /// Value of `vm.memfd_noexec` to write in the new pid namespace (proc_sys_vm(5), kernel 6.3).
    pub memfd_noexec: Option<u8>,
    /// Rules against running what was written that hold.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub memory: BTreeSet<MemoryRule>,
    pub landlock: Option<LandlockPlan>,
    pub seccomp: SeccompPlan,
    /// Groups of calls that gabion's own filters let through, as the policy says.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub opened: BTreeSet<SeccompGroup>,
    /// Sockets beyond the usual ones that the policy lets it make.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sockets: Vec<SocketWord>,
    /// Whether the kernel logs what gabion's own filters deny.
    #[serde(default, skip_serializing_if = "DenialLog::is_off")]
    pub log: DenialLog,
    /// Where the profile's listener was when it was judged, symlinks followed: exec connects to no other place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub listener: Option<PathBuf>,
    pub lsm: LsmPlan,
    /// The pids that joined namespaces belong to are checked; whether exec is let in at all.
    pub exec: ExecPlan,
    /// No memory beyond the limit may be had as swap, where the kernel accounts for it.
    pub no_swap: SwapPlan,
    /// What a later `update` is judged by. None: the cgroup control is only observed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<CgroupBounds>,
    /// Where the caller can make the container's cgroup: a fact, at every level.
    #[serde(default, skip_serializing_if = "Delegation::is_whole")]
    pub delegation: Delegation,
    /// A new session keyring is joined before the workload (keyctl(2) KEYCTL_JOIN_SESSION_KEYRING).
    pub new_keyring: bool,
    /// What the container's ids are outside of it: a fact, at every level. None: an older gabion made it, which did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<ContainerIds>,
    /// The OOM score that the container has, named or inherited. None: as of `ids`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

impl Plan {
    /// Writes down that something of this control was let off, and by whose word.
    pub(crate) fn lets_off(&mut self, control: ControlId, what: impl Into<String>) {
        self.let_off.entry(control).or_default().insert(what.into());
    }
}

/// A writable tmpfs in a read-only root.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hole {
    /// The path as it was asked for, inside the container.
    pub path: PathBuf,
    /// Where that leads in the image, symlinks followed (`/var/run` → `/run`); the path itself where nobody could look.
    pub target: PathBuf,
    /// Bytes.
    pub size: u64,
    /// Permission bits, of the hole itself and nothing in it.
    pub mode: u32,
    /// Whether they were asked for. Otherwise a directory that the image has there keeps its own.
    pub mode_asked: bool,
}

/// A namespace that is joined by path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Joined {
    pub typ: NsType,
    pub path: PathBuf,
    pub id: NsId,
}

/// What the Landlock layer allows beyond the fixed skeleton (docs/CONTROLS.md, landlock).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LandlockPlan {
    /// Paths below which writing is allowed and executing is not.
    pub writable: Vec<PathBuf>,
    /// Writable paths that were excepted from W^X by policy or by the mount's own `exec`.
    pub writable_exec: Vec<PathBuf>,
    /// Read-only mounts below a writable path whose programs may run: the walk that hands out EXECUTE stops above them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executable: Vec<PathBuf>,
    /// Read-only mounts of files that are writable elsewhere: neither written nor executed here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inert: Vec<PathBuf>,
    pub tcp_bind: Option<Vec<u16>>,
    pub tcp_connect: Option<Vec<u16>>,
    /// The ABI that the kernel offered when this was decided.
    pub abi: u32,
    /// And which of Landlock's errata are fixed in it: bit 0 for the first.
    #[serde(default)]
    pub errata: u32,
}

/// Which filters the workload runs under.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeccompPlan {
    /// The spec's own profile, or none: as runc would (permissive).
    #[default]
    AsAsked,
    /// gabion's default profile; the floor is part of it.
    Default,
    /// The spec's profile with the floor under it.
    ProfileAndFloor,
}

/// Which label the workload gets on execve.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LsmPlan {
    pub apparmor: Option<String>,
    /// The bundled profile must be loaded first.
    pub load_default: bool,
    pub selinux: Option<String>,
}

/// Whether `exec` may enter the container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecPlan {
    #[default]
    Allow,
    Deny,
}

/// Whether swap is closed beside the memory limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SwapPlan {
    #[default]
    AsAsked,
    Closed,
}

/// The bounds of create, kept so that `update` answers to them whatever the policy file says by then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupBounds {
    pub policy: CgroupPolicy,
    pub version: CgroupVersion,
    pub swap: SwapAccounting,
    pub controllers: BTreeSet<String>,
    /// What the machine has, bytes: a limit of as much is none. 0: not known (an older gabion did not write it down).
    #[serde(default)]
    pub memory_total: u64,
    /// The same for tasks.
    #[serde(default)]
    pub tasks_total: u64,
    #[serde(default)]
    pub pod: BoundedBy,
}

/// Whose limits bound what a container may hold back from its neighbours (`memory.min`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BoundedBy {
    /// Nobody's: it would be held back from the host.
    #[default]
    Nobody,
    /// Its pod's cgroup, in which it lies, as the CRI says.
    Pod,
}

/// A spec and plan while the controls work on them.
#[derive(Clone, Debug)]
pub struct Draft {
    pub spec: Spec,
    pub plan: Plan,
}

impl Draft {
    /// The Linux part of the spec; an empty one is made where there is none.
    pub fn linux(&mut self) -> &mut Linux {
        self.spec.linux_mut().get_or_insert_with(|| {
            let mut linux = Linux::default();
            // oci-spec's default is a whole container; what nobody wrote is nothing.
            linux
                .set_namespaces(None)
                .set_resources(None)
                .set_masked_paths(None)
                .set_readonly_paths(None);
            linux
        })
    }
}

/// A vetted container. It is made by `harden`, and by reading gabion's own state ([`Stored`]); [`Hardened::amend`] alone changes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hardened {
    spec: Spec,
    plan: Plan,
    level: Level,
    policy_digest: String,
    decisions: Vec<Decision>,
}

/// A vetted container as gabion's own state has it.
#[derive(Clone, Debug, Deserialize)]
pub struct Stored {
    spec: Spec,
    plan: Plan,
    level: Level,
    policy_digest: String,
    decisions: Vec<Decision>,
}

impl Stored {
    /// Takes it as vetted. Only for what was read from a state directory whose owner and mode were judged: a test looks for who calls this.
    pub fn from_own_state(self) -> Hardened {
        let Self {
            spec,
            plan,
            level,
            policy_digest,
            decisions,
        } = self;
        Hardened {
            spec,
            plan,
            level,
            policy_digest,
            decisions,
        }
    }
}

/// Which session keyring the workload has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keyring {
    #[default]
    New,
    /// `--no-new-keyring`.
    Inherit,
}

/// What may change of a vetted container after it was decided.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "one at a time, and not kept")]
pub enum Amendment {
    /// What create's caller wants; where `fds` is enforced there is a new one whatever that is.
    Keyring(Keyring),
    /// The limits that `update` was allowed.
    Resources(LinuxResources),
    /// For a later process: its own user.
    User(User),
}

impl Hardened {
    /// Makes it of a draft that every control has decided on.
    pub(crate) fn decided(draft: Draft, level: Level, policy_digest: String, decisions: Vec<Decision>) -> Self {
        let Draft { spec, plan } = draft;
        Self {
            spec,
            plan,
            level,
            policy_digest,
            decisions,
        }
    }

    /// Changes what may be changed later.
    #[must_use]
    pub fn amend(mut self, amendment: Amendment) -> Self {
        match amendment {
            // A new one is every runtime's rule (runc), not only the control's.
            Amendment::Keyring(keyring) => {
                self.plan.new_keyring = keyring == Keyring::New || self.enforces(ControlId::Fds);
            }
            Amendment::Resources(resources) => {
                let linux = self.spec.linux_mut().get_or_insert_with(Linux::default);
                linux.set_resources(Some(resources));
            }
            Amendment::User(user) => {
                if let Some(process) = self.spec.process_mut() {
                    process.set_user(user);
                }
            }
        }
        self
    }

    /// Lets a test make what `harden` would not.
    #[cfg(any(test, feature = "testing"))]
    pub const fn parts_mut(&mut self) -> (&mut Spec, &mut Plan) {
        (&mut self.spec, &mut self.plan)
    }

    pub const fn spec(&self) -> &Spec {
        &self.spec
    }
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }
    pub const fn level(&self) -> Level {
        self.level
    }
    pub fn policy_digest(&self) -> &str {
        &self.policy_digest
    }
    pub fn decisions(&self) -> &[Decision] {
        &self.decisions
    }
    /// Gives the labels that the workload must have; None where that control is only observed.
    pub fn labels(&self) -> Option<&LsmPlan> {
        self.enforces(ControlId::Lsm).then_some(&self.plan.lsm)
    }
    /// Tells whether this control is in force here.
    pub fn enforces(&self, control: ControlId) -> bool {
        self.plan.enforced.contains(&control)
    }
}

/// Why a container does not run: every refusal, not the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    pub level: Level,
    pub decisions: Vec<Decision>,
    /// What no level may have (`valid`), beside what a control has refused already.
    pub invalid: Vec<Change>,
}

impl Denial {
    /// Puts together what was decided. What a control refuses, and with a remedy, is not told twice.
    pub(crate) fn new(level: Level, decisions: Vec<Decision>, invalid: &[Invalid]) -> Self {
        let refuses = |id: ControlId| {
            decisions
                .iter()
                .any(|d| d.control == id && d.refusals().next().is_some())
        };
        let left = invalid.iter().filter(|bad| !bad.told_by.is_some_and(refuses));
        Self {
            level,
            invalid: left.map(Invalid::change).collect(),
            decisions,
        }
    }

    /// Refuses limits that are not written as the spec writes them, where the level does not take that.
    ///
    /// # Errors
    /// The denial, with each of them.
    pub fn unless_odd(level: Level, odd: &[Odd]) -> Result<(), Self> {
        Self::new(level, Vec::new(), &valid::odd(level, odd))
            .unless_refused()
            .map(drop)
    }

    /// Gives the decisions back where nothing was refused.
    ///
    /// # Errors
    /// The denial itself, where it is one.
    pub(crate) fn unless_refused(self) -> Result<Vec<Decision>, Self> {
        if self.refusals().next().is_some() {
            return Err(self);
        }
        Ok(self.decisions)
    }

    /// Gives every reason: those of controls first, since they have remedies.
    pub fn refusals(&self) -> impl Iterator<Item = &Change> {
        self.decisions.iter().flat_map(Decision::refusals).chain(&self.invalid)
    }
}

impl std::fmt::Display for Denial {
    /// `refused [code]: reason; remedy: … (+2 more: code, code)`, in one line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut all = self.refusals();
        let Some(first) = all.next() else {
            return f.write_str("refused");
        };
        let code = first.code.as_deref().unwrap_or("?");
        if code == Kind::Unsupported.code() {
            write!(f, "{} is not supported [{code}]: {}", first.path, first.reason)?;
        } else if code == Kind::Malformed.code() {
            write!(f, "{} cannot be used [{code}]: {}", first.path, first.reason)?;
        } else {
            write!(f, "refused [{code}]: {}", first.reason)?;
        }
        if let Some(remedy) = &first.remedy {
            write!(f, "; remedy: {remedy}")?;
        }
        let rest: Vec<&str> = all.filter_map(|c| c.code.as_deref()).collect();
        if !rest.is_empty() {
            write!(f, " (+{} more: {})", rest.len(), counted(&rest).join(", "))?;
        }
        Ok(())
    }
}

/// Each code once, with how often it is there: `--privileged` asks for two dozen capabilities.
fn counted(codes: &[&str]) -> Vec<String> {
    let mut times: Vec<(&str, usize)> = Vec::new();
    for code in codes {
        match times.iter_mut().find(|(seen, _)| seen == code) {
            Some((_, n)) => *n += 1,
            None => times.push((code, 1)),
        }
    }
    let shown = |(code, n): (&str, usize)| {
        if n == 1 {
            code.to_owned()
        } else {
            format!("{code} x{n}")
        }
    };
    times.into_iter().map(shown).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_that_repeat_are_counted() {
        assert_eq!(super::counted(&["a.x", "b.y", "a.x", "a.x"]), ["a.x x3", "b.y"]);
    }
}
