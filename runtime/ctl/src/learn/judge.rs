//! The highest level at which a program runs with its outcome, as far as the spec tells: `check`, asked of a spec in which the outcome stands.

use std::path::Path;

use gabion_common::cli::Settings;
use gabion_core::decision::Mode;
use gabion_core::harden::harden;
use gabion_core::learn::Loosening;
use gabion_core::policy::{Level, Policy};
use gabion_core::request::{ContainerId, Request};
use gabion_see::error::Result;
use gabion_see::policy::Loaded;
use gabion_see::survey::survey;
use serde::Serialize;
use serde_json::Value;

/// What a level says to it.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Verdict {
    pub(crate) level: Level,
    /// Codes with their words; none where it would run.
    pub(crate) refused: Vec<Refused>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Refused {
    pub(crate) code: String,
    pub(crate) why: String,
}

/// Judges a bundle's config.json with the outcome in it, at both levels.
///
/// # Errors
/// The spec cannot be read with it.
pub(crate) fn levels(
    id: &ContainerId,
    bundle: &Path,
    config: &Value,
    needs: &Loosening,
    loaded: &Loaded,
    settings: &Settings,
) -> Result<Vec<Verdict>> {
    let mut config = config.clone();
    super::run::apply(&mut config, needs);
    if let Some(all) = config["annotations"].as_object_mut() {
        all.remove("dev.gabion.level");
    }
    // Its place is another container's, where the bundle was made for one.
    if let Some(linux) = config["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
    }
    let text = config.to_string();
    let request = Request::parse(
        id.clone(),
        bundle.to_owned(),
        text.as_bytes(),
        &bundle.join("config.json"),
    )?;
    let mut found = Vec::new();
    for level in [Level::Restricted, Level::Hardened] {
        let mut loaded = loaded.clone();
        loaded.policy.level = level;
        allow(&mut loaded.policy, needs);
        let host = survey(&request, &loaded, &settings.root, settings.cgroup_driver);
        let effective = loaded.policy.effective(&request, &host, &loaded.digest);
        let refused = match harden(&request, &effective, &host) {
            Ok(_) => Vec::new(),
            Err(denial) => denial
                .refusals()
                .map(|change| Refused {
                    code: change.code.clone().unwrap_or_default(),
                    why: change.reason.clone(),
                })
                .collect(),
        };
        found.push(Verdict { level, refused });
    }
    Ok(found)
}

/// Adds the outcome's keys to a policy.
pub(crate) fn allow(policy: &mut Policy, needs: &Loosening) {
    let exec = needs.volumes.iter().filter(|volume| volume.exec && volume.mounted);
    policy.mounts.exec_paths.extend(exec.map(|volume| volume.path.clone()));
    policy
        .capabilities
        .allow
        .extend(needs.capabilities.iter().map(|name| format!("CAP_{name}")));
    policy.seccomp.allow.extend(needs.seccomp.iter().copied());
    policy.seccomp.sockets.extend(needs.sockets.iter().copied());
    if needs.memfd {
        policy.sysctl.memfd_noexec = Mode::Observe;
    }
    if needs.jit && policy.level == Level::Restricted {
        policy.memory.mdwe = Some(Mode::Observe);
    }
}
