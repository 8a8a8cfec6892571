//! containerd's go-runc.

use integration::command::{limit, run, until};
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
        self.call_with("", args)
    }

    /// `redirect` opens descriptors of the caller's.
    fn call_with(&self, redirect: &str, args: &[&str]) -> Done {
        // go-runc's children die with the thread that started them, and only they: this parent ends with each call.
        let mut command = Command::new("bash");
        command
            .arg("-c")
            .arg(format!(r#"{redirect} setpriv --pdeathsig KILL "$@"; exit $?"#))
            .arg("go-runc")
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

/// `CreateOpts.ExtraFiles`: descriptors from 3 on, and their number.
#[test]
fn extra_files_are_the_workload_s() {
    let mut runc = GoRunc::new("gorunc-files");
    let script =
        "cat <&3 >&4; for n in 5 6 7 8 9; do test -e /proc/self/fd/$n && echo stray $n >&4; done; echo end >&4";
    runc.container.bundle.config.args(&["/bin/sh", "-c", script]);
    runc.container.bundle.write_config();
    let (id, bundle) = (runc.container.id().to_owned(), runc.container.path());
    let (given, written) = (
        runc.container.bundle.dir.join("given"),
        runc.container.bundle.dir.join("written"),
    );
    std::fs::write(&given, "from the caller\n").unwrap();
    let redirect = format!("exec 3<{} 4>{} 5</dev/null;", given.display(), written.display());
    runc.call_with(&redirect, &["create", "--bundle", &bundle, "--preserve-fds", "2", &id])
        .ok();
    runc.call(&["start", &id]).ok();
    let text = || std::fs::read_to_string(&written).unwrap();
    assert!(until(limit(20), || text().ends_with("end\n")), "{}", text());
    assert_eq!(text(), "from the caller\nend\n");
    runc.container.wait_status("stopped");
    // More than are open: another one must not stand in.
    runc.call(&["delete", &id]).ok();
    let done = runc
        .call(&["create", "--bundle", &bundle, "--preserve-fds", "1", &id])
        .fails_with(1);
    assert!(done.err.contains("--preserve-fds"), "{done}");
}

/// Socket activation (sd_listen_fds(3)): what is meant for this very process goes on to the workload, anything else does not.
#[test]
fn a_socket_that_is_meant_for_the_runtime_is_the_workload_s() {
    for (meant_for, told) in [("$$", "1 1 from the caller"), ("1", "none")] {
        let mut bundle = Bundle::with_busybox("listen-fds");
        let script = "test -n \"$LISTEN_FDS\" || test -e /proc/self/fd/3 || exec echo none; echo $LISTEN_FDS $LISTEN_PID $(cat <&3)";
        bundle.config.args(&["/bin/sh", "-c", script]);
        let container = Container::of(Runtime::gabion(), bundle);
        let given = container.bundle.dir.join("given");
        std::fs::write(&given, "from the caller\n").unwrap();
        let inner = container.command(&["run", "--bundle", &container.path(), container.id()]);
        let mut command = Command::new("bash");
        let shell = format!(r#"exec 3<"$0"; LISTEN_FDS=1 LISTEN_PID={meant_for} exec "$@""#);
        command.arg("-c").arg(shell).arg(&given);
        command.arg(inner.get_program()).args(inner.get_args());
        let done = run(command, &container.bundle.dir).ok();
        assert_eq!(done.out.trim(), told, "LISTEN_PID={meant_for}: {done}");
    }
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
