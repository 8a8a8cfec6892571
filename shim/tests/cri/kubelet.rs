//! What a kubelet does around containerd: a network, directories for pods, and the calls in their order.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::common::host::{cgroups_with, until};
use super::common::{IMAGE, Node, SOON, Setup, by_systemd, image};
use super::config;
use super::grpc::{Status, call};
use super::pods::{Config, Pod};

/// A node whose containerd serves the container runtime interface.
pub struct Kubelet {
    pub node: Node,
}

impl Kubelet {
    /// A node with the handlers `gabion` (the default one too) and `gabion-restricted`.
    pub fn start(name: &str) -> Self {
        Self::with(name, "[\"dev.gabion.*\"]", "cri = \"containerd\"")
    }

    /// `annotations`: which of a pod's, and of a container's own, reach gabion; `text`: the policy, but for where directories
    /// lie.
    pub fn with(name: &str, annotations: &str, text: &str) -> Self {
        Self::with_handlers(name, annotations, text, &|_| String::new())
    }

    /// The same with more in containerd's configuration.
    pub fn with_handlers(name: &str, annotations: &str, text: &str, more: &dyn Fn(&Path) -> String) -> Self {
        let containerd = |dir: &Path| {
            config::write_network(dir);
            config::containerd(dir, annotations) + &more(dir)
        };
        let gabion = |dir: &Path| config::policy(dir, text);
        let setup = Setup {
            namespace: "k8s.io",
            config: &containerd,
            policy: &gabion,
        };
        let node = Node::with(name, &setup);
        node.write_options("restricted.toml", "level = \"restricted\"\n");
        let kubelet = Self { node };
        for image in [IMAGE, image::PAUSE] {
            until(SOON, "the images are known", || {
                let answer = kubelet
                    .call("ImageStatus", &json!({ "image": { "image": image } }))
                    .ok()?;
                answer["image"]["id"].is_string().then_some(())
            });
        }
        kubelet
    }

    pub fn call(&self, method: &str, request: &Value) -> Result<Value, Status> {
        call(&self.node.socket(), method, request)
    }

    #[track_caller]
    pub fn ok(&self, method: &str, request: &Value) -> Value {
        self.call(method, request)
            .unwrap_or_else(|status| panic!("{method} {request}: {status:?}"))
    }

    /// Where the kubelet keeps a pod's files.
    pub fn pod_dir(&self, pod: &Pod) -> PathBuf {
        self.node.dir.join("kubelet/pods").join(&pod.uid)
    }

    /// Where the pods' cgroups lie: a slice of systemd's, or a path.
    fn cgroup_parent(&self) -> String {
        let suffix = if by_systemd() { ".slice" } else { "" };
        format!("/{}{suffix}", self.node.name())
    }

    /// A pod, with the directories that a kubelet makes for one: an emptyDir, a token, /etc/hosts and a termination log.
    pub fn pod(&self, namespace: &str, name: &str) -> Pod {
        let uid = format!("{namespace}-{name}-uid");
        let logs = self.node.dir.join("logs").join(&uid);
        let pod = Pod {
            config: json!({
                "metadata": { "name": name, "uid": uid, "namespace": namespace }, "hostname": name,
                "log_directory": logs,
                "linux": { "cgroup_parent": self.cgroup_parent(), "security_context": {
                    "namespace_options": { "pid": "CONTAINER" }, "seccomp": { "profile_type": "RuntimeDefault" } } },
            }),
            uid,
        };
        let dir = self.pod_dir(&pod);
        for made in [
            "volumes/kubernetes.io~empty-dir/data",
            "volumes/kubernetes.io~projected/token",
            "containers/main",
        ] {
            fs::create_dir_all(dir.join(made)).unwrap();
        }
        fs::create_dir_all(&logs).unwrap();
        fs::write(dir.join("volumes/kubernetes.io~projected/token/token"), "secret\n").unwrap();
        fs::write(dir.join("etc-hosts"), "127.0.0.1 localhost\n").unwrap();
        fs::write(dir.join("containers/main/0"), "").unwrap();
        pod
    }

    /// The container's mounts as the kubelet lays them out.
    pub fn mounts(&self, pod: &Pod, config: Config) -> Config {
        let dir = self.pod_dir(pod);
        let token = "/var/run/secrets/kubernetes.io/serviceaccount";
        config
            .mount(&dir.join("volumes/kubernetes.io~empty-dir/data"), "/data", false)
            .mount(&dir.join("volumes/kubernetes.io~projected/token"), token, true)
            .mount(&dir.join("etc-hosts"), "/etc/hosts", false)
            .mount(&dir.join("containers/main/0"), "/dev/termination-log", false)
    }

    pub fn run(&self, pod: &Pod, handler: &str) -> Result<String, Status> {
        let request = json!({ "config": pod.config, "runtime_handler": handler });
        let answer = self.call("RunPodSandbox", &request)?;
        Ok(answer["pod_sandbox_id"].as_str().unwrap().to_owned())
    }

    /// Makes and starts a container of the pod `sandbox`. One that does not start is removed again.
    pub fn container(&self, pod: &Pod, sandbox: &str, config: &Config) -> Result<String, Status> {
        let request = json!({ "pod_sandbox_id": sandbox, "config": config.0, "sandbox_config": pod.config });
        let id = self.call("CreateContainer", &request)?["container_id"]
            .as_str()
            .unwrap()
            .to_owned();
        if let Err(status) = self.call("StartContainer", &json!({ "container_id": id })) {
            self.ok("RemoveContainer", &json!({ "container_id": id }));
            return Err(status);
        }
        Ok(id)
    }

    pub fn status(&self, id: &str) -> Value {
        self.ok("ContainerStatus", &json!({ "container_id": id }))["status"].take()
    }

    /// The first process of a container or sandbox.
    pub fn pid(&self, id: &str) -> Value {
        let state = self.node.gabion(&["state", id]).ok().out;
        serde_json::from_str::<Value>(&state).unwrap()["pid"].take()
    }

    /// Waits for a container's end; gives its exit code.
    #[track_caller]
    pub fn exit_code(&self, id: &str) -> i64 {
        until(SOON, "the container ends", || {
            let status = self.status(id);
            (status["state"] == "CONTAINER_EXITED").then(|| status["exit_code"].as_i64().unwrap())
        })
    }

    /// Runs a program in a container: its code, stdout and stderr.
    pub fn exec(&self, id: &str, program: &[&str]) -> (i64, String, String) {
        let request = json!({ "container_id": id, "cmd": program, "timeout": 60 });
        let answer = self.ok("ExecSync", &request);
        let text = |key: &str| super::base64::decode(answer[key].as_str().unwrap());
        (answer["exit_code"].as_i64().unwrap(), text("stdout"), text("stderr"))
    }

    /// Whether a program could be started in a container and succeeded there.
    pub fn succeeds(&self, id: &str, program: &[&str]) -> bool {
        let request = json!({ "container_id": id, "cmd": program, "timeout": 60 });
        self.call("ExecSync", &request)
            .is_ok_and(|answer| answer["exit_code"] == 0)
    }

    /// What a program in a container printed; it has to succeed.
    #[track_caller]
    pub fn output(&self, id: &str, program: &[&str]) -> String {
        let (code, out, err) = self.exec(id, program);
        assert_eq!(code, 0, "{program:?}: {out}{err}");
        out
    }

    pub fn stop(&self, id: &str, timeout: u32) {
        self.ok("StopContainer", &json!({ "container_id": id, "timeout": timeout }));
    }

    pub fn remove_pod(&self, sandbox: &str) {
        self.ok("StopPodSandbox", &json!({ "pod_sandbox_id": sandbox }));
        self.ok("RemovePodSandbox", &json!({ "pod_sandbox_id": sandbox }));
    }

    /// What a container wrote, as it stands in the log that containerd keeps for the kubelet: `TIME STREAM F TEXT`.
    pub fn log(&self, pod: &Pod, container: &str) -> Vec<(String, String)> {
        let file = self
            .node
            .dir
            .join("logs")
            .join(&pod.uid)
            .join(format!("{container}.log"));
        let text = fs::read_to_string(file).unwrap_or_default();
        let parse = |line: &str| {
            let mut fields = line.splitn(4, ' ').skip(1);
            let stream = fields.next().unwrap().to_owned();
            (stream, fields.nth(1).unwrap().to_owned())
        };
        text.lines().map(parse).collect()
    }

    /// All pods are removed: nothing may be left. The pods' parent cgroup is the kubelet's to remove.
    #[track_caller]
    pub fn assert_clean(&self) {
        assert!(self.stop_slice());
        until(SOON, "the pods' cgroups are empty", || {
            for cgroup in cgroups_with(self.node.name()) {
                fs::remove_dir(cgroup).ok()?;
            }
            Some(())
        });
        self.node.assert_clean();
    }
}

impl Kubelet {
    /// A slice stays until somebody says that it is not needed any more. Gives whether it is gone.
    #[must_use]
    fn stop_slice(&self) -> bool {
        let slice = self.cgroup_parent();
        let stop = || {
            Command::new("systemctl")
                .args(["stop", slice.trim_start_matches('/')])
                .status()
        };
        !by_systemd() || stop().is_ok_and(|status| status.success())
    }
}

impl Drop for Kubelet {
    fn drop(&mut self) {
        if std::thread::panicking() && !self.stop_slice() {
            eprintln!("the slice {} stays", self.cgroup_parent());
        }
        // Not there where no pod got as far as a network.
        let _status = Command::new("/bin/busybox")
            .args(["ip", "link", "delete", &config::bridge(&self.node.dir)])
            .stderr(std::process::Stdio::null())
            .status();
    }
}

/// What the kernel says of a process under `key`.
pub fn of_status(pid: &Value, key: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key}:")));
    line.unwrap().trim().to_owned()
}

/// Fails unless the runtime refused, `code` among its reasons, and the caller reads why and what to do.
#[track_caller]
pub fn assert_refused(result: Result<String, Status>, code: &str) {
    let status = result.expect_err(code);
    let (said, known) = (&status.message, status.message.contains("gabion: refused ["));
    assert!(
        known && said.contains("; remedy: ") && said.contains(code) && !said.contains('\n'),
        "{code}: {status:?}"
    );
}
