//! config-linux.md, Seccomp.

use crate::case::Case;
use serde_json::{Value, json};

const SECTION: &str = "config-linux.md#seccomp";

fn profile(value: &Value) -> Value {
    json!({"linux": {"seccomp": value}})
}

/// Everything is allowed but mkdir.
fn mkdir(rule: &Value) -> Value {
    let mut rule = rule.clone();
    rule["names"] = json!(["mkdir", "mkdirat"]);
    profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [rule]}))
}

/// Everything is allowed but kill(2) with this argument.
fn kill(args: &Value) -> Value {
    profile(
        &json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["kill"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": args}]}),
    )
}

pub(crate) fn cases() -> Vec<Case> {
    let make = "mkdir /tmp/d 2>&1; echo $?; grep -E '^(Seccomp:|NoNew)' /proc/self/status";
    let signals = "for s in 18 23 28; do kill -$s $$ 2>/dev/null && echo $s sent || echo $s not; done";
    let act = |name: &'static str, rule: Value| Case::new(SECTION, name, mkdir(&rule), make);
    let arg = |name: &'static str, args: Value| {
        Case::new(SECTION, name, kill(&args), signals).field("/linux/seccomp/syscalls/0/args")
    };
    vec![
        act("seccomp-errno", json!({"action": "SCMP_ACT_ERRNO"})).field("/linux/seccomp").shows("not permitted"),
        act("seccomp-errno-ret", json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 28})).field("/linux/seccomp/syscalls/0/errnoRet").shows("No space"),
        act("seccomp-errno-zero", json!({"action": "SCMP_ACT_ERRNO", "errnoRet": 0})),
        act("seccomp-kill", json!({"action": "SCMP_ACT_KILL"})).shows("Seccomp:"),
        act("seccomp-kill-thread", json!({"action": "SCMP_ACT_KILL_THREAD"})).shows("Seccomp:"),
        act("seccomp-kill-process", json!({"action": "SCMP_ACT_KILL_PROCESS"})).shows("Seccomp:"),
        act("seccomp-trap", json!({"action": "SCMP_ACT_TRAP"})).shows("Seccomp:"),
        act("seccomp-trace", json!({"action": "SCMP_ACT_TRACE", "errnoRet": 7})).shows("not implemented"),
        act("seccomp-log", json!({"action": "SCMP_ACT_LOG"})).shows("0\n"),
        act("seccomp-allow", json!({"action": "SCMP_ACT_ALLOW"})).shows("0\n"),
        Case::new(SECTION, "seccomp-default-errno", profile(&json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38, "syscalls": [
            {"names": ["chmod", "nothing_of_the_sort"], "action": "SCMP_ACT_ALLOW"}]})), "echo ran").alone(),
        Case::new(SECTION, "seccomp-unknown-names", profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["no_such_call", "mkdir"], "action": "SCMP_ACT_ERRNO"}]})), make).alone().shows("exit 1"),
        Case::new(SECTION, "seccomp-unknown-action", mkdir(&json!({"action": "SCMP_ACT_DREAM"})), make).shows("exit 1"),
        Case::new(SECTION, "seccomp-unknown-architecture", profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_DREAM"]})), "true").shows("exit 1"),
        Case::new(SECTION, "seccomp-architectures", profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13}]})), make).shows("denied"),
        Case::new(SECTION, "seccomp-empty", profile(&json!({"defaultAction": "SCMP_ACT_ALLOW"})), "grep -E '^Seccomp:' /proc/self/status"),
        Case::new(SECTION, "seccomp-flag-log", profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]})), make).crun().shows("not permitted"),
        Case::new(SECTION, "seccomp-flag-spec-allow", profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_SPEC_ALLOW"], "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]})), make).crun().shows("not permitted"),
        Case::new(SECTION, "seccomp-flag-unknown", profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_DREAM"], "syscalls": [
            {"names": ["mkdir"], "action": "SCMP_ACT_ERRNO"}]})), make).shows("exit 1"),
        Case::new(SECTION, "seccomp-with-no-new-privs", json!({"process": {"noNewPrivileges": true, "user": {"uid": 1000, "gid": 1000}, "capabilities": null},
            "linux": mkdir(&json!({"action": "SCMP_ACT_ERRNO"}))["linux"]}), make).shows("NoNewPrivs:\t1"),
        Case::new(SECTION, "seccomp-as-user-without-nnp", json!({"process": {"user": {"uid": 1000, "gid": 1000}},
            "linux": mkdir(&json!({"action": "SCMP_ACT_ERRNO"}))["linux"]}), make).shows("Seccomp:\t2"),
        Case::new(SECTION, "seccomp-kill-exit-code", profile(&json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
            {"names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS"}]})), "exec uname -a").runc(),
        arg("seccomp-arg-eq", json!([{"index": 1, "value": 18, "op": "SCMP_CMP_EQ"}])).shows("18 not"),
        arg("seccomp-arg-ne", json!([{"index": 1, "value": 18, "op": "SCMP_CMP_NE"}])).shows("18 sent"),
        arg("seccomp-arg-lt", json!([{"index": 1, "value": 23, "op": "SCMP_CMP_LT"}])).shows("18 not"),
        arg("seccomp-arg-le", json!([{"index": 1, "value": 23, "op": "SCMP_CMP_LE"}])).shows("23 not"),
        arg("seccomp-arg-gt", json!([{"index": 1, "value": 23, "op": "SCMP_CMP_GT"}])).shows("28 not"),
        arg("seccomp-arg-ge", json!([{"index": 1, "value": 23, "op": "SCMP_CMP_GE"}])).shows("18 sent"),
        arg("seccomp-arg-masked", json!([{"index": 1, "value": 8, "valueTwo": 8, "op": "SCMP_CMP_MASKED_EQ"}])).shows("28 not"),
        arg("seccomp-arg-two", json!([{"index": 1, "value": 23, "op": "SCMP_CMP_GE"}, {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"}])).shows("18 sent"),
    ]
}
