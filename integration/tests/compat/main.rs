//! The same case on gabion (level permissive) and on runc and crun: what a caller or the workload sees must be the same.
//!
//! A case is a row: a name, the section of the runtime spec, a JSON merge patch over an ordinary config.json, a script that
//! tells what it sees (or a drive, for what only a caller sees). A difference is a bug, or stands in docs/RUNC-COMPAT.md.
//! A case with a `field` is run once more without that field, and must then tell something else.
//!
//! `GABION_COMPAT_CASE=name,section,…` runs these cases alone and prints what each runtime told; a section is the beginning of one
//! (`runtime.md`, `config-linux.md#cpu`, `runc exec`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::too_many_lines,
    reason = "test code: a panic is how a test fails"
)]

mod case;
mod cases;
mod document;
mod patch;
mod peers;

use case::Case;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Runs the check over all rows, on as many threads as there are processors, and fails with every row that failed.
fn all(check: fn(&Case) -> Result<(), String>) {
    let only = std::env::var("GABION_COMPAT_CASE").ok();
    let cases: Vec<Case> = cases::all()
        .into_iter()
        .filter(|c| {
            only.as_deref()
                .is_none_or(|names| names.split(',').any(|name| c.name == name || is_section(c, name)))
        })
        .collect();
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism()
        .map_or(2, std::num::NonZero::get)
        .clamp(4, 8);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let begun = std::time::Instant::now();
                    let checked = std::panic::catch_unwind(|| check(case));
                    if begun.elapsed() > integration::command::limit(10) {
                        eprintln!("{} took {:?}", case.name, begun.elapsed());
                    }
                    let result = checked.unwrap_or_else(|panic| Err(message(&*panic)));
                    if let Err(why) = result {
                        let why = format!("{} ({}): {why}", case.name, case.section);
                        // At once, too: on a slow node the end may not be reached.
                        eprintln!("{why}\n");
                        failures.lock().unwrap().push(why);
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} of {} cases:\n{}",
        failures.len(),
        cases.len(),
        failures.join("\n\n")
    );
}

/// A file of the runtime spec, a heading in it, or a command of runc.
fn is_section(case: &Case, name: &str) -> bool {
    name.contains(['#', '.', ' ']) && case.section.starts_with(name)
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()))
        .unwrap_or_else(|| "panicked".to_owned())
}

#[test]
fn gabion_runc_and_crun_show_the_same() {
    let shown = std::panic::catch_unwind(|| all(Case::same_everywhere));
    peers::sweep();
    if let Err(panic) = shown {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn a_supported_field_that_is_deleted_shows() {
    all(Case::deleted_field_shows);
}

#[test]
fn names_are_unique_and_there_are_enough() {
    let cases = cases::all();
    let mut names: Vec<&str> = cases.iter().map(|c| c.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), cases.len(), "two cases have one name");
    assert!(cases.len() >= 150, "only {} cases", cases.len());
}
