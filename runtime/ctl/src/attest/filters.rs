//! Seccomp filters, instruction by instruction: those that a task has, beside those that create built.
//!
//! The kernel shows them of a task that is stopped, to root of the host (ptrace(2), PTRACE_SECCOMP_GET_FILTER). A task that is stopped for a
//! moment gets no signal, but a few calls that it may be waiting in (epoll_wait(2), semop(2): signal(7), «interruption by stop signals») return
//! EINTR, as after a pause. So nobody is stopped without need. The first process is not, nor are its threads: gabion installed and probed its
//! filters before its program ran, no filter can be taken off, and each thread has at least those of the one that made it. Any other process
//! may have come from elsewhere, and is stopped once for each look.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use gabion_core::digest::sha256_hex;
use gabion_core::fact::{Fact, Holds};
use gabion_core::hardened::Hardened;
use gabion_core::id::ControlId;
use gabion_see::procfs::Proc;
use gabion_see::state::{Record, Status};
use gabion_see::{caller, seccomp};
use nix::errno::Errno;
use nix::unistd::Pid;

use super::helper::{self, Teller};
use super::process::{self, Task};

/// How long one task may take to stop, and all of them together.
const STOPS: Duration = Duration::from_millis(250);
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether tasks may be stopped to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Allowed,
    Never,
}

/// Gives a fact for each of the first process's tasks, and for each of the others.
pub(super) fn compare(
    (proc, record): (&Proc, &Record),
    (first, others): (&[Task], &[Task]),
    stop: Stop,
    status: Status,
) -> Vec<(Task, Fact)> {
    let hardened = &record.hardened;
    let control = match (hardened.enforces(ControlId::Seccomp), hardened.plan().memory.is_empty()) {
        (true, _) => ControlId::Seccomp,
        (false, false) if hardened.enforces(ControlId::Memory) => ControlId::Memory,
        _ => return Vec::new(),
    };
    if record.filters.is_empty() {
        return Vec::new();
    }
    let expected = match record.filters.len() {
        1 => "the filter that create built, instruction by instruction".to_owned(),
        many => format!("the {many} filters that create built, instruction by instruction"),
    };
    let held = |why: &str| Fact::held(control, expected.clone(), why);
    let from_birth = held("installed and probed before its program ran; no filter can be taken off");
    let mut facts: Vec<(Task, Fact)> = first.iter().map(|task| (*task, from_birth.clone())).collect();
    let not_now = if stop == Stop::Never {
        Some("not compared: nobody is to be stopped")
    } else if status == Status::Paused {
        Some("not compared: the container is paused")
    } else if !caller::is_host_root() {
        Some("not compared: the kernel shows filters to root of the host alone")
    } else {
        None
    };
    if let Some(why) = not_now {
        facts.extend(others.iter().map(|task| (*task, held(why))));
        return facts;
    }
    if others.is_empty() {
        return facts;
    }
    let wanted = wanted(record);
    let seen = look(others);
    for task in others {
        let fact = match seen.get(&task.tid) {
            Some(Ok(digests)) => judge(control, &expected, &wanted, digests),
            // It has ended meanwhile: one that is about to may not be attached to.
            Some(Err(_)) if process::ended(proc, &task.directory()) => continue,
            Some(Err(Errno::EACCES | Errno::EIO)) => {
                held("not compared: this kernel, or a filter on gabionctl itself, does not show them")
            }
            Some(Err(errno)) => Fact::unknown(
                control,
                expected.clone(),
                format!("it could not be stopped to look: {errno:?}"),
            ),
            None => Fact::unknown(control, expected.clone(), "it could not be looked at in time"),
        };
        facts.push((*task, fact));
    }
    facts
}

/// For each filter of create its digest; of gabion's own also that of this version, which `exec` installs after an upgrade.
fn wanted(record: &Record) -> Vec<BTreeSet<String>> {
    let mut wanted: Vec<BTreeSet<String>> = record
        .filters
        .iter()
        .map(|digest| BTreeSet::from([digest.clone()]))
        .collect();
    for (known, now) in wanted.iter_mut().zip(built_now(&record.hardened)) {
        known.insert(now);
    }
    wanted
}

fn built_now(hardened: &Hardened) -> Vec<String> {
    let own = seccomp::own(hardened).unwrap_or_default();
    let programs = own.memory.into_iter().chain(own.floor);
    programs.map(|program| sha256_hex(program.as_bytes())).collect()
}

fn judge(control: ControlId, expected: &str, wanted: &[BTreeSet<String>], seen: &BTreeSet<String>) -> Fact {
    let missing = wanted.iter().filter(|one| one.is_disjoint(seen)).count();
    if missing == 0 {
        return Fact::judged(control, expected, expected, Holds::Yes);
    }
    let observed = format!(
        "{missing} of them missing: its {} filters are others, or fewer",
        seen.len()
    );
    Fact::judged(control, expected, observed, Holds::No)
}

/// What a helper sees of each task; who is not in there was not looked at.
fn look(tasks: &[Task]) -> BTreeMap<i32, Result<BTreeSet<String>, Errno>> {
    let text = helper::run(PATIENCE, |teller| tell(tasks, teller)).unwrap_or_default();
    text.lines().filter_map(parse).collect()
}

/// In the helper: it ends right after, so that nobody stays stopped, or attached.
fn tell(tasks: &[Task], teller: Teller) -> Result<(), Errno> {
    let mut text = String::new();
    for task in tasks {
        let line = match gabion_sys::seccomp_filters(Pid::from_raw(task.tid), STOPS) {
            Ok(filters) => {
                let digests: Vec<String> = filters.iter().map(|filter| sha256_hex(filter)).collect();
                digests.join(" ")
            }
            Err(errno) => format!("! {}", errno as i32),
        };
        writeln!(text, "{} {line}", task.tid).map_err(|_| Errno::EINVAL)?;
    }
    teller.tell(&text)
}

fn parse(line: &str) -> Option<(i32, Result<BTreeSet<String>, Errno>)> {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let tid = words.next()?.parse().ok()?;
    let rest: Vec<&str> = words.collect();
    let seen = match rest.as_slice() {
        ["!", errno] => Err(Errno::from_raw(errno.parse().ok()?)),
        digests => Ok(digests.iter().map(|digest| (*digest).to_owned()).collect()),
    };
    Some((tid, seen))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_filter_of_create_must_be_there_and_more_may_be() {
        let set = |words: &[&str]| words.iter().map(|w| (*w).to_owned()).collect::<BTreeSet<_>>();
        let wanted = [set(&["a", "a-now"]), set(&["b"])];
        let holds = |seen: &[&str]| judge(ControlId::Seccomp, "x", &wanted, &set(seen)).holds;
        assert_eq!(holds(&["a", "b"]), Holds::Yes);
        assert_eq!(holds(&["host's", "a-now", "b", "its own"]), Holds::Yes);
        assert_eq!(holds(&["a", "other"]), Holds::No);
        assert_eq!(holds(&[]), Holds::No);
    }

    #[test]
    fn what_a_helper_tells_is_read_back() {
        assert_eq!(parse("7 ! 1"), Some((7, Err(Errno::EPERM))));
        assert_eq!(parse("7 "), Some((7, Ok(BTreeSet::new()))));
        assert_eq!(parse("7 a b").and_then(|(_, seen)| seen.ok()).map(|s| s.len()), Some(2));
        assert_eq!(parse("x"), None);
    }
}
