//! `rlimits`: no core dumps, bounded descriptors.

use crate::{check, errno, hardens, refused};
use integration::command::run;
use integration::{Bundle, Case, Container, Policy};
use serde_json::{Value, json};
use std::process::Command;

pub(crate) const CASES: &[Case] = &[
    Case {
        control: "rlimits",
        name: "core",
        prepare: |b| {
            b.config.set(
                "/process/rlimits",
                json!([{ "type": "RLIMIT_CORE", "soft": 8192, "hard": 8192 }]),
            );
        },
        act: "raise-core",
        expect: errno("EPERM"),
        covered_by: &[],
    },
    Case {
        control: "rlimits",
        name: "nice",
        prepare: |b| {
            b.config
                .set("/process/scheduler", json!({ "policy": "SCHED_OTHER", "nice": -20 }));
        },
        act: "cwd",
        expect: refused("rlimits.rank"),
        covered_by: &[],
    },
    Case {
        control: "rlimits",
        name: "real-time-io",
        prepare: |b| {
            let class = json!({ "class": "IOPRIO_CLASS_RT", "priority": 0 });
            b.config.set("/process/ioPriority", class);
        },
        act: "cwd",
        expect: refused("rlimits.rank"),
        covered_by: &[],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

#[test]
fn core_is_zero_for_exec_too() {
    if !hardens() {
        return;
    }
    let container = Container::new(Bundle::new("rlimits-exec")).policy(&Policy::hardened());
    container.run_detached().ok();
    let limits = &container.exec_acts(&["limits"])["limits"];
    assert!(limits.contains("core=0:0"), "{limits}");
    assert!(!limits.contains("unlimited nproc"), "{limits}");
}

/// A health check of podman's: process.json names no limit, and the service that calls may have fewer files open than the container.
#[test]
fn an_exec_that_names_none_has_the_lower_of_its_caller_s_and_the_container_s() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::with_busybox("rlimits-caller");
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 800, "hard": 900 }]);
    bundle.config.set("/process/rlimits", limits);
    bundle.config.args(&["/bin/sleep", "600"]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run_detached().ok();
    let process = container.bundle.dir.join("process.json");
    let exec = |named: &Value, hard: u32| {
        let args = ["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"];
        let user = json!({ "uid": 0, "gid": 0 });
        let text = json!({ "user": user, "args": args, "env": ["PATH=/bin"], "cwd": "/", "rlimits": named });
        std::fs::write(&process, text.to_string()).unwrap();
        let inner = container.command(&["exec", "--process", process.to_str().unwrap(), container.id()]);
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={hard}:{hard}"));
        command.arg(inner.get_program()).args(inner.get_args());
        run(command, &container.bundle.dir).ok().out
    };
    assert_eq!(exec(&Value::Null, 700), "700\n700\n");
    assert_eq!(exec(&Value::Null, 850), "800\n850\n");
    assert_eq!(exec(&Value::Null, 1000), "800\n900\n");
    let named = json!([{ "type": "RLIMIT_NOFILE", "soft": 600, "hard": 650 }]);
    assert_eq!(exec(&named, 1000), "600\n650\n");
    // By words the process is the container's, with its limits.
    let by_words = container.exec(&["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"]).ok();
    assert_eq!(by_words.out, "800\n900\n");
}
