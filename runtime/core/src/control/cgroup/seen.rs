//! What the container's cgroup shows, beside what was decided.

use crate::fact::{Fact, Holds};
use crate::hardened::{Hardened, SwapPlan};
use crate::id::ControlId;
use crate::observed::Observed;
use crate::size::in_words;

/// The kernel rounds a limit down to whole pages, of at most this size.
const LARGEST_PAGE: u64 = 64 << 10;

pub(super) fn facts(hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
    let mut facts = Vec::new();
    let resources = hardened.spec().linux().as_ref().and_then(|l| l.resources().as_ref());
    if let Some(limit) = resources.and_then(|r| super::finite(r.pids().map(|p| p.limit()))) {
        facts.push(limited(&["pids.max"], limit, 0, seen));
    } else {
        facts.push(unset("a limit on tasks"));
    }
    if let Some(limit) = resources.and_then(|r| super::finite(r.memory().and_then(|m| m.limit()))) {
        facts.push(limited(
            &["memory.max", "memory.limit_in_bytes"],
            limit,
            LARGEST_PAGE,
            seen,
        ));
        if hardened.plan().no_swap == SwapPlan::Closed {
            facts.push(no_swap(limit, seen));
        }
    } else {
        facts.push(unset("a limit on memory"));
    }
    facts.extend(read_only(hardened, seen));
    facts
}

/// What could not be had, and was warned of: nothing is there that could hold.
fn unset(what: &str) -> Fact {
    Fact::absent(ControlId::Cgroup, what, "none was set (warned of at create)")
}

/// v2 limits swap by itself, v1 memory and swap together.
fn no_swap(limit: u64, seen: &Observed) -> Fact {
    if seen.cgroup.contains_key("memory.swap.max") {
        limited(&["memory.swap.max"], 0, 0, seen)
    } else {
        limited(&["memory.memsw.limit_in_bytes"], limit, LARGEST_PAGE, seen)
    }
}

/// A limit as people read it: memory in units.
fn readable(file: &str, limit: u64) -> String {
    if file.starts_with("memory") {
        in_words(limit)
    } else {
        limit.to_string()
    }
}

/// The first of these files that is there shows the limit, or less by no more than rounding.
fn limited(files: &[&str], limit: u64, rounding: u64, seen: &Observed) -> Fact {
    let found = files
        .iter()
        .find_map(|f| seen.cgroup.get(*f).map(|value| (*f, value.trim())));
    let Some((file, value)) = found else {
        let name = files.join(" or ");
        return Fact::unknown(
            ControlId::Cgroup,
            format!("{name} {}", readable(&name, limit)),
            format!("{name} not shown"),
        );
    };
    // «max» is no number: unlimited.
    let holds = match value.parse::<u64>() {
        Ok(shown) if shown <= limit && limit - shown <= rounding => Holds::Yes,
        _ => Holds::No,
    };
    Fact::judged(
        ControlId::Cgroup,
        format!("{file} {}", readable(file, limit)),
        format!(
            "{file} {}",
            value.parse().map_or_else(|_| value.to_owned(), |n| readable(file, n))
        ),
        holds,
    )
}

/// No cgroup mount of the spec is writable, nor one below it (v1 has one for each controller).
fn read_only(hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
    let mounts = hardened.spec().mounts().iter().flatten();
    mounts
        .filter(|m| matches!(m.typ().as_deref(), Some("cgroup" | "cgroup2")))
        .map(|mount| {
            let at = crate::request::normalize(mount.destination());
            let expected = format!("{} read-only", at.display());
            if seen.mounts.is_empty() {
                return Fact::unknown(ControlId::Cgroup, expected, "no mounts shown");
            }
            let writable = seen.mounts.iter().find(|m| m.target.starts_with(&at) && !m.has("ro"));
            let (observed, holds) = match writable {
                None => (expected.clone(), Holds::Yes),
                Some(m) => (format!("{} writable", m.target.display()), Holds::No),
            };
            Fact::judged(ControlId::Cgroup, expected, observed, holds)
        })
        .collect()
}
