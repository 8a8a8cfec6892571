//! What a request for a container is refused for: limits, devices, holes, hooks, capabilities.

use crate::attempt::{Attempt, Row, policy, push, remove, set};
use serde_json::json;

/// A hook that the policy names, as far as it can be one.
fn hook(attempt: &mut Attempt, path: String) {
    attempt.policy.clear();
    attempt.policy.push_str("[hooks]\nallow = [\"DIR\", \"/nowhere\"]\n");
    set(attempt, "/hooks", json!({ "createRuntime": [{ "path": path }] }));
}

/// The one hook again, at another path.
fn other_hook(attempt: &mut Attempt) {
    let path = attempt.program("good-hook", 0, 0o755);
    hook(attempt, path);
}

/// The annotation, and the directories that it names in the image.
fn holes(attempt: &mut Attempt, text: &str) {
    for name in ["a", "b", "c"] {
        std::fs::create_dir_all(attempt.bundle.rootfs().join(format!("srv/{name}"))).unwrap();
    }
    attempt.bundle.config.annotation("dev.gabion.holes", text);
}

const KMSG: &str = "/dev/kmsg";

fn kmsg(attempt: &mut Attempt) {
    push(
        attempt,
        "/linux/devices",
        json!({ "path": KMSG, "type": "c", "major": 1, "minor": 11 }),
    );
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        code: "audit.unwritable",
        ask: |a| {
            // Others can write there: records could be exchanged.
            a.host_dir("logs");
            policy(a, "[audit]\non_failure = \"refuse\"\nfile = \"DIR/logs/audit.jsonl\"\n");
        },
        remedy: |a| {
            use std::os::unix::fs::PermissionsExt as _;
            std::fs::set_permissions(a.bundle.dir.join("logs"), std::fs::Permissions::from_mode(0o700)).unwrap();
        },
    },
    Row {
        code: "capabilities.not-allowed",
        ask: |a| {
            a.bundle.config.add_capability("CAP_NET_ADMIN");
        },
        remedy: |a| policy(a, "[capabilities]\nallow = [\"CAP_NET_ADMIN\"]\n"),
    },
    Row {
        code: "cgroup.memory-above-max",
        ask: |a| {
            policy(a, "[cgroup]\nmemory = \"64m\"\nmax_memory = \"128m\"\n");
            set(a, "/linux/resources/memory", json!({ "limit": 256 << 20 }));
        },
        remedy: |a| a.policy = a.policy.replace("128m", "256m"),
    },
    Row {
        code: "cgroup.path",
        ask: |a| set(a, "/linux/cgroupsPath", json!("/")),
        remedy: |a| {
            let own = format!("/{}", a.bundle.name);
            set(a, "/linux/cgroupsPath", json!(own));
        },
    },
    Row {
        code: "cgroup.pids-above-max",
        // Below what any machine has: as much as that is no limit (cgroup.pids-unlimited).
        ask: |a| {
            policy(a, "[cgroup]\nmax_pids = 8000\n");
            set(a, "/linux/resources/pids", json!({ "limit": 9000 }));
        },
        remedy: |a| a.policy = a.policy.replace("8000", "9000"),
    },
    Row {
        code: "cgroup.swap-below-memory",
        ask: |a| {
            set(
                a,
                "/linux/resources/memory",
                json!({ "limit": 64 << 20, "swap": 32 << 20 }),
            );
        },
        remedy: |a| {
            set(
                a,
                "/linux/resources/memory",
                json!({ "limit": 64 << 20, "swap": 64 << 20 }),
            );
        },
    },
    Row {
        code: "devices.allow-all",
        ask: |a| push(a, "/linux/resources/devices", json!({ "allow": true, "access": "rwm" })),
        remedy: |a| {
            set(
                a,
                "/linux/resources/devices",
                json!([{ "allow": false, "access": "rwm" }]),
            );
        },
    },
    Row {
        code: "devices.mismatch",
        ask: |a| {
            let disk = json!({ "path": "/dev/null", "type": "b", "major": 254, "minor": 0 });
            push(a, "/linux/devices", disk);
        },
        remedy: |a| {
            let device = json!({ "path": "/dev/null", "type": "c", "major": 1, "minor": 3 });
            set(a, "/linux/devices", json!([device]));
        },
    },
    Row {
        code: "devices.net-device",
        ask: |a| {
            let device = json!({ "eth-not-there": { "name": "net0" } });
            a.bundle.config.set("/linux/netDevices", device);
        },
        remedy: |a| {
            a.bundle.config.remove("/linux/netDevices");
        },
    },
    Row {
        code: "devices.not-allowed",
        ask: kmsg,
        remedy: |a| policy(a, "[devices]\nallow = [\"/dev/kmsg\"]\n"),
    },
    Row {
        code: "devices.rule",
        ask: |a| {
            let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" });
            push(a, "/linux/resources/devices", rule);
        },
        remedy: |a| {
            kmsg(a);
            policy(a, "[devices]\nallow = [\"/dev/kmsg\"]\n");
        },
    },
    Row {
        code: "fds.cwd",
        ask: |a| set(a, "/process/cwd", json!("/proc/self/fd/7")),
        remedy: |a| set(a, "/process/cwd", json!("/srv")),
    },
    Row {
        code: "holes.annotation",
        ask: |a| holes(a, "/srv/a:sice=16m"),
        remedy: |a| holes(a, "/srv/a:size=16m"),
    },
    Row {
        code: "holes.forbidden",
        ask: |a| holes(a, "/usr"),
        remedy: |a| holes(a, "/srv/a"),
    },
    Row {
        code: "holes.hidden",
        ask: |a| {
            let dir = a.host_dir("data");
            a.bundle.config.bind(&dir, "/srv", &["rw"]);
            holes(a, "/srv/a");
        },
        remedy: |a| remove(a, "/annotations"),
    },
    Row {
        code: "holes.image-content-too-large",
        ask: |a| {
            holes(a, "/srv/a:size=1m");
            std::fs::write(a.bundle.rootfs().join("srv/a/big"), vec![7; 3 << 20]).unwrap();
        },
        remedy: |a| holes(a, "/srv/a:size=8m"),
    },
    Row {
        code: "holes.not-a-directory",
        ask: |a| {
            holes(a, "/srv/file");
            std::fs::write(a.bundle.rootfs().join("srv/file"), "").unwrap();
        },
        remedy: |a| holes(a, "/srv/a"),
    },
    Row {
        code: "holes.too-large",
        ask: |a| holes(a, "/srv/a:size=2g"),
        remedy: |a| policy(a, "[holes]\nmax_size = \"2g\"\n"),
    },
    Row {
        code: "holes.too-many",
        ask: |a| {
            holes(a, "/srv/a,/srv/b,/srv/c");
            policy(a, "[holes]\nmax_count = 2\n");
        },
        remedy: |a| a.policy = a.policy.replace('2', "3"),
    },
    Row {
        code: "hooks.environment",
        ask: |a| {
            other_hook(a);
            set(a, "/hooks/createRuntime/0/env", json!(["LD_PRELOAD=/tmp/mine.so"]));
        },
        remedy: |a| remove(a, "/hooks/createRuntime/0/env"),
    },
    Row {
        code: "hooks.not-allowed",
        ask: |a| {
            other_hook(a);
            a.policy.clear();
        },
        remedy: |a| policy(a, "[hooks]\nallow = [\"DIR/good-hook\"]\n"),
    },
    Row {
        code: "hooks.missing",
        ask: |a| hook(a, "/nowhere/hook".to_owned()),
        remedy: other_hook,
    },
    Row {
        code: "hooks.not-a-file",
        ask: |a| {
            let dir = a.host_dir("hook");
            hook(a, dir);
        },
        remedy: other_hook,
    },
    Row {
        code: "hooks.not-absolute",
        ask: |a| hook(a, "true".to_owned()),
        remedy: other_hook,
    },
    Row {
        code: "hooks.restricted",
        ask: |a| {
            a.level = "restricted";
            a.bundle.config.user(1000);
            other_hook(a);
        },
        remedy: |a| remove(a, "/hooks"),
    },
    Row {
        code: "hooks.writable-by-others",
        ask: |a| {
            let path = a.program("hook", 0, 0o777);
            hook(a, path);
        },
        remedy: |a| drop(a.program("hook", 0, 0o755)),
    },
    Row {
        code: "hooks.wrong-owner",
        ask: |a| {
            let path = a.program("hook", 1000, 0o755);
            hook(a, path);
        },
        remedy: |a| drop(a.program("hook", 0, 0o755)),
    },
    Row {
        code: "cgroup.unified-on-v1",
        ask: |a| set(a, "/linux/resources/unified", json!({ "memory.high": "67108864" })),
        remedy: |a| {
            remove(a, "/linux/resources/unified");
            set(a, "/linux/resources/memory", json!({ "reservation": 64 << 20 }));
        },
    },
    Row {
        code: "seccomp.listener",
        // Nobody listens there.
        ask: |a| {
            let all = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": "/run/gabion-no-such-listener",
                "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_NOTIFY" }]
            });
            set(a, "/linux/seccomp", all);
        },
        remedy: |a| remove(a, "/linux/seccomp/syscalls"),
    },
    Row {
        code: "cgroup.unified-takes",
        ask: |a| {
            set(
                a,
                "/linux/resources/unified",
                json!({ "cpuset.cpus.partition": "root" }),
            );
        },
        remedy: |a| remove(a, "/linux/resources/unified"),
    },
    Row {
        code: "cgroup.unified-key",
        ask: |a| set(a, "/linux/resources/unified", json!({ "cgroup.procs": "1" })),
        remedy: |a| remove(a, "/linux/resources/unified"),
    },
    Row {
        code: "cgroup.unified-value",
        ask: |a| set(a, "/linux/resources/unified", json!({ "pids.max": "many" })),
        remedy: |a| set(a, "/linux/resources/unified", json!({ "pids.max": "100" })),
    },
    Row {
        code: "cgroup.controller-missing",
        ask: |a| {
            let page = json!([{ "pageSize": "2MB", "limit": 4 << 20 }]);
            set(a, "/linux/resources/hugepageLimits", page);
        },
        remedy: |a| remove(a, "/linux/resources/hugepageLimits"),
    },
];
