//! What the documents promise: a row for every control of the Pod Security Standards and for every CVE, and tests that exist.

use std::fs;

use gabion_core::control::CONTROLS;
use golden::{Outcome, home};

/// The standards' controls by profile and name (kubernetes.io, «Pod Security Standards»).
const PSS: [(&str, &str); 18] = [
    ("Baseline", "HostProcess"),
    ("Baseline", "Host Namespaces"),
    ("Baseline", "Privileged Containers"),
    ("Baseline", "Capabilities"),
    ("Baseline", "HostPath Volumes"),
    ("Baseline", "Host Ports"),
    ("Baseline", "Host Probes / Lifecycle Hooks"),
    ("Baseline", "AppArmor"),
    ("Baseline", "SELinux"),
    ("Baseline", "/proc Mount Type"),
    ("Baseline", "Seccomp"),
    ("Baseline", "Sysctls"),
    ("Restricted", "Volume Types"),
    ("Restricted", "Privilege Escalation"),
    ("Restricted", "Running as Non-root"),
    ("Restricted", "Running as Non-root user"),
    ("Restricted", "Seccomp"),
    ("Restricted", "Capabilities"),
];

const CVES: [&str; 14] = [
    "CVE-2019-5736",
    "CVE-2019-19921",
    "CVE-2021-30465",
    "CVE-2022-0185",
    "CVE-2022-0492",
    "CVE-2022-29162",
    "CVE-2023-27561",
    "CVE-2023-25809",
    "CVE-2024-21626",
    "CVE-2024-45310",
    "CVE-2025-31133",
    "CVE-2025-52565",
    "CVE-2025-52881",
    "CVE-2026-41579",
];

fn text(path: &str) -> Outcome<String> {
    let path = home().join("..").join(path);
    fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))
}

/// Cells of the rows of all tables.
fn rows(text: &str) -> Vec<Vec<&str>> {
    text.lines()
        .filter_map(|line| line.strip_prefix("| ")?.strip_suffix(" |"))
        .map(|line| line.split(" | ").map(str::trim).collect())
        .collect()
}

fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// `path` or `path::function`.
fn exists(reference: &str) -> Outcome<()> {
    let (path, function) = reference.split_once("::").unwrap_or((reference, ""));
    let full = home().join("..").join(path);
    if function.is_empty() {
        return if full.exists() {
            Ok(())
        } else {
            Err(format!("{path} is gone"))
        };
    }
    if text(path)?.contains(&format!("fn {function}(")) {
        Ok(())
    } else {
        Err(format!("{path} has no test {function}"))
    }
}

fn is_reference(word: &str) -> bool {
    ["tests/", "integration/", "runtime/tests/"]
        .iter()
        .any(|start| word.starts_with(start))
}

#[test]
fn every_pss_control_has_its_row() -> Outcome<()> {
    let doc = text("docs/CONTROLS.md")?;
    let (_, section) = doc
        .split_once("\n## Pod Security Standards\n")
        .ok_or("docs/CONTROLS.md has no such section")?;
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = rows(section);
    for (profile, name) in PSS {
        let row = rows
            .iter()
            .find(|row| row.first() == Some(&profile) && row.get(1) == Some(&name));
        let row = row.ok_or(format!("docs/CONTROLS.md: no row for PSS {profile}: {name}"))?;
        let (ours, tests) = (row[2], row[3]);
        let controls: Vec<_> = quoted(ours)
            .into_iter()
            .filter(|id| CONTROLS.iter().any(|c| c.id().as_str() == *id))
            .collect();
        if controls.is_empty() {
            assert!(
                ours.contains("not visible in an OCI config, use admission"),
                "{name}: {ours}"
            );
        } else {
            assert!(
                quoted(tests).iter().any(|word| is_reference(word)),
                "{name} names no test"
            );
            // The control itself refers to it, so that `check` shows it.
            let reference = format!("PSS {profile}: {name}");
            let refers = controls.iter().any(|id| {
                CONTROLS
                    .iter()
                    .any(|c| c.id().as_str() == *id && c.about().refs.contains(&reference.as_str()))
            });
            assert!(refers, "none of {controls:?} has «{reference}» among its references");
        }
    }
    assert_eq!(
        rows.iter()
            .filter(|r| r[0] == "Baseline" || r[0] == "Restricted")
            .count(),
        PSS.len()
    );
    Ok(())
}

#[test]
fn references_to_pss_use_its_names() {
    for control in CONTROLS {
        for reference in control.about().refs.iter().filter_map(|r| r.strip_prefix("PSS ")) {
            let known = reference.split_once(": ").is_some_and(|pair| PSS.contains(&pair));
            assert!(known, "{}: PSS {reference}", control.id());
        }
        let other = |start: &str| control.about().refs.iter().any(|r| r.starts_with(start));
        assert!(
            other("CIS ") || other("NIST SP 800-190 "),
            "{} refers to no benchmark",
            control.id()
        );
    }
}

/// A number means nothing without its edition and title: both are in the docs, and each is some control's.
#[test]
fn every_benchmark_number_is_named_in_the_docs() -> Outcome<()> {
    let doc = text("docs/CONTROLS.md")?;
    let (_, section) = doc
        .split_once("\n## Benchmarks\n")
        .ok_or("docs/CONTROLS.md has no such section")?;
    let rows = rows(section);
    for control in CONTROLS {
        for reference in control.about().refs.iter().filter(|r| !r.starts_with("PSS ")) {
            let row = rows.iter().find(|row| row.first() == Some(reference));
            let row = row.ok_or(format!("docs/CONTROLS.md: no row for {reference} ({})", control.id()))?;
            // «all but» names the others.
            let named = quoted(row[2]).contains(&control.id().as_str());
            assert!(
                named != row[2].starts_with("all but"),
                "{reference}: {} or not",
                control.id()
            );
        }
    }
    for row in rows.iter().filter(|row| row[0].contains(|c: char| c.is_ascii_digit())) {
        let meant = CONTROLS.iter().filter(|c| c.about().refs.iter().any(|r| *r == row[0]));
        assert!(meant.count() > 0, "{}: no control refers to it", row[0]);
    }
    Ok(())
}

#[test]
fn every_cve_has_its_row() -> Outcome<()> {
    let doc = text("docs/CVES.md")?;
    let rows = rows(&doc);
    for cve in CVES {
        let row = rows
            .iter()
            .find(|row| row.first() == Some(&cve))
            .ok_or(format!("docs/CVES.md: no row for {cve}"))?;
        assert!(
            row.len() == 4 && quoted(row[3]).iter().any(|word| is_reference(word)),
            "{cve} names no test"
        );
    }
    Ok(())
}

#[test]
fn tests_that_documents_name_exist() -> Outcome<()> {
    let mut missing = Vec::new();
    for document in [
        "docs/CONTROLS.md",
        "docs/CVES.md",
        "docs/THREAT-MODEL.md",
        "docs/MIGRATE.md",
        "docs/AUDIT.md",
    ] {
        for word in quoted(&text(document)?)
            .into_iter()
            .filter(|word| is_reference(word) && !word.contains('<'))
        {
            if let Err(why) = exists(word) {
                missing.push(format!("{document}: {why}"));
            }
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
    Ok(())
}
