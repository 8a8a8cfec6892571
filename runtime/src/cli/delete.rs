//! `delete`.

use super::Global;
use crate::audit::record::How;
use crate::audit::{Event, Trail};
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
        let (settings, id) = (global.settings(), super::id(&self.id)?);
        // It goes with the state. Deleting never depends on a log.
        let trail = Trail::load(&settings.root, &id);
        container::delete(&settings, &id, force)?;
        if let Ok(Some(trail)) = trail {
            let how = if force == Force::Kill {
                How::Forced
            } else {
                How::Stopped
            };
            trail.after(Event::Delete { how });
        }
        Ok(0)
    }
}
