//! Reading the chain back: whether every record is the one that was written, in its place.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::chain::{self, KEPT, Link, NOTHING};
use super::place::{self, Trouble, trouble};
use super::record::VERSION;
use gabion_core::digest::sha256_hex;

/// The longest line that is read as one.
const MAX_LINE: u64 = 4 << 20;

/// A record by its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub seq: u64,
    pub hash: String,
}

/// The first record that is not what it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub file: PathBuf,
    /// From 1; 0: the file as a whole.
    pub line: u64,
    pub why: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.why)
    }
}

/// What a chain that holds amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whole {
    pub records: u64,
    pub first: Option<u64>,
    pub head: Option<Head>,
    /// What a reader should know: torn lines, older files that are gone.
    pub notes: Vec<String>,
    /// The sequence number of the record that was asked for by its hash.
    pub anchor: Option<u64>,
}

/// The newest record of a log.
pub fn head(path: &Path) -> Result<Option<Head>, Trouble> {
    let file = open(path)?;
    let size = file.metadata().map_err(trouble("look at", path))?.len();
    let tail = chain::tail(&file, size).map_err(trouble("read", path))?;
    Ok((tail.seq > 0).then_some(Head {
        seq: tail.seq,
        hash: tail.hash,
    }))
}

/// Checks a log with the files that rotation put beside it, oldest first. `anchor`: the hash that was once kept elsewhere.
pub fn verify(path: &Path, anchor: Option<&str>) -> Result<Result<Whole, Fault>, Trouble> {
    let mut walk = Walk {
        anchor: anchor.map(str::to_ascii_lowercase),
        ..Walk::default()
    };
    for (path, file, size) in files(path)? {
        if let Some(fault) = walk.file(&path, file.take(size)).map_err(trouble("read", &path))? {
            return Ok(Err(fault));
        }
    }
    Ok(walk.end(path))
}

/// To read only, and whoever owns it: an auditor's copy is as good as the log.
fn open(path: &Path) -> Result<File, Trouble> {
    let opened = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path);
    let file = opened.map_err(trouble("open", path))?;
    if !file.metadata().map_err(trouble("look at", path))?.is_file() {
        return Err(trouble("read", path)("not a regular file".to_owned()));
    }
    Ok(file)
}

/// Opened all at once, with their sizes, under a lock that keeps writers from rotating meanwhile. What they append while
/// the files are read does not count.
fn files(path: &Path) -> Result<Vec<(PathBuf, File, u64)>, Trouble> {
    let lock = Flock::lock(open(path)?, FlockArg::LockShared).map_err(|(_, e)| trouble("lock", path)(e))?;
    let size = |file: &File| file.metadata().map(|m| m.len()).map_err(trouble("look at", path));
    let mut found = VecDeque::new();
    let current = open(path)?;
    let length = size(&current)?;
    let identity = |file: &File| file.metadata().map(|m| (m.dev(), m.ino())).ok();
    let first = identity(&current);
    found.push_front((path.to_owned(), current, length));
    for number in 1..=KEPT {
        let path = path.with_file_name(chain::kept(place::name(path)?, number));
        if path.exists() {
            let file = open(&path)?;
            // A writer that died while it rotated left the file under two names.
            if identity(&file) == first {
                continue;
            }
            let length = size(&file)?;
            found.push_front((path, file, length));
        }
    }
    drop(lock);
    Ok(found.into())
}

#[derive(Default)]
struct Walk {
    whole: Whole,
    anchor: Option<String>,
    /// Lines that are no records, until the one that explains them.
    strange: Option<Strange>,
}

struct Strange {
    file: PathBuf,
    line: u64,
    /// Up to the last line end, or to the end of the file.
    bytes: Vec<u8>,
    ended: bool,
}

impl Strange {
    /// One line without an end.
    fn torn(&self) -> bool {
        !self.ended && !self.bytes.contains(&b'\n')
    }

    fn fault(&self, why: &str) -> Fault {
        Fault {
            file: self.file.clone(),
            line: self.line,
            why: why.to_owned(),
        }
    }
}

impl Walk {
    fn file(&mut self, path: &Path, bytes: impl Read) -> std::io::Result<Option<Fault>> {
        let mut reader = BufReader::new(bytes);
        let mut number = 0;
        loop {
            let mut line = Vec::new();
            if reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
                break;
            }
            number += 1;
            let (line, ended) = match line.strip_suffix(b"\n") {
                Some(line) => (line, true),
                None => (line.as_slice(), false),
            };
            match Link::parse(line).filter(|_| ended) {
                Some(seen) => {
                    if let Some(fault) = self.record(path, number, line, &seen) {
                        return Ok(Some(fault));
                    }
                }
                None => self.strange(path, number, line, ended),
            }
        }
        Ok(None)
    }

    fn strange(&mut self, path: &Path, number: u64, line: &[u8], ended: bool) {
        match &mut self.strange {
            Some(strange) => {
                strange.bytes.push(b'\n');
                strange.bytes.extend_from_slice(line);
                strange.ended = ended;
            }
            None => {
                self.strange = Some(Strange {
                    file: path.to_owned(),
                    line: number,
                    bytes: line.to_vec(),
                    ended,
                });
            }
        }
    }

    fn record(&mut self, path: &Path, number: u64, line: &[u8], seen: &Link) -> Option<Fault> {
        let fault = |why: String| {
            Some(Fault {
                file: path.to_owned(),
                line: number,
                why,
            })
        };
        if seen.v != VERSION {
            return fault(format!("schema version {}: this gabion reads {VERSION}", seen.v));
        }
        if let Some(strange) = self.strange.take() {
            let explained = seen.sha256.as_deref() == Some(sha256_hex(&strange.bytes).as_str());
            if seen.event != "torn" || !explained {
                return Some(strange.fault("this is not a record"));
            }
            let place = format!("{}:{}", strange.file.display(), strange.line);
            self.whole.notes.push(format!(
                "{place}: a torn line of {} bytes, as record {} says",
                strange.bytes.len(),
                seen.seq
            ));
        } else if seen.event == "torn" || seen.event == "damaged" {
            return fault(format!("record {} speaks of a line that is not there", seen.seq));
        }
        match &self.whole.head {
            Some(head) if seen.prev != head.hash => {
                return fault(format!(
                    "record {} does not follow record {}: one of the two was changed, or records between them dropped",
                    seen.seq, head.seq
                ));
            }
            Some(head) if seen.seq != head.seq + 1 => {
                return fault(format!("record {} follows record {}: out of order", seen.seq, head.seq));
            }
            None if seen.seq == 1 && seen.prev != NOTHING => return fault("record 1 follows something".to_owned()),
            None if seen.seq > 1 => {
                self.whole
                    .notes
                    .push(format!("begins with record {}: older ones were rotated away", seen.seq));
            }
            _ => {}
        }
        let hash = sha256_hex(line);
        if self.anchor.as_deref() == Some(hash.as_str()) {
            self.whole.anchor = Some(seen.seq);
        }
        self.whole.first.get_or_insert(seen.seq);
        self.whole.records += 1;
        self.whole.head = Some(Head { seq: seen.seq, hash });
        None
    }

    /// What only shows when all is read.
    fn end(mut self, path: &Path) -> Result<Whole, Fault> {
        match self.strange.take() {
            // Nobody has written since: the next record will say so.
            Some(strange) if strange.torn() => self.whole.notes.push(format!(
                "{}:{}: the last line is torn: a writer died, or the disk was full",
                strange.file.display(),
                strange.line
            )),
            Some(strange) => return Err(strange.fault("this is not a record")),
            None => {}
        }
        match (self.anchor, self.whole.anchor) {
            (Some(anchor), None) => {
                let why = format!("no record has the hash {anchor}: it was changed or cut off, or rotated away");
                Err(Fault {
                    file: path.to_owned(),
                    line: 0,
                    why,
                })
            }
            _ => Ok(self.whole),
        }
    }
}
