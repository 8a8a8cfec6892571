//! docs/RECIPES.md says what these tests run.

use crate::table::{Need, Restricted, Service};
use crate::{SERVICES, recipes};
use std::fs;

const REPO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

fn text(path: &str) -> String {
    fs::read_to_string(format!("{REPO}/{path}")).expect(path)
}

fn all() -> impl Iterator<Item = &'static Service> {
    SERVICES.iter().copied().flatten()
}

/// As a shell wants it.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@".contains(c);
    if word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{word}'")
    }
}

/// `G OPTIONS IMAGE COMMAND`, with `HOLES` for the annotation's long name.
fn command_line(service: &Service) -> String {
    let words = service.podman_options(None);
    let mut line = vec!["G".to_owned()];
    let mut words = words.iter();
    while let Some(word) = words.next() {
        line.push(match (word.as_str(), words.as_slice().first()) {
            ("--annotation", Some(value)) => {
                let holes = value.strip_prefix("dev.gabion.holes=").expect("the holes");
                words.next();
                format!("HOLES={}", quoted(holes))
            }
            (word, _) => quoted(word),
        });
    }
    line.push("IMAGE".to_owned());
    line.extend(service.command.iter().map(|word| quoted(word)));
    line.join(" ")
}

fn row(service: &Service) -> String {
    let level = match service.restricted {
        Restricted::Reached => "restricted".to_owned(),
        Restricted::Refused(code) => format!("hardened (`{code}`)"),
        Restricted::Jit(_) => "restricted with `memory.mdwe`".to_owned(),
    };
    let Service { name, asked, .. } = service;
    format!("| {name} | `{}` | {asked} | {level} |", command_line(service))
}

fn need(need: Need) -> String {
    match need {
        Need::Hole(entry) => entry.split(':').next().unwrap_or_default().to_owned(),
        Need::Volume(volume) => format!("-v {volume}"),
        Need::Option(words) => words.join(" "),
        Need::Policy(lines) => lines.replace('\n', " "),
    }
}

fn symptoms(service: &'static Service) -> impl Iterator<Item = String> {
    let name = service.name;
    service
        .needs
        .iter()
        .map(move |(missing, says)| format!("| {name} | `{}` | `{says}` |", need(*missing)))
}

/// The lines of the table below a heading, without its own two.
fn table<'a>(text: &'a str, heading: &str) -> Vec<&'a str> {
    let section = text.split("\n## ").find(|section| section.starts_with(heading));
    let section = section.unwrap_or_else(|| panic!("no section «{heading}»"));
    section.lines().filter(|line| line.starts_with("| ")).skip(1).collect()
}

#[track_caller]
fn same(heading: &str, wanted: &[String]) {
    let text = text("docs/RECIPES.md");
    let there = table(&text, heading);
    assert!(
        there == wanted,
        "docs/RECIPES.md, «{heading}», should have\n{}",
        wanted.join("\n")
    );
}

#[test]
fn every_service_has_its_row() {
    same("Services", &all().map(row).collect::<Vec<_>>());
}

#[test]
fn every_symptom_has_its_row() {
    same(
        "What a missing one looks like",
        &all().flat_map(symptoms).collect::<Vec<_>>(),
    );
}

#[test]
fn every_package_is_in_the_root_file_system() {
    let recipe = text("integration/tests/services/image/recipe");
    for service in all() {
        let there = recipe.split_whitespace().any(|word| word == service.package);
        assert!(there, "{} is not installed", service.package);
    }
}

/// The words that the recipes' tests say and read.
#[test]
fn the_recipes_say_what_is_tested() {
    let text = text("docs/RECIPES.md");
    for words in recipes::QUOTED {
        assert!(text.contains(words), "docs/RECIPES.md does not say «{words}»");
    }
}
