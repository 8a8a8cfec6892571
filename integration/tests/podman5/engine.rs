//! podman with storage, containers and secrets of the test's own.

use crate::image;
use integration::command::{Running, limit};
use integration::{Bundle, Done, Runtime, leaks, unified};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Podman {
    /// Only its directory and its name are used.
    pub(crate) bundle: Bundle,
    level: &'static str,
}

/// Whether systemd makes the containers' cgroups.
pub(crate) fn systemd() -> bool {
    unified() && Path::new("/run/systemd/system").is_dir()
}

impl Podman {
    /// None where there is no podman.
    pub(crate) fn new(test: &str) -> Option<Self> {
        let there = Command::new("podman").arg("--version").output();
        if !there.is_ok_and(|o| o.status.success()) {
            eprintln!("left out: no podman here");
            return None;
        }
        let podman = Self {
            bundle: Bundle::with_busybox(test),
            level: "hardened",
        };
        let dir = &podman.bundle.dir;
        // What cargo builds may lie where only root can reach it.
        fs::copy(&Runtime::gabion().program, dir.join("gabion")).unwrap();
        fs::write(podman.conf(), podman.containers_conf()).unwrap();
        let tar = image::pack(&podman.bundle);
        fs::set_permissions(dir, Permissions::from_mode(0o755)).unwrap();
        let change = r#"CMD ["/bin/sleep", "600"]"#;
        podman
            .call(&["import", "--change", change, tar.to_str().unwrap(), "img"])
            .ok();
        Some(podman)
    }

    fn conf(&self) -> PathBuf {
        self.bundle.dir.join("containers.conf")
    }

    /// As `hack/install --podman` writes it; and locks of the test's own, and pods whose first container needs no image from outside.
    fn containers_conf(&self) -> String {
        format!(
            "[engine]\nlock_type = \"file\"\ninfra_image = \"localhost/img\"\n\
             [engine.runtimes]\ngabion = [\"{}\"]\n",
            self.bundle.dir.join("gabion").display()
        )
    }

    fn command(&self, args: &[&str]) -> Command {
        let place = |name: &str| self.bundle.dir.join(name).display().to_string();
        let manager = if systemd() { "systemd" } else { "cgroupfs" };
        let mut words = vec!["--root".to_owned(), place("p"), "--runroot".to_owned(), place("r")];
        words.extend(["--tmpdir".to_owned(), place("t"), "--storage-driver=vfs".to_owned()]);
        words.extend([
            format!("--cgroup-manager={manager}"),
            "--events-backend=file".to_owned(),
            "--runtime=gabion".to_owned(),
            format!("--runtime-flag=level={}", self.level),
        ]);
        words.extend(args.iter().map(|&word| word.to_owned()));
        let conf = format!("CONTAINERS_CONF={}", self.conf().display());
        // Without CAP_SYS_RESOURCE podman could not give containers its usual limits.
        let mut command = Command::new("bash");
        command
            .args(["-c", "ulimit -n 4096; ulimit -u 10000; exec env \"$@\"", "env"])
            .args([&conf, "podman"])
            .args(&words);
        command
    }

    #[track_caller]
    pub(crate) fn call(&self, args: &[&str]) -> Done {
        Running::start(self.command(args), &self.bundle.dir).wait(limit(60))
    }

    /// `run --rm` in the foreground.
    #[track_caller]
    pub(crate) fn run(&self, words: &[&str]) -> Done {
        self.call(&[&["run", "--rm", "--network", "none"], words].concat())
    }

    /// `inspect` with a template.
    #[track_caller]
    pub(crate) fn tell(&self, name: &str, what: &str) -> String {
        let told = self.call(&["inspect", "--format", what, name]).ok().out;
        told.trim().to_owned()
    }

    /// Where the kernel says that a container's first process is, as a directory.
    pub(crate) fn cgroup(&self, name: &str) -> PathBuf {
        let pid = self.tell(name, "{{.State.Pid}}");
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let place = text.lines().find_map(|line| line.strip_prefix("0::/"));
        Path::new("/sys/fs/cgroup").join(place.unwrap())
    }

    /// After all containers are removed: neither podman nor gabion knows of one. State is where gabion keeps it by itself, since
    /// podman 4.3 does not tell `delete` another place.
    #[track_caller]
    pub(crate) fn nothing_runs(&self) {
        assert_eq!(self.call(&["ps", "--all", "--quiet"]).ok().out, "");
        let dir = self.bundle.dir.to_string_lossy().into_owned();
        for entry in fs::read_dir("/run/gabion").into_iter().flatten().flatten() {
            let record = fs::read_to_string(entry.path().join("state.json")).unwrap_or_default();
            assert!(!record.contains(&dir), "{} is left", entry.path().display());
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.call(&["pod", "rm", "--all", "--force", "--time", "0"]);
            self.call(&["rm", "--all", "--force", "--time", "0"]);
        }
        // Its storage is mounted over itself while it works.
        for line in leaks::mounts_below(&self.bundle.dir) {
            if let Some(place) = line.split(' ').nth(5) {
                nix::mount::umount2(Path::new(place), nix::mount::MntFlags::MNT_DETACH).ok();
            }
        }
        if !std::thread::panicking() {
            let left = leaks::of(&self.bundle);
            assert!(left.is_empty(), "left behind: {left:#?}");
        }
    }
}
