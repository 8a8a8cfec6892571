//! The little JSON that cases need: merge patches (RFC 7396) and appending to arrays.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::Outcome;

pub fn read(path: &Path) -> Outcome<Value> {
    let text = fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| format!("{}: {e}", path.display()))
}

/// RFC 7396: objects merge, null removes, all else replaces.
pub fn merge(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    if let Some(object) = target.as_object_mut() {
        for (key, value) in patch {
            if value.is_null() {
                object.remove(&key);
            } else {
                merge(object.entry(key).or_insert(Value::Null), value);
            }
        }
    }
}

/// `{"/mounts": [..]}`: the items are put at the end of the array there (an array is made where there is none).
pub fn append(target: &mut Value, items: Option<Value>) -> Outcome<()> {
    let Some(Value::Object(items)) = items else {
        return Ok(());
    };
    for (at, more) in items {
        let mut place = &mut *target;
        for part in at.split('/').skip(1) {
            let object = place
                .as_object_mut()
                .ok_or_else(|| format!("$append {at}: not in an object"))?;
            place = object.entry(part).or_insert(Value::Null);
        }
        if place.is_null() {
            *place = Value::Array(Vec::new());
        }
        match (place, more) {
            (Value::Array(array), Value::Array(more)) => array.extend(more),
            _ => return Err(format!("$append {at}: not an array")),
        }
    }
    Ok(())
}

/// Takes a text out of an object.
pub fn take_text(object: &mut Value, key: &str) -> Option<String> {
    match object.as_object_mut()?.remove(key)? {
        Value::String(text) => Some(text),
        _ => None,
    }
}

/// Sets what a pointer leads to; null takes it away.
pub fn set(target: &mut Value, pointer: &str, value: Value) -> Outcome<()> {
    let (parent, last) = pointer.rsplit_once('/').ok_or(format!("{pointer:?} is no pointer"))?;
    let gone = || format!("{pointer} leads nowhere");
    match target.pointer_mut(parent).ok_or_else(gone)? {
        Value::Object(map) if value.is_null() => map.remove(last).map(drop).ok_or_else(gone),
        Value::Object(map) => {
            map.insert(last.to_owned(), value);
            Ok(())
        }
        Value::Array(items) => {
            let at: usize = last.parse().map_err(|_| gone())?;
            let place = items.get_mut(at).ok_or_else(gone)?;
            if value.is_null() {
                items.remove(at);
            } else {
                *place = value;
            }
            Ok(())
        }
        _ => Err(gone()),
    }
}
