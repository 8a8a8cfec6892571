//! A containerd of the bench's own: private root, state, socket and configuration, an image made of busybox, and the shims to
//! compare. What is started here is stopped here.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use integration::command::limit;

const IMAGE: &str = "docker.io/library/gabion-bench:1";

/// A shim, as `ctr` is told of it.
pub(crate) struct Shim {
    pub name: String,
    pub number: usize,
    path: PathBuf,
    /// Ours is told to keep to this bench's own state and audit log.
    options: Option<PathBuf>,
}

impl Shim {
    pub(crate) fn new(path: &Path, node: &Node) -> Self {
        let number = node.numbers.replace(node.numbers.get() + 1);
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let ours = file.contains("gabion");
        Self {
            number,
            // Two builds of ours have the same name.
            name: if ours && number > 0 {
                format!("{file} ({number})")
            } else {
                file
            },
            path: path.canonicalize().expect("the shim"),
            options: ours.then(|| node.dir.join("options.toml")),
        }
    }
}

pub(crate) struct Node {
    dir: PathBuf,
    containerd: Child,
    cgroup: String,
    numbers: std::cell::Cell<usize>,
}

impl Node {
    pub(crate) fn start(cgroup: &str) -> Self {
        // Short, since sockets lie in it.
        let dir = PathBuf::from(format!("/tmp/gbs-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        // In memory: containerd syncs its database a dozen times a container, and how long a disk takes for that is not the question.
        mount(Some("tmpfs"), &dir, Some("tmpfs"), MsFlags::empty(), None::<&str>).expect("a tmpfs");
        let at = dir.display();
        fs::write(
            dir.join("config.toml"),
            format!(
                "version = 2\nroot = \"{at}/root\"\nstate = \"{at}/state\"\n\
                 disabled_plugins = [\"io.containerd.grpc.v1.cri\", \"io.containerd.snapshotter.v1.btrfs\", \
                 \"io.containerd.snapshotter.v1.zfs\", \"io.containerd.snapshotter.v1.devmapper\", \
                 \"io.containerd.snapshotter.v1.aufs\"]\n[grpc]\naddress = \"{at}/c.sock\"\n"
            ),
        )
        .expect("config.toml");
        let policy = format!("[audit]\nfile = \"{at}/audit.jsonl\"\n");
        fs::write(dir.join("policy.toml"), policy).expect("policy.toml");
        let options = format!("root = \"{at}/runtime\"\npolicy = \"{at}/policy.toml\"\n");
        fs::write(dir.join("options.toml"), options).expect("options.toml");
        let log = fs::File::create(dir.join("containerd.log")).expect("a log");
        let containerd = Command::new("containerd")
            .arg("-c")
            .arg(dir.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("containerd");
        let node = Self {
            dir,
            containerd,
            cgroup: cgroup.to_owned(),
            numbers: std::cell::Cell::default(),
        };
        until("containerd answers", || node.ctr(&["version"]).status.success());
        let image = node.image();
        node.ok(&["images", "import", &image.display().to_string()]);
        node
    }

    fn ctr(&self, words: &[&str]) -> Output {
        let mut command = Command::new("ctr");
        command.arg("--address").arg(self.dir.join("c.sock")).args(words);
        command.stdin(Stdio::null()).output().expect("ctr")
    }

    fn ok(&self, words: &[&str]) -> String {
        let output = self.ctr(words);
        assert!(output.status.success(), "ctr {words:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// `ctr run`, with the container's cgroup below the bench's.
    pub(crate) fn run(&self, shim: &Shim, flags: &[&str], id: &str, program: &[&str]) {
        let (path, cgroup) = (shim.path.display().to_string(), format!("/{}/{id}", self.cgroup));
        let options = shim.options.as_ref().map(|path| path.display().to_string());
        let mut words = vec!["run", "--runtime", &path, "--cgroup", &cgroup];
        if let Some(options) = &options {
            words.extend(["--runtime-config-path", options]);
        }
        words.extend(flags);
        words.extend([IMAGE, id]);
        words.extend(program);
        self.ok(&words);
    }

    pub(crate) fn execs(&self, id: &str, numbers: std::ops::Range<usize>) {
        for number in numbers {
            self.ok(&["task", "exec", "--exec-id", &format!("e{number}"), id, "true"]);
        }
    }

    /// The shim that serves a container: the parent of its first process.
    pub(crate) fn shim_of(&self, id: &str) -> i32 {
        let list = self.ok(&["task", "ls"]);
        let line = list.lines().find(|line| line.split_whitespace().next() == Some(id));
        let pid = line.and_then(|line| line.split_whitespace().nth(1)).expect("the task");
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("the process");
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        parent.and_then(|pid| pid.parse().ok()).expect("its parent")
    }

    pub(crate) fn remove(&self, id: &str) {
        self.ok(&["task", "kill", "-s", "KILL", id]);
        until("the task stops", || {
            let list = self.ok(&["task", "ls"]);
            list.lines()
                .any(|line| line.starts_with(id) && line.contains("STOPPED"))
        });
        // Its exit code is the task's.
        self.ctr(&["task", "rm", id]);
        self.ok(&["container", "rm", id]);
    }

    fn image(&self) -> PathBuf {
        let (image, root) = (self.dir.join("image"), self.dir.join("image/root"));
        for name in ["bin", "dev", "etc", "proc", "run", "sys", "tmp"] {
            fs::create_dir_all(root.join(name)).expect("a directory");
        }
        fs::copy("/bin/busybox", root.join("bin/busybox")).expect("busybox-static is installed");
        for name in ["sleep", "true"] {
            symlink("busybox", root.join("bin").join(name)).expect("a link");
        }
        tar(&image.join("layer.tar"), &root, &["."]);
        let sum = Command::new("sha256sum")
            .arg(image.join("layer.tar"))
            .output()
            .expect("sha256sum");
        let sum = String::from_utf8_lossy(&sum.stdout);
        let architecture = match std::env::consts::ARCH {
            "aarch64" => "arm64",
            _ => "amd64",
        };
        let config = serde_json::json!({
            "architecture": architecture, "os": "linux", "config": { "Env": ["PATH=/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", &sum[..64])] },
        });
        fs::write(image.join("config.json"), config.to_string()).expect("config.json");
        let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"] }]);
        fs::write(image.join("manifest.json"), manifest.to_string()).expect("manifest.json");
        let file = self.dir.join("image.tar");
        tar(&file, &image, &["config.json", "layer.tar", "manifest.json"]);
        file
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // After a panic there may be containers; their shims end them.
        let left = self.ctr(&["task", "ls", "-q"]);
        for id in String::from_utf8_lossy(&left.stdout).split_whitespace() {
            self.ctr(&["task", "rm", "-f", id]);
        }
        self.containerd.kill().ok();
        self.containerd.wait().ok();
        let gone = umount2(&self.dir, MntFlags::MNT_DETACH).map_err(Into::into);
        if let Err(error) = gone.and_then(|()| fs::remove_dir(&self.dir)) {
            eprintln!("{} stays: {error}", self.dir.display());
        }
    }
}

fn tar(file: &Path, dir: &Path, members: &[&str]) {
    let mut tar = Command::new("tar");
    let status = tar.arg("-cf").arg(file).arg("-C").arg(dir).args(members).status();
    assert!(status.expect("tar").success(), "{tar:?}");
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let end = Instant::now() + limit(30);
    while !so() {
        assert!(Instant::now() < end, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
