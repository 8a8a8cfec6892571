//! `devices`: only those that hold nothing of the host.

use crate::{check, errno, hardens, refused};
use integration::{Bundle, Case, Container, Policy};
use serde_json::json;

/// What docker and podman write for every container: nodes of any number may be made (and not opened).
fn any_mknod(bundle: &mut Bundle) {
    bundle.config.push(
        "/linux/resources/devices",
        json!({ "allow": true, "type": "c", "access": "m" }),
    );
    bundle.config.push(
        "/linux/resources/devices",
        json!({ "allow": true, "type": "b", "access": "m" }),
    );
}

/// Layers may hold device nodes, and engines unpack them. What they allow everybody has the host's console.
fn console_of_the_image(bundle: &mut Bundle) {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let path = bundle.rootfs().join("srv/node");
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mode = Mode::from_bits_truncate(0o666);
    mknod(&path, SFlag::S_IFCHR, mode, makedev(5, 1)).unwrap();
    let rule = json!({ "allow": true, "type": "c", "major": 5, "minor": 1, "access": "rwm" });
    bundle.config.push("/linux/resources/devices", rule);
}

pub(crate) const CASES: &[Case] = &[
    Case {
        control: "devices",
        name: "wildcard-mknod",
        prepare: any_mknod,
        act: "mknod-char=/dev/probe,8:0",
        expect: errno("EPERM"),
        covered_by: &["capabilities", "landlock", "seccomp"],
    },
    Case {
        control: "devices",
        name: "allow-all",
        prepare: |b| {
            b.config
                .push("/linux/resources/devices", json!({ "allow": true, "access": "rwm" }));
        },
        act: "cwd",
        expect: refused("devices."),
        covered_by: &[],
    },
    Case {
        control: "devices",
        name: "kmsg",
        prepare: |b| {
            let node = json!({ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11, "fileMode": 0o660 });
            b.config.push("/linux/devices", node);
            let rule = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "rw" });
            b.config.push("/linux/resources/devices", rule);
        },
        act: "cwd",
        expect: refused("devices."),
        covered_by: &[],
    },
    Case {
        control: "devices",
        name: "console-of-the-image",
        prepare: console_of_the_image,
        act: "open-device=/srv/node",
        expect: errno("EPERM"),
        covered_by: &[],
    },
    Case {
        control: "devices",
        name: "console-of-the-spec",
        prepare: |b| {
            let node = json!({ "path": "/dev/console", "type": "c", "major": 5, "minor": 1 });
            b.config.push("/linux/devices", node);
        },
        act: "cwd",
        expect: refused("devices."),
        covered_by: &[],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

#[test]
fn the_ordinary_devices_stay() {
    if !hardens() {
        return;
    }
    let acts = ["null", "zero", "full", "random", "urandom", "ptmx"].map(|name| format!("open-device=/dev/{name}"));
    let acts: Vec<&str> = acts.iter().map(String::as_str).collect();
    let only = Policy::permissive().enforce("devices");
    let outcome = Container::new(Bundle::new("devices-stay")).policy(&only).acts(&acts);
    outcome.all_ok(&acts);
}
