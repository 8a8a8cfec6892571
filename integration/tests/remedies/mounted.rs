//! Mounts.

use crate::attempt::{Attempt, Row};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;

/// The last mount, which `ask` added.
fn last(attempt: &mut Attempt, key: &str, value: serde_json::Value) {
    let count = attempt.bundle.config.0["mounts"].as_array().unwrap().len();
    attempt
        .bundle
        .config
        .set(&format!("/mounts/{}/{key}", count - 1), value);
}

fn drop_last(attempt: &mut Attempt) {
    attempt.bundle.config.0["mounts"].as_array_mut().unwrap().pop();
}

fn bind(attempt: &mut Attempt, source: &str, at: &str, options: &[&str]) {
    attempt.bundle.config.bind(source, at, options);
}

/// A volume with the program to be run on it.
fn program_on_a_volume(attempt: &mut Attempt, options: &[&str]) {
    let dir = attempt.host_dir("tools");
    let probe = attempt.bundle.rootfs().join("usr/bin/probe");
    fs::copy(probe, format!("{dir}/probe")).unwrap();
    bind(attempt, &dir, "/tools", options);
    attempt.bundle.config.args(&["/tools/probe", "cwd"]);
}

pub(crate) const ROWS: &[Row] = &[
    Row {
        code: "masked_paths.root",
        ask: |a| {
            a.bundle.config.set("/linux/readonlyPaths", json!(["/"]));
        },
        remedy: |a| {
            a.bundle.config.set("/linux/readonlyPaths", json!(["/srv"]));
        },
    },
    Row {
        code: "mounts.destination",
        ask: |a| {
            let dir = a.host_dir("data");
            bind(a, &dir, "data", &["ro"]);
        },
        remedy: |a| last(a, "destination", json!("/data")),
    },
    Row {
        code: "mounts.device",
        ask: |a| bind(a, "/dev/kmsg", "/dev/kmsg", &["ro"]),
        remedy: |a| a.policy.push_str("[devices]\nallow = [\"/dev/kmsg\"]\n"),
    },
    Row {
        code: "mounts.entrypoint-noexec",
        ask: |a| program_on_a_volume(a, &["rw"]),
        remedy: |a| last(a, "options", json!(["rbind", "ro"])),
    },
    Row {
        code: "mounts.exec",
        ask: |a| {
            a.level = "restricted";
            a.bundle.config.user(1000);
            program_on_a_volume(a, &["rw", "exec"]);
            a.bundle.config.acts(&["cwd"]);
        },
        remedy: |a| last(a, "options", json!(["rbind", "rw", "noexec"])),
    },
    Row {
        code: "mounts.filesystem",
        ask: |a| {
            a.bundle.config.mount("/data", "ext4", "/dev/vda", &["ro"]);
        },
        remedy: |a| {
            drop_last(a);
            let dir = a.host_dir("data");
            bind(a, &dir, "/data", &["rw"]);
        },
    },
    Row {
        code: "mounts.host-path",
        ask: |a| bind(a, "/etc/apt", "/host", &["ro"]),
        remedy: |a| a.policy.push_str("[mounts]\nallow = [\"/etc/apt\"]\n"),
    },
    Row {
        code: "mounts.idmap",
        ask: |a| {
            a.level = "restricted";
            a.bundle.config.user(1000);
            let dir = a.host_dir("data");
            bind(a, &dir, "/data", &["rw"]);
            let map = json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]);
            last(a, "uidMappings", map.clone());
            last(a, "gidMappings", map);
        },
        remedy: |a| {
            drop_last(a);
            let dir = a.host_dir("data");
            bind(a, &dir, "/data", &["rw"]);
        },
    },
    Row {
        code: "mounts.image",
        ask: |a| {
            let part = a.bundle.rootfs().join("opt").display().to_string();
            bind(a, &part, "/data", &["rw"]);
        },
        remedy: |a| last(a, "options", json!(["rbind", "ro"])),
    },
    Row {
        code: "mounts.kernel-filesystem",
        ask: |a| {
            a.bundle.config.mount("/srv", "proc", "proc", &[]);
        },
        remedy: drop_last,
    },
    Row {
        code: "mounts.kernel-source",
        ask: |a| bind(a, "/proc/sys", "/srv", &["ro"]),
        remedy: drop_last,
    },
    Row {
        code: "mounts.over-kernel",
        ask: |a| {
            symlink("/proc/sys", a.bundle.rootfs().join("data")).unwrap();
            let dir = a.host_dir("data");
            bind(a, &dir, "/data", &["ro"]);
        },
        remedy: |a| last(a, "destination", json!("/srv")),
    },
    Row {
        code: "mounts.led-elsewhere",
        ask: |a| {
            // What the destination is, the first volume says.
            fs::create_dir_all(a.bundle.rootfs().join("srv/v")).unwrap();
            let (volume, data) = (a.host_dir("volume"), a.host_dir("data"));
            symlink("/usr/bin", format!("{volume}/link")).unwrap();
            bind(a, &volume, "/srv/v", &["ro"]);
            bind(a, &data, "/srv/v/link", &["ro"]);
        },
        remedy: |a| last(a, "destination", json!("/opt")),
    },
    Row {
        code: "mounts.propagation",
        ask: |a| {
            let dir = a.host_dir("data");
            bind(a, &dir, "/data", &["ro", "rshared"]);
        },
        remedy: |a| last(a, "options", json!(["rbind", "ro"])),
    },
    Row {
        code: "mounts.runtime-socket",
        ask: |a| {
            let socket = format!("{}/docker.sock", a.host_dir("run"));
            drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
            bind(a, &socket, "/srv/docker.sock", &["ro"]);
        },
        remedy: |a| a.policy.push_str("[mounts]\nallow = [\"DIR/run/docker.sock\"]\n"),
    },
    Row {
        code: "mounts.source",
        ask: |a| {
            let dir = a.bundle.dir.join("later").display().to_string();
            bind(a, &dir, "/data", &["ro"]);
        },
        remedy: |a| drop(a.host_dir("later")),
    },
    Row {
        code: "mounts.system-writable",
        ask: |a| bind(a, "/usr/share/doc", "/data", &["rw"]),
        remedy: |a| last(a, "options", json!(["rbind", "ro"])),
    },
];
