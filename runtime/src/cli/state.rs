//! `state`.

use crate::container;
use gabion_common::cli::{Global, output};
use gabion_see::error::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion state web")]
pub(super) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        output::print_json(&container::state(&global.settings(), &super::id(&self.id)?)?)?;
        Ok(0)
    }
}
