//! The binary: the library's answer as an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    match containerd_shim_gabion::run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // containerd shows this to its user: one line.
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
