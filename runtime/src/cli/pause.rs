//! `pause` and `resume`.

use super::Global;
use crate::container;
use crate::error::Result;

/// Stop every process of a container where it is
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion pause web")]
pub(super) struct PauseArgs {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

/// Let a paused container go on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion resume web")]
pub(super) struct ResumeArgs {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl PauseArgs {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        container::pause(&global.settings(), &super::id(&self.id)?)?;
        Ok(0)
    }
}

impl ResumeArgs {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        container::resume(&global.settings(), &super::id(&self.id)?)?;
        Ok(0)
    }
}
