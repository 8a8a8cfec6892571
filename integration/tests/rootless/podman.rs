//! The real podman as a user without a systemd session. Its network is `none`: slirp4netns wants a device that not every
//! machine gives to users.

use integration::command::{limit, until};
use integration::{Bundle, Done, Runtime, User, leaks};
use std::fs;
use std::path::{Path, PathBuf};

struct Podman {
    user: User,
    gabion: PathBuf,
    level: &'static str,
}

impl Podman {
    fn new(test: &str, level: &'static str) -> Option<Self> {
        if !Path::new("/usr/bin/podman").exists() || !Path::new("/usr/bin/newuidmap").exists() {
            integration::left_out("no podman or no newuidmap here");
            return None;
        }
        let mut user = User::new(Bundle::with_busybox(test));
        // Not the machine's.
        let conf = user.home().join("containers.conf");
        fs::write(&conf, "[engine]\n").unwrap();
        user.set_env("CONTAINERS_CONF", conf.to_str());
        let gabion = user.install(&Runtime::gabion().program);
        let tar = user.bundle.dir.join("image.tar");
        let packed = std::process::Command::new("tar")
            .arg("-C")
            .arg(user.bundle.rootfs())
            .args(["--owner=0", "--group=0", "--numeric-owner", "-cf"])
            .arg(&tar)
            .arg(".")
            .status()
            .unwrap();
        assert!(packed.success());
        let podman = Self { user, gabion, level };
        podman.call(&["import", tar.to_str().unwrap(), "img"]).ok();
        Some(podman)
    }

    fn call(&self, args: &[&str]) -> Done {
        let (gabion, level) = (
            self.gabion.display().to_string(),
            format!("--runtime-flag=level={}", self.level),
        );
        let ours = [
            "--storage-driver",
            "vfs",
            "--cgroup-manager=cgroupfs",
            "--events-backend=file",
            "--runtime",
            &gabion,
            &level,
        ];
        self.user.run(Path::new("/usr/bin/podman"), &[&ours, args].concat())
    }

    fn run(&self, words: &[&str]) -> Done {
        self.call(&[&["run", "--rm", "--network", "none"], words].concat())
    }
}

/// Beside containers podman keeps a process that holds its user namespace, and a lock in shared memory.
impl Drop for Podman {
    fn drop(&mut self) {
        self.call(&["rm", "--all", "--force", "--time", "0"]);
        let pause = self.user.run_dir().join("libpod/tmp/pause.pid");
        let pid = fs::read_to_string(pause)
            .ok()
            .and_then(|pid| pid.trim().parse::<i32>().ok());
        if let Some(pid) = pid {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
            until(limit(20), || !leaks::is_alive(pid.unsigned_abs()));
        }
        fs::remove_file(format!("/dev/shm/libpod_rootless_lock_{}", self.user.uid)).ok();
        if !std::thread::panicking() {
            self.user.nothing_left();
        }
    }
}

fn a_day(level: &'static str) {
    let Some(podman) = Podman::new(&format!("rootless-podman-{level}"), level) else {
        return;
    };
    assert_eq!(podman.run(&["img", "id", "-u"]).ok().out, "0\n");
    // Another user than root has an id of its own outside.
    assert_eq!(
        podman.run(&["--user", "1000:1000", "img", "id", "-u"]).ok().out,
        "1000\n"
    );
    // A user namespace below podman's own.
    let mapped = [
        "--uidmap", "0:1:5000", "--gidmap", "0:1:5000", "--user", "7", "img", "id", "-u",
    ];
    assert_eq!(podman.run(&mapped).ok().out, "7\n");
    podman.run(&["img", "sh", "-c", "exit 7"]).fails_with(7);
    podman.run(&["img", "no-such-program"]).fails_with(127);

    let script = "trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done";
    // Not journald, podman's default where there is systemd: a user without a session reads no journal.
    podman
        .call(&[
            "run",
            "--log-driver",
            "k8s-file",
            "--detach",
            "--name",
            "c",
            "--network",
            "none",
            "img",
            "sh",
            "-c",
            script,
        ])
        .ok();
    let said = until(limit(20), || podman.call(&["logs", "c"]).ok().out == "up\n");
    assert!(said, "it never said so");
    let exec = podman.call(&["exec", "-e", "A=1", "-w", "/tmp", "c", "sh", "-c", "echo $A; pwd"]);
    assert_eq!(exec.ok().out, "1\n/tmp\n");
    podman.call(&["exec", "c", "sh", "-c", "exit 9"]).fails_with(9);
    podman.call(&["exec", "c", "no-such-program"]).fails_with(127);
    let user = podman.call(&["exec", "--user", "1234", "c", "id", "-u"]);
    assert_eq!(user.ok().out, "1234\n");
    assert!(podman.call(&["top", "c"]).ok().out.contains("sleep"));
    let file = podman.user.home().join("file");
    fs::write(&file, "copied\n").unwrap();
    podman.call(&["cp", file.to_str().unwrap(), "c:/tmp/file"]).ok();
    assert_eq!(podman.call(&["exec", "c", "cat", "/tmp/file"]).ok().out, "copied\n");
    podman.call(&["stop", "--time", "10", "c"]).ok();
    let state = ["inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}", "c"];
    assert_eq!(podman.call(&state).ok().out, "exited 0\n");
    podman.call(&["start", "c"]).ok();
    podman.call(&["kill", "c"]).ok();
    podman.call(&["rm", "--force", "c"]).ok();
    assert_eq!(podman.call(&["ps", "--all", "--quiet"]).ok().out, "");
}

#[test]
fn podman_s_day_hardened() {
    a_day("hardened");
}

#[test]
fn podman_s_day_permissive() {
    a_day("permissive");
}

#[test]
fn a_refusal_is_shown_as_it_is() {
    let Some(podman) = Podman::new("rootless-podman-refused", "hardened") else {
        return;
    };
    let done = podman.call(&["run", "--rm", "--network", "host", "img", "true"]);
    assert_ne!(done.code, 0, "{done}");
    done.says(&["refused [namespaces.host-network]", "--network host"]);
}
