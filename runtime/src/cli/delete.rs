//! `delete`.

use crate::container::{self, Deleted, Force, Left};
use gabion_common::cli::{Global, log};
use gabion_see::audit::record::Event;
use gabion_see::audit::record::How;
use gabion_see::error::Result;
use gabion_see::state::StateView;

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
        let trail = super::trail(&settings, &id);
        let repeats = match (&trail, StateView::open(&settings.root, &id)) {
            (Ok(Some(trail)), Ok(dir)) => trail.repeats(&dir),
            _ => 0,
        };
        if let Deleted::Unread { damage, left } = container::delete(&settings, &id, force)? {
            log::warn(&match left {
                Left::Nothing => format!(
                    "{damage}; container {id} was found by its pid file: nothing of it is left, but its poststop hooks did not run"
                ),
                Left::Unknown => format!(
                    "{damage}; the directory was removed, and what may still run of container {id} was let be: look for a cgroup with its id"
                ),
            });
        }
        if let Ok(Some(trail)) = trail {
            let how = if force == Force::Kill {
                How::Forced
            } else {
                How::Stopped
            };
            trail.after(Event::Delete { how, repeats });
        }
        Ok(0)
    }
}
