//! What a container hands over a socket: its terminal (runtime.md, console socket) and a seccomp listener
//! (config-linux.md#seccomp, containerProcessState).

use crate::case::Case;
use integration::Container;
use integration::fdpass::{Listener, Received};
use serde_json::{Value, json};

pub(crate) fn cases() -> Vec<Case> {
    [terminals(), listeners()].concat()
}

fn terminals() -> Vec<Case> {
    let case = |name: &'static str, process: Value, script: &'static str| {
        Case::new("config.md#process", name, json!({"process": process}), script).drive(on_a_terminal)
    };
    vec![
        case("terminal", json!({"terminal": true}), "tty; echo done")
            .field("/process/terminal")
            .shows("/dev/pts/0"),
        case(
            "terminal-size",
            json!({"terminal": true, "consoleSize": {"height": 33, "width": 77}}),
            "stty size; echo done",
        )
        .field("/process/consoleSize")
        .shows("33 77"),
        case(
            "terminal-on-a-closed-dev",
            json!({"terminal": true}),
            "tty; touch /dev/x 2>&1; stat -c %F /dev/console; echo done",
        )
        .setup(|bundle| {
            bundle
                .config
                .mount_options("/dev", &["nosuid", "strictatime", "mode=755", "size=65536k", "ro"]);
        })
        .runc()
        .shows("Read-only file system\ncharacter special file"),
        case("terminal-not", json!({"terminal": false}), "tty; echo done")
            .runc()
            .shows("create 1"),
    ]
}

/// Creates it with a console socket, starts it, and tells what comes out of the terminal.
fn on_a_terminal(container: &Container) -> String {
    let path = container.bundle.dir.join("tty.sock");
    let listener = Listener::bind(&path);
    let socket = path.display().to_string();
    let words = [
        "create",
        "--bundle",
        &container.path(),
        "--console-socket",
        &socket,
        container.id(),
    ];
    let created = container.op(&words);
    if created.code != 0 {
        return format!("create {}", created.code);
    }
    let console = listener.receive();
    container.start().ok();
    console.read_until("done").replace('\r', "")
}

fn listeners() -> Vec<Case> {
    let profile = json!({"linux": {"seccomp": {
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "@DIR@/notify.sock",
        "listenerMetadata": "of this case",
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_NOTIFY"}]
    }}});
    // Hooks of the image are under the same filter: there is one descriptor.
    let mut hooked = profile.clone();
    hooked["hooks"] = json!({"startContainer": [{"path": "/bin/sh", "args": ["sh", "-c", "echo hook >> /opt/log"]}]});
    let early = |name: &'static str, patch: &Value| {
        Case::new("config-linux.md#seccomp", name, patch.clone(), "sleep 60")
            .drive(listen_in_create)
            .runc()
            .shows("creating")
    };
    let case =
        |name: &'static str| Case::new("config-linux.md#seccomp", name, profile.clone(), "sleep 60").drive(listen);
    vec![
        case("seccomp-listener-path")
            .field("/linux/seccomp/listenerPath")
            .shows("[\"seccompFd\"]"),
        case("seccomp-listener-metadata")
            .field("/linux/seccomp/listenerMetadata")
            .shows("of this case"),
        early("seccomp-listener-in-create", &profile),
        early("seccomp-listener-with-start-hook", &hooked).shows("hook\nrunning"),
    ]
}

/// Tells what the supervisor has before `start`, and that the container then starts.
fn listen_in_create(container: &Container) -> String {
    let listener = Listener::bind(&container.bundle.dir.join("notify.sock"));
    container.create().ok();
    let received: Received = listener.receive();
    let told: Value = serde_json::from_str(&received.text).unwrap();
    let own = told["pid"] == told["state"]["pid"] && told["pid"] == container.state()["pid"];
    container.start().ok();
    let log = std::fs::read_to_string(container.bundle.rootfs().join("opt/log")).unwrap_or_default();
    format!("{} own pid {own}\n{log}{}", told["state"]["status"], container.status())
}

/// Tells what the supervisor gets, whenever the runtime sends it: at create (gabion) or later.
fn listen(container: &Container) -> String {
    let listener = Listener::bind(&container.bundle.dir.join("notify.sock"));
    let created = container.create();
    if created.code != 0 {
        return format!("create {}", created.code);
    }
    container.start().ok();
    let received: Received = listener.receive();
    let told: Value = serde_json::from_str(&received.text).unwrap();
    let pid = told["pid"].as_i64().is_some_and(|pid| pid > 0);
    format!("{} {} {} pid {pid}", told["fds"], told["metadata"], told["state"]["id"])
}
