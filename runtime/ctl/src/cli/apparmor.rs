//! `apparmor`: the bundled profile, loaded or shown.

use gabion_common::apparmor;
use gabion_common::cli::output;
use gabion_see::apparmor::PROFILE;
use gabion_see::error::Result;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion apparmor load\n  gabion apparmor show >/etc/apparmor.d/gabion-default    # loaded at each boot\n\n\
    Root's first container loads it where it is not; containers of users need it to be there."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Compile gabion-default and put it in force, in the place of one of its name
    Load,
    /// Print gabion-default, with the reason for each of its rules
    Show,
}

impl Args {
    pub(super) fn run(self) -> Result<u8> {
        match self.command {
            Command::Load => apparmor::load()?,
            Command::Show => output::print(PROFILE)?,
        }
        Ok(0)
    }
}
