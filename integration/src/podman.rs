//! The real podman, as root, with everything of its own: images, containers, volumes and state below a directory of the test.

use crate::command::{Running, limit, until};
use crate::{Bundle, Done, Runtime, leaks};
use std::fs;
use std::path::Path;
use std::process::Command;

const CONF: &str = "containers.conf";
const STORAGE_CONF: &str = "storage.conf";

/// A podman that shares nothing with the machine's own.
#[derive(Debug)]
pub struct Podman {
    /// Only its directory and its name are used.
    pub bundle: Bundle,
    flags: Vec<String>,
}

impl Podman {
    /// With an image `img` that has a shell. None where there is no podman.
    #[track_caller]
    pub fn new(test: &str, level: &str) -> Option<Self> {
        let podman = Self::without_image(Bundle::with_busybox(test), level)?;
        let tar = podman.bundle.dir.join("image.tar");
        let packed = Command::new("tar")
            .arg("-C")
            .arg(podman.bundle.rootfs())
            .arg("-cf")
            .arg(&tar)
            .arg(".")
            .status()
            .expect("tar");
        assert!(packed.success());
        podman.call(&["import", tar.to_str().expect("a path"), "img"]).ok();
        Some(podman)
    }

    /// For containers whose root file system is somewhere else.
    pub fn without_image(bundle: Bundle, level: &str) -> Option<Self> {
        let there = Command::new("podman")
            .arg("--version")
            .output()
            .is_ok_and(|output| output.status.success());
        if !there {
            crate::left_out("no podman here");
            return None;
        }
        // The machine's own configuration is nothing to a test. Locks are files: those in shared memory are of all podmans here, and one
        // that starts with nothing frees them all.
        fs::write(bundle.dir.join(CONF), "[engine]\nlock_type = \"file\"\n").expect("podman's configuration");
        let dir = bundle.dir.display();
        let storage = format!("[storage]\ndriver = \"vfs\"\nrunroot = \"{dir}/r\"\ngraphroot = \"{dir}/p\"\n");
        fs::write(bundle.dir.join(STORAGE_CONF), storage).expect("podman's configuration");
        Some(Self {
            bundle,
            flags: vec![format!("level={level}")],
        })
    }

    /// A global option of gabion's, without its dashes.
    #[must_use]
    pub fn runtime_flag(mut self, flag: &str) -> Self {
        self.flags.push(flag.to_owned());
        self
    }

    /// `before` is for the shell that podman takes the place of.
    fn command(&self, before: &str, args: &[&str]) -> Command {
        let below = |name: &str| self.bundle.dir.join(name).display().to_string();
        // Without CAP_SYS_RESOURCE podman could not give containers its usual limits.
        let mut command = Command::new("bash");
        let shell = format!("ulimit -n 4096; ulimit -u 10000; {before} exec podman \"$@\"");
        command.args(["-c", &shell, "podman"]);
        command.env("CONTAINERS_CONF", self.bundle.dir.join(CONF));
        command.env("CONTAINERS_STORAGE_CONF", self.bundle.dir.join(STORAGE_CONF));
        command.args([
            "--root",
            &below("p"),
            "--runroot",
            &below("r"),
            "--tmpdir",
            &below("t"),
            "--storage-driver",
            "vfs",
        ]);
        command
            .args(["--cgroup-manager=cgroupfs", "--events-backend=file", "--runtime"])
            .arg(&Runtime::gabion().program);
        command
            .args(self.flags.iter().map(|flag| format!("--runtime-flag={flag}")))
            .args(args);
        command
    }

    #[track_caller]
    pub fn call(&self, args: &[&str]) -> Done {
        self.call_after("", args)
    }

    /// With descriptors or variables of the caller's.
    #[track_caller]
    pub fn call_after(&self, before: &str, args: &[&str]) -> Done {
        Running::start(self.command(before, args), &self.bundle.dir).wait(limit(60))
    }

    /// A name that nobody else on this machine uses.
    pub fn name(&self, suffix: &str) -> String {
        format!("{}-{suffix}", self.bundle.name)
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        self.call(&["pod", "rm", "--all", "--force", "--time", "0"]);
        self.call(&["rm", "--all", "--force", "--time", "0"]);
        // What conmon starts at a container's end still writes there.
        until(limit(20), || leaks::processes(&self.bundle).is_empty());
        // Its storage is mounted over itself while it works.
        for line in leaks::mounts_below(&self.bundle.dir) {
            if let Some(place) = line.split(' ').nth(5) {
                nix::mount::umount2(Path::new(place), nix::mount::MntFlags::MNT_DETACH).ok();
            }
        }
    }
}
