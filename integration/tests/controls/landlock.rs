//! `landlock`: what is not a hole is neither written nor are files executed from a hole.

use crate::{check, errno, hardens};
use integration::outcome::answers;
use integration::{Bundle, Case, Container, Policy, binaries};
use serde_json::Value;
use std::fs;
use std::process::Command;

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

/// The level that the kernel itself names, asked without gabion.
fn level_of_the_kernel() -> u32 {
    let done = Command::new(binaries::probe()).arg("landlock-abi").output().unwrap();
    let said = answers(&String::from_utf8(done.stdout).unwrap());
    let level = said["landlock-abi"].strip_prefix("ok ");
    level
        .unwrap_or_else(|| panic!("no Landlock here: {said:?}"))
        .parse()
        .unwrap()
}

#[test]
fn the_level_reached_is_recorded_and_is_the_kernels() {
    if !hardens() {
        return;
    }
    let level = level_of_the_kernel();
    eprintln!("Landlock ABI {level}");
    let container = Container::new(Bundle::new("landlock-level")).policy(&Policy::hardened());
    container.run_detached().ok();
    let json = |text: &str| serde_json::from_str::<Value>(text).unwrap();

    let state = json(&fs::read_to_string(container.bundle.state().join(container.id()).join("state.json")).unwrap());
    assert_eq!(state["hardened"]["plan"]["landlock"]["abi"], level, "{state}");

    let attest = json(&container.op(&["attest", "--format", "json", container.id()]).ok().out);
    let facts = attest["facts"].as_array().unwrap();
    let domain = facts.iter().find(|fact| fact["control"] == "landlock").unwrap();
    assert_eq!(domain["expected"], format!("domain of ABI {level}"), "{attest}");

    let audit = fs::read_to_string(container.bundle.dir.join("audit.jsonl")).unwrap();
    let created = audit
        .lines()
        .map(json)
        .find(|record| record["event"] == "create")
        .unwrap();
    let changes = created["changes"].as_array().unwrap();
    let recorded = changes.iter().find(|change| change["control"] == "landlock").unwrap();
    let text = recorded["to"].as_str().unwrap();
    assert!(text.starts_with(&format!("ABI {level}, ")), "{created}");
}

/// What a level brings is in force, not only written down.
#[test]
fn what_the_level_brings_is_in_force() {
    if !hardens() {
        return;
    }
    let act = "truncate=/etc/hostname";
    let run = |policy: &Policy| {
        Container::new(Bundle::new("landlock-truncate"))
            .policy(policy)
            .acts(&[act])
    };
    run(&Policy::permissive()).ok(act);
    let alone = run(&Policy::permissive().enforce("landlock"));
    // ABI 3 of Linux 6.2.
    if level_of_the_kernel() >= 3 {
        alone.denied(act, "EACCES");
    } else {
        alone.ok(act);
    }
}

/// The kernel is new enough here for this to be a fact and not a hope.
#[test]
fn the_kernel_has_landlock() {
    if let Ok(lsms) = fs::read_to_string("/sys/kernel/security/lsm") {
        assert!(lsms.contains("landlock"), "{lsms}");
    }
}
