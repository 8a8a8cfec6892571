//! The head as it is told to other logs, and found in them again.

use std::path::Path;

use gabion_core::printable::one_line;

use super::head::is_hash;
use super::verify::Head;

/// Under which name it is told.
pub const NAME: &str = "gabion";

const BEGIN: &str = "audit seq ";

/// Gives the words for a head: one line, whatever the log's path is.
#[must_use]
pub fn render(log: &Path, head: &Head) -> String {
    format!("{BEGIN}{} head {} log {}", head.seq, head.hash, shown(log))
}

fn shown(log: &Path) -> String {
    one_line(&log.to_string_lossy())
}

/// Finds a head of this log in a line of another log, whatever stands around it.
#[must_use]
pub fn parse(line: &str, log: &Path) -> Option<Head> {
    let (_, rest) = line.split_once(BEGIN)?;
    let (seq, rest) = rest.split_once(" head ")?;
    let (hash, rest) = rest.split_once(" log ")?;
    let after = rest.strip_prefix(shown(log).as_str())?;
    // The kernel puts a quote behind it.
    let ends = after.trim_end().is_empty() || after.starts_with('\'');
    (ends && is_hash(hash)).then_some(Head {
        seq: seq.parse().ok()?,
        hash: hash.to_owned(),
    })
}
