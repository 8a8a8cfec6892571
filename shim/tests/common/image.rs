//! Two images made here of busybox, in one archive: one with a shell, and one as a pod's sandbox has it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

pub const IMAGE: &str = "docker.io/library/gabion-test:1";
pub const PAUSE: &str = "docker.io/library/gabion-pause:1";
const APPLETS: &[&str] = &[
    "sh", "true", "false", "echo", "sleep", "cat", "stty", "tty", "dd", "seq", "wc", "head", "yes", "tail", "ls",
    "kill", "id", "hostname", "ipcs", "grep", "touch", "mount", "ip", "env", "chmod", "cp", "ln", "mkdir", "chroot",
];

/// Makes the archive below `dir`; gives its path.
pub fn make(dir: &Path) -> PathBuf {
    let (root, image) = (dir.join("image/root"), dir.join("image"));
    for directory in ["bin", "tmp", "etc", "proc", "sys", "dev", "run", "data", "srv"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for applet in APPLETS {
        symlink("busybox", root.join("bin").join(applet)).unwrap();
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/:/bin/sh\n").unwrap();
    tar(&image.join("layer.tar"), &root, &["."]);
    let digest = sha256(&fs::read(image.join("layer.tar")).unwrap());
    let shell = json!({ "Env": ["PATH=/bin"], "Cmd": ["sh"], "Volumes": { "/volume": {} } });
    let pause = json!({ "Env": ["PATH=/bin"], "Entrypoint": ["/bin/sleep", "1000000"], "User": "65535:65535" });
    let manifest = [(IMAGE, "shell.json", shell), (PAUSE, "pause.json", pause)].map(|(name, file, config)| {
        fs::write(image.join(file), configuration(&config, &digest).to_string()).unwrap();
        json!({ "Config": file, "RepoTags": [name], "Layers": ["layer.tar"] })
    });
    fs::write(image.join("manifest.json"), json!(manifest).to_string()).unwrap();
    let file = dir.join("image.tar");
    tar(
        &file,
        &image,
        &["shell.json", "pause.json", "layer.tar", "manifest.json"],
    );
    file
}

fn configuration(config: &Value, digest: &str) -> Value {
    let architecture = if cfg!(target_arch = "aarch64") {
        "arm64"
    } else {
        "amd64"
    };
    json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    })
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
