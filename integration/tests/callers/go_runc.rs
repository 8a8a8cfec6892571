//! containerd's go-runc.

use integration::command::run;
use integration::{Bundle, Container, Done, Runtime};
use serde_json::Value;
use std::path::PathBuf;
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
        // go-runc's children die with the thread that started them, and only they: this parent ends with each call.
        let mut command = Command::new("bash");
        command
            .args(["-c", r#"setpriv --pdeathsig KILL "$@"; exit $?"#, "go-runc"])
            .arg(&self.container.runtime.program)
            .args(["--root"])
            .arg(self.container.bundle.state());
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
