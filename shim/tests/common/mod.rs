//! A containerd of a test's own: private root, state, socket and configuration; an image made here of busybox; the shim under test
//! on its PATH. Every wait has an end, and what a node leaves behind fails the test that made it.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
// Tests may panic; clippy.toml knows it of test functions only, not of what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use sha2::{Digest, Sha256};

pub const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-gabion-v2");
pub const IMAGE: &str = "docker.io/library/gabion-test:1";
const APPLETS: &[&str] = &[
    "sh", "true", "false", "echo", "sleep", "cat", "stty", "tty", "dd", "seq", "wc", "head", "yes", "tail", "ls",
    "kill",
];
static COUNT: AtomicU32 = AtomicU32::new(0);

/// What a command did.
#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub out: String,
    pub err: String,
}

impl Ran {
    pub fn code(&self) -> Option<i32> {
        self.status.code()
    }

    #[track_caller]
    pub fn ok(self) -> Self {
        assert!(self.status.success(), "{self:#?}");
        self
    }
}

/// A containerd and everything around it.
pub struct Node {
    pub dir: PathBuf,
    containerd: Option<Child>,
    name: String,
}

/// The runtime under test: `RUNTIME_UNDER_TEST`, else a gabion beside the shim, else runc.
pub fn runtime() -> PathBuf {
    let beside = Path::new(SHIM).with_file_name("gabion");
    match std::env::var_os("RUNTIME_UNDER_TEST") {
        Some(path) => path.into(),
        None if beside.exists() => beside,
        None => "/usr/sbin/runc".into(),
    }
}

#[track_caller]
pub fn until<T>(limit: Duration, what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = attempt() {
            return value;
        }
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub const SOON: Duration = Duration::from_secs(20);

impl Node {
    pub fn start(name: &str) -> Self {
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        // Short, since sockets lie in it.
        let dir = PathBuf::from(format!("/tmp/gst-{}-{number}", std::process::id()));
        fs::create_dir_all(dir.join("bin")).unwrap();
        symlink(SHIM, dir.join("bin/containerd-shim-gabion-v2")).unwrap();
        let options = format!(
            "binary = \"{}\"\nroot = \"{}\"\n",
            runtime().display(),
            dir.join("runtime").display()
        );
        fs::write(dir.join("options.toml"), options).unwrap();
        fs::write(dir.join("config.toml"), config(&dir)).unwrap();
        let mut node = Self {
            dir,
            containerd: None,
            name: format!("{name}-{}-{number}", std::process::id()),
        };
        node.up();
        let image = node.make_image();
        node.ctr(&["images", "import", image.to_str().unwrap()]).ok();
        node
    }

    /// An id for a container that no other test has.
    pub fn id(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.name)
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("c.sock")
    }

    pub fn up(&mut self) {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.dir.join("containerd.log"))
            .unwrap();
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", self.dir.join("bin").display());
        let child = Command::new("containerd")
            .arg("-c")
            .arg(self.dir.join("config.toml"))
            .env("PATH", path)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        self.containerd = Some(child);
        until(SOON, "containerd answers", || {
            self.ctr(&["version"]).status.success().then_some(())
        });
    }

    /// Ends containerd the hard way.
    pub fn kill_containerd(&mut self) {
        let mut child = self.containerd.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    pub fn containerd_log(&self) -> String {
        fs::read_to_string(self.dir.join("containerd.log")).unwrap_or_default()
    }

    pub fn ctr_command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.socket()).args(arguments);
        command
    }

    pub fn ctr(&self, arguments: &[&str]) -> Ran {
        run(self.ctr_command(arguments), &self.dir, None, Duration::from_mins(1))
    }

    pub fn ctr_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        run(
            self.ctr_command(arguments),
            &self.dir,
            Some(input),
            Duration::from_mins(1),
        )
    }

    /// `ctr run`'s arguments for the shim under test, with `flags` before the image.
    pub fn run_arguments(&self, flags: &[&str], id: &str, program: &[&str]) -> Vec<String> {
        let options = self.dir.join("options.toml");
        let options = options.to_str().unwrap();
        let fixed = [
            "run",
            "--runtime",
            "io.containerd.gabion.v2",
            "--runtime-config-path",
            options,
        ];
        [&fixed, flags, &[IMAGE, id], program]
            .concat()
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    pub fn run(&self, flags: &[&str], id: &str, program: &[&str]) -> Ran {
        let arguments = self.run_arguments(flags, id, program);
        self.ctr(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// Starts a container that sleeps, detached.
    pub fn sleeper(&self, suffix: &str) -> String {
        let id = self.id(suffix);
        self.run(&["-d"], &id, &["sleep", "1000"]).ok();
        id
    }

    pub fn status(&self, id: &str) -> Option<String> {
        let list = self.ctr(&["task", "ls"]).out;
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(id))?
            .to_owned();
        line.split_whitespace().nth(2).map(str::to_owned)
    }

    pub fn pid(&self, id: &str) -> Pid {
        let list = self.ctr(&["task", "ls"]).out;
        let line = list
            .lines()
            .find(|line| line.split_whitespace().next() == Some(id))
            .expect("task");
        Pid::from_raw(line.split_whitespace().nth(1).unwrap().parse().unwrap())
    }

    /// Kills and deletes a container.
    pub fn remove(&self, id: &str) {
        self.ctr(&["task", "kill", "-s", "KILL", id]);
        until(SOON, "the task stops", || {
            (self.status(id).as_deref() != Some("RUNNING")).then_some(())
        });
        // Its exit code is the task's.
        self.ctr(&["task", "rm", id]);
        self.ctr(&["container", "rm", id]).ok();
    }

    pub fn shims(&self) -> Vec<Pid> {
        let address = self.socket();
        let serves = |words: &[String]| {
            words.last().is_some_and(|word| word == "serve") && words.iter().any(|word| Path::new(word) == address)
        };
        processes()
            .into_iter()
            .filter(|(_, words)| serves(words))
            .map(|(pid, _)| pid)
            .collect()
    }

    /// Fails if anything of this node's containers is left after a while: containerd itself cleans up behind its answers.
    #[track_caller]
    pub fn assert_clean(&self) {
        let end = Instant::now() + SOON;
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(Instant::now() < end, "left: {left:#?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn left(&self) -> Vec<String> {
        let own = self.dir.to_str().unwrap();
        let processes = processes().into_iter();
        let processes = processes.filter(|(_, words)| words.iter().any(|word| word.contains(own)));
        let processes = processes.filter(|(_, words)| !words[0].ends_with("containerd"));
        let mut left: Vec<_> = processes
            .map(|(pid, words)| format!("process {pid}: {words:?}"))
            .collect();
        let paths = [
            mounts_below(&self.dir.join("state")),
            cgroups_with(&self.name),
            glob(&self.dir.join("state/io.containerd.runtime.v2.task/default")),
            glob(&self.dir.join("runtime/default")),
        ];
        left.extend(paths.concat().iter().map(|path| path.display().to_string()));
        left
    }

    fn make_image(&self) -> PathBuf {
        let (root, image) = (self.dir.join("image/root"), self.dir.join("image"));
        for directory in ["bin", "tmp", "etc", "proc", "sys", "dev", "run"] {
            fs::create_dir_all(root.join(directory)).unwrap();
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
        for applet in APPLETS {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
        tar(&image.join("layer.tar"), &root, &["."]);
        let digest = sha256(&fs::read(image.join("layer.tar")).unwrap());
        let config = serde_json::json!({
            "architecture": "amd64", "os": "linux", "config": { "Env": ["PATH=/bin"], "Cmd": ["sh"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
        });
        fs::write(image.join("config.json"), config.to_string()).unwrap();
        let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
        fs::write(image.join("manifest.json"), manifest.to_string()).unwrap();
        let file = self.dir.join("image.tar");
        tar(&file, &image, &["config.json", "layer.tar", "manifest.json"]);
        file
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("--- containerd.log\n{}", tail(&self.containerd_log(), 60));
        }
        for shim in self.shims() {
            for child in children_of(shim) {
                let _gone = kill(child, Signal::SIGKILL);
            }
            let _gone = kill(shim, Signal::SIGKILL);
        }
        for bundle in glob(&self.dir.join("state/io.containerd.runtime.v2.task/default")) {
            let address = fs::read_to_string(bundle.join("address")).unwrap_or_default();
            let _gone = fs::remove_file(address.trim_start_matches("unix://"));
        }
        if let Some(mut child) = self.containerd.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        for mount in mounts_below(&self.dir).into_iter().rev() {
            let _gone = nix::mount::umount2(&mount, nix::mount::MntFlags::MNT_DETACH);
        }
        // What was killed takes a moment to leave its cgroups.
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && !cgroups_with(&self.name).is_empty() {
            for cgroup in cgroups_with(&self.name).into_iter().rev() {
                let _gone = fs::remove_dir(cgroup);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _gone = fs::remove_dir_all(&self.dir);
    }
}

fn config(dir: &Path) -> String {
    let dir = dir.display();
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\n\
         disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\", \
         \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.devmapper\", \
         \"io.containerd.snapshotter.v1.aufs\"]\n\
         [grpc]\naddress = \"{dir}/c.sock\"\n[debug]\nlevel = \"debug\"\n"
    )
}

/// Runs a command to its end, or kills it at the limit.
pub fn run(mut command: Command, dir: &Path, input: Option<&str>, limit: Duration) -> Ran {
    let number = COUNT.fetch_add(1, Ordering::Relaxed);
    let (out, err) = (dir.join(format!("out-{number}")), dir.join(format!("err-{number}")));
    command
        .stdout(fs::File::create(&out).unwrap())
        .stderr(fs::File::create(&err).unwrap());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().unwrap();
    let stdin = child.stdin.take();
    if let (Some(mut stdin), Some(input)) = (stdin, input) {
        std::io::Write::write_all(&mut stdin, input.as_bytes()).unwrap();
        // ctr forgets to close the container's stdin if its own ends before the task is made.
        std::thread::sleep(Duration::from_millis(700));
    }
    let end = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > end {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("{command:?} did not end in time: {}", fs::read_to_string(&err).unwrap());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let read = |path: &Path| String::from_utf8_lossy(&fs::read(path).unwrap()).into_owned();
    let ran = Ran {
        status,
        out: read(&out),
        err: read(&err),
    };
    fs::remove_file(out).unwrap();
    fs::remove_file(err).unwrap();
    ran
}

/// Every process that is not a zombie, with its command line.
pub fn processes() -> Vec<(Pid, Vec<String>)> {
    let entries = fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid: i32| {
        let line = fs::read(format!("/proc/{pid}/cmdline"))
            .ok()
            .filter(|line| !line.is_empty())?;
        let words = line.split(|byte| *byte == 0).filter(|word| !word.is_empty());
        Some((
            Pid::from_raw(pid),
            words.map(|word| String::from_utf8_lossy(word).into_owned()).collect(),
        ))
    })
    .collect()
}

/// Whether the process exists and is no zombie.
pub fn alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.trim_start().starts_with('Z'))
}

pub fn children_of(pid: Pid) -> Vec<Pid> {
    let text = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_whitespace()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .collect()
}

pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let points = text
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from);
    points.filter(|point| point.starts_with(dir)).collect()
}

pub fn cgroups_with(name: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(directory) = todo.pop() {
        for entry in fs::read_dir(&directory).into_iter().flatten().filter_map(Result::ok) {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let path = entry.path();
                if entry.file_name().to_string_lossy().contains(name) {
                    found.push(path.clone());
                }
                todo.push(path);
            }
        }
    }
    found
}

fn glob(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .collect()
}

fn tar(file: &Path, directory: &Path, members: &[&str]) {
    let status = Command::new("tar")
        .arg("-cf")
        .arg(file)
        .arg("-C")
        .arg(directory)
        .args(members)
        .status()
        .unwrap();
    assert!(status.success());
}

fn sha256(bytes: &[u8]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in Sha256::digest(bytes) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}
