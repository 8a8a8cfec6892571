//! All that is wrong with a policy file, at once and with its place. Loading stops at the first fault; a person who mends
//! a file wants the others, too.
//!
//! What a value may be is asked of the types: each is parsed alone, in a file that holds nothing else.

use std::ops::Range;

use serde::Serialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::keys::{self, KEYS};
use super::narrow::NARROW;
use super::sense::{self, Fault};
use super::{Date, Policy};
use crate::id::ControlId;

/// Whether it keeps the policy from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Gravity {
    Error,
    /// It may be used, and probably does not do what was meant.
    Warning,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub line: usize,
    /// In characters, from 1.
    pub column: usize,
    pub gravity: Gravity,
    pub what: String,
    /// What was probably meant.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meant: Option<String>,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let word = if self.gravity == Gravity::Warning {
            "warning: "
        } else {
            ""
        };
        write!(f, "{}:{}: {word}{}", self.line, self.column, self.what)?;
        match &self.meant {
            Some(meant) => write!(f, "; did you mean `{meant}`?"),
            None => Ok(()),
        }
    }
}

/// Line and column of a byte.
pub fn place(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset.min(text.len())).unwrap_or_default();
    // A byte order mark is no column.
    let before = before.strip_prefix('\u{feff}').unwrap_or(before);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Everything that is wrong with this text, in its order.
pub fn validate(text: &str, today: Date) -> Vec<Problem> {
    let (table, faults) = DeTable::parse_recoverable(text);
    let mut walk = Walk {
        text,
        found: Vec::new(),
    };
    for fault in &faults {
        walk.error(fault.span().unwrap_or(0..0), fault.message().replace('\n', " "), None);
    }
    walk.table("", table.get_ref());
    match super::typed(text) {
        Ok(policy) => {
            // Each value was asked by itself; here the whole is.
            walk.found.retain(|problem| problem.gravity == Gravity::Error);
            let known = |found: &[Problem], at| found.iter().any(|p| (p.line, p.column) == at);
            for fault in sense::faults(&policy) {
                let (line, column) = fault.place(text);
                if fault.gravity == Gravity::Warning || !known(&walk.found, (line, column)) {
                    walk.found.push(problem(fault, line, column));
                }
            }
            walk.found.extend(advice(&policy, table.get_ref(), text, today));
        }
        // Where each part is good the whole may still be bad in ways that nobody here foresaw.
        Err(error) if walk.found.iter().all(|p| p.gravity == Gravity::Warning) => {
            walk.error(error.span().unwrap_or(0..0), error.message().replace('\n', " "), None);
        }
        Err(_) => {}
    }
    let mut found = walk.found;
    found.sort_by_key(|p| (p.line, p.column));
    found
}

impl Problem {
    /// Gives a fault its place.
    pub(super) fn of(fault: Fault, text: &str) -> Self {
        let (line, column) = fault.place(text);
        problem(fault, line, column)
    }
}

fn problem(fault: Fault, line: usize, column: usize) -> Problem {
    Problem {
        line,
        column,
        gravity: fault.gravity,
        what: format!("`{}`: {}", fault.name(), fault.what),
        meant: fault.meant,
    }
}

/// What must stand around a key of an exception for it to be parsed.
const EXCEPTION: &str = "[[exception]]\nreason = \"r\"\nmatch.namespace = \"n\"\n";

struct Walk<'a> {
    text: &'a str,
    found: Vec<Problem>,
}

impl Walk<'_> {
    fn error(&mut self, span: Range<usize>, what: String, meant: Option<String>) {
        let (line, column) = place(self.text, span.start);
        self.found.push(Problem {
            line,
            column,
            gravity: Gravity::Error,
            what,
            meant,
        });
    }

    fn table(&mut self, prefix: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name = format!("{prefix}{}", key.get_ref());
            match value.get_ref() {
                DeValue::Array(list) if name == "exception" => {
                    for entry in list {
                        self.exception(entry);
                    }
                }
                DeValue::Table(inner) if keys::is_table(&name) && name != "exception" => {
                    self.table(&format!("{name}."), inner);
                }
                _ if name == "exception" => {
                    self.error(key.span(), "write exceptions as [[exception]]".to_owned(), None);
                }
                _ if keys::is_table(&name) => {
                    self.error(key.span(), format!("`{name}` is a table: write [{name}]"), None);
                }
                _ => self.leaf(prefix, &name, key, value, ""),
            }
        }
    }

    /// One key with its value. `around`: what else its table must have to be parsed at all.
    fn leaf(
        &mut self,
        prefix: &str,
        name: &str,
        key: &Spanned<impl AsRef<str>>,
        value: &Spanned<DeValue<'_>>,
        around: &str,
    ) {
        let word = key.get_ref().as_ref();
        let control = prefix != "controls." || ControlId::ALL.iter().any(|id| id.as_str() == word);
        if keys::find(name).is_none() || !control {
            let what = if control {
                format!("unknown key `{name}`")
            } else {
                format!("unknown control `{word}`")
            };
            self.error(key.span(), what, meant(prefix, word));
            return;
        }
        let alone = name.strip_prefix("exception.").unwrap_or(name);
        match value.get_ref() {
            // Each entry by itself, since each has a place of its own.
            DeValue::Array(list) if list.iter().all(|item| item.get_ref().is_str()) => {
                for item in list {
                    self.value(name, alone, item, around, ("[", "]"));
                }
            }
            _ => self.value(name, alone, value, around, ("", "")),
        }
    }

    /// One value, in a file that has nothing else.
    fn value(
        &mut self,
        name: &str,
        alone: &str,
        value: &Spanned<DeValue<'_>>,
        around: &str,
        (before, after): (&str, &str),
    ) {
        let span = value.span();
        let Some(source) = self.text.get(span.clone()) else {
            return;
        };
        match super::typed(&format!("{around}{alone} = {before}{source}{after}\n")) {
            Err(error) => {
                let why = error.message().replace('\n', " ");
                let near = nearest_value(name, source.trim_matches('"'));
                self.error(span, format!("`{name}`: {why}"), near);
            }
            Ok(policy) => {
                let of_this = |fault: &Fault| fault.key == alone && fault.exception.is_some() != around.is_empty();
                for fault in sense::faults(&policy).into_iter().filter(of_this) {
                    let (line, column) = place(self.text, span.start);
                    self.found.push(problem(fault, line, column));
                }
            }
        }
    }

    fn exception(&mut self, entry: &Spanned<DeValue<'_>>) {
        let DeValue::Table(table) = entry.get_ref() else {
            self.error(entry.span(), "an exception is a table".to_owned(), None);
            return;
        };
        self.has_what_it_needs(entry, table);
        for (key, value) in table {
            let name = format!("exception.{}", key.get_ref());
            match value.get_ref() {
                DeValue::Table(inner) if name == "exception.match" => self.matches(entry, inner),
                DeValue::Table(inner) if keys::is_table(&name) => {
                    for (key, value) in inner {
                        let whole = format!("{name}.{}", key.get_ref());
                        self.leaf(&format!("{name}."), &whole, key, value, EXCEPTION);
                    }
                }
                _ if name == "exception.match" => {
                    self.error(
                        value.span(),
                        "`match` is a table: { namespace = \"…\" }".to_owned(),
                        None,
                    );
                }
                _ if keys::is_table(&name) => {
                    let word = key.get_ref();
                    let below = keys::below(&name).unwrap_or_default();
                    self.error(
                        key.span(),
                        format!("`{name}` is a table: write {word}.{below} = […]"),
                        None,
                    );
                }
                // The last of two that are said is the first to be parsed: reason stands for itself.
                _ if name == "exception.reason" => {
                    let around = "[[exception]]\nmatch.namespace = \"n\"\n";
                    self.leaf("exception.", &name, key, value, around);
                }
                _ => self.leaf("exception.", &name, key, value, EXCEPTION),
            }
        }
    }

    fn has_what_it_needs(&mut self, entry: &Spanned<DeValue<'_>>, table: &DeTable<'_>) {
        let has = |name: &str| table.keys().any(|k| k.get_ref() == name);
        if !has("reason") {
            self.error(
                entry.span(),
                "this exception has no `reason`: why is it there?".to_owned(),
                None,
            );
        }
        if !has("match") {
            self.error(
                entry.span(),
                "this exception has no `match`: whom is it for?".to_owned(),
                None,
            );
        }
    }

    fn matches(&mut self, entry: &Spanned<DeValue<'_>>, table: &DeTable<'_>) {
        if !table.keys().any(|k| k.get_ref() == "namespace") {
            self.error(
                entry.span(),
                "`match` of this exception names no `namespace`".to_owned(),
                None,
            );
        }
        for (key, value) in table {
            let name = format!("exception.match.{}", key.get_ref());
            let namespace = if name == "exception.match.namespace" {
                ""
            } else {
                "match.namespace = \"n\"\n"
            };
            let around = format!("[[exception]]\nreason = \"r\"\n{namespace}");
            self.leaf("exception.match.", &name, key, value, &around);
        }
    }
}

/// The name that was probably meant: one of the same table, else one that stands elsewhere.
fn meant(prefix: &str, word: &str) -> Option<String> {
    if prefix == "controls." {
        let near = keys::nearest(word, ControlId::ALL.iter().map(|id| id.as_str()));
        return near.map(str::to_owned);
    }
    let here = |name: &'static str| name.strip_prefix(prefix)?.split('.').next();
    let narrow = prefix.strip_prefix("exception.");
    let narrow = narrow.map(|table| {
        NARROW
            .iter()
            .filter_map(move |key| key.strip_prefix(table)?.split('.').next())
    });
    let names = KEYS
        .iter()
        .filter_map(|k| here(k.name))
        .chain(narrow.into_iter().flatten());
    if let Some(near) = keys::nearest(word, names.filter(|name| !name.starts_with('<'))) {
        return Some(format!("{prefix}{near}"));
    }
    let last = |name: &'static str| name.rsplit('.').next().unwrap_or(name);
    let near = keys::nearest(word, KEYS.iter().map(|k| last(k.name)))?;
    KEYS.iter().find(|k| last(k.name) == near).map(|k| k.name.to_owned())
}

/// The value that was probably meant.
fn nearest_value(name: &str, said: &str) -> Option<String> {
    let values = keys::find(name).map_or("", |k| k.values);
    let controls = ControlId::ALL.iter().map(|id| id.as_str());
    let near = if values == "controls" {
        keys::nearest(said, controls)
    } else {
        keys::nearest(said, values.split(", "))
    };
    near.filter(|near| *near != said).map(str::to_owned)
}

/// How many days before its end an exception is spoken of.
const SOON: u32 = 30;

/// What parses and probably does not do what was meant.
fn advice(policy: &Policy, table: &DeTable<'_>, text: &str, today: Date) -> Vec<Problem> {
    let entries = match table.get("exception").map(Spanned::get_ref) {
        Some(DeValue::Array(list)) => list.iter().map(|entry| entry.span().start).collect(),
        _ => Vec::new(),
    };
    let mut found = Vec::new();
    for (index, exception) in policy.exceptions.iter().enumerate() {
        let (line, column) = place(text, entries.get(index).copied().unwrap_or(0));
        let mut warn = |what: String| {
            found.push(Problem {
                line,
                column,
                gravity: Gravity::Warning,
                what,
                meant: None,
            });
        };
        if policy.cri == super::Cri::None {
            warn("with cri = \"none\" an exception matches nothing".to_owned());
        }
        match exception.expires {
            Some(day) if day < today => warn(format!("this exception expired on {day}")),
            Some(day) if day <= today.after(SOON) => warn(format!("this exception ends with {day}")),
            _ => {}
        }
        if exception.level.is_none() && exception.loosen.is_empty() && !exception.has_narrow_keys() {
            warn("this exception has no `level`, no `loosen` and no narrow key: it changes nothing".to_owned());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn today() -> Date {
        "2026-11-28".parse().unwrap()
    }

    fn said(text: &str) -> Vec<String> {
        validate(text, today()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn all_at_once_with_their_places() {
        let text = "levle = \"hardened\"\nlock = \"yes\"\nexec = \"alow\"\nmax_pids = 3\n\n[mounts]\nalow = []\nallow = [1]\n\n\
                    [controls]\nrotfs = \"observe\"\nrootfs = \"off\"\n\n[cgroup]\nmemory = \"2q\"\n  pids = -1\n";
        let said = said(text);
        let want = [
            "1:1: unknown key `levle`; did you mean `level`?",
            "2:8: `lock`: ",
            "3:8: `exec`: ",
            "4:1: unknown key `max_pids`; did you mean `cgroup.max_pids`?",
            "7:1: unknown key `mounts.alow`; did you mean `mounts.allow`?",
            "8:9: `mounts.allow`: ",
            "11:1: unknown control `rotfs`; did you mean `rootfs`?",
            "12:10: `controls.rootfs`: ",
            "15:10: `cgroup.memory`: ",
            "16:10: `cgroup.pids`: ",
        ];
        assert_eq!(said.len(), want.len(), "{said:#?}");
        for (said, want) in said.iter().zip(want) {
            assert!(said.starts_with(want), "{said} / {want}");
        }
        assert!(said[2].ends_with("did you mean `allow`?"), "{}", said[2]);
    }

    #[test]
    fn exceptions() {
        let text = "cri = \"containerd\"\n[[exception]]\nreason = \" \"\nmatch = { namespce = \"a\" }\nexpires = 12:00:00\n\n\
                    [[exception]]\nmatch.namespace = \"a\"\nloosen = [\"rotfs\"]\nlevel = \"soft\"\n\n\
                    [[exception]]\nreason = \"r\"\nmatch = { namespace = \"a\" }\nexpires = \"2020-01-01\"\n";
        let said = said(text);
        for words in [
            "2:1: `match` of this exception names no `namespace`",
            "3:10: `exception.reason`: `reason` is empty",
            "4:11: unknown key `exception.match.namespce`; did you mean `exception.match.namespace`?",
            "5:11: `exception.expires`: ",
            "7:1: this exception has no `reason`",
            "9:11: `exception.loosen`: ",
            "10:9: `exception.level`: ",
        ] {
            assert!(said.iter().any(|s| s.starts_with(words)), "{words}: {said:#?}");
        }
        assert!(said.iter().any(|s| s.contains("2026-12-31")), "{said:#?}");
        assert_eq!(said.len(), 7, "{said:#?}");
    }

    #[test]
    fn what_is_good_is_good() {
        assert_eq!(said(crate::policy::BUILT_IN), Vec::<String>::new());
        assert_eq!(said(""), Vec::<String>::new());
    }

    #[test]
    fn syntax_and_semantics() {
        let said = said("level = \nlock = true\n[capabilities]\nallow = [\"CAP_FLY\"]\n[audit]\nfile = \"relative\"\n");
        assert!(said.iter().any(|s| s.starts_with("1:")), "{said:#?}");
        assert!(
            said.iter().any(|s| s.starts_with("4:10: ") && s.contains("CAP_FLY")),
            "{said:#?}"
        );
        assert!(
            said.iter().any(|s| s.starts_with("6:8: ") && s.contains("absolute")),
            "{said:#?}"
        );
    }

    #[test]
    fn advice_for_exceptions() {
        let text = "[[exception]]\nreason = \"r\"\nmatch = { namespace = \"a\" }\nexpires = \"2020-01-01\"\n";
        let problems = validate(text, today());
        assert!(
            problems.iter().all(|p| p.gravity == Gravity::Warning && p.line == 1),
            "{problems:?}"
        );
        assert_eq!(problems.len(), 3);
    }
}
