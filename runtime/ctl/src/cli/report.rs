//! `report`: controls beside the frameworks that people are asked about, with evidence.

use std::path::PathBuf;

use crate::attest::{self, Look, Stop};
use crate::page::Page;
use crate::report::{self, Failed, Whole};
use gabion_common::cli::output;
use gabion_common::cli::{Global, log};
use gabion_core::attest::Verdict;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result};
use gabion_see::roots;

/// One could not be looked at.
const BLIND: u8 = 1;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion report web\n  gabion report --all --format html > report.html\n  gabion report --all --format sarif > gabion.sarif\n\n\
    For each container: the Pod Security Standards (Baseline and Restricted), the CIS benchmarks and NIST SP 800-190, requirement by requirement, as far as \
    gabion's controls speak of them; and the evidence: what attest found, and the audit records of the container with their hashes.\n\n\
    Outcome: met, partly (the host has not what one of its controls needs), not applicable, not asked (only level restricted asks for it), open (could not be \
    seen), NOT IN FORCE (observed or loosened), VIOLATED (differs).\n\n\
    Exit code: as attest's, the worst of all: 0, 3 something differs, 1 one could not be looked at, 4 something is not in force or unknown."
)]
pub(super) struct Args {
    /// Containers, by id or the beginning of one
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    ids: Vec<String>,
    /// Every running container
    #[arg(long)]
    all: bool,
    /// Stop no process to compare its seccomp filters
    #[arg(long)]
    no_stop: bool,
    /// text: a page; html: a page for a browser; json: everything; sarif: SARIF 2.1.0
    #[arg(short, long, value_name = "FORMAT", default_value = "text")]
    format: Form,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Form {
    Text,
    Json,
    Sarif,
    Html,
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let settings = global.settings();
        let roots = match &global.root {
            Some(root) => vec![root.clone()],
            None => roots::all(&settings.root),
        };
        let meant = if self.all {
            attest::containers(&roots, global.root.is_some())?
        } else {
            let found = self.ids.iter().map(|id| roots::find(&roots, id));
            found.collect::<Result<Vec<(PathBuf, ContainerId)>>>()?
        };
        let mut whole = Whole::new();
        for (root, id) in meant {
            let look = Look {
                required: None,
                stop: if self.no_stop { Stop::Never } else { Stop::Allowed },
            };
            match report::of(&root, &id, look) {
                Ok(one) => whole.containers.push(one),
                Err(Error::NotRunning { .. } | Error::NotFound { .. } | Error::WrongState { .. }) => {
                    whole.not_running.push(id);
                }
                Err(error) => {
                    log::warn(&format!("{id}: {error}"));
                    let error = error.to_string();
                    whole.failed.push(Failed { id, error });
                }
            }
        }
        match self.format {
            Form::Text => output::print(&report::text::render(&whole, Page::of_stdout()))?,
            Form::Json => output::print_json(&whole)?,
            Form::Sarif => output::print_json(&report::sarif::render(&whole))?,
            Form::Html => output::print(&report::html::render(&whole))?,
        }
        // Who names a container that does not run asked for what is not there.
        let absent = !self.all && !whole.not_running.is_empty();
        Ok(code(&whole, absent))
    }
}

fn code(whole: &Whole, absent: bool) -> u8 {
    let worst = whole.containers.iter().map(|one| one.attest.verdict).max();
    match worst.unwrap_or(Verdict::Holds) {
        Verdict::Differs => Verdict::Differs.code(),
        _ if absent || !whole.failed.is_empty() => BLIND,
        other => other.code(),
    }
}
