//! `lsm`: AppArmor says no by itself to what the other layers say no to; SELinux in `lsm/selinux.rs`.

use crate::{check, errno, hardens};
use integration::{Bundle, Case, Container, Outcome, Policy, apparmor};
use serde_json::json;

mod selinux;

pub(crate) const CASES: &[Case] = &[
    Case {
        control: "lsm",
        name: "mount",
        prepare: |b| {
            b.config.add_capability("CAP_SYS_ADMIN");
        },
        act: "mount-tmpfs",
        expect: errno("EACCES"),
        covered_by: &["capabilities", "landlock", "seccomp"],
    },
    Case {
        control: "lsm",
        name: "proc-sys",
        prepare: |_| {},
        act: "sysctl-write=kernel.domainname,x",
        expect: errno("EACCES"),
        covered_by: &["masked_paths"],
    },
    Case {
        control: "lsm",
        name: "proc-mem",
        prepare: |_| {},
        act: "run-written=proc-self",
        expect: errno("EACCES"),
        covered_by: &[],
    },
    Case {
        control: "lsm",
        name: "writable-sys",
        prepare: |b| {
            b.config.mount_options("/sys", &["nosuid", "noexec", "nodev", "rw"]);
        },
        act: "open-write=/sys/kernel/mm/transparent_hugepage/enabled",
        expect: errno("EACCES"),
        covered_by: &["landlock", "masked_paths", "mounts"],
    },
    // By its path: what the node is, the device control judges.
    Case {
        control: "lsm",
        name: "raw-disk",
        prepare: |b| {
            let node = json!({ "path": "/dev/sda", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 });
            b.config.push("/linux/devices", node);
        },
        act: "open-device=/dev/sda",
        expect: errno("EACCES"),
        covered_by: &["devices", "landlock"],
    },
    Case {
        control: "lsm",
        name: "ptrace-of-the-host",
        prepare: |b| {
            b.config.without_namespace("pid").add_capability("CAP_SYS_PTRACE");
        },
        act: "read-file=/proc/1/environ",
        expect: errno("EACCES"),
        covered_by: &["capabilities", "landlock", "namespaces"],
    },
];

/// Left out where the kernel has none, aloud.
fn here() -> bool {
    let here = apparmor();
    if !here {
        integration::left_out("this kernel has no AppArmor");
    }
    here && hardens()
}

#[test]
fn each_alone() {
    if here() {
        check(CASES);
    }
}

#[test]
fn every_process_has_the_profile() {
    if !here() {
        return;
    }
    for asked in [json!(null), json!("unconfined")] {
        let mut bundle = Bundle::new("lsm-profile");
        bundle.config.set("/process/apparmorProfile", asked);
        let container = Container::new(bundle).policy(&Policy::hardened());
        container.run_detached().ok();
        let label = std::fs::read_to_string(format!("/proc/{}/attr/current", container.pid())).unwrap();
        assert_eq!(label.trim_end(), "gabion-default (enforce)");
        assert_eq!(container.exec_acts(&["label"])["label"], "ok gabion-default (enforce)");
    }
}

#[test]
fn a_profile_that_is_not_loaded_is_refused_with_the_remedy() {
    if !here() {
        return;
    }
    let mut bundle = Bundle::new("lsm-absent");
    bundle
        .config
        .set("/process/apparmorProfile", json!("git-no-such-profile"));
    let outcome = Container::new(bundle).policy(&Policy::hardened()).acts(&["cwd"]);
    match outcome {
        Outcome::Refused { code, line } => {
            assert_eq!(code, "lsm.profile-not-loaded");
            assert!(
                line.contains("git-no-such-profile") && line.contains("apparmor_parser -r"),
                "{line}"
            );
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_a_container_does_with_its_own_goes_on() {
    if !here() {
        return;
    }
    let only = Policy::permissive().enforce("lsm");
    let acts = [
        "ptrace-attach",
        "create-file=/tmp/x",
        "open-device=/dev/null",
        "setgid-groups",
    ];
    Container::new(Bundle::new("lsm-own"))
        .policy(&only)
        .acts(&acts)
        .all_ok(&acts);
}
