//! What `state.json` holds, and what a container's status may be.

use std::path::PathBuf;

use std::collections::BTreeSet;
use std::time::Duration;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::VERSION;
use crate::cgroup::CgroupRecord;
use gabion_core::caller::OwnUserNs;
use gabion_core::hardened::{Hardened, LsmPlan, Stored};
use gabion_core::id::ControlId;
use gabion_core::request::ContainerId;

/// `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    pub version: u32,
    pub id: ContainerId,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339.
    pub created: String,
    pub owner: u32,
    /// Whether the runtime itself ran in a user namespace that is not the host's.
    pub user_ns: OwnUserNs,
    pub cgroup: CgroupRecord,
    /// Which gabion made it: version and commit. None: an older one, which did not write it down.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_by: Option<String>,
    /// SHA-256 of each seccomp filter that was built for it: memory's, gabion's own, the profile's. Empty: none, or an older gabion made it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filters: Vec<String>,
    #[serde(deserialize_with = "from_own_state")]
    pub hardened: Hardened,
}

/// The directory was judged before a byte of this was read ([`super::StateView::open`]).
fn from_own_state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hardened, D::Error> {
    Stored::deserialize(deserializer).map(Stored::from_own_state)
}

/// What tells a `state.json` of gabion's, of any version, from that of another runtime.
#[derive(Debug, Deserialize)]
pub(super) struct Form {
    #[serde(rename = "version")]
    _version: u32,
    #[serde(rename = "id")]
    _id: ContainerId,
    #[serde(rename = "cgroup")]
    _cgroup: CgroupRecord,
    #[serde(rename = "hardened")]
    _hardened: IgnoredAny,
}

impl Record {
    pub fn new(
        id: ContainerId,
        bundle: PathBuf,
        rootfs: PathBuf,
        created: String,
        user_ns: OwnUserNs,
        cgroup: CgroupRecord,
        hardened: Hardened,
    ) -> Self {
        let owner = nix::unistd::geteuid().as_raw();
        Self {
            version: VERSION,
            id,
            bundle,
            rootfs,
            created,
            owner,
            user_ns,
            cgroup,
            made_by: Some(crate::build::MADE_BY.to_owned()),
            filters: Vec::new(),
            hardened,
        }
    }

    /// The same container under new decisions.
    #[must_use]
    pub fn with(&self, hardened: Hardened) -> Self {
        Self {
            hardened,
            ..self.clone()
        }
    }
}

/// What `start` and `delete` need of `state.json`. To read the whole of it is a fifth of what either does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Brief {
    /// The labels of the workload; None where that control is not in force.
    pub lsm: Option<LsmPlan>,
    /// Whether it has hooks of these kinds, which get to see the rest.
    pub poststart: bool,
    pub poststop: bool,
    /// How long its startContainer hooks may take; None where one of them is given no bound.
    pub start_hooks: Option<Duration>,
}

/// The bounds of hooks, summed up.
fn bound(timeouts: impl Iterator<Item = Option<i64>>) -> Option<Duration> {
    timeouts.map(|seconds| seconds.map(gabion_core::time::timeout)).sum()
}

impl From<&Record> for Brief {
    fn from(record: &Record) -> Self {
        let hardened = &record.hardened;
        let hooks = hardened.spec().hooks().as_ref();
        let any = |list: Option<&Vec<_>>| list.is_some_and(|list| !list.is_empty());
        Self {
            lsm: hardened.labels().cloned(),
            poststart: any(hooks.and_then(|h| h.poststart().as_ref())),
            poststop: any(hooks.and_then(|h| h.poststop().as_ref())),
            start_hooks: bound(
                hooks
                    .and_then(|h| h.start_container().as_ref())
                    .into_iter()
                    .flatten()
                    .map(oci_spec::runtime::Hook::timeout),
            ),
        }
    }
}

/// The same as it stands in `state.json`: what is not named here is passed over.
#[derive(Deserialize)]
pub(super) struct BriefFile {
    pub version: u32,
    pub(super) id: ContainerId,
    hardened: BriefHardened,
}

#[derive(Deserialize)]
struct BriefHardened {
    spec: BriefSpec,
    plan: BriefPlan,
}

#[derive(Deserialize)]
struct BriefSpec {
    #[serde(default)]
    hooks: Option<BriefHooks>,
}

#[derive(Default, Deserialize)]
struct BriefHooks {
    #[serde(default)]
    poststart: Option<Vec<IgnoredAny>>,
    #[serde(default)]
    poststop: Option<Vec<IgnoredAny>>,
    #[serde(default, rename = "startContainer")]
    start_container: Option<Vec<BriefHook>>,
}

#[derive(Deserialize)]
struct BriefHook {
    #[serde(default)]
    timeout: Option<i64>,
}

#[derive(Deserialize)]
struct BriefPlan {
    enforced: BTreeSet<ControlId>,
    lsm: LsmPlan,
}

impl From<BriefFile> for Brief {
    fn from(file: BriefFile) -> Self {
        let BriefHardened { spec, plan } = file.hardened;
        let hooks = spec.hooks.unwrap_or_default();
        let any = |list: Option<Vec<IgnoredAny>>| list.is_some_and(|list| !list.is_empty());
        Self {
            lsm: plan.enforced.contains(&ControlId::Lsm).then_some(plan.lsm),
            poststart: any(hooks.poststart),
            poststop: any(hooks.poststop),
            start_hooks: bound(hooks.start_container.into_iter().flatten().map(|hook| hook.timeout)),
        }
    }
}

/// OCI status (runtime-spec, runtime.md#state), with runc's `paused`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {

    use serde_json::{Value, json};

    use super::{Brief, BriefFile, Record};
    use gabion_core::control::lsm::Lsm;
    use gabion_core::testing::Case;

    fn record(hooks: Value, label: Option<&str>, enforced: bool) -> Record {
        let mut hardened = Case::new().with("/hooks", hooks).harden(&Lsm);
        hardened.parts_mut().1.lsm.selinux = label.map(str::to_owned);
        if !enforced {
            hardened.parts_mut().1.enforced.clear();
        }
        let cgroup = json!({"path": "/a", "driver": "cgroupfs", "name": "web1"});
        Record::new(
            "web1".parse().unwrap(),
            "/bundle".into(),
            "/bundle/rootfs".into(),
            String::new(),
            gabion_core::caller::OwnUserNs::Initial,
            serde_json::from_value(cgroup).unwrap(),
            hardened,
        )
    }

    /// A field that is called otherwise in the file would be a label that nobody looks at, or a hook that nobody runs.
    #[test]
    fn the_file_says_what_the_record_does() {
        let hook = json!([{"path": "/bin/true"}]);
        for hooks in [
            json!({}),
            json!({"poststart": hook}),
            json!({"poststop": hook, "poststart": []}),
            json!({"startContainer": [{"path": "/bin/true", "timeout": 3}, {"path": "/bin/true", "timeout": 4}]}),
            json!({"startContainer": [{"path": "/bin/true", "timeout": 3}, {"path": "/bin/true"}]}),
        ] {
            for (label, enforced) in [(None, true), (Some("a:b:c:s0"), true), (Some("a:b:c:s0"), false)] {
                let record = record(hooks.clone(), label, enforced);
                let brief = Brief::from(&record);
                let text = serde_json::to_vec(&record).unwrap();
                let file: BriefFile = serde_json::from_slice(&text).unwrap();
                assert_eq!(Brief::from(file), brief, "{hooks} {label:?} {enforced}");
                assert_eq!(brief.poststop, hooks["poststop"].is_array());
                assert_eq!(brief.poststart, hooks["poststart"] == hook);
                let start = hooks["startContainer"]
                    .as_array()
                    .map(|list| list[1]["timeout"].as_i64());
                let bound = match start {
                    None => Some(std::time::Duration::ZERO),
                    Some(bounded) => bounded.map(|_| std::time::Duration::from_secs(7)),
                };
                assert_eq!(brief.start_hooks, bound);
                let wanted = brief.lsm.and_then(|plan| plan.selinux);
                assert_eq!(wanted.as_deref(), label.filter(|_| enforced));
            }
        }
    }
}
