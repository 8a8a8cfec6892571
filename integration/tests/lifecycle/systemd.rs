//! The systemd driver: the container's cgroup is a scope that systemd made and gave away. On a node with systemd and cgroup v2.

use integration::{Bundle, Container, Outcome, Policy, disk, unified};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Left out where it cannot be, aloud.
fn here() -> bool {
    let here = unified() && Path::new("/run/systemd/system").is_dir() && crate::gabion();
    if !here {
        integration::left_out("needs systemd and cgroup v2");
    }
    here
}

fn container(test: &str, resources: serde_json::Value) -> Container {
    in_slice("system.slice", test, resources)
}

fn in_slice(slice: &str, test: &str, resources: serde_json::Value) -> Container {
    let mut bundle = Bundle::new(test);
    let path = format!("{slice}:git:{}", bundle.name);
    bundle.config.set("/linux/cgroupsPath", json!(path));
    bundle.config.set("/linux/resources", resources);
    Container::new(bundle)
        .policy(&Policy::hardened())
        .global(&["--systemd-cgroup"])
}

fn scope(container: &Container) -> String {
    format!("git-{}.scope", container.id())
}

fn directory(container: &Container) -> PathBuf {
    Path::new("/sys/fs/cgroup/system.slice").join(scope(container))
}

fn file(container: &Container, name: &str) -> String {
    let path = directory(container).join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.trim_end().to_owned()
}

fn property(container: &Container, name: &str) -> String {
    let asked = Command::new("systemctl")
        .args(["show", "--value", "--property", name, &scope(container)])
        .output()
        .unwrap();
    String::from_utf8_lossy(&asked.stdout).trim_end().to_owned()
}

#[test]
fn limits_are_files_and_properties() {
    if !here() {
        return;
    }
    let (major, minor) = disk().expect("a disk");
    let resources = json!({
        "blockIO": { "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": 1 << 20 }] },
        "memory": { "limit": 64 << 20, "reservation": 32 << 20 },
        "pids": { "limit": 55 },
        "cpu": { "shares": 1024, "quota": 20_000, "period": 50_000, "cpus": "0" },
        "unified": { "memory.high": "50331648" }
    });
    let container = container("systemd-limits", resources);
    container.run_detached().ok();
    for (name, value) in [
        ("memory.max", "67108864"),
        ("memory.swap.max", "0"),
        ("memory.low", "33554432"),
        ("memory.high", "50331648"),
        ("pids.max", "55"),
        ("cpu.weight", "100"),
        ("cpu.max", "20000 50000"),
        ("cpuset.cpus", "0"),
        (
            "io.max",
            &format!("{major}:{minor} rbps=1048576 wbps=max riops=max wiops=max"),
        ),
    ] {
        assert_eq!(file(&container, name), value, "{name}");
    }
    for (name, value) in [
        ("Description", format!("gabion container {}", container.id()).as_str()),
        ("CollectMode", "inactive-or-failed"),
        ("Delegate", "yes"),
        ("Slice", "system.slice"),
        ("MemoryMax", "67108864"),
        ("MemorySwapMax", "0"),
        ("TasksMax", "55"),
        ("CPUWeight", "100"),
        ("CPUQuotaPerSecUSec", "400ms"),
    ] {
        assert_eq!(property(&container, name), value, "{name}");
    }
    // What is not said stays, in both places.
    container.op(&["update", "--pids-limit", "44", container.id()]).ok();
    container.op(&["update", "--cpu-share", "512", container.id()]).ok();
    assert_eq!(file(&container, "pids.max"), "44");
    assert_eq!(file(&container, "cpu.max"), "20000 50000");
    assert_eq!(property(&container, "TasksMax"), "44");
    assert_eq!(property(&container, "CPUQuotaPerSecUSec"), "400ms");
}

/// systemd writes all that it knows of a scope when one thing changes, or when it reads its files again. What only stood in a file of
/// the cgroup would be gone then.
#[test]
fn no_limit_is_lost_when_systemd_writes_its_own() {
    if !here() {
        return;
    }
    let (major, minor) = disk().expect("a disk");
    let resources = json!({
        "blockIO": { "throttleReadBpsDevice": [{ "major": major, "minor": minor, "rate": 1 << 20 }] },
        "memory": { "limit": 64 << 20 },
        "pids": { "limit": 55 },
        "cpu": { "cpus": "0", "mems": "0", "quota": 20_000, "period": 50_000, "burst": 10_000 },
        "unified": { "memory.high": "50331648", "memory.oom.group": "1", "cpu.weight": "77", "pids.max": "33" }
    });
    let container = container("systemd-kept", resources);
    container.run_detached().ok();
    let all = || {
        [
            "memory.max",
            "memory.swap.max",
            "memory.high",
            "memory.oom.group",
            "pids.max",
            "cpu.weight",
            "cpu.max",
            "cpu.max.burst",
            "cpuset.cpus",
            "cpuset.mems",
            "io.max",
        ]
        .map(|name| format!("{name} {}", file(&container, name)))
    };
    let before = all();
    assert!(before.contains(&"pids.max 33".to_owned()), "the smaller: {before:?}");
    assert!(before.contains(&"memory.oom.group 1".to_owned()), "{before:?}");
    let systemctl = |words: &[&str]| assert!(Command::new("systemctl").args(words).status().unwrap().success());
    systemctl(&["daemon-reload"]);
    assert_eq!(all(), before, "after systemctl daemon-reload");
    let unit = scope(&container);
    for change in ["IOWeight=50", "MemoryLow=1M", "TasksMax=33"] {
        systemctl(&["set-property", "--runtime", &unit, change]);
        assert_eq!(all(), before, "after {change}");
    }
    container.op(&["update", "--memory", "64m", container.id()]).ok();
    container.op(&["update", "--cpuset-cpus", "0", container.id()]).ok();
    assert_eq!(all(), before, "after update");
}

#[test]
fn its_life_is_the_same_and_no_unit_is_left() {
    if !here() {
        return;
    }
    let container = container("systemd-life", json!({}));
    container.create().ok();
    container.start().ok();
    // Later calls come without the flag: the state knows.
    let globals = ["--root".to_owned(), container.bundle.state().display().to_string()];
    let plain = |words: &[&str]| {
        let mut command = Command::new(&container.runtime.program);
        command.args(&globals).args(words);
        integration::command::run(command, &container.bundle.dir)
    };
    plain(&["exec", container.id(), "/usr/bin/probe", "cwd"]).ok();
    plain(&["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    plain(&["resume", container.id()]).ok();
    let below = ["exec", "--cgroup", "below", container.id(), "/usr/bin/probe", "cwd"];
    plain(&below).fails_with(255);
    std::fs::create_dir(directory(&container).join("below")).unwrap();
    plain(&below).ok();
    plain(&["delete", "--force", container.id()]).ok();
    assert!(!directory(&container).exists());
    assert_eq!(property(&container, "LoadState"), "not-found");
    container.nothing_left();
}

/// `a-b.slice` lies below `a.slice`, and systemd makes both.
#[test]
fn a_slice_of_a_slice_is_where_its_name_says() {
    if !here() {
        return;
    }
    let container = in_slice(
        "gitouter-gitinner.slice",
        "systemd-slice",
        json!({ "pids": { "limit": 55 } }),
    );
    container.run_detached().ok();
    let unit = scope(&container);
    let place = format!("/gitouter.slice/gitouter-gitinner.slice/{unit}");
    assert_eq!(property(&container, "ControlGroup"), place);
    assert_eq!(property(&container, "Slice"), "gitouter-gitinner.slice");
    let listing = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert_eq!(listing.trim_end(), format!("0::{place}"));
    assert_eq!(container.cgroup("pids", "pids.max").as_deref(), Some("55"));
    container.op(&["delete", "--force", container.id()]).ok();
    for slice in ["gitouter-gitinner.slice", "gitouter.slice"] {
        Command::new("systemctl").args(["stop", slice]).status().unwrap();
    }
    container.nothing_left();
}

#[test]
fn an_id_can_be_used_again_after_the_kernel_killed_for_memory() {
    if !here() {
        return;
    }
    let mut container = container("systemd-again", json!({ "memory": { "limit": 64 << 20 } }));
    for _ in 0..2 {
        container
            .acts(&["alloc-memory=100"])
            .denied("alloc-memory=100", "ENOMEM");
    }
}

#[test]
fn a_path_that_is_no_unit_is_refused() {
    if !here() {
        return;
    }
    for path in ["/git/NAME", "system.slice:git:NAME.slice", "system:git:NAME"] {
        let mut bundle = Bundle::new("systemd-path");
        let path = path.replace("NAME", &bundle.name);
        bundle.config.set("/linux/cgroupsPath", json!(path));
        let mut container = Container::new(bundle)
            .policy(&Policy::hardened())
            .global(&["--systemd-cgroup"]);
        match container.acts(&["cwd"]) {
            Outcome::Refused { code, .. } => assert_eq!(code, "cgroup.path", "{path}"),
            other => panic!("{path}: not refused: {other:?}"),
        }
    }
}
