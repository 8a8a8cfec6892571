//! `run`: create and start in one call.

use super::create::{Launch, Prepared};
use crate::container::{self, Detach, Ended, Keep};
use gabion_common::cli::Global;
use gabion_see::audit::record::How;
use gabion_see::audit::record::{Action, Event};
use gabion_see::error::Result;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion run -b ./bundle web\n  gabion run -d -b ./bundle --pid-file /run/web.pid web\n\n\
    The exit code is the program's own; 128 and the signal's number where a signal ended it."
)]
pub(super) struct Args {
    #[command(flatten)]
    launch: Launch,
    /// Return as soon as the program runs
    #[arg(short, long)]
    detach: bool,
    /// Keep the container's state when the program has ended
    #[arg(long)]
    keep: bool,
    /// Do not adopt the container's orphans
    #[arg(long)]
    no_subreaper: bool,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        tracing::debug!(no_subreaper = self.no_subreaper, "run");
        let detach = if self.detach {
            Detach::Detached
        } else {
            Detach::Foreground
        };
        let keep = if self.keep { Keep::Keep } else { Keep::Remove };
        let Prepared {
            settings,
            options,
            hardened,
            handles,
        } = self.launch.prepare(global, Action::Run)?;
        let Ended { code, repeats } = container::run(&settings, &options, hardened, handles, detach, keep)
            .inspect_err(|error| options.audit.failed(Action::Run, error))?;
        if detach == Detach::Foreground && keep == Keep::Remove {
            options.audit.after(Event::Delete {
                how: How::Ended,
                repeats,
            });
        }
        Ok(code)
    }
}
