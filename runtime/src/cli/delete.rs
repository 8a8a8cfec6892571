//! `delete`.

use super::Global;
use crate::container::{self, Force};
use crate::error::Result;

/// Delete a stopped container and what it held
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion delete web\n  gabion delete --force web   (kills it first; 0 where it is already gone)"
)]
pub(super) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
    /// Kill it first, where it still runs
    #[arg(short, long)]
    force: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let force = if self.force { Force::Kill } else { Force::Refuse };
        container::delete(&global.settings(), &super::id(&self.id)?, force)?;
        Ok(0)
    }
}
