//! `check` and `create` agree: what config.json alone makes create fail by, check tells before, at every level.

use crate::gabion;
use integration::{Bundle, Container, Policy};
use serde_json::{Value, json};

/// A name, and what is set where.
type Row = (&'static str, &'static [(&'static str, fn() -> Value)]);

/// Each of them alone makes create fail.
const CANNOT: [Row; 25] = [
    ("bind-option", &[("/mounts/-", || bind(&["bind", "noexce"]))]),
    ("bind-option-of-several", &[("/mounts/-", || bind(&["bind,noexce"]))]),
    ("remount", &[("/mounts/-", || bind(&["bind", "remount"]))]),
    (
        "half-an-idmap",
        &[("/mounts/-", || {
            let mut mount = bind(&["bind"]);
            mount["uidMappings"] = one_id();
            mount
        })],
    ),
    ("tmpfs-mode", &[("/mounts/-", || tmpfs(&["mode=9z"]))]),
    ("tmpfs-size", &[("/mounts/-", || tmpfs(&["nosuid,size=much"]))]),
    ("intel-rdt", &[("/linux/intelRdt", || json!({"closID": "guaranteed"}))]),
    (
        "time-offsets",
        &[("/linux/timeOffsets", || json!({"boottime": {"secs": 9}}))],
    ),
    (
        "clock",
        &[
            ("/linux/namespaces/-", || json!({"type": "time"})),
            ("/linux/timeOffsets", || json!({"realtime": {"secs": 9}})),
        ],
    ),
    ("mappings", &[("/linux/uidMappings", one_id)]),
    (
        "user-without-mappings",
        &[("/linux/namespaces/-", || json!({"type": "user"}))],
    ),
    (
        "mappings-overlap",
        &[
            ("/linux/namespaces/-", || json!({"type": "user"})),
            (
                "/linux/uidMappings",
                || json!([{"containerID": 0, "hostID": 1, "size": 2}, {"containerID": 1, "hostID": 9, "size": 2}]),
            ),
            ("/linux/gidMappings", one_id),
        ],
    ),
    ("env", &[("/process/env/-", || json!("nothing"))]),
    (
        "groups",
        &[("/process/user/additionalGids", || json!([4_294_967_295_u32]))],
    ),
    (
        "io-priority",
        &[(
            "/process/ioPriority",
            || json!({"class": "IOPRIO_CLASS_BE", "priority": 9}),
        )],
    ),
    ("oom-score", &[("/process/oomScoreAdj", || json!(1001))]),
    (
        "scheduler",
        &[("/process/scheduler", || json!({"policy": "SCHED_FIFO", "priority": 0}))],
    ),
    (
        "rlimit",
        &[(
            "/process/rlimits",
            || json!([{"type": "RLIMIT_NOFILE", "soft": 9, "hard": 5}]),
        )],
    ),
    (
        "personality",
        &[(
            "/linux/personality",
            || json!({"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}),
        )],
    ),
    ("propagation", &[("/linux/rootfsPropagation", || json!("sideways"))]),
    (
        "nodes",
        &[(
            "/linux/memoryPolicy",
            || json!({"mode": "MPOL_BIND", "nodes": "0-4294967295"}),
        )],
    ),
    (
        "unknown-call",
        &[("/linux/seccomp", || {
            seccomp(
                "SCMP_ACT_ALLOW",
                json!({"names": ["no_such_call"], "action": "SCMP_ACT_ERRNO"}),
            )
        })],
    ),
    (
        "errno",
        &[("/linux/seccomp", || {
            seccomp(
                "SCMP_ACT_ALLOW",
                json!({"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5000}),
            )
        })],
    ),
    (
        "argument",
        &[("/linux/seccomp", || {
            let args = json!([{"index": 7, "value": 1, "op": "SCMP_CMP_EQ"}]);
            seccomp(
                "SCMP_ACT_ALLOW",
                json!({"names": ["getpid"], "action": "SCMP_ACT_ERRNO", "args": args}),
            )
        })],
    ),
    ("net-device", &[("/linux/netDevices", || json!({"lo": {}}))]),
];

/// The nearest that can be: what is refused above is refused for nothing else.
const CAN: [Row; 9] = [
    ("nothing", &[]),
    (
        "bind-of-several",
        &[("/mounts/-", || bind(&["bind,ro,noexec,silent,sync"]))],
    ),
    (
        "tmpfs-of-several",
        &[("/mounts/-", || {
            tmpfs(&["nosuid,size=64k,mode=700", "sync", "dirsync", "lazytime", "iversion"])
        })],
    ),
    ("env", &[("/process/env/-", || json!("NOTHING="))]),
    (
        "io-priority",
        &[(
            "/process/ioPriority",
            || json!({"class": "IOPRIO_CLASS_BE", "priority": 7}),
        )],
    ),
    (
        "rlimit",
        &[(
            "/process/rlimits",
            || json!([{"type": "RLIMIT_NOFILE", "soft": 500, "hard": 900}]),
        )],
    ),
    ("personality", &[("/linux/personality", || json!({"domain": "LINUX"}))]),
    ("propagation", &[("/linux/rootfsPropagation", || json!("rprivate"))]),
    (
        "a-call",
        &[("/linux/seccomp", || {
            seccomp(
                "SCMP_ACT_ALLOW",
                json!({"names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5}),
            )
        })],
    ),
];

fn bind(options: &[&str]) -> Value {
    json!({"destination": "/mnt", "type": "bind", "source": "@HOST@", "options": options})
}

fn tmpfs(options: &[&str]) -> Value {
    json!({"destination": "/mnt", "type": "tmpfs", "source": "tmpfs", "options": options})
}

fn one_id() -> Value {
    json!([{"containerID": 0, "hostID": 1, "size": 1}])
}

fn seccomp(default: &str, rule: Value) -> Value {
    json!({"defaultAction": default, "syscalls": [rule]})
}

fn container(level: &str, (name, sets): &Row) -> Container {
    let mut bundle = Bundle::new(&format!("agree-{level}-{name}"));
    let host = bundle.host_dir("host").display().to_string();
    for (pointer, value) in *sets {
        let mut value = value();
        if value.get("source") == Some(&json!("@HOST@")) {
            value["source"] = json!(host);
        }
        match pointer.strip_suffix("/-") {
            Some(list) => bundle.config.push(list, value),
            None => bundle.config.set(pointer, value),
        };
    }
    let policy = match level {
        "permissive" => Policy::permissive(),
        _ => Policy::hardened(),
    };
    Container::new(bundle).policy(&policy)
}

#[test]
fn what_cannot_be_check_tells_and_create_refuses() {
    if !gabion() {
        return;
    }
    let mut wrong = Vec::new();
    for level in ["hardened", "permissive"] {
        for row in &CANNOT {
            // There the control `rootfs` closes it, whatever it was.
            if (level, row.0) == ("hardened", "propagation") {
                continue;
            }
            let container = container(level, row);
            let checked = container.op(&["check", "--format", "json", &container.path()]);
            let created = container.create();
            if (checked.code, created.code) != (3, 1) {
                wrong.push(format!("{level} {}: check {}, create {created}", row.0, checked.code));
                continue;
            }
            assert_eq!(created.err.trim_end().lines().count(), 1, "{created}");
            container.nothing_left();
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_can_be_check_lets_pass_and_create_makes() {
    if !gabion() {
        return;
    }
    let mut wrong = Vec::new();
    for level in ["hardened", "permissive"] {
        for row in &CAN {
            let container = container(level, row);
            let checked = container.op(&["check", "--format", "json", &container.path()]);
            let created = container.create();
            if (checked.code, created.code) != (0, 0) {
                wrong.push(format!("{level} {}: check {}, create {created}", row.0, checked.code));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A control's refusal and what no level may have, in one line: the control's first, since it has a remedy.
#[test]
fn both_kinds_are_told_at_once() {
    if !gabion() {
        return;
    }
    let mut container = container("hardened", &("both", &[("/process/env/-", || json!("nothing"))]));
    container.bundle.config.add_capability("CAP_NET_ADMIN");
    container.bundle.write_config();
    let done = container.create();
    assert_eq!(done.code, 1, "{done}");
    done.says(&["capabilities.", "(+1 more: bundle.invalid)"]);
    container.nothing_left();
}
