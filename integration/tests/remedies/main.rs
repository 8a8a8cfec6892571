//! Every refusal is met with a real container, what its remedy says is done, and the container runs. The codes are those of
//! `gabion explain`: a new one without a row here fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod attempt;
mod created;
mod elsewhere;
mod isolated;
mod later;
mod mounted;

use attempt::Row;
use integration::Runtime;
use std::collections::BTreeSet;
use std::process::Command;

fn rows() -> impl Iterator<Item = &'static Row> {
    created::ROWS
        .iter()
        .chain(isolated::ROWS)
        .chain(mounted::ROWS)
        .chain(later::ROWS)
}

/// A row that fails does not hide the others.
#[track_caller]
fn try_all(rows: &[Row]) {
    let failed: Vec<&str> = rows
        .iter()
        .filter(|row| std::panic::catch_unwind(|| row.check()).is_err())
        .map(|row| row.code)
        .collect();
    assert!(failed.is_empty(), "remedies that do not help: {failed:?}");
}

#[test]
fn what_create_refuses_runs_after_its_remedy() {
    std::thread::scope(|scope| {
        let other = scope.spawn(|| try_all(created::ROWS));
        try_all(isolated::ROWS);
        other.join().expect("its remedies help");
    });
}

#[test]
fn what_mounts_refuses_runs_after_its_remedy() {
    try_all(mounted::ROWS);
}

#[test]
fn what_exec_and_update_refuse_is_done_after_its_remedy() {
    try_all(later::ROWS);
}

/// No code is left out, and none is listed that is gone.
#[test]
fn every_code_has_a_row() {
    let mut explain = Command::new(&Runtime::gabion().program);
    let out = explain.arg("explain").output().expect("gabion explain").stdout;
    let out = String::from_utf8(out).expect("text");
    let refusals: BTreeSet<&str> = out
        .lines()
        // The first of its sections.
        .take_while(|line| *line != "Controls:")
        .filter_map(|line| line.split_whitespace().next())
        .filter(|code| code.contains('.') && !code.starts_with("run."))
        .filter(|code| !code.contains('<'))
        .filter(|code| !elsewhere::NO_REFUSALS.contains(code))
        .collect();
    assert!(refusals.len() > 80, "{refusals:?}");
    let tried: BTreeSet<&str> = rows().map(|row| row.code).collect();
    let named: BTreeSet<&str> = elsewhere::WHY.iter().map(|(code, _)| *code).collect();
    let both: Vec<_> = tried.intersection(&named).collect();
    assert!(both.is_empty(), "tried, and excused: {both:?}");
    let known: BTreeSet<&str> = tried.union(&named).copied().collect();
    let missing: Vec<_> = refusals.difference(&known).collect();
    assert!(missing.is_empty(), "no row for {missing:?}");
    let gone: Vec<_> = known.difference(&refusals).collect();
    assert!(gone.is_empty(), "no such code any more: {gone:?}");
}
