//! Commands that only tell: ps, list, spec, features, check, --help, --version.

use crate::{container, gabion};
use integration::{Bundle, Container, Policy};
use serde_json::Value;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("no JSON: {error}: {text}"))
}

#[test]
fn list_knows_the_containers_of_this_root() {
    let container = container("tell-list");
    container.create().ok();
    let all = json(&container.op(&["list", "--format", "json"]).ok().out);
    assert_eq!(all.as_array().map(Vec::len), Some(1), "{all}");
    assert_eq!(all[0]["id"], container.id());
    assert_eq!(all[0]["status"], "created");
    assert_eq!(container.op(&["list", "-q"]).ok().out.trim(), container.id());
    assert!(container.op(&["list"]).ok().out.contains("STATUS"));
}

#[test]
fn an_empty_root_lists_nothing() {
    let container = container("tell-empty");
    assert_eq!(container.op(&["list", "-q"]).ok().out, "");
}

#[test]
fn ps_tells_the_processes() {
    let container = container("tell-ps");
    container.run_detached().ok();
    let pids = json(&container.op(&["ps", "--format", "json", container.id()]).ok().out);
    assert_eq!(pids, serde_json::json!([container.pid()]));
}

#[test]
fn spec_writes_a_bundle_that_check_understands() {
    let container = container("tell-spec");
    let dir = container.bundle.host_dir("spec");
    let mut command = container.command(&["spec"]);
    command.current_dir(&dir);
    integration::command::run(command, &container.bundle.dir).ok();
    let spec = json(&std::fs::read_to_string(dir.join("config.json")).unwrap());
    assert_eq!(spec["process"]["terminal"], true);
    assert!(spec["linux"]["namespaces"].is_array());
}

#[test]
fn features_is_json_and_stderr_is_empty() {
    let container = container("tell-features");
    let done = container.op(&["features"]).ok();
    assert!(json(&done.out)["linux"].is_object(), "{done}");
    assert_eq!(done.err, "");
}

#[test]
fn version_and_help() {
    let container = container("tell-help");
    let version = container.op(&["--version"]).ok();
    assert!(
        version.out.contains("version") && version.out.contains("spec"),
        "{version}"
    );
    let commands = [
        "create", "start", "state", "kill", "delete", "run", "exec", "ps", "list", "spec", "features", "pause",
        "resume",
    ];
    for command in commands {
        assert!(container.op(&[command, "--help"]).ok().out.contains(command));
    }
}

fn decisions(test: &str, policy: &Policy, edit: fn(&mut Bundle)) -> (i32, Value) {
    let mut bundle = Bundle::new(test);
    edit(&mut bundle);
    let container = Container::new(bundle).policy(policy);
    let done = container.op(&["check", "--format", "json", &container.path()]);
    (done.code, json(&done.out))
}

#[test]
fn check_tells_what_would_be_changed() {
    if !gabion() {
        return;
    }
    let (code, report) = decisions("tell-check", &Policy::hardened(), |_| {});
    assert_eq!(
        (code, &report["allowed"], &report["level"]),
        (0, &true.into(), &"hardened".into())
    );
    let verdict = |control: &str| {
        let all = report["decisions"].as_array().unwrap();
        all.iter()
            .find(|one| one["control"] == control)
            .map(|one| one["verdict"].clone())
            .unwrap_or_default()
    };
    assert_eq!(verdict("rootfs"), "tightened");
    assert_eq!(verdict("capabilities"), "tightened");
    assert_eq!(verdict("seccomp"), "added");
    assert_eq!(verdict("user"), "warned");
}

#[test]
fn check_tells_all_refusals_and_ends_with_3() {
    if !gabion() {
        return;
    }
    let (code, report) = decisions("tell-refused", &Policy::hardened(), |bundle| {
        bundle
            .config
            .without_namespace("network")
            .add_capability("CAP_NET_ADMIN");
    });
    assert_eq!((code, &report["allowed"]), (3, &false.into()));
    let refused: Vec<&Value> = report["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|d| d["verdict"] == "refused")
        .collect();
    assert!(refused.len() >= 2, "{report}");
}

#[test]
fn check_cannot_look_is_1() {
    if !gabion() {
        return;
    }
    let container = container("tell-cannot");
    container.op(&["check", "/nonexistent"]).fails_with(1);
}

/// By gabion's own name, which hands over: what a person has is explained, and what they may have meant is said.
#[test]
fn what_people_have_is_explained() {
    if !gabion() {
        return;
    }
    let container = container("tell-explain");
    for (words, says) in [
        (&["explain", "sh: /tmp/x: Permission denied"][..], "run.noexec"),
        (&["explain", "137"], "run.out-of-memory"),
        (&["explain", "CAP_SYS_CHROOT"], "capabilities.allow"),
        (&["seccomp", "show", "--call", "unshare"], "seccomp.allow"),
        (&["seccomp", "show"], "[[floor]]"),
        // A control that is called as a command of the runtime's is.
        (&["explain", "exec"], "Threat:"),
        (&["explain"], "mounts.host-path"),
    ] {
        let done = container.op(words).ok();
        assert!(done.out.contains(says), "{words:?}: {done}");
    }
    for (words, says) in [
        (&["explain", "seccom"][..], "did you mean seccomp?"),
        (&["seccomp", "show", "--call", "unshar"], "did you mean unshare?"),
        (&["explan", "x"], "did you mean explain?"),
        (&["list", "--level", "hardened"], "stands before the command"),
    ] {
        container.op(words).fails_with(1).says(&[says]);
    }
}
