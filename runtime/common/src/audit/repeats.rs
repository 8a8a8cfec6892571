//! Execs that are the same as one of the last minute: counted beside the container's state, so that probes do not push everything else out of the
//! log. What cannot be counted is written.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use gabion_core::digest::sha256_hex;
use gabion_see::audit::record::Changed;
use gabion_see::state::StateView;
use gabion_see::vetted::{self, Kind, Links, Owner, Rules};
use nix::fcntl::OFlag;
use oci_spec::runtime::Process;
use serde::{Deserialize, Serialize};

use super::chain::wait;

/// The file in a container's state directory.
pub(super) const FILE: &str = "execs.json";

/// How long one record stands for all that are the same.
const WINDOW: u64 = 60;

/// How many different ones are counted at once.
const MANY: usize = 64;

const RULES: Rules = Rules {
    kind: Kind::File,
    owner: Owner::Caller,
    forbidden: 0o022,
    largest: 64 << 10,
    links: Links::Refuse,
};

/// What becomes of an exec's record.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Counted {
    OneMore,
    Write { repeats: u64 },
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    /// SHA-256 of what was run, and of what was changed of it.
    of: String,
    /// When its record was written: seconds since 1970.
    at: u64,
    /// How many there were since.
    repeats: u64,
}

/// What is kept: those of the last minute, and how many there were of others.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Counts {
    seen: Vec<Seen>,
    /// Of those that gave their place to others.
    before: u64,
}

impl Counts {
    fn take(&mut self, of: &str, now: u64) -> Counted {
        let fresh = |seen: &Seen| (seen.at..=seen.at.saturating_add(WINDOW)).contains(&now);
        if let Some(seen) = self.seen.iter_mut().find(|seen| seen.of == of) {
            if fresh(seen) {
                seen.repeats += 1;
                return Counted::OneMore;
            }
            let repeats = std::mem::take(&mut seen.repeats);
            seen.at = now;
            return Counted::Write { repeats };
        }
        if self.seen.len() >= MANY {
            // The oldest gives way; what was counted of it is not lost.
            if let Some(at) = (0..self.seen.len()).min_by_key(|at| self.seen[*at].at) {
                self.before += self.seen.swap_remove(at).repeats;
            }
        }
        self.seen.push(Seen {
            of: of.to_owned(),
            at: now,
            repeats: 0,
        });
        Counted::Write { repeats: 0 }
    }

    fn pending(&self) -> u64 {
        self.before + self.seen.iter().map(|seen| seen.repeats).sum::<u64>()
    }
}

/// Gives what two execs have in common that are the same. Sets come in any order, and are put into one.
fn same(process: &Process, changes: &[Changed]) -> serde_json::Result<Vec<u8>> {
    let capabilities = process.capabilities().as_ref().map(|all| {
        let sets = [
            all.bounding(),
            all.effective(),
            all.permitted(),
            all.inheritable(),
            all.ambient(),
        ];
        sets.map(|set| {
            let names: BTreeSet<String> = set.iter().flatten().map(ToString::to_string).collect();
            names
        })
    });
    let user = process.user();
    serde_json::to_vec(&(
        (process.args(), process.env(), process.cwd(), process.terminal()),
        (user.uid(), user.gid(), user.additional_gids()),
        (process.apparmor_profile(), process.selinux_label(), capabilities),
        changes,
    ))
}

/// Counts an exec, or says that it is to be written.
pub(super) fn count(dir: &StateView, process: &Process, changes: &[Changed]) -> Counted {
    let write = Counted::Write { repeats: 0 };
    let Ok(of) = same(process, changes) else {
        return write;
    };
    let now = gabion_see::clock::now().as_secs();
    change(dir, |counts| counts.take(&sha256_hex(&of), now)).unwrap_or(write)
}

/// Gives how many were counted and have no record.
pub(super) fn pending(dir: &StateView) -> u64 {
    change(dir, |counts| counts.pending()).unwrap_or(0)
}

/// Under a lock, in place: what a writer leaves half is no JSON, and counts from nothing, so that the next is written.
fn change<T>(dir: &StateView, act: impl FnOnce(&mut Counts) -> T) -> std::io::Result<T> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT;
    let file = vetted::open_with(Some(dir.as_fd()), FILE.as_ref(), flags, &RULES)?;
    let file = wait(file, Instant::now() + Duration::from_secs(1))?;
    let mut text = Vec::new();
    let reader: &File = &file;
    reader.take(RULES.largest).read_to_end(&mut text)?;
    let mut counts: Counts = serde_json::from_slice(&text).unwrap_or_default();
    let found = act(&mut counts);
    let after = serde_json::to_vec(&counts)?;
    if after != text {
        file.set_len(0)?;
        std::io::Seek::rewind(&mut &*file)?;
        let mut writer: &File = &file;
        writer.write_all(&after)?;
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_within_a_minute_is_one_more_and_nothing_is_lost() {
        let mut counts = Counts::default();
        assert_eq!(counts.take("a", 100), Counted::Write { repeats: 0 });
        assert_eq!(counts.take("a", 110), Counted::OneMore);
        assert_eq!(counts.take("b", 110), Counted::Write { repeats: 0 });
        assert_eq!(counts.take("a", 160), Counted::OneMore);
        assert_eq!(counts.pending(), 2);
        assert_eq!(counts.take("a", 161), Counted::Write { repeats: 2 });
        assert_eq!(counts.pending(), 0);
        // A clock that was set back.
        assert_eq!(counts.take("a", 5), Counted::Write { repeats: 0 });
        assert_eq!(counts.take("a", 6), Counted::OneMore);
        for number in 0..1000 {
            assert_eq!(counts.take(&number.to_string(), 7), Counted::Write { repeats: 0 });
            assert!(counts.seen.len() <= MANY);
        }
        assert_eq!(counts.pending(), 1);
    }
}
