//! The chain of records as it is read: a record's place in it, and its end.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use gabion_core::digest::sha256_hex;
use serde::Deserialize;

/// What the first record of all has for `prev`.
pub const NOTHING: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// How far back the last record is looked for. Records are bounded (`record.rs`) well below.
const FAR: u64 = 4 << 20;

/// What the chain needs to know of a record.
#[derive(Debug, Deserialize)]
pub struct Link {
    pub v: u32,
    pub seq: u64,
    pub prev: String,
    pub event: String,
    pub sha256: Option<String>,
    /// Of `lost` alone, as `found` and `booted`.
    pub expected: Option<u64>,
    pub found: Option<u64>,
    pub booted: Option<bool>,
}

impl Link {
    /// None: not a record.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }
}

/// The end of the chain.
#[derive(Debug, PartialEq, Eq)]
pub struct Tail {
    pub seq: u64,
    pub hash: String,
    /// What stands after the last record and is none.
    pub rest: Option<Rest>,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Rest {
    pub bytes: u64,
    pub sha256: String,
    pub ended: Ended,
    pub lines: Lines,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lines {
    One,
    Many,
}

/// Whether the last line has its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    Yes,
    No,
}

/// The last record, and what follows it.
pub fn tail(file: &File, size: u64) -> std::io::Result<Tail> {
    let mut window = 16 << 10;
    loop {
        let start = size.saturating_sub(window);
        let mut bytes = vec![0; usize::try_from(size - start).unwrap_or(0)];
        file.read_exact_at(&mut bytes, start)?;
        if let Some(tail) = last_record(&bytes, start == 0) {
            return Ok(tail);
        }
        if start == 0 || window >= FAR {
            // No record anywhere near: the chain begins again, and `verify` names the break.
            return Ok(Tail {
                seq: 0,
                hash: NOTHING.to_owned(),
                rest: rest(&bytes),
            });
        }
        window *= 4;
    }
}

/// The last line that is a record. A line whose beginning is not in sight does not count.
fn last_record(bytes: &[u8], whole: bool) -> Option<Tail> {
    let mut end = bytes.len();
    // Behind the last line end stands nothing, or what was torn off.
    while let Some(newline) = bytes[..end].iter().rposition(|b| *b == b'\n') {
        let start = match bytes[..newline].iter().rposition(|b| *b == b'\n') {
            Some(before) => before + 1,
            None if whole => 0,
            None => return None,
        };
        let line = &bytes[start..newline];
        if let Some(link) = Link::parse(line) {
            let rest = rest(&bytes[newline + 1..]);
            return Some(Tail {
                seq: link.seq,
                hash: sha256_hex(line),
                rest,
            });
        }
        end = newline;
    }
    None
}

fn rest(bytes: &[u8]) -> Option<Rest> {
    let ended = if bytes.last()? == &b'\n' { Ended::Yes } else { Ended::No };
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let lines = if bytes.contains(&b'\n') {
        Lines::Many
    } else {
        Lines::One
    };
    Some(Rest {
        bytes: bytes.len() as u64,
        sha256: sha256_hex(bytes),
        ended,
        lines,
    })
}

/// A rotated file's name.
pub fn kept(name: &str, number: u32) -> String {
    format!("{name}.{number}")
}

/// The numbers of the files that rotation put beside a log, in order: a policy may have kept more of them than it does now.
///
/// # Errors
/// The directory cannot be listed.
pub fn numbers(log: &Path) -> std::io::Result<Vec<u32>> {
    let (directory, name) = (
        super::place::parent(log),
        log.file_name().unwrap_or_default().to_string_lossy(),
    );
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let number = entry
            .to_str()
            .and_then(|entry| entry.strip_prefix(&*name)?.strip_prefix('.'));
        // As gabion writes numbers: others' `audit.jsonl.07` is not the log's.
        found.extend(number.and_then(|text| {
            text.parse()
                .ok()
                .filter(|number: &u32| *number > 0 && number.to_string() == text)
        }));
    }
    found.sort_unstable();
    Ok(found)
}
