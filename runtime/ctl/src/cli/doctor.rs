//! `doctor`: what of this node weakens every container on it.

use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::path::PathBuf;

use gabion_common::cli::output::{self, Format, clean};
use gabion_core::doctor::State;
use gabion_see::error::Result;

use crate::doctor::{self, Report};
use crate::page;

/// A line is weak; 1 is «could not look».
const WEAK: u8 = 3;
/// No line is weak, and one is unknown.
const UNKNOWN: u8 = 4;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion doctor\n  gabion doctor --format json\n  gabion doctor --node /host     in a pod that has the node's root at /host\n\n\
    Each line is one of: good; weak (every container has less than it could have); advice (gabion holds this by itself in the\n\
    containers that it hardens, and the node's own setting would be a second wall); unknown (it could not be looked at);\n\
    absent (the node has nothing of the kind).\n\n\
    Exit code: 0 no line is weak or unknown, 3 one is weak, 4 none is weak and one is unknown, 1 it could not be looked at."
)]
pub(super) struct Args {
    /// The root directory of the machine to look at
    #[arg(long, value_name = "DIR", default_value = "/")]
    node: PathBuf,
    /// table or json
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    format: Format,
}

impl Args {
    pub(super) fn run(self) -> Result<u8> {
        let report = doctor::examine(&self.node)?;
        match self.format {
            Format::Json => output::print_json(&report)?,
            Format::Table => output::print(&table(&report, width()))?,
        }
        Ok(match report.state {
            State::Weak => WEAK,
            State::Unknown => UNKNOWN,
            State::Absent | State::Good | State::Advice => 0,
        })
    }
}

/// The terminal's width; what is read by a program has long lines.
fn width() -> usize {
    let out = std::io::stdout();
    if !out.is_terminal() {
        return usize::MAX;
    }
    let columns = gabion_sys::window_size(out.as_fd()).map_or(80, |(_, columns)| columns);
    usize::from(columns)
}

/// Widths of the first two columns: `containerd-annotations`, `unknown`.
const ID: usize = 24;
const STATE: usize = 9;

fn table(report: &Report, width: usize) -> String {
    let mut text = String::new();
    for line in &report.lines {
        for (word, width) in [(line.id, ID), (line.state.as_str(), STATE)] {
            text.push_str(word);
            text.push_str(&" ".repeat(width.saturating_sub(word.len())));
        }
        fill(&mut text, &line.observed, width);
        if let Some(remedy) = &line.remedy {
            for (what, words) in [
                ("why: ", line.reason),
                ("refs: ", &line.refs.join("; ")),
                ("remedy: ", remedy),
            ] {
                text.push_str(&" ".repeat(ID + STATE));
                fill(&mut text, &format!("{what}{words}"), width);
            }
        }
    }
    text.push_str(&summary(report));
    text
}

fn summary(report: &Report) -> String {
    let count = |state: State| report.lines.iter().filter(|line| line.state == state).count();
    format!(
        "{}: {} weak, {} unknown, {} advice, {} good, {} absent\n",
        clean(&report.node),
        count(State::Weak),
        count(State::Unknown),
        count(State::Advice),
        count(State::Good),
        count(State::Absent)
    )
}

/// Words from the third column on, wrapped below it. What stands in files of the node is no escape for a terminal.
fn fill(text: &mut String, words: &str, width: usize) {
    page::fill(text, ID + STATE, words, width);
}

#[cfg(test)]
mod tests {
    use super::*;
    use gabion_core::doctor::Line;

    fn line(state: State, observed: &str, remedy: Option<&str>) -> Line {
        Line {
            id: "core-pattern",
            state,
            observed: observed.to_owned(),
            reason: "a reason",
            refs: &["core(5)"],
            remedy: remedy.map(str::to_owned),
        }
    }

    #[test]
    fn what_is_good_takes_a_line_and_what_is_weak_says_what_to_do() {
        let report = Report {
            node: "n\u{1b}[31m".to_owned(),
            time: String::new(),
            gabion: "0",
            state: State::Weak,
            lines: vec![
                line(State::Good, "a file: core", None),
                line(State::Weak, "a handler: |/bin/x\u{1b}[31m", Some("mend it")),
            ],
        };
        let pad = " ".repeat(ID + STATE);
        assert_eq!(
            table(&report, usize::MAX),
            format!(
                "core-pattern            good     a file: core\n\
                 core-pattern            weak     a handler: |/bin/x\\u{{1b}}[31m\n\
                 {pad}why: a reason\n{pad}refs: core(5)\n{pad}remedy: mend it\n\
                 n\\u{{1b}}[31m: 1 weak, 0 unknown, 0 advice, 1 good, 0 absent\n"
            )
        );
        assert!(table(&report, 60).lines().all(|line| line.chars().count() <= 60));
    }
}
