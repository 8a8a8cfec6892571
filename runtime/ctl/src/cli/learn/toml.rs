//! A policy as the file that says it.

use gabion_core::policy::Policy;
use gabion_see::error::{Error, Result};
use serde_json::Value;

/// Writes every key.
pub(super) fn of(policy: &Policy) -> Result<String> {
    let bad = |error: serde_json::Error| Error::file("write", "a policy")(error.into());
    let Value::Object(map) = serde_json::to_value(policy).map_err(bad)? else {
        return Ok(String::new());
    };
    let (tables, keys): (Vec<_>, Vec<_>) = map.iter().partition(|(_, value)| value.is_object());
    let mut out = String::new();
    for (key, value) in keys.into_iter().filter(|(_, value)| !is_void(value)) {
        out.push_str(&format!("{key} = {}\n", inline(value)));
    }
    for (key, table) in tables {
        out.push_str(&format!("[{key}]\n"));
        for (key, value) in table
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, value)| !value.is_null())
        {
            out.push_str(&format!("{key} = {}\n", inline(value)));
        }
    }
    Ok(out)
}

/// TOML has no null; no exceptions are no key.
fn is_void(value: &Value) -> bool {
    value.is_null() || value.as_array().is_some_and(Vec::is_empty)
}

fn inline(value: &Value) -> String {
    match value {
        Value::Array(list) => format!("[{}]", list.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Object(map) => {
            let all = map
                .iter()
                .filter(|(_, value)| !value.is_null())
                .map(|(key, value)| format!("{key} = {}", inline(value)));
            format!("{{ {} }}", all.collect::<Vec<_>>().join(", "))
        }
        // JSON's strings without escapes of surrogates are TOML's: serde_json writes no others.
        other => other.to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_as_it_was() {
        let mut policy = Policy::default();
        assert_eq!(gabion_core::policy::parse(&of(&policy).unwrap()).unwrap(), policy);
        policy.mounts.exec_paths.push("/a \"b\"\\c".into());
        policy.capabilities.allow.push("CAP_SYS_CHROOT".to_owned());
        policy.seccomp.allow.push(gabion_core::policy::SeccompGroup::IoUring);
        policy.memory.mdwe = Some(gabion_core::decision::Mode::Observe);
        assert_eq!(gabion_core::policy::parse(&of(&policy).unwrap()).unwrap(), policy);
    }
}
