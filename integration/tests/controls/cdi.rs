//! CDI: a made-up vendor whose device, library and hook are real. The file lies where engines look for such, under a name of this test's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::hardens;
use integration::{Bundle, Container, Podman, Policy};
use serde_json::{Value, json};

/// Links a name to the library in the container's root, as vendors' hooks do. The state on stdin tells where that root is.
const HOOK: &str = r#"#!/bin/sh
set -eu
bundle=$(tr -d '\n' | sed -n 's/.*"bundle": *"\([^"]*\)".*/\1/p')
root=$(tr -d '\n' <"$bundle/config.json" | sed -n 's/.*"root": *{[^}]*"path": *"\([^"]*\)".*/\1/p')
case $root in /*) ;; *) root=$bundle/$root ;; esac
[ -e "$root$1" ]
mkdir -p "$root/opt/links"
ln -s "$1" "$root/opt/links/$2"
"#;

/// A vendor's files on this host; gone at the end.
struct Vendor {
    dir: PathBuf,
    file: PathBuf,
    kind: String,
}

impl Vendor {
    fn new(test: &str, bundle: &Bundle) -> Self {
        let name = format!("gabion-{test}-{}", std::process::id());
        let (dir, kind) = (bundle.dir.join("vendor"), format!("{name}.example/card"));
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("libvendor.so"), "the library").unwrap();
        fs::write(dir.join("hook"), HOOK).unwrap();
        fs::set_permissions(dir.join("hook"), fs::Permissions::from_mode(0o755)).unwrap();
        fs::create_dir_all("/run/cdi").unwrap();
        let file = PathBuf::from(format!("/run/cdi/{name}.json"));
        let vendor = Self { dir, file, kind };
        let said = json!({
            "cdiVersion": "0.5.0", "kind": vendor.kind,
            "containerEdits": {"hooks": [{"hookName": "createContainer", "path": vendor.path("hook"), "args": Vendor::args()}]},
            "devices": [{"name": "0", "containerEdits": {
                "env": ["VENDOR_DEVICE=0"],
                "deviceNodes": [{"path": "/dev/vendor0", "type": "c", "major": 1, "minor": 11, "permissions": "w"}],
                "mounts": [vendor.mount()]
            }}]
        });
        fs::write(&vendor.file, said.to_string()).unwrap();
        vendor
    }

    fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    fn args() -> Value {
        json!(["hook", "/opt/vendor/libvendor.so", "libvendor.so.1"])
    }

    fn mount(&self) -> Value {
        json!({"hostPath": self.path("libvendor.so"), "containerPath": "/opt/vendor/libvendor.so",
            "options": ["ro", "nosuid", "nodev", "bind"]})
    }

    /// Puts into a spec what an engine does.
    fn edit(&self, bundle: &mut Bundle) {
        let config = &mut bundle.config;
        config.push(
            "/linux/devices",
            json!({"path": "/dev/vendor0", "type": "c", "major": 1, "minor": 11}),
        );
        let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"});
        config.push("/linux/resources/devices", rule);
        let options = ["ro", "nosuid", "nodev", "bind"];
        config.bind(&self.path("libvendor.so"), "/opt/vendor/libvendor.so", &options);
        config.set(
            "/hooks",
            json!({"createContainer": [{"path": self.path("hook"), "args": Self::args()}]}),
        );
    }

    fn policy(&self) -> String {
        let file = self.dir.join("policy.toml");
        fs::write(&file, format!("[cdi]\nallow = [\"{}\"]\n", self.kind)).unwrap();
        file.display().to_string()
    }
}

impl Drop for Vendor {
    fn drop(&mut self) {
        fs::remove_file(&self.file).ok();
        // Where nobody else has a file of the kind.
        fs::remove_dir("/run/cdi").ok();
    }
}

/// Asserts what the workload sees: the link and the library behind it, a root that is closed again, a device that may be written to and not read.
const LOOKS: &str = "cat /opt/links/libvendor.so.1; echo; touch /opt/links/x 2>/dev/null || echo closed; \
                     (: >/dev/vendor0) && echo opened; (: </dev/vendor0) 2>/dev/null || echo unread";
const SEES: &str = "the library\nclosed\nopened\nunread\n";

#[test]
fn podman_gives_a_vendor_s_device() {
    let Some(podman) = Podman::new("cdi-podman", "hardened") else {
        return;
    };
    let vendor = Vendor::new("podman", &podman.bundle);
    let device = format!("{}=0", vendor.kind);
    let run = |podman: &Podman| {
        podman.call(&[
            "run",
            "--rm",
            "--network",
            "none",
            "--device",
            &device,
            "img",
            "sh",
            "-c",
            LOOKS,
        ])
    };
    let refused = run(&podman);
    for code in ["devices.not-allowed", "hooks.not-allowed"] {
        assert!(refused.err.contains(code), "{refused}");
    }
    assert!(
        refused.err.contains(&format!("[cdi] allow = [\"{}\"]", vendor.kind)),
        "{refused}"
    );
    let podman = podman.runtime_flag(&format!("policy={}", vendor.policy()));
    assert_eq!(run(&podman).ok().out, SEES);
}

/// How a spec is made other than the file says.
type Forge = fn(&mut Bundle);

const FORGED: [(&str, Forge); 8] = [
    ("devices.cdi", |b| {
        b.config.set("/linux/devices/0/minor", json!(1));
    }),
    ("devices.cdi", |b| {
        b.config.set("/linux/devices/0/type", json!("b"));
    }),
    ("devices.rule", |b| {
        let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw"});
        b.config.push("/linux/resources/devices", rule);
    }),
    ("mounts.cdi", |b| {
        let last = b.config.0["mounts"].as_array().unwrap().len() - 1;
        b.config.set(&format!("/mounts/{last}/source"), json!("/etc/shadow"));
    }),
    ("hooks.cdi", |b| {
        b.config
            .set("/hooks/createContainer/0/args/1", json!("/../../../etc/passwd"));
    }),
    ("hooks.cdi", |b| {
        b.config
            .set("/hooks/createContainer/0/env", json!(["LD_PRELOAD=/tmp/x.so"]));
    }),
    ("hooks.cdi", |b| {
        let hook = b.config.0["hooks"]["createContainer"].clone();
        b.config.set("/hooks", json!({ "createRuntime": hook }));
    }),
    // Its program could be exchanged by anybody.
    ("hooks.cdi", |b| {
        let dir = b.dir.join("vendor");
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
    }),
];

#[test]
fn what_differs_from_the_file_is_refused_by_name() {
    if !hardens() {
        return;
    }
    let attempt = |forge: Forge, allowed: bool| {
        let mut bundle = Bundle::with_busybox("cdi-forged");
        let vendor = Vendor::new("forged", &bundle);
        vendor.edit(&mut bundle);
        bundle.config.args(&["/bin/sh", "-c", LOOKS]);
        forge(&mut bundle);
        let line = if allowed {
            format!("cdi.allow = [\"{}\"]", vendor.kind)
        } else {
            String::new()
        };
        let container = Container::new(bundle).policy(&Policy::hardened().line(&line));
        let done = container.run();
        drop(vendor);
        done
    };
    assert_eq!(attempt(|_| {}, true).ok().out, SEES);
    attempt(|_| {}, false)
        .fails_with(1)
        .says(&["devices.not-allowed", "hooks.not-allowed"]);
    for (code, forge) in FORGED {
        attempt(forge, true).fails_with(1).says(&[code]);
    }
}
