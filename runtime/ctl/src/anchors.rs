//! Heads of the audit log that others have: the file that gabion keeps, journald, the system's log files, the kernel's audit.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::ValueEnum;
use gabion_see::audit::keeping::Keeping;
use gabion_see::audit::place::Trouble;
use gabion_see::audit::verify::{Head, Remembered};
use gabion_see::audit::{anchor, head, place};
use nix::fcntl::OFlag;

use crate::ask;

/// Who may have heads of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Source {
    // No doc comments here: clap would turn them into a long help.
    Head,
    Journald,
    Syslog,
    Kernel,
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Anchors {
    pub(crate) remembered: Vec<Remembered>,
    /// With whom the log is not compared, and why.
    pub(crate) not_compared: Vec<String>,
}

/// Where syslog daemons write what they are told as authpriv.
const SYSLOG: [&str; 4] = [
    "/var/log/auth.log",
    "/var/log/secure",
    "/var/log/messages",
    "/var/log/syslog",
];

/// Where auditd writes.
const KERNEL: &str = "/var/log/audit/audit.log";

const JOURNALCTL: [&str; 2] = ["/usr/bin/journalctl", "/bin/journalctl"];

/// How long the journal may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// How much of the journal is read.
const LARGEST: usize = 256 << 20;

/// The longest line that is looked at.
const LONGEST: u64 = 16 << 10;

/// Looks everywhere. Of a log that was named only the head beside it counts, and what others have by its path.
///
/// # Errors
/// The head that is kept cannot be read, or others can write to it.
pub(crate) fn collect(log: &Path, keeping: &Keeping, own: bool, without: &[Source]) -> Result<Anchors, Trouble> {
    let mut found = Anchors::default();
    let log = std::path::absolute(log).map_err(place::trouble("find", log))?;
    for source in Source::value_variants() {
        if without.contains(source) {
            continue;
        }
        match source {
            Source::Head => kept(&log, keeping, own, &mut found)?,
            Source::Journald => journald(&log, &mut found),
            Source::Syslog => {
                let mut files = SYSLOG.iter().filter(|path| Path::new(path).exists()).peekable();
                if files.peek().is_none() {
                    found
                        .not_compared
                        .push("syslog: none of its usual files is here".to_owned());
                }
                files.for_each(|path| file("syslog", path, &log, &mut found));
            }
            Source::Kernel => file("the kernel's audit", KERNEL, &log, &mut found),
        }
    }
    Ok(found)
}

fn kept(log: &Path, keeping: &Keeping, own: bool, found: &mut Anchors) -> Result<(), Trouble> {
    let places = if own {
        keeping.heads(log)
    } else {
        head::places(None, log)
    };
    let mut missing = Vec::new();
    let before = found.remembered.len();
    for path in places {
        let by = format!("the head in {}", path.display());
        let opened = head::open(&path, OFlag::O_RDONLY).map_err(|fault| head::distrust(&path, fault))?;
        let Some(file) = opened else {
            missing.push(format!("{by}: there is none"));
            continue;
        };
        match head::read(&file, &path, log)? {
            head::Kept::Head { head, .. } => found.remembered.push(remembered(&by, head)),
            head::Kept::Nothing => found.not_compared.push(format!("{by}: it is empty")),
            // A copy's, or one that was damaged: the next record says so.
            head::Kept::Damaged => found
                .not_compared
                .push(format!("{by}: it is damaged, or another log's")),
        }
    }
    // Where one is, the other need not be.
    if found.remembered.len() == before {
        found.not_compared.extend(missing);
    }
    Ok(())
}

fn remembered(by: &str, head: Head) -> Remembered {
    Remembered {
        by: by.to_owned(),
        seq: Some(head.seq),
        hash: head.hash,
    }
}

/// What stands in a file of another log. Whoever can write there can write heads: it is an alarm to look at, not a proof.
fn file(who: &str, path: &str, log: &Path, found: &mut Anchors) {
    let by = format!("{who} ({path})");
    match File::open(path) {
        Ok(file) => lines(&by, BufReader::new(file), log, found),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            found.not_compared.push(format!("{who}: there is no {path}"));
        }
        Err(error) => found.not_compared.push(format!("{by}: {error}")),
    }
}

fn lines(by: &str, mut text: impl BufRead, log: &Path, found: &mut Anchors) {
    let before = found.remembered.len();
    let mut line = Vec::new();
    loop {
        line.clear();
        match text.by_ref().take(LONGEST).read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) => {}
            Err(error) => {
                found.not_compared.push(format!("{by}: {error}"));
                return;
            }
        }
        let head = anchor::parse(&String::from_utf8_lossy(&line), log);
        found.remembered.extend(head.map(|head| remembered(by, head)));
    }
    if found.remembered.len() == before {
        found.not_compared.push(format!("{by}: it has no head of this log"));
    }
}

/// What the journal has of our own uid: the sender's uid is the kernel's word.
fn journald(log: &Path, found: &mut Anchors) {
    let Some(program) = JOURNALCTL.iter().map(PathBuf::from).find(|path| path.exists()) else {
        found.not_compared.push("journald: there is no journalctl".to_owned());
        return;
    };
    let uid = format!("_UID={}", nix::unistd::geteuid());
    let name = format!("SYSLOG_IDENTIFIER={}", anchor::NAME);
    match ask::ask(
        &program,
        &["--no-pager", "--quiet", "--output=cat", &uid, &name],
        PATIENCE,
        LARGEST,
    ) {
        Ok(text) => lines("journald", text.as_bytes(), log, found),
        Err(error) => found.not_compared.push(format!("journald: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_of_this_log_are_found_among_others_words() {
        let (log, hash) = (Path::new("/var/log/gabion/audit.jsonl"), "ab".repeat(32));
        let head = |seq: u64| Head {
            seq,
            hash: hash.clone(),
        };
        let text = format!(
            "Nov 29 12:00:01 node sshd[1]: hello\nNov 29 12:00:02 node gabion[7]: {}\ngarbage \u{1}\n<85>gabion: {}\nNov 29 x: {}\n",
            anchor::render(log, &head(7)),
            anchor::render(log, &head(8)),
            anchor::render(Path::new("/elsewhere"), &head(9)),
        );
        let mut found = Anchors::default();
        lines("syslog", text.as_bytes(), log, &mut found);
        let seqs: Vec<_> = found.remembered.iter().map(|one| one.seq).collect();
        assert_eq!(seqs, [Some(7), Some(8)]);
        assert!(found.not_compared.is_empty());
        lines("syslog", "nothing\n".as_bytes(), log, &mut found);
        assert_eq!(found.not_compared, ["syslog: it has no head of this log"]);
    }
}
