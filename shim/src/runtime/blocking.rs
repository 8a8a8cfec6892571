//! Running the runtime without a reactor, for the commands of the shim that do one thing and end.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::{LIMIT, Runtime};
use crate::error::{Error, Result};
use crate::options::Options;
use crate::pipe::{OUTPUT_LIMIT, read_in_time};

impl Runtime {
    /// `delete --force`, for the shim's own `delete` command.
    pub fn delete_blocking(&self, id: &str) -> Result<()> {
        const VERB: &str = "delete";
        self.forget_log()?;
        let failed = |error| Error::at("running", &self.binary, error);
        let mut command = self.command(VERB, &["--force".into(), id.into()], [None, None, None]);
        let mut child = command.spawn().map_err(failed)?;
        let status = wait(&mut child, Instant::now() + LIMIT).map_err(failed)?;
        let status = status.ok_or(Error::RuntimeTimeout { verb: VERB })?;
        let code = status.code().and_then(|code| u32::try_from(code).ok());
        self.judge(VERB, code.unwrap_or(255))
    }
}

/// What `features` of the runtime prints, for `-info`.
pub fn features(options: &Options) -> Result<Vec<u8>> {
    features_within(LIMIT, &options.runtime()?)
}

fn features_within(limit: Duration, binary: &Path) -> Result<Vec<u8>> {
    const VERB: &str = "features";
    let failed = |error| Error::at("running", binary, error);
    let mut command = Command::new(binary);
    command.arg(VERB).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(failed)?;
    let end = Instant::now() + limit;
    let text = match child.stdout.take() {
        Some(out) => read_in_time(out.as_fd(), OUTPUT_LIMIT, end),
        None => Ok(Vec::new()),
    };
    // Also where reading has failed: it is not left running.
    let status = wait(&mut child, end).map_err(failed)?;
    match status.ok_or(Error::RuntimeTimeout { verb: VERB })? {
        status if status.success() => text.map_err(failed),
        status => Err(Error::RuntimeSilent {
            verb: VERB,
            status: status.code().and_then(|code| u32::try_from(code).ok()).unwrap_or(255),
        }),
    }
}

/// Waits for a child until `end`; then it is killed, and there is no status.
fn wait(child: &mut Child, end: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_runtime_that_hangs_is_killed() {
        let _turn = crate::exits::TURN.lock();
        let script = std::env::temp_dir().join(format!("gabion-shim-hangs-{}", std::process::id()));
        let pid = script.with_extension("pid");
        std::fs::write(
            &script,
            format!("#!/bin/sh\necho $$ > {}\nexec sleep 1000\n", pid.display()),
        )
        .unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let began = Instant::now();
        let result = loop {
            // Another test that is just forking may hold the script open for writing.
            match features_within(Duration::from_secs(1), &script) {
                Err(Error::System { source, .. }) if source.kind() == io::ErrorKind::ExecutableFileBusy => {}
                result => break result,
            }
        };
        assert!(
            matches!(result, Err(Error::RuntimeTimeout { verb: "features" })),
            "{result:?}"
        );
        assert!(began.elapsed() < Duration::from_secs(20));
        let number = std::fs::read_to_string(&pid).unwrap();
        assert!(
            !Path::new("/proc").join(number.trim()).exists(),
            "it is killed and reaped"
        );
        for file in [script, pid] {
            std::fs::remove_file(file).unwrap();
        }
    }
}
