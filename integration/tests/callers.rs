//! gabion as its callers call it: containerd's go-runc word for word, and the real podman with the real conmon.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

use integration::command::{limit, run};
use integration::{Bundle, Container, Done, Runtime, leaks};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// `Runc.command` of containerd/go-runc: global options, then the command's own, then the id.
struct GoRunc {
    container: Container,
}

impl GoRunc {
    fn new(test: &str) -> Self {
        let mut bundle = Bundle::with_busybox(test);
        bundle.config.args(&[
            "/bin/sh",
            "-c",
            "trap 'exit 3' TERM; echo up; while :; do sleep 0.1; done",
        ]);
        Self {
            container: Container::of(Runtime::gabion(), bundle),
        }
    }

    fn log(&self) -> PathBuf {
        self.container.bundle.bundle().join("log.json")
    }

    fn call(&self, args: &[&str]) -> Done {
        let mut command = Command::new(&self.container.runtime.program);
        command.args(["--root"]).arg(self.container.bundle.state());
        command
            .arg("--log")
            .arg(self.log())
            .args(["--log-format", "json"])
            .args(args);
        // What containerd's shim leaves in the environment.
        command
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("XDG_RUNTIME_DIR", "/run")
            .current_dir("/");
        run(command, &self.container.bundle.dir)
    }

    /// The log holds exactly one object for each failure, and nothing else.
    fn errors(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.log()).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

#[test]
fn go_runc_s_calls_from_create_to_delete() {
    let runc = GoRunc::new("gorunc");
    let (id, bundle) = (runc.container.id().to_owned(), runc.container.path());
    let pid_file = runc.container.bundle.bundle().join("init.pid");
    runc.call(&[
        "create",
        "--bundle",
        &bundle,
        "--pid-file",
        pid_file.to_str().unwrap(),
        &id,
    ])
    .ok();
    assert_eq!(
        std::fs::read_to_string(&pid_file).unwrap(),
        runc.container.pid().to_string()
    );
    runc.call(&["start", &id]).ok();
    let state: Value = serde_json::from_str(&runc.call(&["state", &id]).ok().out).unwrap();
    assert_eq!(
        (state["id"].as_str(), state["status"].as_str()),
        (Some(id.as_str()), Some("running"))
    );

    let process = runc.container.bundle.dir.join("process.json");
    let text = r#"{"user":{"uid":0,"gid":0},"args":["/bin/sleep","30"],"env":["PATH=/bin"],"cwd":"/"}"#;
    std::fs::write(&process, text).unwrap();
    let exec_pid = runc.container.bundle.dir.join("exec.pid");
    let words = [
        "exec",
        "--process",
        process.to_str().unwrap(),
        "--detach",
        "--pid-file",
        exec_pid.to_str().unwrap(),
        &id,
    ];
    runc.call(&words).ok();
    let pids: Vec<i64> = serde_json::from_str(&runc.call(&["ps", "--format", "json", &id]).ok().out).unwrap();
    let exec_pid: i64 = std::fs::read_to_string(exec_pid).unwrap().parse().unwrap();
    assert!(
        pids.contains(&exec_pid) && pids.contains(&i64::from(runc.container.pid())),
        "{pids:?}"
    );

    runc.call(&["pause", &id]).ok();
    runc.call(&["resume", &id]).ok();
    let limits = r#"{"pids":{"limit":77},"memory":{"limit":67108864}}"#;
    let file = runc.container.bundle.dir.join("limits.json");
    std::fs::write(&file, limits).unwrap();
    runc.call(&["update", "--resources", file.to_str().unwrap(), &id]).ok();
    assert_eq!(runc.container.cgroup("pids", "pids.max").as_deref(), Some("77"));
    let stats: Value = serde_json::from_str(&runc.call(&["events", "--stats", &id]).ok().out).unwrap();
    assert_eq!(
        (stats["type"].as_str(), stats["data"]["pids"]["limit"].as_u64()),
        (Some("stats"), Some(77))
    );
    runc.call(&["kill", "--all", &id, "9"]).ok();
    runc.container.wait_status("stopped");
    runc.call(&["delete", &id]).ok();
    assert!(runc.errors().is_empty(), "{:?}", runc.errors());
}

#[test]
fn containerd_finds_its_words_in_the_log() {
    let runc = GoRunc::new("gorunc-words");
    let (id, bundle) = (runc.container.id().to_owned(), runc.container.path());
    runc.call(&["state", &id]).fails_with(1);
    runc.call(&["kill", &id, "9"]).fails_with(1);
    runc.call(&["create", "--bundle", &bundle, &id]).ok();
    runc.call(&["kill", &id, "9"]).ok();
    runc.container.wait_status("stopped");
    runc.call(&["kill", &id, "9"]).fails_with(1);
    runc.call(&["delete", "--force", &id]).ok();
    runc.call(&["delete", "--force", &id]).ok();
    let errors = runc.errors();
    let said: Vec<&str> = errors.iter().map(|e| e["msg"].as_str().unwrap()).collect();
    assert_eq!(errors.len(), 3, "{said:?}");
    assert!(
        said[0].contains("does not exist") && said[1].contains("does not exist"),
        "{said:?}"
    );
    assert!(said[2].contains("container not running"), "{said:?}");
    assert!(errors.iter().all(|e| e["level"] == "error" && e["time"].is_string()));
}

#[test]
fn cri_o_updates_from_stdin() {
    let runc = GoRunc::new("crio");
    let (id, bundle) = (runc.container.id().to_owned(), runc.container.path());
    runc.call(&["run", "--detach", "--bundle", &bundle, &id]).ok();
    let mut child = Command::new(&runc.container.runtime.program)
        .arg("--root")
        .arg(runc.container.bundle.state())
        .args(["update", "--resources", "-", &id])
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), br#"{"cpu":{"shares":444}}"#).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(runc.container.cgroup("cpu", "cpu.shares").as_deref(), Some("444"));
    runc.call(&["kill", &id, "KILL"]).ok();
}

/// A podman that shares nothing with the machine's own.
struct Podman {
    /// Only its directory and its name are used.
    bundle: Bundle,
    level: &'static str,
}

impl Podman {
    /// None where there is no podman.
    fn new(test: &str, level: &'static str) -> Option<Self> {
        let there = Command::new("podman")
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success());
        if !there {
            eprintln!("left out: no podman here");
            return None;
        }
        let podman = Self {
            bundle: Bundle::with_busybox(test),
            level,
        };
        let tar = podman.bundle.dir.join("image.tar");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(podman.bundle.rootfs())
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status()
            .unwrap();
        assert!(packed.success());
        podman.call(&["import", tar.to_str().unwrap(), "img"]).ok();
        Some(podman)
    }

    fn command(&self, args: &[&str]) -> Command {
        let below = |name: &str| self.bundle.dir.join(name).display().to_string();
        // Without CAP_SYS_RESOURCE podman could not give containers its usual limits.
        let mut command = Command::new("bash");
        command.args(["-c", "ulimit -n 4096; ulimit -u 10000; exec podman \"$@\"", "podman"]);
        command.args([
            "--root",
            &below("p"),
            "--runroot",
            &below("r"),
            "--tmpdir",
            &below("t"),
            "--storage-driver",
            "vfs",
        ]);
        command
            .args(["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime"])
            .arg(&Runtime::gabion().program);
        command.arg(format!("--runtime-flag=level={}", self.level)).args(args);
        command
    }

    fn call(&self, args: &[&str]) -> Done {
        integration::command::Running::start(self.command(args), &self.bundle.dir).wait(limit(60))
    }

    fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.bundle.name)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.call(&["pod", "rm", "--all", "--force", "--time", "0"]);
        self.call(&["rm", "--all", "--force", "--time", "0"]);
        // Its storage is mounted over itself while it works.
        for line in leaks::mounts_below(&self.bundle.dir) {
            if let Some(place) = line.split(' ').nth(5) {
                nix::mount::umount2(Path::new(place), nix::mount::MntFlags::MNT_DETACH).ok();
            }
        }
    }
}

fn podman_s_day(level: &'static str) {
    let Some(podman) = Podman::new(&format!("podman-{level}"), level) else {
        return;
    };
    let name = podman.name("c");
    let run = |words: &[&str]| {
        let all: Vec<&str> = ["run", "--rm", "--network", "none"]
            .into_iter()
            .chain(words.iter().copied())
            .collect();
        podman.call(&all)
    };
    assert_eq!(run(&["img", "echo", "hello"]).ok().out, "hello\n");
    run(&["img", "sh", "-c", "exit 7"]).fails_with(7);
    // podman tells these apart by runc's words.
    run(&["img", "no-such-program"]).fails_with(127);
    run(&["img", "/etc"]).fails_with(126);
    assert_eq!(
        run(&[
            "--memory",
            "64m",
            "img",
            "cat",
            "/sys/fs/cgroup/memory/memory.limit_in_bytes"
        ])
        .ok()
        .out,
        "67108864\n"
    );

    podman
        .call(&[
            "run",
            "--detach",
            "--name",
            &name,
            "--network",
            "none",
            "img",
            "sh",
            "-c",
            "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done",
        ])
        .ok();
    assert_eq!(podman.call(&["logs", &name]).ok().out, "up\n");
    assert_eq!(
        podman
            .call(&["exec", "-e", "A=1", "-w", "/tmp", &name, "sh", "-c", "echo $A; pwd"])
            .ok()
            .out,
        "1\n/tmp\n"
    );
    podman.call(&["exec", &name, "sh", "-c", "exit 9"]).fails_with(9);
    podman.call(&["exec", &name, "no-such-program"]).fails_with(127);
    podman.call(&["pause", &name]).ok();
    assert_eq!(
        podman
            .call(&["inspect", "--format", "{{.State.Status}}", &name])
            .ok()
            .out,
        "paused\n"
    );
    podman.call(&["unpause", &name]).ok();
    assert!(podman.call(&["stats", "--no-stream", &name]).ok().out.contains(&name));
    assert!(podman.call(&["top", &name]).ok().out.contains("sleep"));
    let file = podman.bundle.dir.join("file");
    std::fs::write(&file, "copied\n").unwrap();
    podman
        .call(&["cp", file.to_str().unwrap(), &format!("{name}:/tmp/file")])
        .ok();
    assert_eq!(podman.call(&["exec", &name, "cat", "/tmp/file"]).ok().out, "copied\n");
    podman.call(&["stop", "--time", "10", &name]).ok();
    assert_eq!(
        podman
            .call(&["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", &name])
            .ok()
            .out,
        "exited 0\n"
    );
    podman.call(&["start", &name]).ok();
    podman.call(&["pause", &name]).ok();
    podman.call(&["kill", &name]).ok();
    podman.call(&["rm", "--force", &name]).ok();

    pod_of_two(&podman);
}

fn pod_of_two(podman: &Podman) {
    let (name, pod) = (podman.name("in-pod"), podman.name("pod"));
    podman
        .call(&[
            "pod",
            "create",
            "--name",
            &pod,
            "--network",
            "none",
            "--infra-image",
            "img",
            "--infra-command",
            "/bin/sleep 600",
        ])
        .ok();
    podman
        .call(&["run", "--detach", "--pod", &pod, "--name", &name, "img", "sleep", "600"])
        .ok();
    assert_eq!(
        podman.call(&["exec", &name, "echo", "in the pod"]).ok().out,
        "in the pod\n"
    );
    podman.call(&["pod", "rm", "--force", "--time", "0", &pod]).ok();
    assert_eq!(podman.call(&["ps", "--all", "--quiet"]).ok().out, "");
}

#[test]
fn podman_s_day_permissive() {
    podman_s_day("permissive");
}

#[test]
fn podman_s_day_hardened() {
    podman_s_day("hardened");
}

#[test]
fn podman_shows_a_refusal_as_it_is() {
    let Some(podman) = Podman::new("podman-refused", "hardened") else {
        return;
    };
    let done = podman.call(&["run", "--rm", "--network", "host", "img", "true"]);
    assert_ne!(done.code, 0, "{done}");
    done.says(&["refused [namespaces.host-network]", "--network host"]);
}
