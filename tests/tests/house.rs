//! The house: who may import whom. Between crates cargo keeps the order; within a crate rooms (the files and folders right below src) must
//! form no circle, or none of them can be read, tested or taken out alone. docs/ARCHITECTURE.md has the picture.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use golden::Outcome;

/// The crates below runtime/, and the shim.
const CRATES: [&str; 7] = [
    "runtime/core/src",
    "runtime/sys/src",
    "runtime/see/src",
    "runtime/common/src",
    "runtime/src",
    "runtime/ctl/src",
    "shim/src",
];

fn repo() -> PathBuf {
    golden::home().join("..")
}

fn sources(dir: &Path, found: &mut Vec<PathBuf>) -> Outcome<()> {
    for entry in fs::read_dir(dir).map_err(|e| format!("{}: {e}", dir.display()))? {
        let path = entry.map_err(|e| e.to_string())?.path();
        if path.is_dir() {
            sources(&path, found)?;
        } else if path.extension().is_some_and(|ext| ext == "rs") {
            found.push(path);
        }
    }
    Ok(())
}

/// The code of a file: without comments, and without its unit tests, which stand last.
fn code(path: &Path) -> Outcome<String> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    let product = text.split("#[cfg(test)]").next().unwrap_or_default();
    Ok(product
        .lines()
        .map(|line| line.split("//").next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join("\n"))
}

/// The room that a file is in: `container/create.rs` is in `container`, as is `container.rs`.
fn room(src: &Path, path: &Path) -> Option<String> {
    let inside = path.strip_prefix(src).ok()?;
    let first = inside.components().next()?.as_os_str().to_str()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (!matches!(name, "lib" | "main" | "testing" | "tests")).then(|| name.to_owned())
}

/// The rooms that code names by `crate::ROOM`, in `use` lines (also in braces) and elsewhere.
fn named(code: &str) -> BTreeSet<String> {
    let word = |text: &str| {
        let end = text
            .find(|c: char| !c.is_ascii_alphanumeric() && c != '_')
            .unwrap_or(text.len());
        text[..end].to_owned()
    };
    let mut found = BTreeSet::new();
    for rest in code.split("crate::").skip(1) {
        let Some(list) = rest.strip_prefix('{') else {
            found.insert(word(rest));
            continue;
        };
        // Names at the outermost level of the braces.
        let (mut depth, mut begins) = (0, true);
        for (at, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => break,
                '}' => depth -= 1,
                ',' if depth == 0 => begins = true,
                c if c.is_whitespace() => {}
                _ if begins && depth == 0 => {
                    found.insert(word(&list[at..]));
                    begins = false;
                }
                _ => {}
            }
        }
    }
    found
}

type Rooms = BTreeMap<String, BTreeSet<String>>;

fn rooms(src: &Path) -> Outcome<Rooms> {
    let mut files = Vec::new();
    sources(src, &mut files)?;
    let mut rooms = Rooms::new();
    for path in &files {
        let inside = path.strip_prefix(src).unwrap_or(path);
        if inside
            .components()
            .any(|part| part.as_os_str() == "tests" || part.as_os_str() == "tests.rs")
        {
            continue;
        }
        if let Some(name) = room(src, path) {
            rooms.entry(name).or_default().extend(named(&code(path)?));
        }
    }
    let known: BTreeSet<String> = rooms.keys().cloned().collect();
    for (name, others) in &mut rooms {
        others.retain(|other| other != name && known.contains(other));
    }
    Ok(rooms)
}

/// Rooms that no order can be given to: each imports, through others, itself.
fn circle(mut rooms: Rooms) -> Vec<String> {
    loop {
        let leaves: Vec<String> = rooms
            .iter()
            .filter(|(_, others)| others.is_empty())
            .map(|(name, _)| name.clone())
            .collect();
        if leaves.is_empty() {
            return rooms.into_keys().collect();
        }
        for leaf in leaves {
            rooms.remove(&leaf);
            for others in rooms.values_mut() {
                others.remove(&leaf);
            }
        }
    }
}

#[test]
fn no_circle_between_rooms() -> Outcome<()> {
    for src in CRATES {
        let found = rooms(&repo().join(src))?;
        assert!(!found.is_empty(), "{src} has no rooms");
        let circle = circle(found.clone());
        let arrows: Vec<String> = circle
            .iter()
            .flat_map(|name| {
                found[name]
                    .iter()
                    .filter(|other| circle.contains(other))
                    .map(move |other| format!("{name} -> {other}"))
            })
            .collect();
        assert!(circle.is_empty(), "{src}: a circle of rooms: {}", arrows.join(", "));
    }
    Ok(())
}

#[test]
fn a_circle_is_found_however_it_is_written() {
    let rooms = |list: &[(&str, &str)]| -> Rooms {
        list.iter()
            .map(|(name, code)| ((*name).to_owned(), named(code)))
            .collect()
    };
    let ordered = rooms(&[
        ("a", "use crate::b::{X, c};"),
        ("b", "fn f() { crate::c::g() }"),
        ("c", ""),
    ]);
    assert!(circle(ordered).is_empty());
    for back in [
        "use crate::a::X;",
        "fn g() { crate::a::f() }",
        "use crate::{b::{self, Y}, a};",
        "use crate::{\n    a::X,\n};",
    ] {
        let around = rooms(&[("a", "use crate::b;"), ("b", "use crate::c;"), ("c", back)]);
        assert_eq!(circle(around), ["a", "b", "c"], "{back}");
    }
}

/// The fence: unsafe code is one crate's, and one file's of the shim.
#[test]
fn no_crate_but_the_fence_can_have_unsafe_code() -> Outcome<()> {
    for src in CRATES
        .iter()
        .filter(|src| **src != "runtime/sys/src" && **src != "shim/src")
    {
        let root = ["lib.rs", "main.rs"].map(|file| repo().join(src).join(file));
        let root = root
            .iter()
            .find(|path| path.exists())
            .ok_or_else(|| format!("{src} has no root"))?;
        let text = fs::read_to_string(root).map_err(|e| e.to_string())?;
        assert!(text.contains("#![forbid(unsafe_code)]"), "{}", root.display());
    }
    Ok(())
}

/// The core is pure by what it may link.
#[test]
fn the_core_links_nothing_that_touches_a_machine() -> Outcome<()> {
    let text = fs::read_to_string(repo().join("runtime/core/Cargo.toml")).map_err(|e| e.to_string())?;
    let dependencies = text
        .split("[dependencies]")
        .nth(1)
        .and_then(|rest| rest.split("\n[").next())
        .ok_or("no dependencies")?;
    let names: BTreeSet<&str> = dependencies
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    let pure = BTreeSet::from(["oci-spec", "serde", "serde_json", "sha2", "strsim", "toml"]);
    assert_eq!(names, pure, "is the new one pure, too?");
    Ok(())
}

/// What a vetted container may be made of is said in one place each.
#[test]
fn a_vetted_container_is_made_in_two_places_only() -> Outcome<()> {
    let (mut decided, mut stored) = (Vec::new(), Vec::new());
    for src in CRATES {
        let mut files = Vec::new();
        sources(&repo().join(src), &mut files)?;
        for path in files
            .iter()
            .filter(|path| !path.ends_with("hardened.rs") && !path.ends_with("testing.rs"))
        {
            let code = code(path)?;
            let name = path.strip_prefix(repo()).unwrap_or(path).display().to_string();
            if code.contains("Hardened::decided") {
                decided.push(name.clone());
            }
            if code.contains("Stored::from_own_state") || code.contains(".from_own_state()") {
                stored.push(name);
            }
        }
    }
    assert_eq!(decided, ["runtime/core/src/harden.rs"]);
    assert_eq!(stored, ["runtime/see/src/state/record.rs"]);
    Ok(())
}
