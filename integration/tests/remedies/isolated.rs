//! What a request for a container is refused for that would set it less apart: namespaces, root, filters, labels, kernel settings.

use crate::attempt::{Attempt, Row, policy, push, remove, set};
use serde_json::json;

fn own_namespace(attempt: &mut Attempt, kind: &str) {
    attempt.bundle.config.without_namespace(kind);
    push(attempt, "/linux/namespaces", json!({ "type": kind }));
}

fn host_namespace(attempt: &mut Attempt, kind: &str, file: &str) {
    let path = format!("/proc/self/ns/{file}");
    attempt.bundle.config.namespace_path(kind, &path);
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

pub(crate) const ROWS: &[Row] = &[
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
        ask: |a| policy(a, "[landlock]\nneed = \"required\"\nmin_abi = 64\n"),
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
];
