//! CRI-O: what it calls itself, beside what its conmon does.

use integration::command::run;
use integration::{Bundle, Container, Done, Runtime};
use serde_json::Value;
use std::process::{Command, Stdio};

/// `runtime_oci.go`: `--root`, the command, and of the environment XDG_RUNTIME_DIR only.
struct CriO {
    container: Container,
}

impl CriO {
    fn new(test: &str) -> Self {
        let mut bundle = Bundle::with_busybox(test);
        bundle.config.args(&["/bin/sleep", "600"]);
        Self {
            container: Container::of(Runtime::gabion(), bundle),
        }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.container.runtime.program);
        command
            .arg("--root")
            .arg(self.container.bundle.state())
            .args(args)
            .env_clear()
            .env("XDG_RUNTIME_DIR", "/run/user/0");
        command
    }

    fn call(&self, args: &[&str]) -> Done {
        run(self.command(args), &self.container.bundle.dir)
    }
}

#[test]
fn state_update_and_kill() {
    let cri_o = CriO::new("crio");
    let (id, bundle) = (cri_o.container.id().to_owned(), cri_o.container.path());
    cri_o.call(&["run", "--detach", "--bundle", &bundle, &id]).ok();
    let state = cri_o.call(&["state", &id]).ok();
    assert_eq!(state.err, "", "{state}");
    let state: Value = serde_json::from_str(&state.out).unwrap();
    for key in [
        "ociVersion",
        "id",
        "pid",
        "status",
        "bundle",
        "rootfs",
        "created",
        "owner",
    ] {
        assert!(!state[key].is_null(), "{key}: {state}");
    }

    let mut child = cri_o
        .command(&["update", "--resources", "-", &id])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), br#"{"cpu":{"shares":444}}"#).unwrap();
    assert!(child.wait().unwrap().success());
    // v2 has its own scale.
    let set = integration::cgroup::on("444", "53");
    assert_eq!(cri_o.container.cgroup("cpu", "cpu.shares").as_deref(), Some(set));

    cri_o.call(&["kill", &id, "KILL"]).ok();
    cri_o.container.wait_status("stopped");
    cri_o.call(&["delete", "--force", &id]).ok();
}

/// It is asked at the start, and whatever is on stderr spoils the JSON.
#[test]
fn features_are_json_and_nothing_else() {
    let cri_o = CriO::new("crio-features");
    let done = cri_o.call(&["features"]).ok();
    assert_eq!(done.err, "", "{done}");
    let features: Value = serde_json::from_str(&done.out).unwrap();
    assert!(
        features["mountOptions"]
            .as_array()
            .is_some_and(|o| o.iter().any(|o| o == "rro"))
    );
}
