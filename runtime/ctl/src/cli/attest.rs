//! `attest`: what the kernel shows of a running container, beside what was decided for it.

use std::path::PathBuf;

use serde::Serialize;

use crate::attest::{self, Look, OnDiffer, Report, Stop};
use crate::page::Page;
use gabion_common::cli::output::{self, Format};
use gabion_common::cli::{Global, log};
use gabion_core::attest::{State, Verdict};
use gabion_core::policy::Level;
use gabion_core::request::ContainerId;
use gabion_see::error::{Error, Result};
use gabion_see::roots;

/// Could not look, at one or at all.
const BLIND: u8 = 1;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion attest web\n  gabion attest --require hardened 3f9a\n  gabion attest --all --format json\n  gabion attest --all --on-differ pause\n\n\
    A row for each control: holds (read now), held (verified before the program ran; the kernel does not show it afterwards), \
    no rule (nothing to do here), not available (this host has it not), loosened, observed (not in force), unknown, DIFFERS.\n\n\
    Exit code: 0 every control is in force and as decided (the first four words), 3 something differs, 4 something is loosened, \
    observed or unknown, or the level is lower than --require, 1 it could not be looked at. Of --all the worst counts: 3, then 1, then 4.\n\n\
    Without --root, containerd's, Docker's, the system's and the user's roots are searched."
)]
pub(super) struct Args {
    /// The container's id, the name that its engine gave it, or the beginning of its id
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    id: Option<String>,
    /// Every running container
    #[arg(long)]
    all: bool,
    /// The lowest level that is good enough: hardened or restricted
    #[arg(long, value_name = "LEVEL", value_parser = required_level)]
    require: Option<Level>,
    /// What to do about a container that differs: report, pause or kill; written into its audit log
    #[arg(long, value_name = "WHAT", default_value = "report")]
    on_differ: OnDiffer,
    /// Stop no process to compare its seccomp filters
    #[arg(long)]
    no_stop: bool,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

fn required_level(text: &str) -> std::result::Result<Level, String> {
    match text {
        "hardened" => Ok(Level::Hardened),
        "restricted" => Ok(Level::Restricted),
        _ => Err("use hardened or restricted".to_owned()),
    }
}

impl Args {
    pub(super) fn run(self, global: &Global) -> Result<u8> {
        let settings = global.settings();
        let roots = match &global.root {
            Some(root) => vec![root.clone()],
            None => roots::all(&settings.root),
        };
        let Some(id) = &self.id else {
            return self.all(&roots, global.root.is_some());
        };
        let (root, id) = roots::find(&roots, id)?;
        let report = attest::attest_and(&root, &id, self.look(), self.on_differ)?;
        match self.format {
            Format::Json => output::print_json(&report)?,
            Format::Table => output::print(&table(&report, Page::of_stdout()))?,
        }
        Ok(report.verdict.code())
    }

    const fn look(&self) -> Look {
        Look {
            required: self.require,
            stop: if self.no_stop { Stop::Never } else { Stop::Allowed },
        }
    }

    /// Every container that runs. One that cannot be looked at does not hide the others.
    fn all(&self, roots: &[PathBuf], named: bool) -> Result<u8> {
        let (mut every, mut text) = (Every::default(), String::new());
        let page = Page::of_stdout();
        for (root, id) in attest::containers(roots, named)? {
            match attest::attest_and(&root, &id, self.look(), self.on_differ) {
                Ok(report) => {
                    text.push_str(&table(&report, page));
                    text.push('\n');
                    every.containers.push(report);
                }
                // It has not begun, or has ended: there is nothing to look at.
                Err(Error::NotRunning { .. } | Error::NotFound { .. }) => every.not_running.push(id),
                Err(Error::WrongState { .. }) => every.not_running.push(id),
                Err(error) => {
                    log::warn(&format!("{id}: {error}"));
                    every.failed.push(Failed {
                        id,
                        error: error.to_string(),
                    });
                }
            }
        }
        match self.format {
            Format::Json => output::print_json(&every)?,
            Format::Table => output::print(&(text + &every.summary()))?,
        }
        Ok(every.code())
    }
}

/// What `--all` gives.
#[derive(Debug, Default, Serialize)]
struct Every {
    containers: Vec<Report>,
    not_running: Vec<ContainerId>,
    failed: Vec<Failed>,
}

/// A container that could not be looked at.
#[derive(Debug, Serialize)]
struct Failed {
    id: ContainerId,
    error: String,
}

impl Every {
    fn code(&self) -> u8 {
        let worst = self.containers.iter().map(|report| report.verdict).max();
        match worst.unwrap_or(Verdict::Holds) {
            Verdict::Differs => Verdict::Differs.code(),
            _ if !self.failed.is_empty() => BLIND,
            other => other.code(),
        }
    }

    fn summary(&self) -> String {
        let count = |verdict| {
            self.containers
                .iter()
                .filter(|report| report.verdict == verdict)
                .count()
        };
        format!(
            "{} running: {} hold, {} differ, {} incomplete; {} not running, {} could not be looked at\n",
            self.containers.len(),
            count(Verdict::Holds),
            count(Verdict::Differs),
            count(Verdict::Incomplete),
            self.not_running.len(),
            self.failed.len()
        )
    }
}

/// Widths of the first two columns: `capabilities`, `not available`.
const CONTROL: usize = 14;
const STATE: usize = 15;

fn table(report: &Report, page: Page) -> String {
    let mut text = heading(report, page);
    text.push_str(&format!("\n{:CONTROL$}{:STATE$}WHAT WAS FOUND\n", "CONTROL", "STATE"));
    for row in &report.controls {
        text.push_str(&format!("{:CONTROL$}", row.control.as_str()));
        text.push_str(&page.paint(row.state.word(), colour(row.state), STATE));
        let good = report.facts.iter().map(|f| &f.fact);
        let good = good.filter(|f| f.control == row.control && f.holds == gabion_core::fact::Holds::Yes);
        let good: Vec<&str> = good.map(|f| f.expected.as_str()).collect();
        let mut lines = row.why.clone();
        if !good.is_empty() {
            lines.push(good.join("; "));
        }
        lines.push(format!("[{}]", row.refs.join(", ")));
        for (index, line) in lines.iter().enumerate() {
            if index > 0 {
                text.push_str(&" ".repeat(CONTROL + STATE));
            }
            page.fill(&mut text, CONTROL + STATE, line);
        }
    }
    text.push('\n');
    page.fill(&mut text, 0, &summary(report));
    if let Some(done) = &report.act {
        let what = done.what.command().unwrap_or_default();
        let outcome = match &done.error {
            None => format!("{}: {what} was done", report.id),
            Some(error) => format!("{}: {what} FAILED: {error}", report.id),
        };
        page.fill(&mut text, 0, &outcome);
    }
    text
}

/// Which container, made and looked at by whom.
fn heading(report: &Report, page: Page) -> String {
    let mut text = String::new();
    for (name, value) in report.heading() {
        text.push_str(&format!("{name:CONTROL$}"));
        page.fill(&mut text, CONTROL, &value);
    }
    text
}

const fn colour(state: State) -> &'static str {
    match state {
        State::Holds | State::Held => "32",
        State::NoRule => "2",
        State::NotAvailable | State::Loosened | State::Observed | State::Unknown => "33",
        State::Differs => "1;31",
    }
}

fn summary(report: &Report) -> String {
    let verdict = match report.verdict {
        Verdict::Holds => "holds",
        Verdict::Differs => "DIFFERS from what was decided",
        Verdict::Incomplete => "INCOMPLETE: not everything is in force, or could be seen",
    };
    let counts = State::ALL.into_iter().map(|state| (report.count(state), state.word()));
    let counts: Vec<String> = counts
        .filter(|(n, _)| *n > 0)
        .map(|(n, word)| format!("{n} {word}"))
        .collect();
    let processes = match report.processes.len() {
        1 => "1 process".to_owned(),
        many => format!("{many} processes"),
    };
    format!(
        "{}: {verdict} ({processes}; {} controls: {})",
        report.id,
        report.controls.len(),
        counts.join(", ")
    )
}
