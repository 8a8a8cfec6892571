//! Printing on stdout.

use std::io::{self, Write};

use gabion_core::printable::printable;
use gabion_see::error::{Error, Result};

/// What `--format` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    // No doc comments here: clap would turn them into a long help.
    Table,
    Json,
}

/// Writes text to stdout. A reader that has gone away (`gabion list | head -1`) has seen enough.
pub fn print(text: &str) -> Result<()> {
    match print_or_gone(text) {
        Err(Error::File { source, .. }) if source.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// The same, for whoever goes on writing: a reader that has gone away is an error.
pub fn print_or_gone(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::file("write to", "stdout"))
}

/// Pretty JSON, with a line's end.
pub fn print_json<T: serde::Serialize>(value: &T) -> Result<()> {
    print_text(serde_json::to_string_pretty(value))
}

/// As runc writes what other programs read.
pub fn print_line_of_json<T: serde::Serialize>(value: &T) -> Result<()> {
    print_text(serde_json::to_string(value))
}

fn print_text(json: serde_json::Result<String>) -> Result<()> {
    let text = json.map_err(|error| Error::File {
        doing: "write as JSON to",
        path: "stdout".into(),
        source: error.into(),
    })?;
    print(&(text + "\n"))
}

/// Rows as columns, each as wide as its widest cell (runc's: at least 12, three apart).
pub fn columns(rows: &[Vec<String>]) -> String {
    // A line's end would forge a row.
    let rows: Vec<Vec<String>> = rows
        .iter()
        .map(|row| row.iter().map(|cell| clean(&cell.replace('\n', " "))).collect())
        .collect();
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..count)
        .map(|i| {
            rows.iter()
                .filter_map(|r| r.get(i))
                .map(|c| c.chars().count())
                .max()
                .unwrap_or(0)
        })
        .map(|width| width.max(9) + 3)
        .collect();
    let mut text = String::new();
    for row in &rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<String>().trim_end());
        text.push('\n');
    }
    text
}

/// Paths and names may be a container's own words: no escape of theirs reaches the terminal.
pub fn clean(words: &str) -> String {
    let lines: Vec<_> = words.split('\n').map(printable).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cell_stays_a_cell() {
        let rows = [vec!["/b\u{1b}[31m\nforged".to_owned(), "x".to_owned()]];
        assert_eq!(columns(&rows), "/b\\u{1b}[31m forged   x\n");
    }
}
