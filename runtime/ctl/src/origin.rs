//! What is in force, and where each value comes from.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use toml::de::{DeTable, DeValue};

use gabion_core::caller::Reader;
use gabion_core::policy::keys::KEYS;
use gabion_core::policy::validate::place;
use gabion_core::policy::{Exception, Level};
use gabion_see::audit::place as audit;
use gabion_see::policy::Loaded;

/// One key as it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Shown {
    pub(crate) key: String,
    /// Null: nothing is set; `from` says what holds.
    pub(crate) value: Value,
    pub(crate) from: String,
}

/// The whole policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Policy {
    pub(crate) source: String,
    /// SHA-256 of the file's text.
    pub(crate) digest: String,
    pub(crate) level: Level,
    pub(crate) keys: Vec<Shown>,
    pub(crate) exceptions: Vec<Exception>,
    /// In the file, and past its day.
    pub(crate) expired: Vec<Exception>,
}

/// What the command line put in the place of the file's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Flags {
    pub(crate) level: Option<Level>,
    pub(crate) audit_log: Option<&'static str>,
}

/// `text`: the file that `loaded` came from; none where it is built in.
pub(crate) fn show(loaded: &Loaded, text: Option<&str>, flags: Flags, reader: Reader) -> Policy {
    let lines = text.map(lines).unwrap_or_default();
    let values = serde_json::to_value(&loaded.policy).unwrap_or_default();
    let mut keys = Vec::new();
    for key in KEYS
        .iter()
        .filter(|k| !k.name.starts_with("exception.") && !k.name.starts_with("controls."))
    {
        let value = values
            .pointer(&format!("/{}", key.name.replace('.', "/")))
            .cloned()
            .unwrap_or_default();
        keys.push(Shown {
            key: key.name.to_owned(),
            from: from(key.name, &value, key.default, &lines, flags, loaded),
            value: worked_out(key.name, value, loaded, reader),
        });
    }
    for (control, mode) in &loaded.policy.controls {
        let name = format!("controls.{control}");
        let from = from(&name, &Value::Null, "", &lines, flags, loaded);
        keys.push(Shown {
            key: name,
            value: serde_json::to_value(mode).unwrap_or_default(),
            from,
        });
    }
    Policy {
        source: loaded.source.to_string(),
        digest: loaded.digest.clone(),
        level: loaded.policy.level,
        keys,
        exceptions: loaded.policy.exceptions.clone(),
        expired: loaded.expired.clone(),
    }
}

fn from(
    key: &str,
    value: &Value,
    default: &str,
    lines: &BTreeMap<String, usize>,
    flags: Flags,
    loaded: &Loaded,
) -> String {
    if key == "level" && flags.level.is_some() {
        return "--level".to_owned();
    }
    if let ("audit.file", Some(flag)) = (key, flags.audit_log) {
        return flag.to_owned();
    }
    match lines.get(key) {
        Some(line) => format!("{}:{line}", loaded.source),
        None if value.is_null() => format!("default: {default}"),
        None => "default".to_owned(),
    }
}

/// Defaults that depend on who asks.
fn worked_out(key: &str, value: Value, loaded: &Loaded, reader: Reader) -> Value {
    let policy = &loaded.policy;
    match (key, value) {
        ("audit.file", Value::Null) => serde_json::to_value(audit::file(&policy.audit, reader)).unwrap_or_default(),
        ("audit.on_failure", Value::Null) => {
            serde_json::to_value(policy.audit.on_failure(policy.level)).unwrap_or_default()
        }
        (_, value) => value,
    }
}

/// The line of each key that the file has.
fn lines(text: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    walk(text, "", DeTable::parse_recoverable(text).0.get_ref(), &mut found);
    found
}

fn walk(text: &str, prefix: &str, table: &DeTable<'_>, found: &mut BTreeMap<String, usize>) {
    for (key, value) in table {
        let name = format!("{prefix}{}", key.get_ref());
        match value.get_ref() {
            DeValue::Table(inner) => walk(text, &format!("{name}."), inner, found),
            _ => {
                found.insert(name, place(text, key.span().start).0);
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use gabion_core::caller::OwnUserNs;
    use gabion_core::policy::parse;
    use gabion_see::policy::Source;

    #[test]
    fn each_value_with_its_origin() {
        let text = "level = \"restricted\"\n\n[controls]\nlandlock = \"observe\"\n[cgroup]\npids = 7\n";
        let loaded = Loaded {
            policy: parse(text).unwrap(),
            digest: "d".to_owned(),
            source: Source::File("/p.toml".into()),
            expired: Vec::new(),
        };
        let reader = Reader {
            euid: 0,
            user_ns: OwnUserNs::Initial,
        };
        let none = Flags {
            level: None,
            audit_log: None,
        };
        let shown = show(&loaded, Some(text), none, reader);
        let row = |shown: &Policy, key: &str| {
            let row = shown.keys.iter().find(|k| k.key == key).unwrap();
            (row.value.to_string(), row.from.clone())
        };
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        assert_eq!(row(&shown, "level"), pair("\"restricted\"", "/p.toml:1"));
        assert_eq!(row(&shown, "controls.landlock"), pair("\"observe\"", "/p.toml:4"));
        assert_eq!(row(&shown, "cgroup.pids"), pair("7", "/p.toml:6"));
        assert_eq!(row(&shown, "cgroup.max_pids"), pair("65536", "default"));
        assert_eq!(row(&shown, "cgroup.max_memory"), pair("null", "default: no bound"));
        assert_eq!(
            row(&shown, "audit.on_failure"),
            pair("\"refuse\"", "default: refuse at restricted, else warn")
        );
        assert_eq!(row(&shown, "audit.file").0, "\"/var/log/gabion/audit.jsonl\"");
        let flags = Flags {
            level: Some(Level::Restricted),
            audit_log: Some("--audit-log"),
        };
        let shown = show(&loaded, Some(text), flags, reader);
        assert_eq!(
            (row(&shown, "level").1, row(&shown, "audit.file").1),
            ("--level".into(), "--audit-log".into())
        );
        // Every key but those of exceptions is there.
        let of_exceptions = KEYS.iter().filter(|k| k.name.starts_with("exception.")).count();
        assert_eq!(shown.keys.len(), KEYS.len() - of_exceptions);
    }
}
