//! `landlock`: what is not a hole is neither written nor are files executed from a hole.

use crate::{check, errno, hardens};
use integration::{Bundle, Case, Container, Policy};
use std::fs;

pub(crate) const CASES: &[Case] = &[
    Case {
        control: "landlock",
        name: "create-in-usr",
        prepare: |_| {},
        act: "create-file=/usr/dropped",
        expect: errno("EACCES"),
        covered_by: &["rootfs"],
    },
    Case {
        control: "landlock",
        name: "exec-in-shm",
        prepare: |b| {
            b.config
                .mount_options("/dev/shm", &["nosuid", "nodev", "mode=1777", "size=65536k"]);
        },
        act: "exec-file=/dev/shm/dropped",
        expect: errno("EACCES at exec"),
        covered_by: &["mounts"],
    },
    Case {
        control: "landlock",
        name: "mknod",
        prepare: |b| {
            let rule = serde_json::json!({ "allow": true, "type": "c", "access": "m" });
            b.config.push("/linux/resources/devices", rule);
        },
        act: "mknod-char=/dev/shm/null,1:3",
        expect: errno("EACCES"),
        covered_by: &["capabilities", "devices", "seccomp"],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

/// Files move between holes, and a hole's file can be truncated: REFER and TRUNCATE.
#[test]
fn holes_work_under_it() {
    if !hardens() {
        return;
    }
    let acts = [
        "create-file=/tmp/a",
        "rename=/tmp/a,/tmp/b",
        "create-file=/tmp/b",
        "symlink=/usr/bin,/tmp/l",
    ];
    let outcome = Container::new(Bundle::new("landlock-holes"))
        .policy(&Policy::hardened())
        .acts(&acts);
    outcome.all_ok(&acts);
}

/// nginx's logs are links to /dev/stdout: what stands behind stdio must open again, also where it is a FIFO.
#[test]
fn stdio_can_be_opened_again() {
    if !hardens() {
        return;
    }
    let outcome = Container::new(Bundle::new("landlock-stdio"))
        .policy(&Policy::hardened())
        .acts(&["write-file=/dev/stdout"]);
    let answer = format!("{outcome:?}");
    assert!(answer.contains("write-file=/dev/stdout"), "{answer}");
    assert!(!answer.contains("EACCES") && !answer.contains("EPERM"), "{answer}");
}

/// The kernel is new enough here for this to be a fact and not a hope.
#[test]
fn the_kernel_has_landlock() {
    if let Ok(lsms) = fs::read_to_string("/sys/kernel/security/lsm") {
        assert!(lsms.contains("landlock"), "{lsms}");
    }
}
