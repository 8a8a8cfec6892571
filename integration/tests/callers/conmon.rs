//! The real conmon by itself, with the arguments that podman and CRI-O give it.

use integration::command::{limit, run, until};
use integration::{Bundle, Container, Done, Policy, Runtime};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

struct Conmon {
    container: Container,
}

impl Conmon {
    fn new(test: &str, script: &str) -> Self {
        let mut bundle = Bundle::with_busybox(test);
        bundle.config.args(&["/bin/sh", "-c", script]);
        for dir in ["exits", "attach"] {
            fs::create_dir(bundle.dir.join(dir)).unwrap();
        }
        Self {
            container: Container::of(Runtime::gabion(), bundle).policy(&Policy::hardened()),
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.container.bundle.dir.join(name)
    }

    /// Runs conmon with these words beside the usual ones; what it tells its caller lands in the file `sync`. It goes to the
    /// background by itself.
    fn call(&self, words: &[&str]) -> Done {
        let words_of_ours = self.container.command(&[]);
        let globals: Vec<String> = words_of_ours
            .get_args()
            .flat_map(|arg| ["--runtime-arg".to_owned(), arg.to_string_lossy().into_owned()])
            .collect();
        let mut command = Command::new("bash");
        command
            .args(["-c", r#"exec 3>"$0"; _OCI_SYNCPIPE=3 exec "$@""#])
            .arg(self.file("sync"))
            .args(["conmon", "--api-version", "1", "--cid", self.container.id(), "--cuuid"])
            .arg(self.container.id())
            .arg("--runtime")
            .arg(&self.container.runtime.program)
            .args(globals)
            .arg("--bundle")
            .arg(self.container.bundle.bundle())
            .arg("--container-pidfile")
            .arg(self.file("pid"))
            .arg("--conmon-pidfile")
            .arg(self.file("conmon.pid"))
            .arg("--exit-dir")
            .arg(self.file("exits"))
            .arg("--persist-dir")
            .arg(self.container.bundle.dir.join("attach"))
            .arg("--socket-dir-path")
            .arg(self.file("attach"))
            .args(["--log-level", "error", "--log-path"])
            .arg(format!("k8s-file:{}", self.file("log").display()))
            .args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("XDG_RUNTIME_DIR", "/run/user/0");
        run(command, &self.container.bundle.dir)
    }

    /// A line that conmon told its caller.
    #[track_caller]
    fn told(&self, line: usize) -> Value {
        let mut told = Value::Null;
        until(limit(20), || {
            let text = fs::read_to_string(self.file("sync")).unwrap_or_default();
            told = text
                .lines()
                .nth(line)
                .and_then(|line| serde_json::from_str(line).ok())
                .unwrap_or_default();
            !told.is_null()
        });
        told
    }

    /// The exit code, once conmon has written it down.
    #[track_caller]
    fn exit(&self) -> String {
        let path = self.file("exits").join(self.container.id());
        assert!(until(limit(20), || path.exists()), "no exit code");
        let mut code = String::new();
        until(limit(5), || {
            code = fs::read_to_string(&path).unwrap_or_default();
            !code.is_empty()
        });
        code
    }

    fn log(&self) -> String {
        fs::read_to_string(self.file("log")).unwrap_or_default()
    }
}

/// What it started ends with the container; that it has ended is for `nothing_left` to see.
impl Drop for Conmon {
    fn drop(&mut self) {
        self.container.op(&["delete", "--force", self.container.id()]);
        if let Some(pid) = fs::read_to_string(self.file("conmon.pid"))
            .ok()
            .and_then(|pid| pid.trim().parse::<u32>().ok())
        {
            until(limit(20), || !integration::leaks::is_alive(pid));
        }
    }
}

#[test]
fn a_container_s_life() {
    let conmon = Conmon::new("conmon", "echo to stdout; echo to stderr >&2; read line; exit 6");
    conmon.call(&["--stdin"]).ok();
    let pid = conmon.told(0)["data"].as_i64().unwrap();
    assert_eq!(i64::from(conmon.container.pid()), pid);
    assert_eq!(fs::read_to_string(conmon.file("pid")).unwrap(), pid.to_string());
    assert_eq!(conmon.container.status(), "created");
    conmon.container.start().ok();
    let both = until(limit(20), || {
        conmon.log().contains("stdout F to stdout") && conmon.log().contains("stderr F to stderr")
    });
    assert!(both, "{}", conmon.log());
    conmon.container.kill("KILL").ok();
    assert_eq!(conmon.exit(), "137");
}

#[test]
fn the_exit_code_is_the_workload_s() {
    let conmon = Conmon::new("conmon-exit", "exit 6");
    conmon.call(&[]).ok();
    assert!(conmon.told(0)["data"].as_i64().unwrap() > 0);
    conmon.container.start().ok();
    assert_eq!(conmon.exit(), "6");
}

#[test]
fn a_terminal_of_its_own() {
    let mut conmon = Conmon::new("conmon-tty", "tty; stty size; exit 4");
    conmon.container.bundle.config.set("/process/terminal", json!(true));
    conmon.container.bundle.write_config();
    conmon.call(&["--terminal"]).ok();
    assert!(conmon.told(0)["data"].as_i64().unwrap() > 0);
    conmon.container.start().ok();
    assert_eq!(conmon.exit(), "4");
    assert!(conmon.log().contains("/dev/pts/0"), "{}", conmon.log());
}

/// podman and CRI-O resize by a line in conmon's `ctl`.
#[test]
fn a_terminal_is_resized() {
    let script = "while test \"$(stty size)\" != '50 120'; do sleep 0.1; done; exit 5";
    let mut conmon = Conmon::new("conmon-resize", script);
    conmon.container.bundle.config.set("/process/terminal", json!(true));
    conmon.container.bundle.write_config();
    conmon.call(&["--terminal"]).ok();
    assert!(conmon.told(0)["data"].as_i64().unwrap() > 0);
    conmon.container.start().ok();
    let fifo = conmon.container.bundle.bundle().join("ctl");
    let mut ctl = fs::OpenOptions::new().write(true).open(fifo).unwrap();
    std::io::Write::write_all(&mut ctl, b"1 50 120\n").unwrap();
    assert_eq!(conmon.exit(), "5");
}

/// conmon hands on what the runtime said on stderr: podman and the kubelet show it.
#[test]
fn a_refusal_is_told_as_it_is() {
    let mut conmon = Conmon::new("conmon-refused", "true");
    conmon.container.bundle.config.without_namespace("network");
    conmon.container.bundle.write_config();
    conmon.call(&[]);
    let told = conmon.told(0);
    assert_eq!(told["data"], -1, "{told}");
    let message = told["message"].as_str().unwrap();
    assert!(message.contains("refused [namespaces.host-network]"), "{message}");
    assert_eq!(message.lines().count(), 1, "{message}");
}

#[test]
fn exec_by_process_json() {
    let conmon = Conmon::new("conmon-exec", "while :; do sleep 0.1; done");
    conmon.call(&[]).ok();
    conmon.told(0);
    conmon.container.start().ok();
    let process = conmon.file("process.json");
    let exec = |args: &[&str]| {
        let text = json!({ "user": { "uid": 0, "gid": 0 }, "args": args, "env": ["PATH=/bin"], "cwd": "/" });
        fs::write(&process, text.to_string()).unwrap();
        conmon.call(&["--exec", "--exec-process-spec", process.to_str().unwrap(), "--sync"]);
        let began = conmon.told(0);
        // What did not begin has no second line to wait for.
        let ran = began["data"].as_i64().is_some_and(|pid| pid > 0);
        let ended = if ran { conmon.told(1) } else { Value::Null };
        (began, ended)
    };
    let (began, ended) = exec(&["sh", "-c", "echo from exec; exit 9"]);
    assert!(began["data"].as_i64().unwrap() > 0, "{began} {ended}");
    assert_eq!(ended["data"], 9, "{began} {ended}");
    assert!(
        until(limit(20), || conmon.log().contains("from exec")),
        "{}",
        conmon.log()
    );
    let (failed, _) = exec(&["no-such-program"]);
    assert!(failed["data"].as_i64().unwrap() < 0, "{failed}");
    let message = failed["message"].as_str().unwrap();
    assert!(message.contains("executable file not found in $PATH"), "{message}");
}
