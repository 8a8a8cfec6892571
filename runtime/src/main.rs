//! gabion's binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(gabion::cli::main(std::env::args_os()))
}
