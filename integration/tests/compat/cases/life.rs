//! runtime.md: state, life cycle, operations; and what callers of runc use besides.

use crate::case::Case;
use crate::peers::Peer;
use integration::Container;
use integration::cgroup::on;
use serde_json::{Value, json};

const LIFE: &str = "runtime.md#lifecycle";
const STATE: &str = "runtime.md#state";

pub(crate) fn cases() -> Vec<Case> {
    [states(), wrong(), execs(), signals(), lists()].concat()
}

fn case(section: &'static str, name: &'static str, drive: fn(&Container) -> String) -> Case {
    Case::new(
        section,
        name,
        json!({"annotations": {"a": "b"}}),
        "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done",
    )
    .drive(drive)
}

/// The fields of the state that do not change from run to run.
fn state(container: &Container) -> String {
    let done = container.op(&["state", container.id()]);
    let Ok(state) = serde_json::from_str::<Value>(&done.out) else {
        return format!("state: exit {}\n", done.code);
    };
    let pid = state["pid"].as_i64().unwrap_or(0);
    let pid = if pid > 0 { "live" } else { "none" };
    format!(
        "{} {} {} {} pid {pid}\n",
        state["id"], state["status"], state["bundle"], state["annotations"]
    )
}

fn up(container: &Container) {
    container.run_detached().ok();
}

fn states() -> Vec<Case> {
    vec![
        case(STATE, "state-created", |c| {
            c.create().ok();
            state(c)
        })
        .shows("created"),
        case(STATE, "state-running", |c| {
            up(c);
            state(c)
        })
        .shows("running"),
        case(STATE, "state-paused", |c| {
            up(c);
            format!("{}{}", c.op(&["pause", c.id()]).code, state(c))
        })
        .runc()
        .shows("paused"),
        case(STATE, "state-created-and-paused", |c| {
            c.create().ok();
            let code = c.op(&["pause", c.id()]).code;
            let told = state(c);
            c.op(&["resume", c.id()]);
            format!("{code} {told}{}", state(c))
        })
        .runc(),
        case(STATE, "state-resumed", |c| {
            up(c);
            let codes = [c.op(&["pause", c.id()]).code, c.op(&["resume", c.id()]).code];
            format!("{codes:?}{}", state(c))
        })
        .shows("running"),
        case(STATE, "state-stopped", |c| {
            up(c);
            c.op(&["kill", c.id(), "KILL"]);
            c.wait_status("stopped");
            state(c)
        })
        .shows("stopped"),
        case(STATE, "state-of-nothing", |c| {
            format!(
                "{}{}",
                state(c),
                c.op(&["state", c.id()]).err.contains("does not exist")
            )
        })
        .runc()
        .shows("true"),
        case(STATE, "state-keys", |c| {
            c.create().ok();
            let mut keys: Vec<String> = c.state().as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        })
        .runc()
        .shows("ociVersion"),
        case(STATE, "state-rootfs", |c| {
            c.create().ok();
            c.state()["rootfs"].to_string()
        })
        .runc()
        .shows("bundle/rootfs"),
        case(STATE, "state-version", |c| {
            c.create().ok();
            c.state()["ociVersion"].to_string()
        })
        .alone()
        .shows("1.0.2"),
    ]
}

fn wrong() -> Vec<Case> {
    vec![
        case(LIFE, "create-twice", |c| {
            c.create().ok();
            let again = c.create();
            format!("{} {}{}", again.code, again.err.contains("exist"), state(c))
        })
        .shows("true"),
        case(LIFE, "start-twice", |c| {
            up(c);
            format!("{}{}", c.start().code, state(c))
        })
        .shows("1"),
        case(LIFE, "start-nothing", |c| c.start().code.to_string()).shows("1"),
        case(LIFE, "delete-running", |c| {
            up(c);
            format!("{}{}", c.delete().code, state(c))
        })
        .shows("1"),
        case(LIFE, "delete-created", |c| {
            c.create().ok();
            format!("{}{}", c.delete().code, state(c))
        })
        .runc(),
        case(LIFE, "delete-force-running", |c| {
            up(c);
            format!("{}{}", c.op(&["delete", "--force", c.id()]).code, state(c))
        })
        .shows("0"),
        case(LIFE, "delete-force-paused", |c| {
            up(c);
            c.op(&["pause", c.id()]).ok();
            format!("{}{}", c.op(&["delete", "--force", c.id()]).code, state(c))
        })
        .runc()
        .shows("0"),
        case(LIFE, "delete-nothing", |c| c.delete().code.to_string()).shows("1"),
        case(LIFE, "delete-force-nothing", |c| {
            c.op(&["delete", "--force", c.id()]).code.to_string()
        })
        .shows("0"),
        case(LIFE, "kill-nothing", |c| c.kill("TERM").code.to_string()).shows("1"),
        case(LIFE, "kill-stopped", |c| {
            up(c);
            c.kill("KILL").ok();
            c.wait_status("stopped");
            c.kill("KILL").code.to_string()
        })
        .runc()
        .shows("1"),
        case(LIFE, "pause-nothing", |c| c.op(&["pause", c.id()]).code.to_string()).shows("1"),
        case(LIFE, "pause-twice", |c| {
            up(c);
            c.op(&["pause", c.id()]).ok();
            format!("{}{}", c.op(&["pause", c.id()]).code, state(c))
        })
        .runc(),
        case(LIFE, "resume-running", |c| {
            up(c);
            format!("{}{}", c.op(&["resume", c.id()]).code, state(c))
        })
        .runc()
        .shows("1"),
        case(LIFE, "exec-created", |c| {
            c.create().ok();
            let done = c.exec(&["echo", "in"]);
            format!("{} {}", done.code, done.out)
        })
        .shows("in"),
        case(LIFE, "exec-paused", |c| {
            up(c);
            c.op(&["pause", c.id()]).ok();
            let done = c.exec(&["echo", "in"]);
            format!("{}{}", done.code, done.out)
        })
        .runc()
        .shows("255"),
        case(LIFE, "exec-nothing", |c| c.exec(&["true"]).code.to_string())
            .runc()
            .shows("255"),
        case(LIFE, "exec-stopped", |c| {
            up(c);
            c.kill("KILL").ok();
            c.wait_status("stopped");
            c.exec(&["true"]).code.to_string()
        })
        .runc()
        .shows("255"),
        case(LIFE, "id-bad", |c| {
            c.op(&["create", "--bundle", &c.path(), "a/b"]).code.to_string()
        })
        .shows("1"),
        case(LIFE, "id-dots", |c| c.op(&["state", ".."]).code.to_string()).shows("1"),
        case(LIFE, "ps-json", |c| {
            up(c);
            let done = c.op(&["ps", "--format", "json", c.id()]);
            let pids: Vec<i64> = serde_json::from_str(&done.out).unwrap();
            format!("{}", pids.contains(&i64::from(c.pid())))
        })
        .shows("true"),
        case(LIFE, "ps-stopped", |c| {
            up(c);
            c.kill("KILL").ok();
            c.wait_status("stopped");
            let done = c.op(&["ps", c.id()]);
            format!("{} {}", done.code, done.out.lines().count())
        })
        .runc()
        .shows("0 1"),
        case(LIFE, "json-begins-as-its-readers-expect", |c| {
            up(c);
            let listed = c.op(&["list", "--format", "json"]).out;
            let event = c.op(&["events", "--stats", c.id()]).out;
            let keys = |text: &str| {
                let whole = text.replace(c.id(), "ID");
                [
                    "\"ociVersion\":",
                    "\"id\":\"ID\"",
                    "\"pid\":",
                    "\"status\":",
                    "\"bundle\":",
                    "\"rootfs\":",
                    "\"created\":",
                    "\"owner\":",
                ]
                .map(|key| whole.find(key).unwrap_or(usize::MAX))
                .is_sorted()
            };
            let state = c.op(&["state", c.id()]).out.replace("\": ", "\":");
            let ps = c.op(&["ps", "--format", "json", c.id()]).out;
            let event = event.replace(c.id(), "ID");
            let begins = event.starts_with(r#"{"type":"stats","id":"ID","data":{"#);
            format!(
                "{} {} {} {} {begins}",
                listed.lines().count(),
                ps.lines().count(),
                keys(&listed),
                keys(&state)
            )
        })
        .runc()
        .shows("1 1 true true true"),
        case(LIFE, "ps-table", |c| {
            up(c);
            let done = c.op(&["ps", c.id()]);
            format!("{} {}", done.code, done.out.lines().next().unwrap_or_default())
        })
        .runc()
        .shows("PID"),
        case(LIFE, "ps-options", |c| {
            up(c);
            let done = c.op(&["ps", c.id(), "-o", "pid,comm"]);
            format!("{} {}", done.code, done.out.lines().next().unwrap_or_default().trim())
        })
        .runc()
        .shows("COMMAND"),
        case(LIFE, "pid-file", |c| {
            let file = c.bundle.dir.join("pid");
            c.op(&[
                "create",
                "--bundle",
                &c.path(),
                "--pid-file",
                file.to_str().unwrap(),
                c.id(),
            ])
            .ok();
            let text = std::fs::read_to_string(file).unwrap();
            format!("{:?}", text == c.pid().to_string())
        })
        .shows("true"),
        case(LIFE, "run-keeps-nothing", |c| {
            let done = c.op(&[
                "run",
                "--bundle",
                &c.path(),
                "--pid-file",
                &c.bundle.dir.join("p").display().to_string(),
                "--detach",
                c.id(),
            ]);
            c.op(&["delete", "-f", c.id()]);
            format!("{}{}", done.code, state(c))
        }),
    ]
}

fn exec(container: &Container, words: &[&str], command: &str) -> String {
    up(container);
    let all: Vec<&str> = ["exec"]
        .into_iter()
        .chain(words.iter().copied())
        .chain([container.id(), "sh", "-c", command])
        .collect();
    let done = container.op(&all);
    format!("{}exit {}", done.out, done.code)
}

fn exec_file(container: &Container, process: &Value) -> String {
    up(container);
    let file = container.bundle.dir.join("process.json");
    std::fs::write(&file, serde_json::to_vec(process).unwrap()).unwrap();
    let done = container.op(&["exec", "--process", file.to_str().unwrap(), container.id()]);
    format!("{}exit {}", done.out, done.code)
}

/// `exec --cap` in a container with these: what became of the last two sets.
fn exec_with_caps(container: &Container, caps: &Value) -> String {
    let file = container.bundle.bundle().join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    config["process"]["capabilities"] = caps.clone();
    std::fs::write(&file, config.to_string()).unwrap();
    exec(
        container,
        &["--cap", "CAP_SYSLOG"],
        "grep -E '^Cap(Eff|Amb)' /proc/self/status | cut -f2",
    )
}

/// process.json on stdin, as `exec --process /dev/stdin` reads it: a pipe.
fn exec_pipe(container: &Container, process: &Value) -> String {
    up(container);
    let command = container.command(&["exec", "--process", "/dev/stdin", container.id()]);
    let mut script = std::process::Command::new("sh");
    script
        .arg("-c")
        .arg(r#"printf %s "$0" | "$@""#)
        .arg(process.to_string());
    script.arg(command.get_program()).args(command.get_args());
    script.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let done = integration::command::run(script, &container.bundle.dir);
    format!("{}exit {}", done.out, done.code)
}

fn execs() -> Vec<Case> {
    let exec_case = |name: &'static str, drive: fn(&Container) -> String| case("runc exec", name, drive);
    vec![
        exec_case("exec-status", |c| exec(c, &[], "grep -E '^(Cap|NoNewPrivs|Seccomp:|SigBlk|SigCgt|Uid|Gid|Groups)' /proc/self/status; pwd; umask")),
        exec_case("exec-env", |c| exec(c, &["-e", "A=1", "-e", "B=2"], "env | sort | grep -v SHLVL")).runc().shows("A=1"),
        exec_case("exec-cwd", |c| exec(c, &["--cwd", "/etc"], "pwd")).shows("/etc"),
        exec_case("exec-user", |c| exec(c, &["--user", "1000:1001"], "id -u; id -g; grep ^Cap /proc/self/status; echo $HOME")).shows("1001"),
        exec_case("exec-user-only", |c| exec(c, &["--user", "1000"], "id -u; id -g")).but(Peer::Crun, &[1, 21]).shows("1000"),
        exec_case("exec-groups", |c| exec(c, &["--user", "1000:1000", "-g", "5", "-g", "6"], "grep Groups /proc/self/status")).runc().shows("5 6"),
        exec_case("exec-no-new-privs", |c| exec(c, &["--no-new-privs"], "grep NoNew /proc/self/status")).shows("1"),
        exec_case("exec-cap-inheritable", |c| { let caps = json!(["CAP_CHOWN"]); let many = json!(["CAP_CHOWN", "CAP_SYSLOG"]); exec_with_caps(c, &json!({"bounding": many, "permitted": caps, "effective": caps, "inheritable": many, "ambient": caps})) }).runc().shows("0000000400000001\nexit 0"),
        exec_case("exec-cap", |c| exec(c, &["--cap", "CAP_SYS_ADMIN"], "grep ^Cap /proc/self/status")).runc(),
        exec_case("exec-exit-code", |c| exec(c, &[], "exit 42")).shows("exit 42"),
        exec_case("exec-not-found", |c| { up(c); c.exec(&["no-such-program"]).code.to_string() }).runc().shows("255"),
        exec_case("exec-not-executable", |c| { up(c); c.exec(&["/etc/passwd"]).code.to_string() }).runc().shows("255"),
        exec_case("exec-namespaces", |c| exec(c, &[], "for n in pid net ipc uts mnt cgroup user; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/1/ns/$n) ] && echo $n; done")).shows("mnt"),
        exec_case("exec-cgroup", |c| exec(c, &[], on("cut -d: -f2- /proc/self/cgroup | grep -E '^(pids|memory|cpu|devices):' | sort", "cat /proc/self/cgroup"))).shows("/"),
        exec_case("exec-descriptors", |c| exec(c, &[], "ls /proc/self/fd | wc -l")),
        exec_case("exec-detach", |c| { up(c); let pid = c.bundle.dir.join("exec.pid"); let done = c.op(&["exec", "--detach", "--pid-file", pid.to_str().unwrap(), c.id(), "sleep", "30"]); let text = std::fs::read_to_string(&pid).unwrap(); format!("{} {}", done.code, std::fs::read_to_string(format!("/proc/{}/comm", text.trim())).unwrap_or_default()) }).shows("0 sleep"),
        exec_case("exec-process-file", |c| exec_file(c, &json!({"terminal": false, "user": {"uid": 7, "gid": 8, "umask": 23, "additionalGids": [9]}, "args": ["sh", "-c", "id -u; id -g; pwd; env | sort | grep -v SHLVL; grep -E '^(Cap|NoNew|Groups)' /proc/self/status; exit 9"], "env": ["PATH=/bin", "X=1"], "cwd": "/tmp", "noNewPrivileges": true}))).runc().shows("exit 9"),
        exec_case("exec-process-capabilities", |c| exec_file(c, &json!({"user": {"uid": 0, "gid": 0}, "args": ["grep", "^Cap", "/proc/self/status"], "env": ["PATH=/bin"], "cwd": "/", "capabilities": {"bounding": ["CAP_KILL"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"], "inheritable": [], "ambient": []}}))),
        exec_case("exec-process-from-a-pipe", |c| exec_pipe(c, &json!({"args": ["id", "-u"], "env": ["PATH=/bin"], "cwd": "/"}))).runc().shows("0\nexit 0"),
        exec_case("exec-process-limits", |c| exec_file(c, &json!({"user": {"uid": 0, "gid": 0}, "args": ["grep", "open files", "/proc/self/limits"], "env": ["PATH=/bin"], "cwd": "/", "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 99, "hard": 99}]}))).shows("99"),
        exec_case("exec-process-oom-score", |c| exec_file(c, &json!({"user": {"uid": 0, "gid": 0}, "args": ["cat", "/proc/self/oom_score_adj"], "env": ["PATH=/bin"], "cwd": "/", "oomScoreAdj": 321}))).alone().shows("321"),
        exec_case("exec-cpu-affinity", |c| exec_file(c, &json!({"user": {"uid": 0, "gid": 0}, "args": ["grep", "Cpus_allowed_list", "/proc/self/status"], "env": ["PATH=/bin"], "cwd": "/", "execCPUAffinity": {"initial": "0-1", "final": "1"}}))).alone().shows("Cpus_allowed_list:\t1\n"),
        exec_case("exec-signalled", |c| exec(c, &[], "kill -TERM $$; sleep 5")).shows("exit 143"),
    ]
}

/// Sends a signal to the first process and tells how the container ended.
fn ended(container: &Container, words: &[&str]) -> String {
    let running = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    running.wait_for("up");
    let all: Vec<&str> = ["kill"]
        .into_iter()
        .chain(words.iter().map(|w| if *w == "ID" { container.id() } else { w }))
        .collect();
    let sent = container.op(&all);
    let code = if sent.code == 0 {
        running.wait(integration::command::limit(10)).code
    } else {
        -1
    };
    format!("sent {} ended {code}", sent.code)
}

fn signals() -> Vec<Case> {
    let kill = |name: &'static str, drive: fn(&Container) -> String| case("runtime.md#kill", name, drive);
    vec![
        kill("kill-default", |c| ended(c, &["ID"])).shows("ended 3"),
        kill("kill-number", |c| ended(c, &["ID", "15"])).shows("ended 3"),
        kill("kill-name", |c| ended(c, &["ID", "TERM"])).shows("ended 3"),
        kill("kill-sig-name", |c| ended(c, &["ID", "SIGTERM"])).shows("ended 3"),
        kill("kill-lower-case", |c| ended(c, &["ID", "sigterm"]))
            .runc()
            .shows("ended 3"),
        kill("kill-nine", |c| ended(c, &["ID", "9"])).shows("ended 137"),
        kill("kill-all", |c| ended(c, &["--all", "ID", "KILL"])).shows("ended 137"),
        kill("kill-unknown", |c| {
            up(c);
            c.op(&["kill", c.id(), "DREAM"]).code.to_string()
        })
        .runc()
        .shows("1"),
        kill("kill-zero", |c| {
            up(c);
            c.op(&["kill", c.id(), "0"]).code.to_string()
        }),
        kill("kill-paused", |c| {
            up(c);
            c.op(&["pause", c.id()]).ok();
            c.kill("KILL").ok();
            c.wait_status("stopped");
            state(c)
        })
        .runc()
        .shows("stopped"),
        kill("kill-created", |c| {
            c.create().ok();
            c.kill("KILL").ok();
            c.wait_status("stopped");
            state(c)
        })
        .shows("stopped"),
        Case::new(
            "runtime.md#kill",
            "kill-all-without-pid-namespace",
            json!({"hostname": null, "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}]}}),
            "sleep 61 & sleep 62 & echo up; wait",
        )
        .drive(|c| {
            up(c);
            let code = c.op(&["kill", "--all", c.id(), "KILL"]).code;
            c.wait_status("stopped");
            let left = c.cgroup("pids", "cgroup.procs").unwrap_or_default();
            format!("{code} left {left:?}")
        })
        .runc()
        .shows("0 left \"\""),
        Case::new(
            "runtime.md#delete",
            "delete-without-pid-namespace",
            json!({"hostname": null, "linux": {"namespaces": [{"type": "mount"}, {"type": "network"}]}}),
            "sleep 61 & sleep 62 & echo up; wait",
        )
        .drive(|c| {
            up(c);
            format!(
                "{} {}",
                c.op(&["delete", "--force", c.id()]).code,
                c.cgroup("pids", "cgroup.procs").unwrap_or_default()
            )
        })
        .runc()
        .shows("0"),
    ]
}

fn lists() -> Vec<Case> {
    vec![
        case("runc list", "list-json", |c| {
            up(c);
            let all: Value = serde_json::from_str(&c.op(&["list", "--format", "json"]).out).unwrap();
            let one = &all[0];
            format!("{} {} {} {}", one["id"], one["status"], one["bundle"], one["owner"])
        })
        .runc()
        .shows("running"),
        case("runc list", "list-quiet", |c| {
            up(c);
            c.op(&["list", "-q"]).out
        })
        .shows("NAME"),
        case("runc list", "list-empty", |c| {
            let done = c.op(&["list", "-q"]);
            format!("{}{}", done.code, done.out)
        }),
        case("runc list", "list-table", |c| {
            up(c);
            c.op(&["list"])
                .out
                .lines()
                .next()
                .unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .runc()
        .shows("OWNER"),
    ]
}
