//! Cgroups as callers use them: frozen ones, those below a container's, limits that change, and who is reached by a signal. As runc has it, and
//! at hardened too.

use crate::gabion;
use integration::command::{limit, until};
use integration::{Bundle, Container, Policy, leaks, unified};
use serde_json::json;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// At both ends of the scale.
fn levels() -> [Policy; 2] {
    [Policy::hardened(), Policy::permissive()]
}

fn shell(test: &str, policy: &Policy, change: impl FnOnce(&mut Bundle)) -> Container {
    let mut bundle = Bundle::with_busybox(test);
    change(&mut bundle);
    Container::new(bundle).policy(policy)
}

/// The container's directory of a controller.
fn directory(container: &Container, controller: &str) -> PathBuf {
    let all = leaks::cgroups(&container.bundle.name);
    let is_of = |path: &&PathBuf| {
        let top = path
            .strip_prefix("/sys/fs/cgroup")
            .unwrap()
            .components()
            .next()
            .unwrap();
        unified()
            || top
                .as_os_str()
                .to_string_lossy()
                .split(',')
                .any(|name| name == controller)
    };
    all.iter()
        .find(is_of)
        .unwrap_or_else(|| panic!("none of {controller} in {all:?}"))
        .clone()
}

/// A cgroup of the test's own that is frozen until it is dropped.
struct Frozen(PathBuf);

impl Frozen {
    fn new(name: &str) -> Self {
        let top = if unified() {
            "/sys/fs/cgroup"
        } else {
            "/sys/fs/cgroup/freezer"
        };
        let frozen = Self(Path::new(top).join(name));
        fs::create_dir(&frozen.0).unwrap();
        frozen.write("FROZEN", "1");
        frozen
    }

    fn write(&self, v1: &str, v2: &str) {
        let (file, text) = if unified() {
            ("cgroup.freeze", v2)
        } else {
            ("freezer.state", v1)
        };
        fs::write(self.0.join(file), text).unwrap();
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.write("THAWED", "0");
        let name = self.0.file_name().unwrap().to_string_lossy().into_owned();
        let gone = until(limit(5), || {
            // In every hierarchy: what is above a container's cgroup stays, with every runtime.
            leaks::cgroups(&name).iter().all(|dir| fs::remove_dir(dir).is_ok())
        });
        assert!(gone, "{name} stays");
    }
}

/// A process that is put into a frozen cgroup never goes on: create is to say so at once, and to leave nothing.
#[test]
fn a_frozen_cgroup_is_an_error_at_once() {
    if !gabion() {
        return;
    }
    for policy in levels() {
        for below in ["", "/a/b"] {
            let mut container = shell("frozen", &policy, |_| {});
            let frozen = Frozen::new(&format!("{}-held", container.bundle.name));
            let path = format!("/{}-held{below}", container.bundle.name);
            container.bundle.config.set("/linux/cgroupsPath", json!(path));
            container.bundle.write_config();
            let begun = Instant::now();
            let done = container
                .create()
                .fails_with(1)
                .says(&["container's cgroup unexpectedly frozen"]);
            assert!(begun.elapsed() < limit(5), "{done}");
            container.op(&["state", container.id()]).fails_with(1);
            // Thawed it is like any other.
            frozen.write("THAWED", "0");
            if below.is_empty() {
                container.create().ok();
                container.op(&["delete", "--force", container.id()]).ok();
                fs::create_dir_all(&frozen.0).unwrap();
            }
        }
    }
}

/// Somebody freezes what is above a container that runs: exec says so, and does not wait for ever in there.
#[test]
fn exec_below_a_frozen_cgroup_is_an_error() {
    if !gabion() {
        return;
    }
    let mut container = shell("frozen-above", &Policy::hardened(), |_| {});
    let held = Frozen::new(&format!("{}-held", container.bundle.name));
    held.write("THAWED", "0");
    let path = format!("/{}-held/in", container.bundle.name);
    container.bundle.config.set("/linux/cgroupsPath", json!(path));
    container.bundle.write_config();
    container.run_detached().ok();
    held.write("FROZEN", "1");
    container.exec(&["true"]).fails_with(255);
    held.write("THAWED", "0");
    container.exec(&["true"]).ok();
    container.op(&["delete", "--force", container.id()]).ok();
}

/// `--cgroup` joins what is there, once for each controller, and makes nothing.
#[test]
fn exec_joins_cgroups_that_are_there() {
    if !gabion() {
        return;
    }
    for policy in levels() {
        let container = shell("exec-cgroup", &policy, |_| {});
        container.run_detached().ok();
        let before = leaks::cgroups(&container.bundle.name);
        let exec = |words: &[&str]| {
            let words = words.iter().flat_map(|word| ["--cgroup", word]);
            let all: Vec<&str> = std::iter::once("exec").chain(words).collect();
            container.op(&[&all[..], &[container.id(), "cat", "/proc/self/cgroup"]].concat())
        };
        for wrong in [
            &["nonexistent"] as &[&str],
            &["cpu:nope"],
            &["whaaat:/"],
            &[".."],
            &["../x"],
            &["a/../../x"],
            &["/", "/"],
            &["a:b:c"],
        ] {
            exec(wrong).fails_with(255);
        }
        // What callers of runc read.
        exec(&[".."]).says(&[" .. is not a sub cgroup path"]);
        if !unified() {
            exec(&["nonexistent"]).says(&[" adding pid ", "/nonexistent/cgroup.procs: no such file "]);
        }
        exec(&["whaaat:/"]).says(&["unknown controller"]);
        let below = |tree: Vec<PathBuf>| {
            tree.iter()
                .flat_map(|d| fs::read_dir(d).unwrap())
                .flatten()
                .filter(|e| e.path().is_dir())
                .count()
        };
        assert_eq!(leaks::cgroups(&container.bundle.name), before);
        assert_eq!(below(before), 0, "exec made a cgroup");
        exec(&["/"]).ok();
        if unified() {
            fs::create_dir(directory(&container, "").join("sub")).unwrap();
            assert!(exec(&["sub"]).ok().out.contains("/sub\n"));
            exec(&["pids:sub"]).fails_with(255);
            fs::remove_dir(directory(&container, "").join("sub")).unwrap();
            continue;
        }
        for controller in ["pids", "memory"] {
            fs::create_dir(directory(&container, controller).join("sub")).unwrap();
        }
        let shown = exec(&["pids:sub", "memory:/sub"]).ok().out;
        let is_below = |controller: &str| {
            let line = shown
                .lines()
                .find(|line| line.contains(&format!(":{controller}:")))
                .unwrap();
            line.ends_with("/sub")
        };
        assert!(
            is_below("pids") && is_below("memory") && !is_below("freezer"),
            "{shown}"
        );
        // Not in every hierarchy.
        exec(&["sub"]).fails_with(255);
        for controller in ["pids", "memory"] {
            let sub = directory(&container, controller).join("sub");
            assert!(until(limit(5), || fs::remove_dir(&sub).is_ok()));
        }
    }
}

/// Without a pid namespace of its own the kernel does not end the others with the first one.
#[test]
fn kill_ends_all_where_the_pid_namespace_is_shared() {
    if !gabion() {
        return;
    }
    let container = shell("kill-shared", &Policy::permissive(), |bundle| {
        let script = "sleep 1234 & sleep 1235 & echo up; exec sleep 1236";
        bundle.config.args(&["/bin/sh", "-c", script]).without_namespace("pid");
    });
    let pids = || {
        container
            .cgroup("pids", "cgroup.procs")
            .unwrap_or_default()
            .lines()
            .count()
    };
    container.run_detached().ok();
    assert!(until(limit(10), || pids() == 3), "{}", pids());
    // Another signal is the first one's.
    container.kill("CONT").ok();
    container.kill("KILL").ok();
    assert!(until(limit(10), || pids() == 0), "{} live on", pids());
    container.wait_status("stopped");
    container.kill("KILL").fails_with(1).says(&["container not running"]);
    container.delete().ok();
    // The first one is gone, and the others are not: they are reached all the same.
    container.run_detached().ok();
    assert!(until(limit(10), || pids() == 3), "{}", pids());
    let init = nix::unistd::Pid::from_raw(container.pid());
    nix::sys::signal::kill(init, nix::sys::signal::Signal::SIGKILL).unwrap();
    container.wait_status("stopped");
    assert!(pids() > 0);
    container.kill("KILL").ok();
    assert!(until(limit(10), || pids() == 0), "{} live on", pids());
}

/// exec is under way, and the container ends: callers look for these words, and retry or give up by them.
#[test]
fn exec_of_a_container_that_ends_meanwhile_says_that_it_does_not_run() {
    if !gabion() {
        return;
    }
    let container = shell("exec-race", &Policy::hardened(), |_| {});
    container.run_detached().ok();
    container.op(&["pause", container.id()]).ok();
    let exec = container.spawn(&["exec", "--ignore-paused", container.id(), "true"]);
    let pids = || {
        container
            .cgroup("pids", "cgroup.procs")
            .unwrap_or_default()
            .lines()
            .count()
    };
    assert!(until(limit(10), || pids() > 1), "exec did not come");
    container.kill("KILL").ok();
    exec.wait(limit(15)).fails_with(255).says(&["container not running"]);
}

/// One that does not end so is told of by its own failure.
#[test]
fn a_failing_exec_of_a_container_that_lives_is_its_own() {
    if !gabion() {
        return;
    }
    let container = shell("exec-fails", &Policy::hardened(), |_| {});
    container.run_detached().ok();
    let done = container.exec(&["/no/such"]).fails_with(255);
    assert!(!done.err.contains("not running"), "{done}");
}

#[test]
fn a_memory_limit_that_is_too_small_is_named() {
    if !gabion() {
        return;
    }
    for policy in levels() {
        let container = shell("small-memory", &policy, |bundle| {
            bundle.config.set("/linux/resources/memory", json!({"limit": 65_536}));
        });
        container.create().fails_with(1).says(&["memory limit"]);
        container.nothing_left();
    }
}

/// Tells what files show after each call of `update`.
fn updated(container: &Container, words: &[&str], shown: &[(&str, &str, &str)]) {
    container.op(&[&["update"], words, &[container.id()]].concat()).ok();
    for (controller, file, wanted) in shown {
        assert_eq!(
            container.cgroup(controller, file).as_deref(),
            Some(*wanted),
            "{words:?}: {file}"
        );
    }
}

/// Which of two values must be written first hangs on what they are now.
#[test]
fn limits_go_up_and_down_in_one_call() {
    if !gabion() {
        return;
    }
    for policy in levels() {
        let container = shell("up-and-down", &policy, |_| {});
        container.run_detached().ok();
        let both = |quota: &str, period: &str| {
            let words = ["--cpu-quota", quota, "--cpu-period", period];
            let one = format!("{quota} {period}");
            if unified() {
                updated(&container, &words, &[("cpu", "cpu.max", &one)]);
            } else {
                updated(
                    &container,
                    &words,
                    &[("cpu", "cpu.cfs_quota_us", quota), ("cpu", "cpu.cfs_period_us", period)],
                );
            }
        };
        for (quota, period) in [
            ("50000", "100000"),
            ("900000", "1000000"),
            ("2000", "2000"),
            ("20000", "500000"),
        ] {
            both(quota, period);
        }
        // What may be saved up is no more than the quota, before and after.
        updated(
            &container,
            &["--cpu-quota", "20000", "--cpu-burst", "20000"],
            &[("cpu", "cpu.cfs_burst_us", "20000")],
        );
        updated(
            &container,
            &["--cpu-quota", "5000", "--cpu-burst", "4000"],
            &[("cpu", "cpu.cfs_burst_us", "4000")],
        );
        updated(&container, &["--cpu-burst", "0"], &[("cpu", "cpu.cfs_burst_us", "0")]);
        for size in ["67108864", "33554432", "134217728"] {
            let memory = [("memory", "memory.limit_in_bytes", size)];
            updated(&container, &["--memory", size, "--memory-swap", size], &memory);
        }
    }
}

/// An idle group that is woken has the weight again that it had before.
#[test]
fn idle_is_taken_back() {
    if !gabion() {
        return;
    }
    let container = shell("idle", &Policy::hardened(), |bundle| {
        bundle.config.set("/linux/resources/cpu", json!({"shares": 512}));
    });
    container.run_detached().ok();
    let weight = if unified() { "59" } else { "512" };
    let (idle, awake) = (
        [("cpu", "cpu.idle", "1")],
        [("cpu", "cpu.idle", "0"), ("cpu", "cpu.shares", weight)],
    );
    updated(&container, &["--cpu-idle", "1"], &idle);
    updated(&container, &["--cpu-idle", "0"], &awake);
    updated(&container, &["--cpu-idle", "1"], &idle);
    updated(
        &container,
        &["--cpu-idle", "0", "--cpu-share", "1024"],
        &[("cpu", "cpu.idle", "0")],
    );
}

/// v2 has none of these.
#[test]
fn real_time_goes_up_and_down() {
    if !gabion() || unified() {
        return;
    }
    let container = shell("real-time", &Policy::permissive(), |_| {});
    container.run_detached().ok();
    if container.cgroup("cpu", "cpu.rt_runtime_us").is_none() {
        return integration::left_out("this kernel shares out no real-time time");
    }
    let both = |runtime: &str, period: &str| {
        let shown = [
            ("cpu", "cpu.rt_runtime_us", runtime),
            ("cpu", "cpu.rt_period_us", period),
        ];
        updated(
            &container,
            &["--cpu-rt-runtime", runtime, "--cpu-rt-period", period],
            &shown,
        );
    };
    for (runtime, period) in [
        ("1000", "800000"),
        ("900", "1000"),
        ("9000", "1000000"),
        ("500", "2000"),
    ] {
        both(runtime, period);
    }
    container.op(&["update", "--cpu-rt-runtime", "-1", container.id()]);
    updated(
        &container,
        &["--cpu-rt-runtime", "1000"],
        &[("cpu", "cpu.rt_runtime_us", "1000")],
    );
}

#[test]
fn the_oom_killer_is_switched_on_again() {
    if !gabion() || unified() {
        return;
    }
    let container = shell("oom-again", &Policy::permissive(), |bundle| {
        bundle.config.set(
            "/linux/resources/memory",
            json!({"limit": 67_108_864, "disableOOMKiller": true}),
        );
    });
    container.run_detached().ok();
    let shown = || container.cgroup("memory", "memory.oom_control").unwrap();
    assert!(shown().contains("oom_kill_disable 1"), "{}", shown());
    let file = container.bundle.dir.join("limits.json");
    fs::write(&file, r#"{"memory": {"disableOOMKiller": false}}"#).unwrap();
    container
        .op(&["update", "-r", file.to_str().unwrap(), container.id()])
        .ok();
    assert!(shown().contains("oom_kill_disable 0"), "{}", shown());
}

/// The kernel limits no kernel memory any more: callers who ask for it are told, and served.
#[test]
fn kernel_memory_is_a_warning() {
    if !gabion() {
        return;
    }
    let container = shell("kernel-memory", &Policy::hardened(), |_| {});
    container.run_detached().ok();
    for words in [
        &["--kernel-memory", "50331648"] as &[&str],
        &["--kernel-memory", "1g", "--pids-limit", "55"],
    ] {
        let done = container.op(&[&["update"], words, &[container.id()]].concat()).ok();
        assert!(done.err.contains("Kernel memory settings are ignored"), "{done}");
    }
    assert_eq!(container.cgroup("pids", "pids.max").as_deref(), Some("55"));
}

/// A word of JSON cannot be anything else than text: runc and gabion put U+FFFD there.
#[test]
fn words_that_are_not_text_are_taken() {
    if !gabion() {
        return;
    }
    let container = shell("not-text", &Policy::hardened(), |_| {});
    container.run_detached().ok();
    let mut command = container.command(&["exec", "-e"]);
    command.arg(OsStr::from_bytes(b"A=\xff")).arg(container.id());
    command
        .args(["/bin/sh", "-c", "echo \"$A $1\"", "sh"])
        .arg(OsStr::from_bytes(b"b\xff"));
    let done = integration::command::run(command, &container.bundle.dir).ok();
    assert_eq!(done.out.trim(), "\u{fffd} b\u{fffd}", "{done}");
    assert!(done.err.contains("is not UTF-8"), "{done}");
}

/// A root that was named and is not there is a mistyped one.
#[test]
fn list_of_a_root_that_is_not_there_is_an_error() {
    if !gabion() {
        return;
    }
    let container = shell("list-root", &Policy::hardened(), |_| {});
    let nowhere = container.bundle.dir.join("nowhere");
    let mut command = std::process::Command::new(&container.runtime.program);
    command.args(["--root", nowhere.to_str().unwrap(), "list"]);
    let done = integration::command::run(command, &container.bundle.dir).fails_with(1);
    assert!(
        done.err.contains("No such file or directory") && !nowhere.exists(),
        "{done}"
    );
}

/// The container's clocks belong to its user namespace, as all that it has: who joins the one joins the other.
#[test]
fn a_time_namespace_is_of_the_user_namespace() {
    if !gabion() {
        return;
    }
    for policy in levels() {
        let container = shell("time-and-user", &policy, |bundle| {
            bundle.config.user_namespace(65_536);
            bundle.config.push("/linux/namespaces", json!({"type": "time"}));
            bundle
                .config
                .set("/linux/timeOffsets", json!({"boottime": {"secs": 86_400_000}}));
        });
        container.bundle.give_to(100_000, 100_000);
        container.run_detached().ok();
        let pid = container.pid();
        let namespace = |who: &str| fs::read_link(format!("/proc/{who}/ns/time")).unwrap();
        assert_ne!(namespace(&pid.to_string()), namespace("self"));
        let script = "readlink /proc/self/ns/time; cat /proc/uptime";
        let done = container.exec(&["/bin/sh", "-c", script]).ok();
        let mut lines = done.out.lines();
        assert_eq!(lines.next(), namespace(&pid.to_string()).to_str(), "{done}");
        let uptime: f64 = lines.next().unwrap().split(' ').next().unwrap().parse().unwrap();
        assert!(uptime > 86_400_000.0, "{done}");
    }
}
