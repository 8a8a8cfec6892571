//! `start`.

use crate::container;
use gabion_common::cli::Global;
use gabion_see::audit::record::{Action, Event};
use gabion_see::error::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion start web")]
pub(super) struct Args {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let (settings, id) = (global.settings(), super::id(&self.id)?);
        let Some(trail) = super::trail(&settings, &id)? else {
            // Nothing of this name, or nothing that create finished: its error says which.
            return container::start(&settings, &id).map(|()| 0);
        };
        trail.before(&[Event::Start {}])?;
        container::start(&settings, &id).inspect_err(|error| trail.failed(Action::Start, error))?;
        Ok(0)
    }
}
