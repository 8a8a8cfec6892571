//! `pause` and `resume`.

use crate::container::{self, Settings};
use gabion_common::cli::Global;
use gabion_core::request::ContainerId;
use gabion_see::audit::record::Event;
use gabion_see::error::Result;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion pause web")]
pub(super) struct PauseArgs {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  gabion resume web")]
pub(super) struct ResumeArgs {
    /// The container's id
    #[arg(value_name = "ID")]
    id: String,
}

/// After the fact: neither makes anything run that did not, so neither depends on a log.
fn record(settings: &Settings, id: &ContainerId, event: Event) -> Result<u8> {
    if let Some(trail) = super::trail(settings, id)? {
        trail.after(event);
    }
    Ok(0)
}

impl PauseArgs {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let (settings, id) = (global.settings(), super::id(&self.id)?);
        container::pause(&settings, &id)?;
        record(&settings, &id, Event::Pause {})
    }
}

impl ResumeArgs {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let (settings, id) = (global.settings(), super::id(&self.id)?);
        container::resume(&settings, &id)?;
        record(&settings, &id, Event::Resume {})
    }
}
