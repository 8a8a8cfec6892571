//! `start`.

use super::Global;
use crate::container;
use crate::error::Result;

/// Start the program of a created container
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion start web")]
pub(super) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        container::start(&global.settings(), &super::id(&self.id)?)?;
        Ok(0)
    }
}
