//! A real container for tests of the binary. Needs root and a static busybox; without them there is nothing to look at, and
//! the tests say so.
#![allow(dead_code, unreachable_pub)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

const BUSYBOX: &str = "/bin/busybox";

/// A running container with a root of its own, gone when dropped.
pub struct Running {
    pub dir: PathBuf,
    pub id: String,
}

impl Running {
    pub fn new(name: &str) -> Option<Self> {
        Self::with(name, "run", |_| {})
    }

    pub fn with(name: &str, how: &str, change: fn(&mut Value)) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() || !Path::new(BUSYBOX).exists() {
            eprintln!("not root, or no {BUSYBOX}: nothing is tested");
            return None;
        }
        let id = format!("attest-{name}-{}", std::process::id());
        let dir = std::env::temp_dir().join(&id);
        for part in ["bin", "dev", "proc", "sys", "tmp", "run", "var/tmp"] {
            fs::create_dir_all(dir.join("bundle/rootfs").join(part)).unwrap();
        }
        let bin = dir.join("bundle/rootfs/bin");
        fs::copy(BUSYBOX, bin.join("busybox")).unwrap();
        for applet in ["sh", "sleep", "mount", "umount"] {
            symlink("busybox", bin.join(applet)).unwrap();
        }
        let this = Self { dir, id };
        assert!(this.gabion(&["spec", "-b", &this.path("bundle")]).status.success());
        let config = this.dir.join("bundle/config.json");
        let mut spec: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
        spec["process"]["args"] = json!(["sh", "-c", "sleep 300 & sleep 300"]);
        spec["process"]["terminal"] = json!(false);
        spec["linux"]["cgroupsPath"] = json!(format!("/{}", this.id));
        change(&mut spec);
        fs::write(&config, spec.to_string()).unwrap();
        if !how.is_empty() {
            let out = this.gabion(
                &[how, "--detach", "-b", &this.path("bundle"), &this.id][..]
                    .iter()
                    .copied()
                    .filter(|w| how == "run" || *w != "--detach")
                    .collect::<Vec<_>>(),
            );
            assert!(out.status.success(), "{}", this.said());
        }
        Some(this)
    }

    /// With global options of one's own.
    pub fn with_globals(&self, globals: &[&str], words: &[&str]) -> Output {
        let err = fs::File::create(self.dir.join("stderr")).unwrap();
        let mut command = crate::programs::gabion();
        let quiet = words.contains(&"--detach") || words[0] == "create";
        command.args(["--root", &self.path("state")]).args(globals).args(words);
        command.stdin(Stdio::null()).stderr(err);
        command.stdout(if quiet { Stdio::null() } else { Stdio::piped() });
        command.spawn().unwrap().wait_with_output().unwrap()
    }

    /// Puts the bundle where containerd has it, with what its CRI plugin makes for the sandbox `s`. Gives what the policy says of it.
    pub fn by_containerd(&self) -> String {
        let tasks = self.dir.join("run/io.containerd.runtime.v2.task/k8s.io");
        let plugin = self.dir.join("run/io.containerd.grpc.v1.cri");
        for made in [
            tasks.clone(),
            plugin.join("sandboxes/s"),
            plugin.join("containers").join(&self.id),
        ] {
            fs::create_dir_all(made).unwrap();
        }
        fs::rename(self.dir.join("bundle"), tasks.join(&self.id)).unwrap();
        symlink(tasks.join(&self.id), self.dir.join("bundle")).unwrap();
        format!(
            "cri = \"containerd\"\n[mounts]\ncontainerd_state = \"{}\"\n",
            self.path("run")
        )
    }

    pub fn path(&self, name: &str) -> String {
        self.dir.join(name).to_str().unwrap().to_owned()
    }

    /// Output of what stays running goes nowhere: a pipe would be held open by it.
    pub fn gabion(&self, words: &[&str]) -> Output {
        self.with_globals(&["--audit-log", &self.path("log/audit.jsonl")], words)
    }

    pub fn said(&self) -> String {
        fs::read_to_string(self.dir.join("stderr")).unwrap_or_default()
    }

    pub fn pid(&self) -> String {
        let state: Value = serde_json::from_slice(&self.gabion(&["state", &self.id]).stdout).unwrap();
        state["pid"].to_string()
    }

    /// The container's own directories of the cgroup hierarchies.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let root = Path::new("/sys/fs/cgroup");
        let below = fs::read_dir(root).unwrap().map(|e| e.unwrap().path().join(&self.id));
        below
            .chain([root.join(&self.id)])
            .filter(|p| p.join("cgroup.procs").exists())
            .collect()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.gabion(&["delete", "--force", &self.id]);
        let left = self.cgroups();
        drop(fs::remove_dir_all(&self.dir));
        assert!(left.is_empty() || std::thread::panicking(), "{left:?}");
    }
}
