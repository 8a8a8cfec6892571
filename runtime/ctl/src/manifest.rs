//! What people have in their hands before there is a container: manifests of Kubernetes, compose files, what engines tell of a container.
//! It is translated into the config.json that the engine would make, and what no file says is said to be assumed.

use std::path::Path;

use serde_json::Value;

use gabion_core::request::from_json;

mod at;
mod compose;
mod inspect;
mod kube;
mod options;
mod quantity;
mod strict;
mod wish;
mod yaml;

use strict::Strict;

pub(crate) use at::Wrong;
pub(crate) use wish::{ABSENT, Origin, Role, Wish, World};

/// All that a file has.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) wishes: Vec<Wish>,
    /// Objects that start nothing.
    pub(crate) other: Vec<String>,
    /// What starts something and cannot be looked at.
    pub(crate) failed: Vec<(String, Wrong)>,
}

impl Found {
    fn failed(&mut self, name: &str, wrong: Wrong) {
        self.failed.push((name.to_owned(), wrong));
    }
}

/// What a text is.
#[derive(Debug)]
pub(crate) enum Read {
    /// A config.json, or nothing that is known here: its own reader says what is wrong with it.
    Config,
    Found(Found),
}

/// Reads a text, whatever it is. `folder` is what relative paths of a compose file hang from; `engine` runs a compose file.
///
/// # Errors
/// It is neither JSON nor YAML, or beyond a bound.
pub(crate) fn read(text: &[u8], name: &Path, folder: &Path, engine: World) -> Result<Read, String> {
    let documents = match text.iter().find(|byte| !byte.is_ascii_whitespace()) {
        // A config.json has a reader of its own, and words of its own for what is wrong with it.
        Some(b'{') if from_json::<Value>(text, name).is_ok_and(|read| read.value.get("ociVersion").is_some()) => {
            return Ok(Read::Config);
        }
        Some(b'{' | b'[') => match json(text, name) {
            Ok(value) => vec![value],
            // A flow of YAML may begin so; what is neither is told of as JSON.
            Err(why) => yaml(text).map_err(|_| why)?,
        },
        _ => yaml(text)?,
    };
    if documents.is_empty() && text.iter().all(u8::is_ascii_whitespace) {
        return Ok(Read::Config);
    }
    let mut found = Found::default();
    for document in &documents {
        if !one(document, folder, engine, &mut found) {
            return match document {
                Value::Object(map)
                    if documents.len() == 1
                        && (map.is_empty() || map.keys().any(|key| CONFIG.contains(&key.as_str()))) =>
                {
                    Ok(Read::Config)
                }
                _ => Err(UNKNOWN.to_owned()),
            };
        }
    }
    Ok(Read::Found(found))
}

/// Keys by which a text wants to be a config.json, whatever is wrong with it.
const CONFIG: [&str; 4] = ["process", "root", "linux", "ociVersion"];

const UNKNOWN: &str = "neither a config.json, nor a manifest of Kubernetes (`kind`), a compose file (`services`), or what `docker inspect` \
                       or `podman inspect` says of a container (`HostConfig`)";

fn one(document: &Value, folder: &Path, engine: World, found: &mut Found) -> bool {
    match document {
        Value::Array(list) if !list.is_empty() && list.iter().all(|one| one.get("HostConfig").is_some()) => {
            list.iter()
                .enumerate()
                .for_each(|(i, one)| inspect::container(one, i, found));
        }
        Value::Object(map) if map.contains_key("HostConfig") => inspect::container(document, 0, found),
        Value::Object(map) if map.contains_key("kind") => kube::object(document, found),
        Value::Object(map) if map.contains_key("services") => compose::file(document, folder, engine, found),
        _ => return false,
    }
    true
}

fn json(text: &[u8], name: &Path) -> Result<Value, String> {
    // In bounds first: how deep it may be is asked before anything is built of it.
    from_json::<Value>(text, name).map_err(|bad| bad.why)?;
    let read: serde_json::Result<Strict> = serde_json::from_slice(text);
    read.map(|Strict(value)| value).map_err(|error| error.to_string())
}

fn yaml(text: &[u8]) -> Result<Vec<Value>, String> {
    let text = std::str::from_utf8(text).map_err(|error| format!("not UTF-8, from byte {}", error.valid_up_to()))?;
    yaml::documents(text)
}
