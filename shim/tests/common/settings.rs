//! What a node is told: containerd's configuration, the shim's options, gabion's policy.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{Node, SHIM};

/// How a node differs from the one that `ctr` needs.
pub struct Setup<'a> {
    pub namespace: &'static str,
    /// What is added to containerd's configuration, given the node's directory.
    pub config: &'a dyn Fn(&Path) -> String,
    /// What is added to gabion's policy, given the node's directory.
    pub policy: &'a dyn Fn(&Path) -> String,
}

/// A program of containerd: the machine's, or those of another version in `GABION_CONTAINERD`.
pub fn engine(program: &str) -> PathBuf {
    let directory = std::env::var_os("GABION_CONTAINERD").unwrap_or_else(|| "/usr/bin".into());
    PathBuf::from(directory).join(program)
}

/// Which containerd that is: major and minor.
pub fn engine_version() -> (u32, u32) {
    let version = std::process::Command::new(engine("containerd"))
        .arg("--version")
        .output()
        .unwrap();
    let text = String::from_utf8(version.stdout).unwrap();
    let word = text.split_whitespace().nth(2).expect("containerd's version");
    let mut parts = word.split('.').map(|part| part.parse().expect(word));
    (parts.next().unwrap(), parts.next().unwrap())
}

/// Whether systemd makes the cgroups.
pub fn by_systemd() -> bool {
    match std::env::var("GABION_IT_CGROUPS").as_deref() {
        Ok("systemd") => true,
        Ok(other) => panic!("GABION_IT_CGROUPS is «systemd» or not set, not «{other}»"),
        Err(_) => false,
    }
}

/// The runtime under test: `GABION_BIN`, else the one beside the shim.
pub fn runtime() -> PathBuf {
    let beside = Path::new(SHIM).with_file_name("gabion");
    let path = std::env::var_os("GABION_BIN").map_or(beside, PathBuf::from);
    assert!(
        path.is_file(),
        "no {}: run `cargo build -p gabion` first",
        path.display()
    );
    path
}

impl Node {
    /// A policy whose audit records stay in this node.
    pub fn write_policy(&self, name: &str, text: &str) {
        let audit = format!("[audit]\nfile = \"{}\"\n", self.dir.join("audit.jsonl").display());
        let path = self.dir.join(name);
        fs::write(&path, format!("{text}\n{audit}")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The shim's options of a handler: this node's runtime, state and policy, and `more`.
    pub fn write_options(&self, name: &str, more: &str) {
        self.write_options_for(name, &runtime(), more);
    }

    /// The same, with a program in the runtime's place.
    pub fn write_options_for(&self, name: &str, binary: &Path, more: &str) {
        fs::write(self.dir.join(name), options(&self.dir, binary) + more).unwrap();
    }

    /// A script in the place of the runtime: what `before` does, then the runtime itself.
    pub fn wrap_runtime(&self, name: &str, before: &str) -> PathBuf {
        let path = self.dir.join(name);
        let text = format!("#!/bin/sh\n{before}\nexec {} \"$@\"\n", runtime().display());
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

/// The shim's options for a node's runtime, state and policy.
pub fn options(dir: &Path, binary: &Path) -> String {
    let (dir, binary, systemd) = (dir.display(), binary.display(), by_systemd());
    format!(
        "binary = \"{binary}\"\nroot = \"{dir}/runtime\"\npolicy = \"{dir}/policy.toml\"\nsystemd_cgroup = {systemd}\n"
    )
}

/// containerd's configuration.
pub fn containerd(dir: &Path, setup: &Setup<'_>) -> String {
    let more = (setup.config)(dir);
    let snapshotters = ["btrfs", "zfs", "devmapper", "aufs"].map(|name| format!("io.containerd.snapshotter.v1.{name}"));
    let mut disabled = snapshotters.to_vec();
    if setup.namespace != "k8s.io" {
        disabled.push("io.containerd.grpc.v1.cri".to_owned());
    }
    let dir = dir.display();
    // NRI, which 2.x has on, takes one place in the file system for the whole machine: a second containerd that starts ends over it.
    format!(
        "version = 2\nroot = \"{dir}/root\"\nstate = \"{dir}/state\"\ndisabled_plugins = {disabled:?}\n\
         [grpc]\naddress = \"{dir}/c.sock\"\n[debug]\nlevel = \"debug\"\n\
         [plugins.\"io.containerd.nri.v1.nri\"]\ndisable = true\n{more}"
    )
}
