//! What a running container is refused: a second process, other limits.

use crate::attempt::Row;
use serde_json::json;

const PROGRAM: [&str; 2] = ["/usr/bin/probe", "cwd"];

pub(crate) const ROWS: &[Row] = &[
    Row {
        code: "exec.cwd",
        ask: |a| a.exec(&["--cwd", "/proc/1/root"], &PROGRAM),
        remedy: |a| a.exec(&["--cwd", "/srv"], &PROGRAM),
    },
    Row {
        code: "exec.denied",
        ask: |a| {
            a.policy.push_str("exec = \"deny\"\n");
            a.exec(&[], &PROGRAM);
        },
        remedy: |a| a.policy = a.policy.replace("deny", "allow"),
    },
    Row {
        code: "exec.other-label",
        ask: |a| a.exec_process("apparmorProfile", json!("mine")),
        remedy: |a| a.exec_process("apparmorProfile", json!("")),
    },
    Row {
        code: "exec.root",
        ask: |a| {
            a.level = "restricted";
            a.bundle.config.user(1000);
            a.exec(&["--user", "0"], &PROGRAM);
        },
        remedy: |a| a.exec(&["--user", "1000"], &PROGRAM),
    },
    Row {
        code: "exec.widen",
        ask: |a| a.exec(&["--cap", "CAP_SYS_ADMIN"], &PROGRAM),
        remedy: |a| a.exec(&[], &PROGRAM),
    },
    Row {
        code: "cgroup.cpu-unlimited",
        ask: |a| {
            a.policy.push_str("[cgroup]\ncpu_percent = 100\n");
            a.update(r#"{"cpu": {"quota": -1}}"#);
        },
        remedy: |a| a.update(r#"{"cpu": {"quota": 50000, "period": 100000}}"#),
    },
    Row {
        code: "cgroup.memory-unlimited",
        ask: |a| a.update(r#"{"memory": {"limit": -1}}"#),
        remedy: |a| a.update(r#"{"memory": {"limit": 134217728}}"#),
    },
    Row {
        code: "cgroup.pids-unlimited",
        ask: |a| a.update(r#"{"pids": {"limit": -1}}"#),
        remedy: |a| a.update(r#"{"pids": {"limit": 100}}"#),
    },
];
