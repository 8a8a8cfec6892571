//! Bounds a record, whatever it is about: callers choose how long their names are, and how many things they ask for.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::record::{LONG, Line, MANY};

/// How many bytes a record has at most, without its line end.
pub const LARGEST: usize = 16 << 10;

/// How much is left of a record that is too large: entries of a list, characters of a text. The first that is enough is taken. Of the last
/// nothing can be too large: what a record always has takes 2 KiB.
const STEPS: [(usize, usize); 8] = [
    (MANY, LONG),
    (50, 256),
    (50, 96),
    (25, 96),
    (12, 96),
    (12, 48),
    (4, 48),
    (0, 16),
];

/// What no bound cuts: gabion's own words, and what binds a record into the chain. An id has at most 1024 characters, and none that JSON writes longer.
const KEPT: [&str; 15] = [
    "v", "seq", "time", "boot", "prev", "uid", "event", "id", "level", "policy", "caller", "of", "code", "how",
    "sha256",
];

/// What is not in a record any more: how many entries of which list, and to how many characters texts were cut.
#[derive(Default, Serialize)]
struct Cut {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    entries: BTreeMap<String, usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    characters: Option<usize>,
}

/// Gives a record's bytes, at most [`LARGEST`]. A record of which something was cut says what, as `cut`.
///
/// # Errors
/// It cannot be written as JSON.
pub fn bytes(line: &Line<'_>) -> serde_json::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if !line.event.is_long() {
        bytes = serde_json::to_vec(line)?;
        if bytes.len() <= LARGEST {
            return Ok(bytes);
        }
    }
    let (mut record, mut cut) = (serde_json::to_value(line)?, Cut::default());
    for step in STEPS {
        for (key, value) in record.as_object_mut().into_iter().flatten() {
            if key != "cut" && !KEPT.contains(&key.as_str()) {
                shorten(value, key, step, &mut cut);
            }
        }
        record["cut"] = serde_json::to_value(&cut)?;
        bytes = serde_json::to_vec(&record)?;
        if bytes.len() <= LARGEST {
            break;
        }
    }
    Ok(bytes)
}

fn shorten(value: &mut Value, path: &str, (entries, characters): (usize, usize), cut: &mut Cut) {
    match value {
        Value::String(text) => {
            // What is cut when a record is begun has one more: the ellipsis.
            if let Some((end, _)) = text
                .char_indices()
                .nth(characters)
                .filter(|(end, _)| text[*end..] != *"…")
            {
                text.truncate(end);
                text.push('…');
                cut.characters = Some(characters);
            }
        }
        Value::Array(list) => {
            leave_out(list.len().saturating_sub(entries), path, cut);
            list.truncate(entries);
            for one in list {
                shorten(one, path, (entries, characters), cut);
            }
        }
        Value::Object(map) => {
            // What gabion names has few keys, and short ones; more of them, or longer ones, are a caller's.
            let (most, before) = (entries.max(16), map.len());
            let mut seen = 0;
            map.retain(|key, _| {
                seen += 1;
                seen <= most && key.len() <= characters.max(48)
            });
            leave_out(before - map.len(), path, cut);
            for (key, value) in map {
                shorten(value, &format!("{path}.{key}"), (entries, characters), cut);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn leave_out(count: usize, path: &str, cut: &mut Cut) {
    if count > 0 {
        *cut.entries.entry(path.to_owned()).or_default() += count;
    }
}
