//! A dockerd and a containerd of a test's own: private directories, sockets, mounts and network. Every wait has an end.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use integration::command::{Done, limit, until};
use serde_json::json;

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// The image that every container here is made of.
pub(crate) const IMAGE: &str = "busybox";

pub(crate) struct Engine {
    pub(crate) dir: PathBuf,
    cgroup: String,
    containerd: Option<Child>,
    dockerd: Option<Child>,
}

impl Engine {
    /// Starts one; None, said aloud, where this machine has none that runs. `users`: with `userns-remap`.
    pub(crate) fn start(name: &str, users: Option<&str>) -> Option<Self> {
        for program in ["dockerd", "docker", "containerd", "busybox"] {
            if !has(program) {
                integration::left_out(&format!("no {program} here: Docker is not tried"));
                return None;
            }
        }
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        // Short, since sockets lie in it.
        let dir = PathBuf::from(format!("/tmp/gdk-{}-{serial}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let mut engine = Self {
            cgroup: format!("gabion-docker-{name}-{}-{serial}", std::process::id()),
            dir,
            containerd: None,
            dockerd: None,
        };
        engine.write_configuration(users);
        engine.up_containerd();
        if !engine.up() {
            let said = fs::read_to_string(engine.dir.join("dockerd.log")).unwrap_or_default();
            let last: Vec<&str> = said.lines().rev().take(2).collect();
            integration::left_out(&format!("no dockerd runs here: {last:?}"));
            return None;
        }
        engine.import();
        Some(engine)
    }

    fn write_configuration(&self, users: Option<&str>) {
        let dir = self.dir.display();
        let runtime = integration::Runtime::gabion().program.clone();
        // Its own policy: what this machine has is not the test's.
        let policy = format!("[audit]\nfile = \"{dir}/audit.jsonl\"\n");
        fs::write(self.dir.join("policy.toml"), policy).unwrap();
        let arguments = ["--policy".to_owned(), format!("{dir}/policy.toml")];
        let mut daemon = json!({
            "runtimes": {"gabion": {"path": runtime, "runtimeArgs": arguments}},
            "live-restore": users.is_none(),
            "storage-driver": if users.is_some() { "vfs" } else { "overlay2" },
        });
        if let Some(users) = users {
            daemon["userns-remap"] = json!(users);
        }
        fs::write(self.dir.join("daemon.json"), daemon.to_string()).unwrap();
        let containerd = format!(
            "version = 2\nroot = \"{dir}/cr\"\nstate = \"{dir}/cs\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{dir}/c.sock\"\n"
        );
        fs::write(self.dir.join("containerd.toml"), containerd).unwrap();
    }

    fn spawn(&self, command: &mut Command, log: &str) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(log))
            .unwrap();
        let command = command
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.process_group(0).spawn().unwrap()
    }

    /// Mounts and interfaces of theirs are of a namespace that ends with them.
    fn up_containerd(&mut self) {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--net", "--propagation", "private", "containerd", "-c"]);
        self.containerd = Some(self.spawn(command.arg(self.dir.join("containerd.toml")), "containerd.log"));
        let socket = self.dir.join("c.sock");
        assert!(until(limit(20), || socket.exists()), "containerd does not come up");
    }

    /// Starts dockerd, beside its containerd; false where it does not answer.
    pub(crate) fn up(&mut self) -> bool {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let containerd = self.containerd.as_ref().unwrap().id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "-t", &containerd, "dockerd"]);
        command.args([
            "--config-file",
            &at("daemon.json"),
            "--data-root",
            &at("d"),
            "--exec-root",
            &at("x"),
        ]);
        command.args([
            "-H",
            &format!("unix://{}", at("d.sock")),
            "--pidfile",
            &at("d.pid"),
            "--containerd",
            &at("c.sock"),
        ]);
        command.args([
            "--iptables=false",
            "--ip6tables=false",
            "--cgroup-parent",
            &format!("/{}", self.cgroup),
        ]);
        let mut child = self.spawn(&mut command, "dockerd.log");
        let mut ended = false;
        let answers = until(limit(30), || {
            ended = child.try_wait().unwrap().is_some();
            ended || self.docker(&["version"]).code == 0
        });
        self.dockerd = Some(child);
        answers && !ended
    }

    /// Ends dockerd, and leaves its containers to live-restore.
    pub(crate) fn down(&mut self) {
        end(self.dockerd.take(), Duration::from_secs(20));
    }

    fn import(&self) {
        let root = self.dir.join("image");
        for dir in ["bin", "etc", "tmp", "run", "var/tmp", "proc", "sys", "dev", "srv"] {
            fs::create_dir_all(root.join(dir)).unwrap();
        }
        fs::write(
            root.join("etc/passwd"),
            "root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n",
        )
        .unwrap();
        fs::write(root.join("etc/group"), "root:x:0:\nweb:x:1000:\n").unwrap();
        let busybox = which("busybox").unwrap();
        fs::copy(busybox, root.join("bin/busybox")).unwrap();
        for applet in [
            "sh", "true", "cat", "echo", "id", "sleep", "ls", "touch", "mkdir", "hostname", "env", "nslookup", "ping",
            "pwd", "test",
        ] {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        let tar = self.dir.join("image.tar");
        let mut command = Command::new("tar");
        command.arg("-C").arg(&root).arg("-cf").arg(&tar).arg(".");
        drop(integration::command::run(command, &self.dir).ok());
        drop(self.docker(&["import", tar.to_str().unwrap(), IMAGE]).ok());
    }

    /// One command of docker's.
    #[track_caller]
    pub(crate) fn docker(&self, args: &[&str]) -> Done {
        let mut command = Command::new("docker");
        command
            .arg("-H")
            .arg(format!("unix://{}/d.sock", self.dir.display()))
            .args(args);
        // What the person who tests has configured is not the test's.
        command
            .env("DOCKER_CONFIG", &self.dir)
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT");
        integration::command::run(command, &self.dir)
    }

    /// `docker run` with this runtime.
    #[track_caller]
    pub(crate) fn run(&self, runtime: &str, args: &[&str]) -> Done {
        self.docker(&[&["run", "--runtime", runtime][..], args].concat())
    }

    /// The pid of a container's first process.
    pub(crate) fn pid(&self, name: &str) -> String {
        let done = self.docker(&["inspect", "-f", "{{.State.Pid}}", name]).ok();
        done.out.trim().to_owned()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if self.dockerd.is_some() {
            let all = self.docker(&["ps", "-aq"]).out;
            for id in all.split_whitespace() {
                drop(self.docker(&["rm", "-f", id]));
            }
        }
        end(self.dockerd.take(), Duration::from_secs(20));
        end(self.containerd.take(), Duration::from_secs(20));
        for controller in fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten() {
            // Gone, where all went well; busy where not, and then the directory tells.
            drop(fs::remove_dir(controller.path().join(&self.cgroup)));
        }
        drop(fs::remove_dir(Path::new("/sys/fs/cgroup").join(&self.cgroup)));
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Ends one by SIGTERM, and then by SIGKILL.
fn end(child: Option<Child>, patience: Duration) {
    let Some(mut child) = child else { return };
    let group = nix::unistd::Pid::from_raw(-i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGTERM).ok();
    if !until(patience, || child.try_wait().is_ok_and(|ended| ended.is_some())) {
        nix::sys::signal::kill(group, nix::sys::signal::Signal::SIGKILL).ok();
        drop(child.wait());
    }
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let dirs: Vec<PathBuf> = std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .collect();
    dirs.into_iter()
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

fn has(program: &str) -> bool {
    which(program).is_some()
}
