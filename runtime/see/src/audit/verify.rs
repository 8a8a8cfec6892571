//! Reading the chain back: whether every record is the one that was written, in its place.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use super::chain::{self, Link, NOTHING};
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
    /// Of each who remembers records of it: how many were compared, and the newest.
    pub matched: BTreeMap<String, (u64, u64)>,
}

/// A record that somebody else remembers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Who, for people.
    pub by: String,
    /// None: wherever it is.
    pub seq: Option<u64>,
    pub hash: String,
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

/// Checks a log with the files that rotation put beside it, oldest first. `remembered`: what others have of it. `known`: losses that records up to
/// this one tell of are no news.
///
/// # Errors
/// The log cannot be read.
pub fn verify(path: &Path, remembered: &[Remembered], known: u64) -> Result<Result<Whole, Fault>, Trouble> {
    let mut walk = Walk::new(remembered, known);
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
    for number in chain::numbers(path).map_err(trouble("look beside", path))? {
        let path = path.with_file_name(chain::kept(place::name(path)?, number));
        let file = open(&path)?;
        // A writer that died while it rotated left the file under two names.
        if identity(&file) == first {
            continue;
        }
        let length = size(&file)?;
        found.push_front((path, file, length));
    }
    drop(lock);
    Ok(found.into())
}

struct Walk {
    whole: Whole,
    /// What is remembered of a record by its number, and of one whose number is not known.
    by_number: BTreeMap<u64, Vec<Remembered>>,
    by_hash: Vec<Remembered>,
    known: u64,
    /// The first loss that a record tells of.
    lost: Option<Fault>,
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
    fn new(remembered: &[Remembered], known: u64) -> Self {
        let mut walk = Self {
            whole: Whole::default(),
            by_number: BTreeMap::new(),
            by_hash: Vec::new(),
            known,
            lost: None,
            strange: None,
        };
        for one in remembered {
            let one = Remembered {
                hash: one.hash.to_ascii_lowercase(),
                ..one.clone()
            };
            match one.seq {
                Some(seq) => walk.by_number.entry(seq).or_default().push(one),
                None => walk.by_hash.push(one),
            }
        }
        walk
    }

    fn matched(&mut self, by: String, seq: u64) {
        let (count, newest) = self.whole.matched.entry(by).or_default();
        *count += 1;
        *newest = seq.max(*newest);
    }

    /// Compares a record with what others have of it.
    fn compare(&mut self, seq: u64, hash: &str) -> Result<(), String> {
        for one in self.by_number.remove(&seq).unwrap_or_default() {
            if one.hash != hash {
                return Err(format!(
                    "record {seq} is not the one that {} has: it was changed, or the log was written anew",
                    one.by
                ));
            }
            self.matched(one.by, seq);
        }
        while let Some(at) = self.by_hash.iter().position(|one| one.hash == hash) {
            let one = self.by_hash.swap_remove(at);
            self.matched(one.by, seq);
        }
        Ok(())
    }

    /// Takes down a loss that a record tells of.
    fn lost(&mut self, path: &Path, number: u64, seen: &Link) {
        let (expected, found) = (seen.expected.unwrap_or(0), seen.found.unwrap_or(0));
        let mut why = match (expected, found) {
            (0, _) => format!("record {} says that the head that gabion keeps was damaged", seen.seq),
            (_, 0) => format!(
                "record {} says that the log was gone: it had ended with record {expected}",
                seen.seq
            ),
            _ => format!(
                "record {} says that the log was cut or exchanged: it had ended with record {expected}, and ended with {found} then",
                seen.seq
            ),
        };
        if seen.booted == Some(true) {
            why.push_str("; the machine was booted in between, and a power cut takes the newest records, too");
        }
        if seen.seq <= self.known {
            self.whole.notes.push(format!("{why} (known)"));
        } else if self.lost.is_none() {
            self.lost = Some(Fault {
                file: path.to_owned(),
                line: number,
                why,
            });
        }
    }

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
        if let Err(why) = self.compare(seen.seq, &hash) {
            return fault(why);
        }
        if seen.event == "lost" {
            self.lost(path, number, seen);
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
        if let Some(fault) = self.lost.take() {
            return Err(fault);
        }
        let fault = |why: String| {
            Err(Fault {
                file: path.to_owned(),
                line: 0,
                why,
            })
        };
        if let Some(one) = self.by_hash.first() {
            return fault(format!(
                "no record has the hash {}, which {} has: it was changed or cut off, or rotated away",
                one.hash, one.by
            ));
        }
        let newest = self.whole.head.as_ref().map_or(0, |head| head.seq);
        let mut older: BTreeMap<String, u64> = BTreeMap::new();
        for (seq, list) in self.by_number {
            for one in list {
                if seq > newest {
                    return fault(format!(
                        "record {seq}, which {} has, is not there: the newest is {newest}",
                        one.by
                    ));
                }
                *older.entry(one.by).or_default() += 1;
            }
        }
        let notes = older.into_iter();
        let notes = notes
            .map(|(by, count)| format!("{count} older than the first that is here are known to {by}: rotated away"));
        self.whole.notes.extend(notes);
        Ok(self.whole)
    }
}
