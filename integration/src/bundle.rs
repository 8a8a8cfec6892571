//! A bundle of its own for each test, below a directory of its own.

use crate::{Config, binaries};
use serde_json::Value;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

static SERIAL: AtomicU32 = AtomicU32::new(0);

/// Applets that tests and shells use; each is a symlink to busybox.
const APPLETS: [&str; 12] = [
    "sh", "cat", "echo", "false", "id", "ls", "mkdir", "sleep", "stty", "touch", "true", "tty",
];

#[derive(Debug)]
pub struct Bundle {
    /// Unique on this machine: the container's id, its cgroup and the test's directory are called so.
    pub name: String,
    /// Holds everything of this test: bundle, state, policy, output.
    pub dir: PathBuf,
    pub config: Config,
}

impl Bundle {
    /// A root file system with the probe in it, like an image: merged /usr, /var/run a symlink to /run.
    pub fn new(test: &str) -> Self {
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        let name = format!("git-{test}-{}-{serial}", std::process::id());
        let dir = std::env::temp_dir().join(&name);
        let bundle = Self {
            config: Config::unhardened(&format!("/{name}")),
            name,
            dir,
        };
        make_dirs(&bundle.rootfs());
        fs::copy(binaries::probe(), bundle.rootfs().join("usr/bin/probe")).expect("the probe");
        fs::create_dir(bundle.dir.join("state")).expect("state directory");
        bundle
    }

    /// The same with a shell.
    pub fn with_busybox(test: &str) -> Self {
        let bundle = Self::new(test);
        let bin = bundle.rootfs().join("usr/bin");
        fs::copy("/bin/busybox", bin.join("busybox")).expect("busybox-static is installed");
        for applet in APPLETS {
            symlink("busybox", bin.join(applet)).expect("applet");
        }
        bundle
    }

    pub fn bundle(&self) -> PathBuf {
        self.dir.join("bundle")
    }

    pub fn rootfs(&self) -> PathBuf {
        self.bundle().join("rootfs")
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    /// The image's files become these ids', and the way to them is open: for a container in a user namespace.
    pub fn give_to(&self, uid: u32, gid: u32) {
        let mut pending = vec![self.rootfs()];
        while let Some(path) = pending.pop() {
            std::os::unix::fs::lchown(&path, Some(uid), Some(gid)).expect("chown");
            if path.is_dir() && !path.is_symlink() {
                pending.extend(
                    fs::read_dir(&path)
                        .expect("directory")
                        .map(|e| e.expect("entry").path()),
                );
            }
        }
        for dir in [&self.dir, &self.bundle()] {
            fs::set_permissions(dir, Permissions::from_mode(0o755)).expect("mode");
        }
    }

    /// The cgroup becomes a scope of systemd's with the same name, unless the test chose another.
    pub(crate) fn give_to_systemd(&mut self) -> bool {
        let path = self.config.0.pointer("/linux/cgroupsPath").and_then(Value::as_str);
        let plain = path == Some(&*format!("/{}", self.name));
        if plain {
            let scope = format!("system.slice:git:{}", self.name);
            self.config.set("/linux/cgroupsPath", scope.into());
        }
        plain
    }

    pub fn write_config(&self) {
        let text = serde_json::to_vec_pretty(&self.config.0).expect("JSON");
        fs::write(self.bundle().join("config.json"), text).expect("config.json");
    }

    /// A setuid-root copy of the probe in the image.
    pub fn add_setuid_probe(&self) -> &'static str {
        let path = self.rootfs().join("usr/bin/probe-suid");
        copy_mode(binaries::probe(), &path, 0o4755);
        "/usr/bin/probe-suid"
    }

    /// A directory on the host, outside the bundle, to be mounted into the container.
    pub fn host_dir(&self, name: &str) -> PathBuf {
        let path = self.dir.join(name);
        fs::create_dir_all(&path).expect("host directory");
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("mode");
        path
    }
}

fn copy_mode(from: &Path, to: &Path, mode: u32) {
    fs::copy(from, to).expect("copy");
    fs::set_permissions(to, Permissions::from_mode(mode)).expect("mode");
}

fn make_dirs(rootfs: &Path) {
    for dir in [
        "dev", "etc", "home", "opt", "proc", "root", "run", "srv", "sys", "usr/bin", "usr/sbin", "usr/lib",
    ] {
        fs::create_dir_all(rootfs.join(dir)).expect("directory of the image");
    }
    for dir in ["tmp", "var/tmp", "var/lib/app", "var/log/app"] {
        fs::create_dir_all(rootfs.join(dir)).expect("directory of the image");
    }
    for dir in ["tmp", "var/tmp"] {
        fs::set_permissions(rootfs.join(dir), Permissions::from_mode(0o1777)).expect("mode");
    }
    for (target, link) in [
        ("usr/bin", "bin"),
        ("usr/sbin", "sbin"),
        ("usr/lib", "lib"),
        ("/run", "var/run"),
    ] {
        symlink(target, rootfs.join(link)).expect("link of the image");
    }
    fs::write(rootfs.join("etc/hostname"), "image\n").expect("file of the image");
    let users = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home:/bin/sh\n";
    fs::write(rootfs.join("etc/passwd"), users).expect("file of the image");
    fs::write(rootfs.join("etc/group"), "root:x:0:\napp:x:1000:\n").expect("file of the image");
}

/// Nothing is mounted below it (the leak check said so), so this removes only what the test made.
impl Drop for Bundle {
    fn drop(&mut self) {
        if crate::leaks::mounts_below(&self.dir).is_empty()
            && let Err(error) = fs::remove_dir_all(&self.dir)
            && !std::thread::panicking()
        {
            panic!("cannot remove {}: {error}", self.dir.display());
        }
    }
}
