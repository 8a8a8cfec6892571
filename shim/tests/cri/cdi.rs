//! CDI by containerd's CRI plugin: a made-up vendor whose device, library and hook are real.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::common::settings::engine_version;
use super::kubelet::{Kubelet, assert_refused};
use super::pods::Config;

const HOOK: &str = r#"#!/bin/sh
set -eu
bundle=$(tr -d '\n' | sed -n 's/.*"bundle": *"\([^"]*\)".*/\1/p')
root=$(tr -d '\n' <"$bundle/config.json" | sed -n 's/.*"root": *{[^}]*"path": *"\([^"]*\)".*/\1/p')
case $root in /*) ;; *) root=$bundle/$root ;; esac
[ -e "$root$1" ]
mkdir -p "$root/opt/links"
ln -s "$1" "$root/opt/links/$2"
"#;

const LIBRARY: &str = "/opt/vendor/libvendor.so";

/// A vendor's files on this host; gone at the end.
struct Vendor {
    dir: PathBuf,
    file: PathBuf,
    kind: String,
}

impl Vendor {
    fn new() -> Self {
        let name = format!("gst-cdi-{}", std::process::id());
        let (dir, kind) = (std::env::temp_dir().join(&name), format!("{name}.example/card"));
        fs::create_dir_all(&dir).unwrap();
        fs::create_dir_all("/run/cdi").unwrap();
        let file = PathBuf::from(format!("/run/cdi/{name}.yaml"));
        let vendor = Self { dir, file, kind };
        fs::write(vendor.dir.join("libvendor.so"), "the library").unwrap();
        fs::write(vendor.dir.join("hook"), HOOK).unwrap();
        fs::set_permissions(vendor.dir.join("hook"), fs::Permissions::from_mode(0o755)).unwrap();
        let (dir, kind) = (vendor.dir.display(), &vendor.kind);
        // As generators write it.
        let said = format!(
            "---\ncdiVersion: 0.5.0\ncontainerEdits:\n  hooks:\n  - args:\n    - hook\n    - {LIBRARY}\n    - libvendor.so.1\n    \
             hookName: createContainer\n    path: {dir}/hook\ndevices:\n- containerEdits:\n    deviceNodes:\n    - major: 1\n      minor: 11\n      \
             path: /dev/vendor0\n      permissions: w\n      type: c\n    env:\n    - VENDOR_DEVICE=0\n    mounts:\n    - containerPath: {LIBRARY}\n      \
             hostPath: {dir}/libvendor.so\n      options:\n      - ro\n      - nosuid\n      - nodev\n      - bind\n  name: \"0\"\nkind: {kind}\n"
        );
        fs::write(&vendor.file, said).unwrap();
        vendor
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        fs::remove_file(&self.file).ok();
        fs::remove_dir_all(&self.dir).ok();
        // Where nobody else has a file of the kind.
        fs::remove_dir("/run/cdi").ok();
    }
}

#[test]
fn a_pod_that_may_have_a_kind_has_its_device() {
    if engine_version() < (2, 0) {
        eprintln!("left out: containerd gives CDI devices to pods from 2.0 on");
        return;
    }
    let vendor = Vendor::new();
    let policy = format!(
        "cri = \"containerd\"\n[[exception]]\nreason = \"the card\"\nmatch = {{ namespace = \"ml\" }}\ncdi.allow = [\"{}\"]\n",
        vendor.kind
    );
    let kubelet = Kubelet::with("cdi", "[]", &policy);
    let device = json!({ "cdi.k8s.io/test": format!("{}=0", vendor.kind) });
    let asking = Config::sleeper("main").with("/annotations", device);

    let pod = kubelet.pod("ml", "train");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let id = kubelet.container(&pod, &sandbox, &asking).unwrap();
    let said = kubelet.output(
        &id,
        &[
            "sh",
            "-c",
            "cat /opt/links/libvendor.so.1; (: >/dev/vendor0) && echo opened; (: </dev/vendor0) 2>/dev/null || echo unread; \
             touch /opt/links/x 2>/dev/null || echo closed",
        ],
    );
    assert!(said.contains("the libraryopened\nunread\nclosed\n"), "{said}");
    // Something of the host's at the place of the library is not the library.
    let forged = Config::sleeper("forged").mount(Path::new("/etc/shadow"), LIBRARY, true);
    assert_refused(kubelet.container(&pod, &sandbox, &forged), "mounts.cdi");
    kubelet.remove_pod(&sandbox);

    let other = kubelet.pod("default", "web");
    let sandbox = kubelet.run(&other, "gabion").unwrap();
    let refused = kubelet.container(&other, &sandbox, &asking).unwrap_err();
    assert!(refused.message.contains("mounts.host-path"), "{refused:?}");
    assert!(
        refused.message.contains(&format!("cdi.allow = [\"{}\"]", vendor.kind)),
        "{refused:?}"
    );
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}
