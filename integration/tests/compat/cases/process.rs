//! config.md, Process; root, hostname, and what a process shows of itself.

use crate::case::Case;
use integration::Bundle;
use serde_json::{Value, json};
use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;

const PROCESS: &str = "config.md#process";
const POSIX: &str = "config.md#posix-process";
const LINUX: &str = "config.md#linux-process";
const USER: &str = "config.md#user";

pub(crate) fn cases() -> Vec<Case> {
    [
        identity(),
        environment(),
        capabilities(),
        limits(),
        scheduling(),
        root(),
    ]
    .concat()
}

fn identity() -> Vec<Case> {
    let ids = "grep -E '^(Uid|Gid|Groups):' /proc/self/status; umask";
    vec![
        Case::new(USER, "user-root", json!({}), ids),
        Case::new(USER, "user-ids", json!({"process": {"user": {"uid": 1000, "gid": 1001}}}), ids)
            .field("/process/user/gid")
            .shows("1001"),
        Case::new(USER, "user-uid", json!({"process": {"user": {"uid": 1000, "gid": 1001}}}), ids).field("/process/user/uid"),
        Case::new(USER, "user-additional-gids", json!({"process": {"user": {"additionalGids": [5, 77, 0]}}}), ids)
            .field("/process/user/additionalGids")
            .shows("77"),
        Case::new(USER, "user-umask", json!({"process": {"user": {"umask": 63}}}), ids)
            .field("/process/user/umask")
            .shows("0077"),
        Case::new(USER, "user-umask-zero", json!({"process": {"user": {"umask": 0}}}), "touch /tmp/f; stat -c %a /tmp/f")
            .field("/process/user/umask")
            .shows("666"),
        Case::new(USER, "cwd-of-root-s-only", json!({"process": {"cwd": "/root", "user": {"uid": 42, "gid": 42}}}), "pwd; id -u; ls / >/dev/null && echo goes on").setup(closed_home).runc().shows("/root\n42\n"),
        Case::new(USER, "program-by-capability", json!({"process": {"args": ["/bin/printf", "ran\n"], "user": {"uid": 1000, "gid": 1000}, "capabilities": {"bounding": ["CAP_DAC_OVERRIDE"], "permitted": ["CAP_DAC_OVERRIDE"], "effective": ["CAP_DAC_OVERRIDE"], "inheritable": ["CAP_DAC_OVERRIDE"], "ambient": ["CAP_DAC_OVERRIDE"]}}}), "").setup(of_root).shows("ran\nexit 0"),
        Case::new(USER, "program-without-capability", json!({"process": {"args": ["/bin/printf", "ran\n"], "user": {"uid": 1000, "gid": 1000}, "capabilities": {"bounding": ["CAP_DAC_OVERRIDE"], "permitted": [], "effective": [], "inheritable": [], "ambient": []}}}), "").setup(of_root).runc().shows("permission denied"),
        Case::new(USER, "user-unknown", json!({"process": {"user": {"uid": 4242, "gid": 4242}}}), "id; echo $HOME").runc().shows("4242"),
        Case::new(LINUX, "whole-status", json!({}), "grep -E '^(Cap|NoNewPrivs|Seccomp:|SigPnd|SigBlk|ShdPnd|SigCgt|Uid|Gid|Groups|Threads)' /proc/self/status"),
        Case::new(LINUX, "session-and-group", json!({}), "awk '{print $5, $6, $7}' /proc/self/stat"),
        Case::new(LINUX, "oom-score-adj", json!({"process": {"oomScoreAdj": 500}}), "cat /proc/self/oom_score_adj")
            .field("/process/oomScoreAdj")
            .shows("500"),
        Case::new(LINUX, "oom-score-adj-absent", json!({}), "cat /proc/self/oom_score_adj"),
        Case::new(LINUX, "apparmor-without-apparmor", json!({"process": {"apparmorProfile": "docker-default"}}), "echo ran").runc().only_if(|| !std::path::Path::new("/sys/module/apparmor").exists()),
        Case::new(LINUX, "selinux-without-selinux", json!({"process": {"selinuxLabel": "system_u:system_r:container_t:s0"}, "linux": {"mountLabel": "system_u:object_r:container_file_t:s0"}}), "echo ran").runc().only_if(|| !std::path::Path::new("/sys/fs/selinux/enforce").exists()),
        Case::new(LINUX, "no-new-privileges", json!({"process": {"noNewPrivileges": true}}), "grep NoNew /proc/self/status")
            .field("/process/noNewPrivileges")
            .shows("1"),
        Case::new(LINUX, "new-privileges", json!({"process": {"noNewPrivileges": false}}), "grep NoNew /proc/self/status").shows("0"),
    ]
}

fn closed_home(bundle: &mut Bundle) {
    let home = bundle.rootfs().join("root");
    std::fs::create_dir_all(&home).unwrap();
    std::fs::set_permissions(home, Permissions::from_mode(0o700)).unwrap();
}

/// A program that root's capabilities run, and no other user.
fn of_root(bundle: &mut Bundle) {
    let bin = bundle.rootfs().join("usr/bin");
    std::fs::remove_file(bin.join("printf")).unwrap();
    std::fs::copy(bin.join("busybox"), bin.join("printf")).unwrap();
    std::fs::set_permissions(bin.join("printf"), Permissions::from_mode(0o744)).unwrap();
}

fn environment() -> Vec<Case> {
    let env = |list: &[&str]| json!({"process": {"env": list}});
    vec![
        Case::new(
            PROCESS,
            "args",
            json!({"process": {"args": ["/bin/echo", "a  b", "", "ü", "-n"]}}),
            "",
        )
        .field("/process/args")
        .shows("a  b  ü -n"),
        Case::new(
            PROCESS,
            "args-by-path",
            json!({"process": {"args": ["echo", "found"]}}),
            "",
        )
        .shows("found"),
        Case::new(
            PROCESS,
            "args-not-found",
            json!({"process": {"args": ["no-such-program"]}}),
            "",
        )
        .shows("not found"),
        Case::new(PROCESS, "args-no-file", json!({"process": {"args": ["/no/such"]}}), "").shows("no such file"),
        Case::new(
            PROCESS,
            "args-not-executable",
            json!({"process": {"args": ["/etc/passwd"]}}),
            "",
        )
        .shows("permission denied"),
        Case::new(PROCESS, "args-directory", json!({"process": {"args": ["/etc"]}}), ""),
        Case::new(PROCESS, "args-empty", json!({"process": {"args": []}}), "").shows("exit 1"),
        Case::new(
            PROCESS,
            "env",
            env(&["PATH=/bin", "A=1", "B=x y"]),
            "env | grep -v SHLVL",
        )
        .field("/process/env")
        .shows("B=x y"),
        Case::new(PROCESS, "env-twice", env(&["PATH=/bin", "A=1", "A=2"]), "env | grep ^A").shows("A=2"),
        Case::new(PROCESS, "env-equals", env(&["PATH=/bin", "A=b=c"]), "env | grep ^A").shows("A=b=c"),
        Case::new(PROCESS, "env-home-root", env(&["PATH=/bin"]), "echo $HOME").shows("/root"),
        Case::new(
            PROCESS,
            "env-home-user",
            json!({"process": {"user": {"uid": 1000, "gid": 1000}}}),
            "echo $HOME",
        )
        .shows("/home"),
        Case::new(PROCESS, "env-home-given", env(&["PATH=/bin", "HOME=/x"]), "echo $HOME").shows("/x"),
        Case::new(
            PROCESS,
            "env-path-absent",
            json!({"process": {"env": ["A=1"], "args": ["echo", "ran"]}}),
            "",
        )
        .alone()
        .shows("ran"),
        Case::new(
            PROCESS,
            "env-path-other",
            json!({"process": {"env": ["PATH=/nowhere"], "args": ["echo", "ran"]}}),
            "",
        ),
        Case::new(PROCESS, "cwd", json!({"process": {"cwd": "/etc"}}), "pwd; ls hostname")
            .field("/process/cwd")
            .shows("/etc"),
        Case::new(
            PROCESS,
            "cwd-made",
            json!({"process": {"cwd": "/made/here"}}),
            "pwd; stat -c '%a %u' /made/here",
        )
        .shows("/made/here"),
        Case::new(PROCESS, "cwd-file", json!({"process": {"cwd": "/etc/passwd"}}), "pwd").shows("exit 1"),
        Case::new(PROCESS, "cwd-link", json!({"process": {"cwd": "/var/run"}}), "pwd"),
        Case::new(PROCESS, "cwd-relative", json!({"process": {"cwd": "etc"}}), "pwd")
            .runc()
            .shows("exit 1"),
        Case::new(
            PROCESS,
            "stdio-not-a-tty",
            json!({}),
            "for n in 0 1 2; do test -t $n && echo tty $n; done; echo done",
        )
        .shows("done"),
        Case::new(PROCESS, "no-more-descriptors", json!({}), "ls /proc/self/fd | wc -l"),
        Case::new(PROCESS, "exit-code", json!({}), "exit 42").shows("exit 42"),
        Case::new(PROCESS, "exit-by-signal", json!({}), "kill -9 $$")
            .runc()
            .shows("exit"),
        Case::new(PROCESS, "exit-255", json!({}), "exit 255").shows("exit 255"),
    ]
}

fn capabilities() -> Vec<Case> {
    let sets = "grep ^Cap /proc/self/status";
    let caps = |value: serde_json::Value| json!({"process": {"capabilities": value}});
    let all = json!(["CAP_KILL", "CAP_CHOWN", "CAP_NET_RAW"]);
    let five = json!({"bounding": all, "effective": all, "permitted": all, "inheritable": all, "ambient": all});
    vec![
        Case::new(LINUX, "caps-default", json!({}), sets),
        Case::new(LINUX, "caps-all-sets", caps(five.clone()), sets).field("/process/capabilities/inheritable"),
        Case::new(LINUX, "caps-bounding", caps(five.clone()), sets).field("/process/capabilities/bounding"),
        Case::new(
            LINUX,
            "caps-permitted",
            json!({"process": {"capabilities": five, "user": {"uid": 1000, "gid": 1000}}}),
            sets,
        )
        .field("/process/capabilities/permitted"),
        Case::new(
            LINUX,
            "caps-effective",
            json!({"process": {"capabilities": {"bounding": all, "permitted": all, "effective": ["CAP_KILL"]},
            "user": {"uid": 1000, "gid": 1000}}}),
            sets,
        ),
        Case::new(
            LINUX,
            "caps-ambient",
            json!({"process": {"capabilities": five, "user": {"uid": 1000, "gid": 1000}}}),
            sets,
        )
        .field("/process/capabilities/ambient"),
        Case::new(
            LINUX,
            "caps-user-without-ambient",
            json!({"process": {"capabilities": {"bounding": all, "permitted": all, "effective": all}, "user": {"uid": 1000, "gid": 1000}}}),
            sets,
        ),
        Case::new(
            LINUX,
            "caps-ambient-not-inheritable",
            caps(json!({"bounding": all, "permitted": all, "effective": all, "inheritable": [], "ambient": all})),
            sets,
        ),
        Case::new(
            LINUX,
            "caps-inheritable-not-permitted",
            caps(json!({"bounding": all, "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": all})),
            sets,
        )
        .shows("exit 0"),
        Case::new(
            LINUX,
            "caps-unknown",
            caps(json!({"bounding": ["CAP_KILL", "CAP_KARAOKE", "CHOWN"], "permitted": ["CAP_KILL", "CAP_KARAOKE", "cap_chown"],
                        "effective": ["CAP_KILL", "CAP_KARAOKE"]})),
            sets,
        )
        .runc()
        .shows("exit 0"),
        Case::new(
            LINUX,
            "caps-none",
            caps(json!({"bounding": [], "effective": [], "permitted": [], "inheritable": [], "ambient": []})),
            sets,
        )
        .shows("0000000000000000"),
        Case::new(
            LINUX,
            "caps-empty-object",
            caps(json!({"bounding": null, "effective": null, "permitted": null})),
            sets,
        ),
    ]
}

fn limits() -> Vec<Case> {
    let limit = |name: &'static str, typ: &'static str, line: &'static str, value: u64| {
        Case::new(
            POSIX,
            name,
            json!({"process": {"rlimits": [{"type": typ, "soft": value, "hard": value}]}}),
            line,
        )
        .field("/process/rlimits")
    };
    vec![
        limit(
            "rlimit-as",
            "RLIMIT_AS",
            "grep 'address space' /proc/self/limits",
            4 << 30,
        ),
        limit(
            "rlimit-core",
            "RLIMIT_CORE",
            "grep core /proc/self/limits; ulimit -c",
            0,
        )
        .alone()
        .shows("0"),
        limit("rlimit-cpu", "RLIMIT_CPU", "grep 'cpu time' /proc/self/limits", 77),
        limit("rlimit-data", "RLIMIT_DATA", "grep data /proc/self/limits", 1 << 30),
        limit(
            "rlimit-fsize",
            "RLIMIT_FSIZE",
            "grep 'file size' /proc/self/limits",
            1 << 30,
        ),
        limit("rlimit-locks", "RLIMIT_LOCKS", "grep locks /proc/self/limits", 12),
        limit(
            "rlimit-memlock",
            "RLIMIT_MEMLOCK",
            "grep 'locked memory' /proc/self/limits",
            4096,
        ),
        limit(
            "rlimit-msgqueue",
            "RLIMIT_MSGQUEUE",
            "grep msgqueue /proc/self/limits",
            4096,
        ),
        limit(
            "rlimit-nofile",
            "RLIMIT_NOFILE",
            "grep 'open files' /proc/self/limits",
            333,
        ),
        limit("rlimit-nproc", "RLIMIT_NPROC", "grep processes /proc/self/limits", 444),
        limit("rlimit-rss", "RLIMIT_RSS", "grep resident /proc/self/limits", 1 << 30),
        limit(
            "rlimit-rttime",
            "RLIMIT_RTTIME",
            "grep realtime /proc/self/limits",
            1000,
        ),
        limit(
            "rlimit-sigpending",
            "RLIMIT_SIGPENDING",
            "grep pending /proc/self/limits",
            55,
        ),
        limit("rlimit-stack", "RLIMIT_STACK", "grep stack /proc/self/limits", 1 << 22),
        Case::new(
            POSIX,
            "rlimit-soft-below-hard",
            json!({"process": {"rlimits": [{"type": "RLIMIT_NOFILE", "soft": 100, "hard": 200}]}}),
            "grep 'open files' /proc/self/limits",
        )
        .shows("100"),
        // Limits are the program's: our own set-up, which needs more than these, is done before.
        small("rlimit-nofile-and-binds", json!([{"type": "RLIMIT_NOFILE", "soft": 30, "hard": 30}]), "ls /many | wc -l; ulimit -n").shows("20\n30"),
        small("rlimit-nofile-tiny", json!([{"type": "RLIMIT_NOFILE", "soft": 16, "hard": 16}]), "ulimit -n").shows("16"),
        small("rlimit-all-tiny", json!([{"type": "RLIMIT_AS", "soft": 8 << 20, "hard": 8 << 20}, {"type": "RLIMIT_CPU", "soft": 1, "hard": 1}, {"type": "RLIMIT_MEMLOCK", "soft": 0, "hard": 0}, {"type": "RLIMIT_NPROC", "soft": 1, "hard": 1}]), "ulimit -l; echo ran").shows("0\nran"),
        Case::new(POSIX, "rlimit-fsize-and-copy-up", json!({"process": {"rlimits": [{"type": "RLIMIT_FSIZE", "soft": 512, "hard": 512}]}, "mounts+": [{"destination": "/etc", "type": "tmpfs", "source": "tmpfs", "options": ["tmpcopyup"]}]}), "wc -c < /etc/large; ulimit -f")
            .setup(|bundle| std::fs::write(bundle.rootfs().join("etc/large"), [b'x'; 4096]).unwrap())
            .runc()
            .shows("4096\n1"),
        Case::new(
            POSIX,
            "rlimit-unknown",
            json!({"process": {"rlimits": [{"type": "RLIMIT_NONE", "soft": 1, "hard": 1}]}}),
            "true",
        )
        .shows("exit 1"),
        Case::new(POSIX, "rlimit-none", json!({}), "cat /proc/self/limits"),
    ]
}

/// Twenty binds, and what only root can raise.
fn small(name: &'static str, limits: Value, script: &'static str) -> Case {
    let binds: Vec<Value> = (0..20)
        .map(|n| json!({"destination": format!("/many/{n}"), "type": "bind", "source": "@DIR@", "options": ["bind"]}))
        .collect();
    Case::new(
        POSIX,
        name,
        json!({"process": {"rlimits": limits}, "mounts+": binds}),
        script,
    )
    .runc()
}

fn scheduling() -> Vec<Case> {
    let policy = "awk '{print \"policy\", $41, \"nice\", $19}' /proc/self/stat";
    vec![
        Case::new(
            LINUX,
            "scheduler-batch",
            json!({"process": {"scheduler": {"policy": "SCHED_BATCH", "nice": 5}}}),
            policy,
        )
        .field("/process/scheduler")
        .alone()
        .shows("policy 3 nice 5"),
        Case::new(
            LINUX,
            "scheduler-idle",
            json!({"process": {"scheduler": {"policy": "SCHED_IDLE"}}}),
            policy,
        )
        .field("/process/scheduler")
        .alone()
        .shows("policy 5"),
        Case::new(
            LINUX,
            "io-priority",
            json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_BE", "priority": 6}}}),
            "ionice",
        )
        .field("/process/ioPriority")
        .alone()
        .shows("best-effort: prio 6"),
        Case::new(
            LINUX,
            "io-priority-idle",
            json!({"process": {"ioPriority": {"class": "IOPRIO_CLASS_IDLE", "priority": 0}}}),
            "ionice",
        )
        .field("/process/ioPriority")
        .alone()
        .shows("idle"),
        Case::new(
            "config-linux.md#personality",
            "personality-linux32",
            json!({"linux": {"personality": {"domain": "LINUX32"}}}),
            "uname -m",
        )
        .field("/linux/personality")
        .crun()
        .shows("i686"),
    ]
}

fn root() -> Vec<Case> {
    let script = "touch /x 2>&1; awk '$5==\"/\"{print $6}' /proc/self/mountinfo";
    vec![
        Case::new("config.md#root", "root-readonly", json!({"root": {"readonly": true}}), script).field("/root/readonly").shows("Read-only"),
        Case::new("config.md#root", "root-writable", json!({"root": {"readonly": false}}), script),
        Case::new("config.md#root", "root-absolute", json!({"root": {"path": "@DIR@/bundle/rootfs"}}), "ls /").field("/root/path").shows("usr"),
        Case::new("config.md#root", "root-missing", json!({"root": {"path": "nowhere"}}), "ls /").shows("exit 1"),
        Case::new("config.md#root", "root-absent", json!({"root": null}), "ls /").shows("exit 1"),
        Case::new("config.md#hostname", "hostname", json!({"hostname": "a.b-c"}), "hostname").field("/hostname").shows("a.b-c"),
        Case::new("config.md#hostname", "hostname-without-uts",
            json!({"hostname": "x", "linux": {"namespaces": [{"type": "mount"}, {"type": "pid"}, {"type": "network"}, {"type": "ipc"}]}}), "echo ran").shows("exit 1"),
        Case::new("config.md#domainname", "domainname", json!({"domainname": "d.example"}), "cat /proc/sys/kernel/domainname")
            .field("/domainname")
            .crun()
            .shows("d.example"),
        Case::new("config.md#annotations", "annotations", json!({"annotations": {"a.b/c": "d", "e": ""}}), "true")
            .drive(|c| { c.create().ok(); c.state()["annotations"].to_string() })
            .field("/annotations")
            .shows("a.b/c"),
        Case::new("config.md#specification-version", "version-unknown", json!({"ociVersion": "9.9.9"}), "echo ran").alone().shows("exit 1"),
        Case::new("config.md#specification-version", "version-absent", json!({"ociVersion": null}), "echo ran").alone().shows("exit 1"),
        Case::new("config.md#process", "user-absent", json!({"process": {"user": null}}), "id -u; id -g").shows("0\n"),
        Case::new(
            "config.md#process",
            "keys-in-other-letters",
            json!({"Hostname": "small", "hostname": null, "process": {"USER": {"Uid": 7, "gID": 8}, "user": null}}),
            "id -u; id -g; hostname",
        )
        .runc()
        .shows("7\n8\nsmall"),
        Case::new(
            "config.md#process",
            "keys-that-merge",
            json!({"process": {"User": {"gid": 9}, "user": {"uid": 7, "gid": 8}, "Cwd": "/etc"}}),
            "id -u; pwd",
        )
        .runc()
        .shows("7\n"),
        Case::new("config.md#process", "user-as-a-list", json!({"process": {"user": [1000, 1000]}}), "id -u")
            .runc()
            .shows("exit 1"),
        Case::new("config.md#extensibility", "unknown-properties-are-ignored", json!({"x-new": {"y": 1}, "linux": {"x-new": 1}}), "echo ran").shows("ran"),
        Case::new("config.md#process", "process-absent", json!({"process": null}), "").alone().shows("exit 1"),
    ]
}
