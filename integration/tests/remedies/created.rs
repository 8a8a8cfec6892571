//! What a request for a container is refused for, but for its mounts.

use crate::attempt::{Attempt, Row};
use serde_json::json;

fn set(attempt: &mut Attempt, pointer: &str, value: serde_json::Value) {
    attempt.bundle.config.set(pointer, value);
}

fn push(attempt: &mut Attempt, pointer: &str, value: serde_json::Value) {
    attempt.bundle.config.push(pointer, value);
}

fn remove(attempt: &mut Attempt, pointer: &str) {
    attempt.bundle.config.remove(pointer);
}

fn policy(attempt: &mut Attempt, text: &str) {
    attempt.policy.push_str(text);
}

fn own_namespace(attempt: &mut Attempt, kind: &str) {
    attempt.bundle.config.without_namespace(kind);
    push(attempt, "/linux/namespaces", json!({ "type": kind }));
}

fn host_namespace(attempt: &mut Attempt, kind: &str, file: &str) {
    let path = format!("/proc/self/ns/{file}");
    attempt.bundle.config.namespace_path(kind, &path);
}

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

/// A program that a profile asks a listener about.
fn profile(attempt: &mut Attempt, more: serde_json::Value) {
    let mut profile = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    for (key, value) in more.as_object().expect("an object") {
        profile[key] = value.clone();
    }
    set(attempt, "/linux/seccomp", profile);
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
        ask: |a| set(a, "/linux/resources/pids", json!({ "limit": 100_000 })),
        remedy: |a| policy(a, "[cgroup]\nmax_pids = 100000\n"),
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
        code: "landlock.bad-port",
        ask: |a| {
            a.bundle.config.annotation("dev.gabion.landlock.tcp-bind", "http");
        },
        remedy: |a| {
            a.bundle.config.annotation("dev.gabion.landlock.tcp-bind", "80");
        },
    },
    Row {
        code: "landlock.kernel",
        ask: |a| policy(a, "[landlock]\nneed = \"required\"\nmin_abi = 99\n"),
        remedy: |a| a.policy = a.policy.replace("required", "best_effort"),
    },
    Row {
        code: "namespaces.duplicate",
        ask: |a| push(a, "/linux/namespaces", json!({ "type": "pid" })),
        remedy: |a| own_namespace(a, "pid"),
    },
    Row {
        code: "namespaces.host-cgroup",
        ask: |a| host_namespace(a, "cgroup", "cgroup"),
        remedy: |a| own_namespace(a, "cgroup"),
    },
    Row {
        code: "namespaces.host-ipc",
        ask: |a| {
            a.bundle.config.without_namespace("ipc");
        },
        remedy: |a| own_namespace(a, "ipc"),
    },
    Row {
        code: "namespaces.host-network",
        ask: |a| host_namespace(a, "network", "net"),
        remedy: |a| own_namespace(a, "network"),
    },
    Row {
        code: "namespaces.host-pid",
        ask: |a| host_namespace(a, "pid", "pid"),
        remedy: |a| own_namespace(a, "pid"),
    },
    Row {
        code: "namespaces.host-time",
        ask: |a| host_namespace(a, "time", "time"),
        remedy: |a| {
            a.bundle.config.without_namespace("time");
        },
    },
    Row {
        code: "namespaces.host-user",
        ask: |a| host_namespace(a, "user", "user"),
        remedy: |a| {
            a.bundle.config.without_namespace("user");
        },
    },
    Row {
        code: "namespaces.host-uts",
        ask: |a| {
            a.bundle.config.without_namespace("uts").remove("/hostname");
        },
        remedy: |a| own_namespace(a, "uts"),
    },
    Row {
        code: "namespaces.mount-joined",
        ask: |a| host_namespace(a, "mount", "mnt"),
        remedy: |a| own_namespace(a, "mount"),
    },
    Row {
        code: "namespaces.not-a-namespace",
        ask: |a| {
            a.bundle.config.namespace_path("network", "/etc/hostname");
        },
        remedy: |a| own_namespace(a, "network"),
    },
    Row {
        code: "namespaces.unreadable",
        ask: |a| {
            a.bundle.config.namespace_path("network", "/run/netns/nowhere");
        },
        remedy: |a| own_namespace(a, "network"),
    },
    Row {
        code: "namespaces.wrong-type",
        ask: |a| host_namespace(a, "network", "ipc"),
        remedy: |a| own_namespace(a, "network"),
    },
    Row {
        code: "rlimits.duplicate",
        ask: |a| {
            let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 });
            set(a, "/process/rlimits", json!([limit, limit]));
        },
        remedy: |a| {
            let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 });
            set(a, "/process/rlimits", json!([limit]));
        },
    },
    Row {
        code: "rlimits.rank",
        ask: |a| set(a, "/process/oomScoreAdj", json!(-999)),
        remedy: |a| remove(a, "/process/oomScoreAdj"),
    },
    Row {
        code: "rlimits.soft-above-hard",
        ask: |a| {
            let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 65, "hard": 64 });
            set(a, "/process/rlimits", json!([limit]));
        },
        remedy: |a| set(a, "/process/rlimits/0/soft", json!(64)),
    },
    Row {
        code: "rootfs.host",
        ask: |a| set(a, "/root/path", json!("/usr")),
        remedy: |a| set(a, "/root/path", json!("rootfs")),
    },
    Row {
        code: "rootfs.no-pivot",
        ask: |a| a.flags.push("--no-pivot"),
        remedy: |a| a.flags.clear(),
    },
    // The other way, for hosts with a root on a ramdisk.
    Row {
        code: "rootfs.no-pivot",
        ask: |a| a.flags.push("--no-pivot"),
        remedy: |a| policy(a, "[controls]\nrootfs = \"observe\"\n"),
    },
    Row {
        code: "rootfs.shared",
        ask: |a| set(a, "/linux/rootfsPropagation", json!("rshared")),
        remedy: |a| remove(a, "/linux/rootfsPropagation"),
    },
    Row {
        code: "seccomp.listener-path",
        ask: |a| profile(a, json!({ "listenerPath": "listener" })),
        remedy: |a| profile(a, json!({ "syscalls": [] })),
    },
    Row {
        code: "seccomp.no-listener",
        ask: |a| profile(a, json!({})),
        remedy: |a| {
            let syscalls = json!([{ "names": ["mkdir"], "action": "SCMP_ACT_ERRNO" }]);
            profile(a, json!({ "syscalls": syscalls }));
        },
    },
    Row {
        code: "seccomp.notify-default",
        ask: |a| profile(a, json!({ "defaultAction": "SCMP_ACT_NOTIFY", "syscalls": [] })),
        remedy: |a| profile(a, json!({ "syscalls": [] })),
    },
    Row {
        code: "sysctl.host-namespace",
        ask: |a| {
            host_namespace(a, "network", "net");
            set(a, "/linux/sysctl", json!({ "net.ipv4.ping_group_range": "0 0" }));
        },
        remedy: |a| own_namespace(a, "network"),
    },
    Row {
        code: "sysctl.name",
        ask: |a| set(a, "/linux/sysctl", json!({ "net.ipv4.../kernel.core_pattern": "x" })),
        remedy: |a| set(a, "/linux/sysctl", json!({ "net.ipv4.ping_group_range": "0 0" })),
    },
    Row {
        code: "sysctl.not-namespaced",
        ask: |a| set(a, "/linux/sysctl", json!({ "vm.swappiness": "60" })),
        remedy: |a| remove(a, "/linux/sysctl"),
    },
    Row {
        code: "sysctl.unsafe",
        ask: |a| set(a, "/linux/sysctl", json!({ "net.ipv4.ip_forward": "1" })),
        remedy: |a| policy(a, "[sysctl]\nallow = [\"net.ipv4.ip_forward\"]\n"),
    },
    Row {
        code: "user.root",
        ask: |a| a.level = "restricted",
        remedy: |a| {
            a.bundle.config.user(1000);
        },
    },
    Row {
        code: "lsm.none",
        ask: |a| policy(a, "[lsm]\nneed = \"required\"\n"),
        remedy: |a| a.policy = a.policy.replace("required", "best_effort"),
    },
    Row {
        code: "lsm.apparmor-absent",
        ask: |a| set(a, "/process/apparmorProfile", json!("mine")),
        remedy: |a| remove(a, "/process/apparmorProfile"),
    },
    Row {
        code: "lsm.selinux-absent",
        ask: |a| {
            set(
                a,
                "/process/selinuxLabel",
                json!("system_u:system_r:container_t:s0:c1,c2"),
            );
        },
        remedy: |a| remove(a, "/process/selinuxLabel"),
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
        code: "cgroup.unified-key",
        ask: |a| set(a, "/linux/resources/unified", json!({ "cgroup.procs": "1" })),
        remedy: |a| remove(a, "/linux/resources/unified"),
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
