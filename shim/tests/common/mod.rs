//! A containerd of a test's own: private root, state, socket and configuration; an image made here of busybox; the shim under test
//! on its PATH. Every wait has an end, and what a node leaves behind fails the test that made it.
//!
//! With `GABION_IT_CGROUPS=systemd` the cgroups are systemd's, as the kubelet wants them on a machine with cgroup v2.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
// Tests may panic; clippy.toml knows it of test functions only, not of what they call.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

pub mod bundle;
pub mod client;
pub mod host;
pub mod image;
pub mod settings;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use host::{Input, Ran, cgroups_with, children_of, entries, mounts_below, number, patient, processes, run, tail};

pub use host::{SOON, until};
pub use image::IMAGE;
pub use settings::{Setup, by_systemd, engine, runtime};

pub const SHIM: &str = env!("CARGO_BIN_EXE_containerd-shim-gabion-v2");

/// A containerd and everything around it.
pub struct Node {
    pub dir: PathBuf,
    containerd: Option<Child>,
    name: String,
    /// containerd's, of what runs here. In "k8s.io" it is the CRI plugin that runs it; elsewhere there is none.
    namespace: &'static str,
}

impl Node {
    pub fn start(name: &str) -> Self {
        let setup = Setup {
            namespace: "default",
            config: &|_| String::new(),
            policy: &|_| String::new(),
        };
        Self::with(name, &setup)
    }

    pub fn with(name: &str, setup: &Setup<'_>) -> Self {
        let number = number();
        // Short, since sockets lie in it.
        let dir = PathBuf::from(format!("/tmp/gst-{}-{number}", std::process::id()));
        fs::create_dir_all(dir.join("bin")).unwrap();
        symlink(SHIM, dir.join("bin/containerd-shim-gabion-v2")).unwrap();
        let mut node = Self {
            dir,
            containerd: None,
            // Without «-»: in the name of a slice that means a slice inside another.
            name: format!("{name}_{}_{number}", std::process::id()),
            namespace: setup.namespace,
        };
        node.write_policy("policy.toml", &(setup.policy)(&node.dir));
        node.write_options("options.toml", "");
        fs::write(node.dir.join("config.toml"), settings::containerd(&node.dir, setup)).unwrap();
        node.up();
        let image = image::make(&node.dir);
        node.ctr(&["images", "import", image.to_str().unwrap()]).ok();
        node
    }

    /// gabion on this node's containers.
    pub fn gabion(&self, arguments: &[&str]) -> Ran {
        let mut command = Command::new(runtime());
        command.arg("--root").arg(self.root());
        command.args(arguments);
        run(command, &self.dir, None, SOON)
    }

    /// Where gabion keeps the state of this node's containers.
    pub fn root(&self) -> PathBuf {
        let options = containerd_shim_gabion::options::Options {
            root: Some(self.dir.join("runtime")),
            ..Default::default()
        };
        let address = self.socket();
        containerd_shim_gabion::root::directory(&options, address.to_str().unwrap(), self.namespace)
    }

    /// What names this node and nothing else.
    pub fn name(&self) -> &str {
        &self.name
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
        let child = Command::new(engine("containerd"))
            .arg("-c")
            .arg(self.dir.join("config.toml"))
            .env("PATH", path)
            // In the shim freed memory is free, and not put by for the thread: its heap holds what it uses (memory.rs).
            .env("GLIBC_TUNABLES", "glibc.malloc.tcache_count=0")
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
        let mut command = Command::new(engine("ctr"));
        command.arg("--address").arg(self.socket());
        command.args(["--namespace", self.namespace]).args(arguments);
        command
    }

    pub fn ctr(&self, arguments: &[&str]) -> Ran {
        run(self.ctr_command(arguments), &self.dir, None, SOON)
    }

    /// ctr forgets to close the process's stdin if its own ends before there is a process, so that is waited for.
    pub fn ctr_with_input(&self, arguments: &[&str], text: &str, there: &dyn Fn(&str) -> bool) -> Ran {
        let input = Input { text, until: there };
        run(self.ctr_command(arguments), &self.dir, Some(input), SOON)
    }

    /// `ctr run`'s arguments for the shim under test, with `flags` before the image.
    pub fn run_arguments(&self, flags: &[&str], id: &str, program: &[&str]) -> Vec<String> {
        let options = self.dir.join("options.toml");
        let options = options.to_str().unwrap();
        let scope = format!("system.slice:gabion:{id}");
        let cgroup: &[&str] = if by_systemd() { &["--cgroup", &scope] } else { &[] };
        let fixed = [
            "run",
            "--runtime",
            "io.containerd.gabion.v2",
            "--runtime-config-path",
            options,
        ];
        [&fixed, cgroup, flags, &[IMAGE, id], program]
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
        self.ctr(&["task", "rm", id]).ok();
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

    /// Where containerd keeps the bundles of this node's containers.
    pub fn bundles(&self) -> PathBuf {
        self.dir
            .join("state/io.containerd.runtime.v2.task")
            .join(self.namespace)
    }

    /// Where the shim of a container listens.
    pub fn shim_socket(&self, id: &str) -> PathBuf {
        let address = fs::read_to_string(self.bundles().join(id).join("address")).unwrap();
        PathBuf::from(address.strip_prefix("unix://").unwrap())
    }

    /// Fails if anything of this node's containers is left after a while: containerd itself cleans up behind its answers.
    #[track_caller]
    pub fn assert_clean(&self) {
        let end = Instant::now() + patient(SOON);
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
            entries(&self.bundles()),
            entries(&self.dir.join("runtime"))
                .iter()
                .flat_map(|root| entries(root))
                .collect(),
        ];
        // gabion's cache of seccomp profiles outlives containers, and is no container's.
        let paths = paths
            .concat()
            .into_iter()
            .filter(|path| !path.ends_with(".seccomp-cache"));
        left.extend(paths.map(|path| path.display().to_string()));
        left
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            eprintln!("--- containerd.log\n{}", tail(&self.containerd_log(), 30));
        }
        for shim in self.shims() {
            for child in children_of(shim) {
                let _gone = kill(child, Signal::SIGKILL);
            }
            let _gone = kill(shim, Signal::SIGKILL);
        }
        for bundle in entries(&self.bundles()) {
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
        let end = Instant::now() + patient(Duration::from_secs(5));
        while Instant::now() < end && !cgroups_with(&self.name).is_empty() {
            for cgroup in cgroups_with(&self.name).into_iter().rev() {
                // A pod's containers lie below the cgroup that has the node's name.
                for inner in entries(&cgroup).into_iter().filter(|path| path.is_dir()) {
                    let _gone = fs::remove_dir(inner);
                }
                let _gone = fs::remove_dir(cgroup);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _gone = fs::remove_dir_all(&self.dir);
    }
}
