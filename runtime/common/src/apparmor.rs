//! Loading the bundled AppArmor profile: `apparmor_parser` compiles it for this kernel.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use gabion_core::control::lsm::DEFAULT_PROFILE;
use gabion_see::apparmor::{LOADED, PROFILE, enforced, parser};
use gabion_see::error::{Error, Result};

/// Puts the bundled profile in force, in the place of one of its name; then looks that it is.
///
/// # Errors
/// There is no `apparmor_parser`, it fails, or the kernel does not list the profile afterwards.
pub fn load() -> Result<()> {
    let Some(parser) = parser() else {
        let why = "there is no apparmor_parser in /usr/sbin or /sbin that is root's alone to write";
        return Err(not_loaded(
            why.to_owned(),
            "install your distribution's package apparmor",
        ));
    };
    let (code, said) = compile(parser).map_err(Error::file("run", parser))?;
    if code != Some(0) {
        let said = said.lines().last().unwrap_or_default();
        let why = format!("{} does not load {DEFAULT_PROFILE}: {said}", parser.display());
        return Err(not_loaded(why, "load it as root, on a kernel with AppArmor on"));
    }
    let list = fs::read_to_string(LOADED).map_err(Error::file("read", LOADED))?;
    if enforced(&list).any(|name| name == DEFAULT_PROFILE) {
        return Ok(());
    }
    let why = format!("{DEFAULT_PROFILE} was loaded, and the kernel does not list it as enforced");
    Err(not_loaded(why, "see what loads another one of its name"))
}

/// Hands the profile over on stdin. The compiler's cache is left alone: it is by file name, and there is none.
fn compile(parser: &Path) -> std::io::Result<(Option<i32>, String)> {
    let mut child = Command::new(parser)
        .args(["--replace", "--skip-cache", "--quiet"])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(PROFILE.as_bytes()) {
            // It ended without reading: its exit code and its words tell why.
            Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    let done = child.wait_with_output()?;
    Ok((done.status.code(), String::from_utf8_lossy(&done.stderr).into_owned()))
}

fn not_loaded(what: String, remedy: &str) -> Error {
    Error::RefusedCall {
        code: "lsm.profile-not-loaded",
        what,
        remedy: remedy.to_owned(),
    }
}
