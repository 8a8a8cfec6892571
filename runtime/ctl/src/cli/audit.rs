//! `audit`: whether the chain of records holds, and its newest hash.

use std::path::PathBuf;

use gabion_common::cli::{Global, output};
use gabion_see::audit::place::{self, Trouble};
use gabion_see::audit::verify;
use gabion_see::caller::reader;
use gabion_see::error::{Error, Result};

/// A record is not what was written; 1 is «could not look».
const BROKEN: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion audit verify\n  gabion audit verify ./copy.jsonl --head 9f86d0…\n  \
    gabion audit head >> /mnt/elsewhere/heads\n\n\
    Exit code of verify: 0 every record holds, 3 one does not, 1 it could not be looked at."
)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Follow the chain from record to record and name the first that does not hold
    Verify {
        /// The log [default: the policy's]; files that rotation put beside it belong to it
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
        /// A hash that `audit head` printed once: this record must still be there
        #[arg(long, value_name = "HASH")]
        head: Option<String>,
    },
    /// Print the newest record's hash and number, to be kept off this machine
    Head {
        /// The log [default: the policy's]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        match self.command {
            Command::Verify { file, head } => {
                let file = which(file, global)?;
                let (text, code) =
                    match verify::verify(&file, head.as_deref()).map_err(|trouble| not_verified(&trouble))? {
                        Ok(whole) => (holds(&whole), 0),
                        Err(fault) => (format!("BROKEN {fault}\n"), BROKEN),
                    };
                output::print(&text)?;
                Ok(code)
            }
            Command::Head { file } => {
                let file = which(file, global)?;
                let head = verify::head(&file).map_err(|trouble| not_verified(&trouble))?;
                let head = head.ok_or_else(|| Error::Usage(format!("{} holds no record", file.display())))?;
                output::print(&format!("{} {}\n", head.hash, head.seq))?;
                Ok(0)
            }
        }
    }
}

fn which(file: Option<PathBuf>, global: &Global) -> Result<PathBuf> {
    match file {
        Some(file) => Ok(file),
        None => place::file(&global.policy()?.policy.audit, reader())
            .ok_or_else(|| Error::Usage("there is no default log: neither XDG_STATE_HOME nor HOME is set".to_owned())),
    }
}

fn not_verified(trouble: &Trouble) -> Error {
    Error::Usage(trouble.to_string())
}

fn holds(whole: &verify::Whole) -> String {
    let mut lines: Vec<String> = whole.notes.iter().map(|note| format!("note: {note}")).collect();
    if let Some(seq) = whole.anchor {
        lines.push(format!("anchored: record {seq} is the one with that hash"));
    }
    lines.push(match &whole.head {
        Some(head) => {
            let first = whole.first.unwrap_or(head.seq);
            format!(
                "holds: {} records, {first} to {}; head {}",
                whole.records, head.seq, head.hash
            )
        }
        None => "holds: no records".to_owned(),
    });
    lines.join("\n") + "\n"
}
