//! One control on `observe` never takes another's guarantee with it in silence: each is observed in turn, and what the others forbid is tried by act.

use crate::hardens;
use integration::{Bundle, Container, Outcome, Policy};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use std::collections::BTreeMap;

/// Acts that succeed where nothing forbids them (the tables beside this file try that), by the control that forbids them.
const ACTS: [(&str, &str); 26] = [
    ("rootfs", "create-file=/usr/dropped"),
    ("rootfs", "write-file=/etc/hostname"),
    ("mounts", "exec-file=/data/dropped"),
    ("mounts", "open-device=/data/zero"),
    ("mounts", "open-terminals=300"),
    ("holes", "exec-file=/tmp/dropped"),
    ("masked_paths", "read-file=/proc/interrupts"),
    ("masked_paths", "read-file=/proc/keys"),
    ("masked_paths", "list-dir=/sys/firmware"),
    ("masked_paths", "sysctl-write=kernel.domainname,x"),
    ("masked_paths", "open-write=/proc/irq/default_smp_affinity"),
    ("namespaces", "see-cgroup=git-pairs"),
    ("devices", "open-device=/srv/node"),
    ("devices", "mknod-char=/dev/probe,8:0"),
    ("sysctl", "exec-memfd"),
    ("rlimits", "raise-core"),
    ("capabilities", "chroot=/"),
    ("capabilities", "raw-socket"),
    ("capabilities", "packet-socket"),
    ("landlock", "exec-file=/dev/shm/dropped"),
    ("seccomp", "unshare-user"),
    ("seccomp", "ptrace-attach"),
    ("seccomp", "keyctl"),
    ("seccomp", "userfaultfd"),
    ("seccomp", "io-uring"),
    ("seccomp", "clone3"),
];

/// What goes with a control that is observed, and why: the rest is as it was. Nothing does: what `rootfs` leaves writable `landlock` keeps shut, and
/// the usual places stay writable.
const GOES_WITH: [(&str, &str); 0] = [];

/// What works, or is told of a process, whatever is observed: act, and what it tells; where the control of the first column is not the one observed.
const STAYS: [(&str, &str, &str); 6] = [
    ("holes", "create-file=/tmp/x", "ok"),
    ("holes", "create-file=/run/x", "ok"),
    ("mounts", "create-file=/data/x", "ok"),
    ("no_new_privs", "nnp", "NoNewPrivs=1"),
    ("seccomp", "seccomp", "Seccomp=2"),
    ("landlock", "mknod-char=/dev/shm/null,1:3", "E"),
];

/// The controls in the order of the table of gabion-core.
const CONTROLS: [&str; 19] = [
    "namespaces",
    "user",
    "rootfs",
    "holes",
    "mounts",
    "masked_paths",
    "devices",
    "cgroup",
    "sysctl",
    "rlimits",
    "hooks",
    "fds",
    "capabilities",
    "no_new_privs",
    "memory",
    "lsm",
    "landlock",
    "seccomp",
    "exec",
];

fn container(control: &str) -> Bundle {
    let mut bundle = Bundle::new(&format!("pairs-{}", control.replace('_', "-")));
    let data = bundle.host_dir("data");
    let mode = Mode::from_bits_truncate(0o666);
    mknod(&data.join("zero"), SFlag::S_IFCHR, mode, makedev(1, 5)).unwrap();
    let rootfs = bundle.rootfs();
    for dir in ["data", "srv"] {
        std::fs::create_dir_all(rootfs.join(dir)).unwrap();
    }
    mknod(&rootfs.join("srv/node"), SFlag::S_IFCHR, mode, makedev(5, 1)).unwrap();
    bundle.config.bind(data.to_str().unwrap(), "/data", &["rw"]);
    let rule = json!({ "allow": true, "type": "c", "major": 5, "minor": 1, "access": "rwm" });
    bundle.config.push("/linux/resources/devices", rule);
    bundle
        .config
        .mount_options("/dev/shm", &["nosuid", "nodev", "mode=1777"]);
    let core = json!([{ "type": "RLIMIT_CORE", "soft": 8192, "hard": 8192 }]);
    bundle.config.set("/process/rlimits", core);
    bundle
}

#[test]
fn a_control_that_is_observed_takes_no_other_with_it() {
    if !hardens() {
        return;
    }
    // Each of them proves something: with every control off it succeeds.
    let all: Vec<&str> = ACTS.iter().map(|(_, act)| *act).collect();
    let open = Container::new(container("none"))
        .policy(&Policy::permissive())
        .acts(&all);
    let mut wrong = BTreeMap::new();
    for act in all.iter().filter(|act| !open.answer(act).starts_with("ok")) {
        wrong.insert(("none", *act), open.answer(act).to_owned());
    }
    for observed in CONTROLS {
        let others: Vec<&str> = ACTS
            .iter()
            .filter(|(of, _)| *of != observed)
            .map(|(_, act)| *act)
            .collect();
        let stays: Vec<_> = STAYS.iter().filter(|(of, ..)| *of != observed).collect();
        let policy = Policy::hardened().observe(observed);
        let acts: Vec<&str> = others
            .iter()
            .copied()
            .chain(stays.iter().map(|(_, act, _)| *act))
            .collect();
        let Outcome::Answers(answers) = Container::new(container(observed)).policy(&policy).acts(&acts) else {
            wrong.insert((observed, "it runs"), "it does not".to_owned());
            continue;
        };
        for act in others {
            let answer = answers.get(act).map_or("no answer", String::as_str);
            let goes = GOES_WITH.iter().any(|(with, what)| *with == observed && *what == act);
            if answer.starts_with("ok") != goes || answer == "no answer" {
                wrong.insert((observed, act), answer.to_owned());
            }
        }
        for (_, act, told) in stays {
            let answer = answers.get(*act).map_or("no answer", String::as_str);
            if !answer.contains(told) {
                wrong.insert((observed, *act), answer.to_owned());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
