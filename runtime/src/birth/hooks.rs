//! Hooks, run by libcontainer's code (runtime-spec, config.md#posix-platform-hooks).

use std::path::PathBuf;
use std::time::Duration;

use libcontainer::container::{ContainerStatus, State};
use nix::unistd::Pid;
use oci_spec::runtime::Hook;

use gabion_see::error::{Error, Result, Step};
use gabion_see::state::Record;

/// The state that a hook reads on stdin.
pub(crate) fn state_for(record: &Record, status: ContainerStatus, pid: Option<i32>) -> State {
    State {
        oci_version: record.hardened.spec().version().clone(),
        id: record.id.to_string(),
        status,
        pid,
        bundle: record.bundle.clone(),
        annotations: record.hardened.spec().annotations().clone(),
        created: None,
        creator: Some(record.owner),
        use_systemd: false,
        clean_up_intel_rdt_subdirectory: None,
        intel_rdt_dir: None::<PathBuf>,
        intel_rdt_monitoring_dir: None,
    }
}

/// How long hooks may take at most; None where one of them is given no bound.
pub(crate) fn patience(hooks: Option<&Vec<Hook>>) -> Option<Duration> {
    hooks
        .into_iter()
        .flatten()
        .map(|hook| Some(Duration::from_secs(u64::try_from(hook.timeout()?).unwrap_or(0))))
        .sum()
}

/// Runs hooks in their order; the first that fails ends it.
pub(crate) fn run(hooks: Option<&Vec<Hook>>, state: Option<&State>, pid: Option<i32>) -> Result<()> {
    if hooks.is_none_or(Vec::is_empty) {
        return Ok(());
    }
    libcontainer::hooks::run_hooks(hooks, state, None, pid.map(Pid::from_raw), None)
        .map_err(|e| Error::failed(Step::Hooks, e.to_string()))
}
