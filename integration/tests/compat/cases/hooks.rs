//! config.md, POSIX-platform hooks.

use crate::case::Case;
use integration::Container;
use serde_json::{Value, json};

const SECTION: &str = "config.md#posix-platform-hooks";

/// A hook that writes what it gets to the log: its own name, its environment, the state's keys and values that count.
fn hook(kind: &str) -> Value {
    let script = format!(
        "read -r -d '' s || s=$(cat); {{ echo '{kind}' args=$0,$1 A=$A B=$B; echo \"$s\" | tr ',' '\\n' | tr -d '{{}} \\t' | grep -E '^\"(id|status|bundle|k)\"' | sort; }} >> @DIR@/log"
    );
    json!({"path": "/bin/sh", "args": ["sh", "-c", script, "zero", "one"], "env": ["PATH=/usr/bin:/bin", "A=1", "B=x y"]})
}

fn with(kinds: &[&str]) -> Value {
    let hooks: serde_json::Map<String, Value> = kinds.iter().map(|k| ((*k).to_owned(), json!([hook(k)]))).collect();
    json!({"annotations": {"k": "v"}, "hooks": hooks})
}

/// A hook that names no environment, and tells which one it has, where it stands, and what the state says of the first process.
fn silent(kind: &str, log: &str, filter: &str) -> Value {
    let names = "export -p | cut -d= -f1 | grep -v -e PWD -e SHLVL | sort | tr '\\n' ' '";
    let state = format!("tr ',' '\\n' | tr -d '{{}} \\t' | grep -E '^\"({filter})\"'");
    let script =
        format!("PATH=$PATH:/usr/bin:/bin; {{ echo '{kind}'; pwd; {names}; {state}; echo A=$A HOME=$HOME; }} >> {log}");
    json!({"path": "/bin/sh", "args": ["sh", "-c", script]})
}

/// A pid in the container's own numbers shows; one of the host's would never be the same.
fn surroundings(kind: &str, log: &str, filter: &str) -> Value {
    json!({"process": {"env": ["PATH=/usr/bin:/bin", "A=1"]}, "hooks": {kind: [silent(kind, log, filter)]}})
}

/// The whole life, and what the hooks wrote.
fn life(container: &Container) -> String {
    let codes = [container.create().code, container.start().code];
    container.op(&["kill", container.id(), "KILL"]);
    if container.op(&["state", container.id()]).code == 0 {
        container.wait_status("stopped");
    }
    let deleted = container.delete().code;
    let log = std::fs::read_to_string(container.bundle.dir.join("log")).unwrap_or_default();
    let inside = std::fs::read_to_string(container.bundle.rootfs().join("opt/log")).unwrap_or_default();
    format!("{codes:?} {deleted}\n{log}{inside}")
}

fn failing(kind: &str) -> Value {
    json!({"hooks": {kind: [{"path": "/bin/false"}, hook("second")]}})
}

pub(crate) fn cases() -> Vec<Case> {
    let one = |name: &'static str, kind: &'static str| {
        Case::new(SECTION, name, with(&[kind]), "sleep 60")
            .drive(life)
            .runc()
            .shows("args=zero,one A=1 B=x y")
    };
    let fails =
        |name: &'static str, kind: &'static str| Case::new(SECTION, name, failing(kind), "sleep 60").drive(life);
    let inside = json!({"hooks": {"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "cat > /tmp/state; { echo in $A; readlink /proc/self/root; grep -c status /tmp/state; id -u; } >> /opt/log"], "env": ["A=1", "PATH=/bin"]}]}});
    let around = |name: &'static str, kind: &'static str, log: &str, filter: &str| {
        Case::new(SECTION, name, surroundings(kind, log, filter), "sleep 60")
            .drive(life)
            .runc()
            .shows(kind)
    };
    let log = "@DIR@/log";
    let undone = |name: &'static str, kind: &'static str| {
        let patch = json!({"hooks": {kind: [{"path": "/bin/false"}], "poststop": [hook("poststop")]}});
        Case::new(SECTION, name, patch, "sleep 60")
            .drive(life)
            .runc()
            .shows("poststop")
    };
    vec![
        around("hook-surroundings-prestart", "prestart", log, "status"),
        around("hook-surroundings-create-runtime", "createRuntime", log, "status"),
        around("hook-surroundings-create-container", "createContainer", log, "status|pid").shows("A=1").shows("\"pid\":1"),
        around("hook-surroundings-start-container", "startContainer", "/opt/log", "status|pid").shows("HOME=/").shows("\"created\"").shows("\"pid\":1"),
        // runc 1.1 runs them in `create`, with the status created.
        around("hook-surroundings-poststart", "poststart", log, "id"),
        around("hook-surroundings-poststop", "poststop", log, "status|pid").shows("\"stopped\""),
        Case::new(SECTION, "hook-environment-empty", json!({"hooks": {"createRuntime": [{"path": "/bin/sh", "env": [], "args": ["sh", "-c", "export -p >> @DIR@/log"]}]}}), "sleep 60").drive(life).runc().shows("PWD"),
        undone("hook-poststop-after-create-runtime", "createRuntime"),
        undone("hook-poststop-after-create-container", "createContainer"),
        one("hook-prestart", "prestart").field("/hooks/prestart"),
        one("hook-create-runtime", "createRuntime").field("/hooks/createRuntime"),
        one("hook-create-container", "createContainer").field("/hooks/createContainer"),
        Case::new(SECTION, "hook-start-container", inside, "sleep 60").drive(life).runc().field("/hooks/startContainer").shows("in 1"),
        one("hook-poststart", "poststart").crun().field("/hooks/poststart"),
        one("hook-poststop", "poststop").field("/hooks/poststop"),
        Case::new(SECTION, "hooks-in-order", with(&["poststop", "createContainer", "createRuntime", "prestart"]), "sleep 60").drive(life).runc().shows("poststop"),
        Case::new(SECTION, "hooks-several", json!({"annotations": {"k": "v"}, "hooks": {"createRuntime": [hook("first"), hook("second"), hook("third")]}}), "sleep 60").drive(life).runc().shows("third"),
        fails("hook-prestart-fails", "prestart").runc().shows("[1, "),
        fails("hook-create-runtime-fails", "createRuntime").runc().shows("[1, "),
        fails("hook-create-container-fails", "createContainer").runc().shows("[1, "),
        fails("hook-start-container-fails", "startContainer").alone().shows("[0, 1]"),
        fails("hook-poststart-fails", "poststart").alone().shows("[0, 1]"),
        fails("hook-poststop-fails", "poststop").alone().shows("[0, 0] 0\nsecond"),
        Case::new(SECTION, "hook-missing", json!({"hooks": {"createRuntime": [{"path": "/no/such"}]}}), "sleep 60").runc().drive(life).shows("[1, "),
        Case::new(SECTION, "hook-relative", json!({"hooks": {"createRuntime": [{"path": "bin/true"}]}}), "sleep 60").runc().drive(life).shows("[1, "),
        Case::new(SECTION, "hook-timeout", json!({"hooks": {"createRuntime": [{"path": "/bin/sleep", "args": ["sleep", "15"], "timeout": 1}]}}), "sleep 60").drive(life)
            .field("/hooks/createRuntime/0/timeout").shows("[1, "),
        Case::new(SECTION, "hook-environment-is-its-own", json!({"hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo HOME=$HOME FROM=$FROM >> @DIR@/log"], "env": ["X=1"]}]}}), "sleep 60").drive(life).runc(),
        Case::new(SECTION, "hook-environment", json!({"hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo X=$X >> @DIR@/log"], "env": ["X=1"]}]}}), "sleep 60").drive(life)
            .field("/hooks/createRuntime/0/env").shows("X=1"),
        Case::new(SECTION, "hook-arguments", json!({"hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", "echo arguments >> @DIR@/log"]}]}}), "sleep 60").drive(life)
            .field("/hooks/createRuntime/0/args").shows("arguments"),
        Case::new(SECTION, "hook-arguments-absent", json!({"hooks": {"createRuntime": [{"path": "/bin/true"}]}}), "sleep 60").drive(life).shows("[0, 0]"),
        Case::new(SECTION, "hook-pid-is-the-container-s", json!({"hooks": {"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c",
            "pid=$(grep -o '\"pid\": *[0-9]*' | grep -o '[0-9]*'); grep -c @NAME@ /proc/$pid/cgroup | sed 's/[1-9][0-9]*/some/' >> @DIR@/log"]}]}}), "sleep 60").drive(life).shows("some"),
    ]
}
