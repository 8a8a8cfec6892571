//! docs/CONTROLS.md beside the table of controls and the codes of refusals: it cannot drift.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use gabion_core::control::CONTROLS;
use gabion_core::request::annotations::{For, KNOWN, Known};
use golden::{Expect, Outcome, cases, home, json};

fn repo() -> PathBuf {
    home().join("..")
}

fn text(path: &Path) -> Outcome<String> {
    fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Line breaks of a paragraph mean nothing.
fn flat(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The sections below `## id`, in their order.
fn sections(doc: &str) -> Vec<(&str, &str)> {
    doc.split("\n## ")
        .skip(1)
        .map(|section| section.split_once('\n').unwrap_or((section, "")))
        .collect()
}

/// `id.reason`, wherever it stands between backticks.
fn codes_of<'a>(section: &'a str, id: &str) -> BTreeSet<&'a str> {
    section
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.strip_prefix(id)?.strip_prefix('.'))
        .filter(|reason| {
            reason
                .chars()
                .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        })
        .collect()
}

/// All Rust source of one control, or below any other path.
fn source(path: &Path) -> Outcome<String> {
    let mut all = text(&path.with_extension("rs")).unwrap_or_default();
    for entry in fs::read_dir(path).into_iter().flatten().flatten().map(|e| e.path()) {
        all.push_str(&if entry.is_dir() { source(&entry)? } else { text(&entry)? });
    }
    Ok(all)
}

#[test]
fn every_control_has_its_section_in_its_own_words() -> Outcome<()> {
    let doc = text(&repo().join("docs/CONTROLS.md"))?;
    let sections: Vec<_> = sections(&doc)
        .into_iter()
        .filter(|(title, _)| !["How to read a section", "Pod Security Standards", "CDI", "Benchmarks"].contains(title))
        .collect();
    let titles: Vec<&str> = sections.iter().map(|(title, _)| *title).collect();
    let table: Vec<&str> = CONTROLS.iter().map(|c| c.id().as_str()).collect();
    assert_eq!(
        titles, table,
        "the sections of docs/CONTROLS.md are the table, in its order"
    );
    for (control, (title, body)) in CONTROLS.iter().zip(&sections) {
        let about = control.about();
        let body = flat(body);
        for (label, words) in [
            ("Threat", about.threat),
            ("Rule", about.rule),
            ("Enforced by", about.enforced_by),
            ("Kernel floor", about.kernel_floor),
            ("References", &about.refs.join(", ")),
        ] {
            let line = format!("**{label}.** {}.", flat(words));
            assert!(body.contains(&line), "docs/CONTROLS.md, {title}, lacks:\n{line}");
        }
    }
    Ok(())
}

#[test]
fn every_refusal_is_in_the_section_of_its_control() -> Outcome<()> {
    let doc = text(&repo().join("docs/CONTROLS.md"))?;
    let mut missing = BTreeSet::new();
    for case in cases()? {
        let expect: Expect = serde_json::from_value(json::read(&case.join("expect.json"))?)
            .map_err(|e| format!("{}: {e}", case.display()))?;
        for code in expect.codes {
            let (id, reason) = code.split_once('.').unwrap_or_default();
            let section = sections(&doc).into_iter().find(|(title, _)| *title == id);
            if !section.is_some_and(|(_, body)| codes_of(body, id).contains(reason)) {
                missing.insert(code);
            }
        }
    }
    assert!(missing.is_empty(), "not in docs/CONTROLS.md: {missing:?}");
    Ok(())
}

/// Also of those that no golden case gives: update's, exec's, and what is no refusal.
#[test]
fn every_code_that_is_explained_has_its_place() -> Outcome<()> {
    let (controls, commands) = (
        text(&repo().join("docs/CONTROLS.md"))?,
        text(&repo().join("docs/COMMANDS.md"))?,
    );
    let mut missing = Vec::new();
    for code in gabion_core::explain::all().map(|entry| entry.code) {
        let id = code.split('.').next().unwrap_or_default();
        let section = sections(&controls).into_iter().find(|(title, _)| *title == id);
        let quoted = format!("`{code}`");
        if !section.map_or(commands.as_str(), |(_, body)| body).contains(&quoted) {
            missing.push(code);
        }
    }
    assert!(
        missing.is_empty(),
        "neither in CONTROLS.md nor in COMMANDS.md: {missing:?}"
    );
    Ok(())
}

#[test]
fn every_code_in_the_docs_is_one_that_its_control_gives() -> Outcome<()> {
    let doc = text(&repo().join("docs/CONTROLS.md"))?;
    // Those told by `create` itself are written out whole, outside of the control.
    let mut everything = String::new();
    for folder in ["src", "core/src", "see/src", "common/src", "ctl/src"] {
        everything.push_str(&source(&repo().join("runtime").join(folder))?);
    }
    for control in CONTROLS {
        let id = control.id().as_str();
        let source = source(&repo().join("runtime/core/src/control").join(id))?;
        for (title, body) in sections(&doc) {
            for reason in codes_of(body, id) {
                assert!(
                    source.contains(&format!("\"{reason}\"")) || everything.contains(&format!("\"{id}.{reason}\"")),
                    "docs/CONTROLS.md, {title}: {id}.{reason} is nowhere in the source"
                );
            }
        }
    }
    Ok(())
}

#[test]
fn every_annotation_is_in_the_docs_and_no_other() -> Outcome<()> {
    let doc = text(&repo().join("docs/POLICY.md"))?;
    let section = sections(&doc).into_iter().find(|(title, _)| *title == "Annotations");
    let (_, section) = section.ok_or("docs/POLICY.md has no section «Annotations»")?;
    let rows = section.lines().filter(|line| line.starts_with("| `dev.gabion."));
    let row = |known: &Known| {
        let values: Vec<String> = known.values.iter().map(|value| format!("`{value}`")).collect();
        let control = if known.key.contains("landlock") {
            "landlock"
        } else {
            "holes"
        };
        let values = if values.is_empty() {
            format!("see [CONTROLS.md](CONTROLS.md#{control})")
        } else {
            values.join(", ")
        };
        let one = if known.containers == For::AllOrOne { "yes" } else { "no" };
        format!("| `{}` | {values} | {one} | {} |", known.key, known.about)
    };
    let wanted: Vec<String> = KNOWN.iter().map(row).collect();
    assert_eq!(rows.collect::<Vec<_>>(), wanted);
    Ok(())
}
