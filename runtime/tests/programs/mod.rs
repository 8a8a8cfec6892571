//! The programs under test. gabion hands commands for people over to gabionctl, which must lie beside it.

use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

#[allow(clippy::unwrap_used, reason = "a helper of tests")]
/// Gives a command of gabion; gabionctl is built beside it, once.
pub(crate) fn gabion() -> Command {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let built = Command::new(env!("CARGO"))
            .args(["build", "-q", "-p", "gabionctl"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        let beside = Path::new(env!("CARGO_BIN_EXE_gabion")).with_file_name("gabionctl");
        assert!(built.success() && beside.exists(), "{}", beside.display());
    });
    Command::new(env!("CARGO_BIN_EXE_gabion"))
}
