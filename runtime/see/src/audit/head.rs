//! The head: the newest record's number and hash, kept in a file of its own beside the log's other life: a log that was cut, replaced or removed
//! no longer ends with the record that it ended with.
//!
//! The writer appends to the log first and writes the head then, in one write at one place. A writer that dies between the two leaves a head that
//! is older than the log, and the log still has the head's record: that is no alarm.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use gabion_core::digest::sha256_hex;
use nix::fcntl::OFlag;

use super::chain::{Link, Tail};
use super::place::{self, Trouble, trouble};
use super::verify::Head;
use crate::vetted::{self, Fault, Kind, Links, Owner, Rules};

/// Where the head of root's usual log is.
pub const SYSTEM: &str = "/var/lib/gabion/audit.head";

/// What the file begins with.
const MAGIC: &str = "gabion-audit-head-1";

/// The file's length: always the same, so that it is replaced by one write.
pub const LENGTH: usize = MAGIC.len() + 1 + 20 + 1 + 64 + 1 + 16 + 1 + 36 + 1;

/// How much of a log's end is read at once.
const NEAR: u64 = 64 << 10;

/// The longest line that is read as one.
const LONGEST: u64 = 4 << 20;

/// Gives the file for a log: the policy's word, the system's place for the system's log, and beside any other.
#[must_use]
pub fn file(asked: Option<&Path>, log: &Path) -> PathBuf {
    match asked {
        Some(asked) => asked.to_owned(),
        None if log == Path::new(place::SYSTEM) => SYSTEM.into(),
        None => beside(log),
    }
}

/// Gives where it may be, the best first: where the system's place may not be written to (a security module, a system that is read-only), it is
/// beside the log.
#[must_use]
pub fn places(asked: Option<&Path>, log: &Path) -> Vec<PathBuf> {
    let first = file(asked, log);
    let second = beside(log);
    if asked.is_none() && first != second {
        vec![first, second]
    } else {
        vec![first]
    }
}

fn beside(log: &Path) -> PathBuf {
    let name = log.file_name().unwrap_or_default().to_string_lossy();
    log.with_file_name(format!(".{name}.head"))
}

const RULES: Rules = Rules {
    kind: Kind::File,
    owner: Owner::CallerOrRoot,
    forbidden: 0o022,
    largest: 4096,
    links: Links::Refuse,
};

/// What a head's file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It was just made.
    Nothing,
    Head {
        head: Head,
        /// The boot in which it was written.
        boot: String,
    },
    /// It is not what gabion writes, or another log's.
    Damaged,
}

/// Opens a head's file. None: there is none.
///
/// # Errors
/// It cannot be opened, or others can write to it.
pub fn open(path: &Path, flags: OFlag) -> Result<Option<File>, Fault> {
    match vetted::open_with(None, path, flags, &RULES) {
        Ok(file) => Ok(Some(file)),
        Err(Fault::Missing) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// Gives a fault of a head's file as trouble of the log.
#[must_use]
pub fn distrust(path: &Path, fault: Fault) -> Trouble {
    match fault {
        Fault::Open(errno) => trouble("open", path)(errno),
        other => trouble("trust", path)(other.to_string()),
    }
}

/// Gives what is kept for this log.
///
/// # Errors
/// It cannot be read.
pub fn read(file: &File, path: &Path, log: &Path) -> Result<Kept, Trouble> {
    let mut bytes = Vec::with_capacity(LENGTH);
    let mut reader = file;
    reader
        .by_ref()
        .take(4096)
        .read_to_end(&mut bytes)
        .map_err(trouble("read", path))?;
    Ok(parse(&bytes, log))
}

fn parse(bytes: &[u8], log: &Path) -> Kept {
    if bytes.is_empty() {
        return Kept::Nothing;
    }
    let words: Option<Vec<&str>> = std::str::from_utf8(bytes)
        .ok()
        .map(|text| text.split_whitespace().collect());
    let Some([MAGIC, seq, hash, of, boot]) = words.as_deref() else {
        return Kept::Damaged;
    };
    match (seq.parse(), is_hash(hash), *of == log_id(log)) {
        (Ok(seq), true, true) => Kept::Head {
            head: Head {
                seq,
                hash: (*hash).to_owned(),
            },
            boot: (*boot).to_owned(),
        },
        _ => Kept::Damaged,
    }
}

/// Whether a word is a hash as gabion writes it.
#[must_use]
pub fn is_hash(word: &str) -> bool {
    word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Tells logs apart: sixteen digits of the path's hash.
fn log_id(log: &Path) -> String {
    let mut hash = sha256_hex(log.as_os_str().as_encoded_bytes());
    hash.truncate(16);
    hash
}

/// Gives the file's bytes for a head: [`LENGTH`] of them.
#[must_use]
pub fn render(head: &Head, log: &Path, boot: &str) -> String {
    let boot = boot.get(..36).unwrap_or("-");
    format!("{MAGIC} {:020} {} {} {boot:36}\n", head.seq, head.hash, log_id(log))
}

/// What became of the record that the head names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Follows {
    Yes,
    /// The log does not have it.
    No,
    /// Neither it nor what followed it is in this file.
    Elsewhere,
}

/// Whether the log still has the head's record: it is the last, or what comes after it names it.
///
/// # Errors
/// The log cannot be read.
pub fn follows(head: &Head, tail: &Tail, log: &File, size: u64) -> std::io::Result<Follows> {
    if tail.seq <= head.seq {
        return Ok(said(tail.seq == head.seq && tail.hash == head.hash));
    }
    // A writer died before it wrote the head. What it wrote is most likely the end.
    let start = size.saturating_sub(NEAR);
    let mut bytes = vec![0; usize::try_from(size - start).unwrap_or(0)];
    log.read_exact_at(&mut bytes, start)?;
    match after(head, bytes.split(|byte| *byte == b'\n')) {
        Follows::Elsewhere => search(head, log),
        found => Ok(found),
    }
}

/// Looks for what came after the head's record in a whole file.
///
/// # Errors
/// The file cannot be read.
pub fn search(head: &Head, file: &File) -> std::io::Result<Follows> {
    let mut reader = BufReader::new(file);
    reader.seek(SeekFrom::Start(0))?;
    let mut line = Vec::new();
    loop {
        line.clear();
        if reader.by_ref().take(LONGEST).read_until(b'\n', &mut line)? == 0 {
            return Ok(Follows::Elsewhere);
        }
        match after(head, std::iter::once(line.as_slice())) {
            Follows::Elsewhere => {}
            found => return Ok(found),
        }
    }
}

const fn said(yes: bool) -> Follows {
    if yes { Follows::Yes } else { Follows::No }
}

fn after<'a>(head: &Head, mut lines: impl Iterator<Item = &'a [u8]>) -> Follows {
    let next = lines.find_map(|line| Link::parse(line).filter(|link| link.seq == head.seq + 1));
    next.map_or(Follows::Elsewhere, |link| said(link.prev == head.hash))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_for_its_log_alone() {
        let head = Head {
            seq: 83,
            hash: "a1".repeat(32),
        };
        let (log, boot) = (
            Path::new("/var/log/gabion/audit.jsonl"),
            "0f34bd25-0d3c-4bff-9e1f-0123456789ab",
        );
        let text = render(&head, log, boot);
        assert_eq!(text.len(), LENGTH);
        assert_eq!(
            render(
                &Head {
                    seq: u64::MAX,
                    ..head.clone()
                },
                log,
                ""
            )
            .len(),
            LENGTH
        );
        let kept = Kept::Head {
            head,
            boot: boot.to_owned(),
        };
        assert_eq!(parse(text.as_bytes(), log), kept);
        assert_eq!(parse(text.as_bytes(), Path::new("/elsewhere")), Kept::Damaged);
        assert_eq!(parse(b"", log), Kept::Nothing);
        for bad in [
            "x",
            &text[..60],
            &text.replacen("a1", "zz", 1),
            &text.replacen("head-1", "head-2", 1),
        ] {
            assert_eq!(parse(bad.as_bytes(), log), Kept::Damaged, "{bad}");
        }
    }

    #[test]
    fn each_log_has_its_own_place() {
        assert_eq!(file(None, Path::new(place::SYSTEM)), Path::new(SYSTEM));
        assert_eq!(file(None, Path::new("/srv/a.jsonl")), Path::new("/srv/.a.jsonl.head"));
        let both = [PathBuf::from(SYSTEM), "/var/log/gabion/.audit.jsonl.head".into()];
        assert_eq!(places(None, Path::new(place::SYSTEM)), both);
        assert_eq!(
            places(Some(Path::new("/h")), Path::new(place::SYSTEM)),
            [Path::new("/h")]
        );
        assert_eq!(
            places(None, Path::new("/srv/a.jsonl")),
            [Path::new("/srv/.a.jsonl.head")]
        );
        assert_eq!(file(Some(Path::new("/h")), Path::new(place::SYSTEM)), Path::new("/h"));
    }
}
