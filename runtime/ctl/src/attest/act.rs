//! What is done about a container that differs: gabion does it, which lies beside, by its own commands, and writes it into the log.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result};
use serde::Serialize;

/// How long gabion may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What `--on-differ` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OnDiffer {
    // No doc comments here: clap would turn them into a long help.
    #[default]
    Report,
    Pause,
    Kill,
}

impl OnDiffer {
    /// The command, if anything is to be done.
    pub(crate) const fn command(self) -> Option<&'static str> {
        match self {
            Self::Report => None,
            Self::Pause => Some("pause"),
            Self::Kill => Some("kill"),
        }
    }
}

/// Pauses or kills the container: every process of it.
///
/// # Errors
/// gabion is not there, says no, or does not end in time.
pub(crate) fn act(root: &Path, id: &ContainerId, what: OnDiffer) -> Result<()> {
    let Some(command) = what.command() else { return Ok(()) };
    let own = std::env::current_exe().map_err(Error::file("find", "/proc/self/exe"))?;
    let gabion = own.with_file_name("gabion");
    let mut run = Command::new(&gabion);
    run.arg("--root").arg(root).arg(command);
    if what == OnDiffer::Kill {
        // Also who is in its cgroup and not in its pid namespace.
        run.arg("--all");
    }
    run.arg(id.as_str());
    if what == OnDiffer::Kill {
        run.arg("KILL");
    }
    let mut child = run
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(Error::file("run", &gabion))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match child.try_wait().map_err(Error::file("wait for", &gabion))? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => return Err(Error::Usage(format!("gabion {command} {id} failed: {status}"))),
            None if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().map_err(Error::file("end", &gabion))?;
                child.wait().map_err(Error::file("wait for", &gabion))?;
                return Err(Error::Usage(format!(
                    "gabion {command} {id} did not end in {PATIENCE:?}"
                )));
            }
        }
    }
}
