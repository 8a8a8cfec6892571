//! `audit`: whether the chain of records holds, and its newest hash.

use std::path::PathBuf;

use crate::anchors::{self, Source};
use gabion_common::cli::{Global, output};
use gabion_see::audit::head::is_hash;
use gabion_see::audit::keeping::Keeping;
use gabion_see::audit::place::{self, Trouble};
use gabion_see::audit::verify::{self, Remembered};
use gabion_see::caller::reader;
use gabion_see::error::{Error, Result};

/// A record is not what was written; 1 is «could not look».
const BROKEN: u8 = 3;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  gabion audit verify\n  gabion audit verify ./copy.jsonl --head 9f86d0…\n  \
    gabion audit head >> /mnt/elsewhere/heads\n  \
    gabion audit verify --head \"$(cat /mnt/elsewhere/heads)\"\n\n\
    verify compares the log with every head of it that is to be found: the one that gabion keeps, and those that were told to journald,\n\
    syslog or the kernel's audit. It says with which, and which are not there.\n\n\
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
        /// What `audit head` printed once, or many times: these records must still be there
        #[arg(long, value_name = "HASH [SEQ]", num_args = 1..)]
        head: Vec<String>,
        /// A loss that records up to this one tell of is known
        #[arg(long, value_name = "SEQ", default_value_t = 0)]
        known: u64,
        /// Do not compare with this one (a log that was begun anew on purpose)
        #[arg(long, value_name = "ANCHOR")]
        without: Vec<Source>,
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
            Command::Verify {
                file,
                head,
                known,
                without,
            } => {
                let (mut remembered, loose) = heads(&head)?;
                let given = file.or(loose);
                let own = given.is_none();
                let file = which(given, global)?;
                let kept = if own {
                    Keeping::of(&global.policy()?.policy.audit, Some(&file))
                } else {
                    Keeping::default()
                };
                let anchors =
                    anchors::collect(&file, &kept, own, &without).map_err(|trouble| not_verified(&trouble))?;
                remembered.extend(anchors.remembered);
                let verified = verify::verify(&file, &remembered, known).map_err(|trouble| not_verified(&trouble))?;
                let (text, code) = match verified {
                    Ok(whole) => (holds(&whole, &anchors.not_compared), 0),
                    Err(fault) => (format!("BROKEN {}\n", output::clean(&fault.to_string())), BROKEN),
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

/// Reads what `audit head` printed: hashes, each with its number behind it or without. A word that is neither is the log, where it stands last.
fn heads(words: &[String]) -> Result<(Vec<Remembered>, Option<PathBuf>)> {
    let mut found: Vec<Remembered> = Vec::new();
    let mut file = None;
    for word in words.iter().flat_map(|words| words.split_whitespace()) {
        let some = !found.is_empty();
        let last = found.last_mut().filter(|one| one.seq.is_none());
        match (is_hash(word), word.parse(), last) {
            (true, _, _) => found.push(Remembered {
                by: "--head".to_owned(),
                seq: None,
                hash: word.to_owned(),
            }),
            (false, Ok(seq), Some(one)) if file.is_none() => one.seq = Some(seq),
            _ if file.is_none() && some => file = Some(PathBuf::from(word)),
            _ => {
                return Err(Error::Usage(format!(
                    "--head {word:?}: give what `gabion audit head` printed, a hash of 64 digits and a number"
                )));
            }
        }
    }
    Ok((found, file))
}

fn holds(whole: &verify::Whole, not_compared: &[String]) -> String {
    let mut lines: Vec<String> = whole.notes.iter().map(|note| format!("note: {note}")).collect();
    for (by, (count, newest)) in &whole.matched {
        let records = if *count == 1 { "record" } else { "records" };
        lines.push(format!(
            "anchored: {count} {records} as {by} has them, the newest {newest}"
        ));
    }
    lines.extend(not_compared.iter().map(|why| format!("not compared: {why}")));
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
    output::clean(&(lines.join("\n") + "\n"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn heads_are_what_audit_head_prints() {
        let (a, b) = ("a1".repeat(32), "b2".repeat(32));
        let read = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            let (found, file) = heads(&words).ok()?;
            let found: Vec<_> = found.into_iter().map(|one| (one.hash, one.seq)).collect();
            Some((found, file))
        };
        let one = Some((vec![(a.clone(), Some(83))], None));
        assert_eq!(read(&[&format!("{a} 83\n")]), one);
        assert_eq!(read(&[&a, "83"]), one);
        assert_eq!(read(&[&a]), Some((vec![(a.clone(), None)], None)));
        let two = vec![(a.clone(), Some(83)), (b.clone(), Some(84))];
        assert_eq!(read(&[&format!("{a} 83\n{b} 84\n")]), Some((two, None)));
        let file = Some(PathBuf::from("./copy.jsonl"));
        assert_eq!(read(&[&a, "./copy.jsonl"]), Some((vec![(a.clone(), None)], file)));
        assert_eq!(read(&["83"]), None);
        assert_eq!(read(&["x", &a]), None);
        assert_eq!(read(&[&a, "one", "two"]), None);
        assert_eq!(read(&[]), Some((Vec::new(), None)));
    }
}
