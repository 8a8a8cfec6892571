//! What gabion leaves out, by design.

use gabion_see::error::Error;

#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[arg(hide = true, trailing_var_arg = true, allow_hyphen_values = true)]
    _any: Vec<String>,
}

const WHY: &str = "a restored process comes back with what it was dumped with and passes no control";

pub(super) fn checkpoint() -> Error {
    Error::NotSupported {
        what: "checkpoint",
        why: WHY,
    }
}

pub(super) fn restore() -> Error {
    Error::NotSupported {
        what: "restore",
        why: WHY,
    }
}
