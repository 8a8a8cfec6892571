//! What no hook can be.

use oci_spec::runtime::{Hook, Hooks};

use super::Invalid;

/// Finds timeouts that are none (runtime-spec, config.md#posix-platform-hooks: «MUST be greater than zero»).
#[allow(deprecated)] // prestart is deprecated and still written.
pub(super) fn judge(hooks: &Hooks, found: &mut Vec<Invalid>) {
    let lists = [
        ("prestart", hooks.prestart()),
        ("createRuntime", hooks.create_runtime()),
        ("createContainer", hooks.create_container()),
        ("startContainer", hooks.start_container()),
        ("poststart", hooks.poststart()),
        ("poststop", hooks.poststop()),
    ];
    for (kind, list) in lists {
        for (index, timeout) in list.iter().flatten().map(Hook::timeout).enumerate() {
            if let Some(seconds) = timeout.filter(|seconds| *seconds <= 0) {
                let why = format!("{seconds} s: it must be greater than 0; remove it where the hook may take its time");
                found.push(Invalid::malformed(format!("hooks.{kind}[{index}].timeout"), why));
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_timeout_is_greater_than_none() {
        let kinds = [
            "prestart",
            "createRuntime",
            "createContainer",
            "startContainer",
            "poststart",
            "poststop",
        ];
        for kind in kinds {
            for (timeout, bad) in [(json!(null), 0), (json!(1), 0), (json!(0), 1), (json!(-1), 1)] {
                let list = json!({kind: [{"path": "/a"}, {"path": "/b", "timeout": timeout}]});
                let mut found = Vec::new();
                judge(&serde_json::from_value(list).unwrap(), &mut found);
                assert_eq!(found.len(), bad, "{kind} {timeout}");
                let field = format!("hooks.{kind}[1].timeout");
                assert!(found.iter().all(|f| f.field == field));
            }
        }
    }
}
