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

/// The runtime that is gabion's own shim, from Docker 23 on.
pub(crate) const SHIM: &str = "shim";

/// The image that every container here is made of.
pub(crate) const IMAGE: &str = "busybox";

/// How an engine is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Everything in directories of the test's; gabion is a runtime beside runc, and iptables is off.
    Apart,
    /// The same, with user namespaces for the ids of a user of the machine's.
    Remapped,
    /// As Docker is installed: the usual directories, in a mount namespace where /run and /var/lib are empty; iptables; gabion is the default runtime.
    Stock,
}

/// The user whose ids are taken, and those ids.
const USER: &str = "nobody";
const GROUP: &str = "nogroup";
pub(crate) const IDS: &str = "231072";

pub(crate) struct Engine {
    pub(crate) dir: PathBuf,
    setup: Setup,
    cgroup: String,
    containerd: Option<Child>,
    dockerd: Option<Child>,
}

impl Engine {
    /// Starts one; None, said aloud, where this machine has none that runs.
    pub(crate) fn start(name: &str, setup: Setup) -> Option<Self> {
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
            setup,
            containerd: None,
            dockerd: None,
        };
        engine.write_configuration();
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

    fn write_configuration(&self) {
        let dir = self.dir.display();
        let runtime = integration::Runtime::gabion().program.clone();
        // Its own policy: what this machine has is not the test's.
        let policy = format!("[audit]\nfile = \"{dir}/audit.jsonl\"\n");
        self.write("policy.toml", &policy);
        let arguments = ["--policy".to_owned(), format!("{dir}/policy.toml")];
        let mut daemon = json!({
            "runtimes": {"gabion": {"path": runtime, "runtimeArgs": arguments}},
            "live-restore": self.setup != Setup::Remapped,
            "storage-driver": if self.setup == Setup::Remapped { "vfs" } else { "overlay2" },
        });
        match self.setup {
            Setup::Apart => {}
            Setup::Remapped => daemon["userns-remap"] = json!(format!("{USER}:{GROUP}")),
            Setup::Stock => daemon["default-runtime"] = json!("gabion"),
        }
        // Before Docker 23 a runtime is a path.
        if major("dockerd").is_some_and(|major| major >= 23) {
            let options = format!(
                "binary = \"{}\"\nroot = \"{dir}/s\"\npolicy = \"{dir}/policy.toml\"\n",
                runtime.display()
            );
            self.write("shim.toml", &options);
            let config = json!({"ConfigPath": format!("{dir}/shim.toml")});
            daemon["runtimes"][SHIM] = json!({"runtimeType": "io.containerd.gabion.v2", "options": config});
            std::os::unix::fs::symlink(
                integration::binaries::shim(),
                self.dir.join("containerd-shim-gabion-v2"),
            )
            .unwrap();
        }
        self.write("daemon.json", &daemon.to_string());
        let (root, state) = match self.setup {
            Setup::Stock => ("/var/lib/containerd".to_owned(), "/run/containerd".to_owned()),
            _ => (format!("{dir}/cr"), format!("{dir}/cs")),
        };
        let containerd = format!(
            "version = 2\nroot = \"{root}\"\nstate = \"{state}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
             [grpc]\naddress = \"{dir}/c.sock\"\n"
        );
        self.write("containerd.toml", &containerd);
        self.write("subids", &format!("{USER}:{IDS}:65536\n"));
        // Plugins of the client, where they were unpacked.
        if let Some(root) = unpacked() {
            let plugins = root.join("usr/libexec/docker/cli-plugins");
            std::os::unix::fs::symlink(plugins, self.dir.join("cli-plugins")).unwrap();
        }
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.join(name), text).unwrap();
    }

    /// Whether gabion's own shim is a runtime here, too.
    pub(crate) fn has_shim(&self) -> bool {
        self.dir.join("shim.toml").exists()
    }

    fn spawn(&self, command: &mut Command, log: &str) -> Child {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join(log))
            .unwrap();
        let command = command
            .env("PATH", self.path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        command.process_group(0).spawn().unwrap()
    }

    /// Mounts and interfaces of theirs are of a namespace that ends with them.
    fn up_containerd(&mut self) {
        let prepare = match self.setup {
            Setup::Apart => "",
            Setup::Remapped => "mount --bind $1/subids /etc/subuid && mount --bind $1/subids /etc/subgid &&",
            Setup::Stock => "mount -t tmpfs run /run && mount -t tmpfs lib /var/lib &&",
        };
        // gabion knows dockerd's hook by where distributions have the program.
        let other = if unpacked().is_some() {
            "mount --bind $2/usr/sbin/dockerd /usr/sbin/dockerd &&"
        } else {
            ""
        };
        let line = format!("{prepare} {other} ip link set lo up; exec containerd -c $1/containerd.toml");
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--net",
            "--propagation",
            "private",
            "sh",
            "-c",
            &line,
            "containerd",
        ]);
        self.containerd = Some(self.spawn(command.arg(&self.dir).args(unpacked()), "containerd.log"));
        let socket = self.dir.join("c.sock");
        assert!(until(limit(20), || socket.exists()), "containerd does not come up");
    }

    /// Starts dockerd, beside its containerd; false where it does not answer.
    pub(crate) fn up(&mut self) -> bool {
        let at = |name: &str| self.dir.join(name).display().to_string();
        let dockerd = if unpacked().is_some() {
            "/usr/sbin/dockerd"
        } else {
            "dockerd"
        };
        let mut command = self.inside(&[dockerd, "--config-file", &at("daemon.json")]);
        let socket = format!("unix://{}", at("d.sock"));
        command.args(["-H", &socket, "--containerd", &at("c.sock")]);
        command.args(["--cgroup-parent", &format!("/{}", self.cgroup)]);
        if self.setup != Setup::Stock {
            command.args([
                "--data-root",
                &at("d"),
                "--exec-root",
                &at("x"),
                "--pidfile",
                &at("d.pid"),
            ]);
            command.args(["--iptables=false", "--ip6tables=false"]);
        }
        let mut child = self.spawn(&mut command, "dockerd.log");
        let mut ended = false;
        let answers = until(limit(30), || {
            ended = child.try_wait().unwrap().is_some();
            ended || self.docker(&["version"]).code == 0
        });
        self.dockerd = Some(child);
        answers && !ended
    }

    /// A program where the engine runs: in its network and its mounts.
    pub(crate) fn inside(&self, words: &[&str]) -> Command {
        let containerd = self.containerd.as_ref().unwrap().id().to_string();
        let mut command = Command::new("nsenter");
        command.args(["--mount", "--net", "-t", &containerd]).args(words);
        command.env("PATH", self.path());
        command
    }

    /// The programs that were unpacked for the test first, and gabion's shim.
    fn path(&self) -> std::ffi::OsString {
        let all = dirs().into_iter().chain([self.dir.clone()]);
        std::env::join_paths(all).unwrap()
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
        self.docker_with(&[], args)
    }

    #[track_caller]
    pub(crate) fn docker_with(&self, variables: &[(&str, &str)], args: &[&str]) -> Done {
        let mut command = Command::new(which("docker").unwrap());
        command
            .arg("-H")
            .arg(format!("unix://{}/d.sock", self.dir.display()))
            .args(args);
        // What the person who tests has configured is not the test's.
        command
            .env("DOCKER_CONFIG", &self.dir)
            .env_remove("DOCKER_HOST")
            .env_remove("DOCKER_CONTEXT")
            .envs(variables.iter().copied());
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
            remove_cgroups(&controller.path().join(&self.cgroup));
        }
        remove_cgroups(&Path::new("/sys/fs/cgroup").join(&self.cgroup));
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Removes a cgroup with those below it: BuildKit leaves empty ones.
fn remove_cgroups(dir: &Path) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroups(&entry.path());
        }
    }
    drop(fs::remove_dir(dir));
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

/// Another Docker's packages, unpacked: the root that GABION_DOCKER_ROOT names.
pub(crate) fn unpacked() -> Option<PathBuf> {
    std::env::var_os("GABION_DOCKER_ROOT").map(PathBuf::from)
}

/// Where programs are looked for: below that root, then as everybody's.
fn dirs() -> Vec<PathBuf> {
    let below = |root: PathBuf| ["usr/sbin", "usr/bin"].map(|dir| root.join(dir));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    unpacked().map(below).into_iter().flatten().chain(usual).collect()
}

pub(crate) fn which(program: &str) -> Option<PathBuf> {
    dirs()
        .into_iter()
        .map(|dir| dir.join(program))
        .find(|file| file.is_file())
}

/// The first number of what a program says of its version.
pub(crate) fn major(program: &str) -> Option<u32> {
    let said = Command::new(which(program)?).arg("--version").output().ok()?;
    let text = String::from_utf8(said.stdout).ok()?;
    let number = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    number.split('.').next()?.parse().ok()
}

fn has(program: &str) -> bool {
    which(program).is_some()
}
