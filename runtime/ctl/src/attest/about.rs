//! Of what a report speaks: which container, under which policy, made and looked at by which gabion, where and when.

use std::path::{Path, PathBuf};

use gabion_common::audit::Trail;
use gabion_core::named::Named;
use gabion_core::policy::Level;
use gabion_core::request::Caller;
use gabion_core::time::rfc3339;
use gabion_see::audit::record::Pod;
use gabion_see::named::Names;
use gabion_see::state::Record;
use gabion_see::{build, clock, small};
use serde::Serialize;

/// What stands above a report's rows.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct About {
    pub(crate) level: Level,
    /// SHA-256 of the policy that governed create.
    pub(crate) policy: String,
    /// The reasons of the exceptions that apply.
    pub(crate) exceptions: Vec<String>,
    /// Who seems to have written config.json.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) caller: Option<Caller>,
    /// The pod, where the policy's `cri` vouched for its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) pod: Option<Pod>,
    /// What its engine calls it, and the image: the engine's word, by which nothing is decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) named: Option<Named>,
    /// The root that its state lies below.
    pub(crate) root: PathBuf,
    pub(crate) created: String,
    /// The gabion that made it: version and commit.
    pub(crate) made_by: String,
    /// The gabion that looked.
    pub(crate) attested_by: &'static str,
    pub(crate) host: String,
    pub(crate) kernel: String,
    /// /proc/sys/kernel/random/boot_id.
    pub(crate) boot: String,
    /// When it was looked at.
    pub(crate) time: String,
}

impl About {
    pub(super) fn of(record: &Record, trail: Option<&Trail>, root: &Path) -> Self {
        let hardened = &record.hardened;
        let machine = nix::sys::utsname::uname().ok();
        let word = |of: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
            machine
                .as_ref()
                .map(|m| of(m).to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        let exceptions = &hardened.plan().exceptions;
        Self {
            level: hardened.level(),
            policy: hardened.policy_digest().to_owned(),
            // An older gabion wrote them down for the log alone.
            exceptions: match trail {
                Some(trail) if exceptions.is_empty() => trail.subject.exceptions.clone(),
                _ => exceptions.clone(),
            },
            caller: trail.map(|trail| trail.subject.caller),
            pod: trail.and_then(|trail| trail.subject.pod.clone()),
            named: Names::default().of_record(record),
            root: root.to_owned(),
            created: record.created.clone(),
            made_by: record.made_by.clone().unwrap_or_else(|| "an older gabion".to_owned()),
            attested_by: build::MADE_BY,
            host: word(nix::sys::utsname::UtsName::nodename),
            kernel: word(nix::sys::utsname::UtsName::release),
            boot: small::read("/proc/sys/kernel/random/boot_id")
                .unwrap_or_default()
                .trim()
                .to_owned(),
            time: rfc3339(clock::now()),
        }
    }
}
