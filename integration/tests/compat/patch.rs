//! JSON merge patches (RFC 7396), with `"key+"` to append to an array.

use serde_json::Value;

pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(changes) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (key, change) in changes {
        if let Some(list) = key.strip_suffix('+') {
            append(&mut target[list], change);
        } else if change.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key.as_str()], change);
        }
    }
}

fn append(list: &mut Value, more: &Value) {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    list.as_array_mut()
        .unwrap()
        .extend(more.as_array().unwrap().iter().cloned());
}

/// Removes what a JSON pointer names: a key, or an entry of an array. `-` is the last one.
pub(crate) fn delete(target: &mut Value, pointer: &str) {
    if let Some((list, rest)) = pointer.split_once("/-/") {
        let last = target
            .pointer_mut(list)
            .and_then(Value::as_array_mut)
            .and_then(|l| l.last_mut());
        return delete(
            last.unwrap_or_else(|| panic!("{pointer} is not in the config")),
            &format!("/{rest}"),
        );
    }
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = target
        .pointer_mut(parent)
        .unwrap_or_else(|| panic!("{pointer} is not in the config"));
    match parent {
        Value::Object(map) => {
            map.remove(key)
                .unwrap_or_else(|| panic!("{pointer} is not in the config"));
        }
        Value::Array(list) if key == "-" => drop(list.pop()),
        Value::Array(list) => drop(list.remove(key.parse().unwrap())),
        _ => panic!("{pointer} is not in the config"),
    }
}
