//! `attest` on real containers: what holds, and every drift that it must find.
#![allow(clippy::unwrap_used)]

mod programs;

use std::fs;
use std::process::{Child, Command, Stdio};

use live::Running;
use serde_json::{Value, json};

mod live;

/// What only these tests ask.
trait Attested {
    fn attest(&self) -> (Option<i32>, Value);
    fn differs(&self) -> Vec<(String, String)>;
    fn differs_in(&self, control: &str, words: &str);
    fn in_mounts(&self, words: &[&str]);
    fn write_limit(&self, names: &[&str], value: &str);
}

impl Attested for Running {
    fn attest(&self) -> (Option<i32>, Value) {
        let out = self.gabion(&["attest", "--format", "json", &self.id]);
        (
            out.status.code(),
            serde_json::from_slice(&out.stdout).unwrap_or_default(),
        )
    }

    /// Controls that differ, and what they show.
    fn differs(&self) -> Vec<(String, String)> {
        let (code, report) = self.attest();
        let facts = report["facts"].as_array().unwrap();
        let found: Vec<_> = facts
            .iter()
            .filter(|f| f["holds"] == false)
            .map(|f| {
                (
                    f["control"].as_str().unwrap().to_owned(),
                    f["observed"].as_str().unwrap().to_owned(),
                )
            })
            .collect();
        let want = if found.is_empty() {
            (Some(0), json!(true))
        } else {
            (Some(3), json!(false))
        };
        assert_eq!((code, report["holds"].clone()), want, "{found:?}");
        found
    }

    #[track_caller]
    fn differs_in(&self, control: &str, words: &str) {
        let found = self.differs();
        assert!(
            found.iter().any(|(c, o)| c == control && o.contains(words)),
            "no {control} «{words}» in {found:?}"
        );
    }

    /// In the container's mount namespace, with the host's capabilities.
    fn in_mounts(&self, words: &[&str]) {
        let done = Command::new("nsenter")
            .args(["-t", &self.pid(), "-m", "-p"])
            .args(words)
            .status()
            .unwrap();
        assert!(done.success(), "{words:?}");
    }

    fn write_limit(&self, names: &[&str], value: &str) {
        let files = self
            .cgroups()
            .into_iter()
            .flat_map(|dir| names.iter().map(move |n| dir.join(n)).collect::<Vec<_>>());
        let mut written = files.filter(|f| f.exists()).map(|f| fs::write(f, value).unwrap());
        written.next().unwrap();
    }
}

/// A process of the host, ended when dropped.
struct Host(Child);

impl Host {
    fn new(command: &mut Command) -> Self {
        Self(command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

#[test]
fn what_was_decided_holds_for_every_process() {
    let Some(container) = Running::new("holds") else { return };
    assert_eq!(container.differs(), []);
    for user in ["0:0", "1000:1000"] {
        let out = container.gabion(&["exec", "--detach", "--user", user, &container.id, "sleep", "300"]);
        assert!(out.status.success(), "{}", container.said());
    }
    let (code, report) = container.attest();
    assert_eq!((code, &report["holds"]), (Some(0), &json!(true)), "{report:#}");
    let facts = report["facts"].as_array().unwrap();
    for control in [
        "namespaces",
        "rootfs",
        "mounts",
        "masked_paths",
        "cgroup",
        "capabilities",
        "no_new_privs",
        "seccomp",
    ] {
        assert!(
            facts.iter().any(|f| f["control"] == control && f["holds"] == true),
            "{control}"
        );
    }
    // A domain is never shown: it was probed before, and is named as such.
    let landlock: Vec<&Value> = facts
        .iter()
        .filter(|f| f["control"] == "landlock")
        .map(|f| &f["holds"])
        .collect();
    assert!(landlock.iter().all(|h| **h == "held"));
    let filter = facts.iter().find(|f| f["control"] == "seccomp").unwrap();
    assert_eq!(
        filter["pids"].as_array().unwrap().len(),
        4,
        "sh, its sleep, two by exec"
    );
    // The beginning of the id is enough.
    assert!(
        container
            .gabion(&["attest", &container.id[..container.id.len() - 1]])
            .status
            .success()
    );
}

#[test]
fn a_process_of_the_host_in_the_containers_cgroup() {
    let Some(container) = Running::new("moved-in") else {
        return;
    };
    let host = Host::new(Command::new("sleep").arg("300"));
    for dir in container.cgroups() {
        fs::write(dir.join("cgroup.procs"), host.0.id().to_string()).unwrap();
    }
    container.differs_in("seccomp", "Seccomp 0");
    container.differs_in("capabilities", "CapEff");
    container.differs_in("no_new_privs", "NoNewPrivs 0");
    container.differs_in("namespaces", "another mnt namespace");
    container.differs_in("rootfs", "root on mount");
    drop(host);
    assert_eq!(container.differs(), []);
    let log = fs::read_to_string(container.dir.join("log/audit.jsonl")).unwrap();
    assert!(
        log.lines()
            .any(|l| l.contains("\"event\":\"attest\"") && l.contains("Seccomp 0")),
        "{log}"
    );
}

#[test]
fn a_process_that_entered_by_nsenter_has_no_filter_and_is_outside_the_cgroup() {
    let Some(container) = Running::new("entered") else {
        return;
    };
    let mut command = Command::new("nsenter");
    // It forks: only a child of its is in the pid namespace.
    command.args([
        "-t",
        &container.pid(),
        "-m",
        "-p",
        "-n",
        "-i",
        "-u",
        "/bin/sleep",
        "300",
    ]);
    let host = Host::new(&mut command);
    let found = (0..50).any(|_| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        container
            .differs()
            .iter()
            .any(|(c, o)| c == "cgroup" && o.contains("in another cgroup"))
    });
    assert!(found, "{:?}", container.differs());
    container.differs_in("seccomp", "Seccomp 0");
    // nsenter waits for its child, which does not die with it.
    Command::new("pkill")
        .args(["-P", &host.0.id().to_string()])
        .status()
        .unwrap();
}

#[test]
fn a_root_that_was_remounted_and_a_mask_that_was_taken_off() {
    let Some(container) = Running::new("remounted") else {
        return;
    };
    container.in_mounts(&["/bin/mount", "-o", "remount,bind,rw", "/"]);
    container.differs_in("rootfs", "/ rw");
    container.in_mounts(&["/bin/mount", "-o", "remount,bind,ro", "/"]);
    assert_eq!(container.differs(), []);
    container.in_mounts(&["/bin/umount", "/proc/timer_list"]);
    container.differs_in("masked_paths", "/proc/timer_list");
    container.in_mounts(&["/bin/umount", "/proc/sys"]);
    container.differs_in("masked_paths", "/proc/sys rw");
    container.in_mounts(&["/bin/mount", "-o", "remount,bind,exec", "/dev/shm"]);
    container.differs_in("mounts", "/dev/shm");
}

#[test]
fn a_limit_that_was_raised_and_a_process_that_was_let_out() {
    let Some(container) = Running::new("limits") else {
        return;
    };
    container.write_limit(&["pids.max"], "9999");
    container.differs_in("cgroup", "pids.max 9999");
    container.write_limit(&["pids.max"], "4096");
    assert_eq!(container.differs(), []);
    let pid = container.pid();
    for dir in container.cgroups() {
        fs::write(dir.parent().unwrap().join("cgroup.procs"), &pid).unwrap();
    }
    container.differs_in("cgroup", &format!("process {pid} in /"));
    for dir in container.cgroups() {
        fs::write(dir.join("cgroup.procs"), &pid).unwrap();
    }
    assert_eq!(container.differs(), []);
}

#[test]
fn what_does_not_run_cannot_be_looked_at() {
    let Some(container) = Running::with("created", "create", |_| {}) else {
        return;
    };
    let out = container.gabion(&["attest", &container.id]);
    assert_eq!(out.status.code(), Some(1));
    assert!(container.said().contains("is created"), "{}", container.said());
    assert_eq!(container.gabion(&["attest", "nobody"]).status.code(), Some(1));
    assert!(container.said().contains("does not exist"), "{}", container.said());
    assert!(container.gabion(&["kill", &container.id, "KILL"]).status.success());
    std::thread::sleep(std::time::Duration::from_millis(100));
    assert_eq!(container.gabion(&["attest", &container.id]).status.code(), Some(1));
    assert!(container.said().contains("not running"), "{}", container.said());
}

/// The container's rows: control and state.
fn states(report: &Value) -> Vec<(String, String)> {
    let word = |v: &Value| v.as_str().unwrap().to_owned();
    let rows = report["controls"].as_array().unwrap();
    rows.iter().map(|r| (word(&r["control"]), word(&r["state"]))).collect()
}

/// `--privileged` at permissive: everything that the host has.
fn everything(spec: &mut Value) {
    spec["linux"]["seccomp"] = json!(null);
    spec["linux"]["maskedPaths"] = json!([]);
    spec["linux"]["readonlyPaths"] = json!([]);
    spec["root"]["readonly"] = json!(false);
    spec["process"]["noNewPrivileges"] = json!(false);
    spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
}

#[test]
fn what_only_observes_never_holds() {
    let Some(container) = Running::with("permissive", "", everything) else {
        return;
    };
    let log = container.path("log/audit.jsonl");
    let globals = ["--level", "permissive", "--audit-log", &log];
    let ran = container.with_globals(
        &globals,
        &["run", "--detach", "-b", &container.path("bundle"), &container.id],
    );
    assert!(ran.status.success(), "{}", container.said());
    let (code, report) = container.attest();
    assert_eq!(code, Some(4), "{report:#}");
    assert_eq!(
        (&report["holds"], &report["level"]),
        (&json!(false), &json!("permissive"))
    );
    let states = states(&report);
    assert_eq!(states.len(), 19);
    assert!(states.iter().all(|(_, state)| state == "observed"), "{states:?}");
    assert_eq!(report["not_enforced"].as_array().unwrap().len(), 19);
    let table = container.gabion(&["attest", &container.id]);
    let text = String::from_utf8(table.stdout).unwrap();
    assert!(text.contains("INCOMPLETE") && !text.contains(" holds"), "{text}");
}

#[test]
fn one_control_on_observe_and_a_level_that_is_too_low() {
    let Some(container) = Running::with("observe", "", |_| {}) else {
        return;
    };
    let policy = container.path("policy.toml");
    fs::write(&policy, "[controls]\nseccomp = \"observe\"\nlandlock = \"observe\"\n").unwrap();
    let run = |globals: &[&str], id: &str| {
        let ran = container.with_globals(globals, &["run", "--detach", "-b", &container.path("bundle"), id]);
        assert!(ran.status.success(), "{}", container.said());
    };
    let log = container.path("log/audit.jsonl");
    run(&["--policy", &policy, "--audit-log", &log], &container.id);
    let (code, report) = container.attest();
    assert_eq!(code, Some(4), "{report:#}");
    assert_eq!(report["not_enforced"], json!(["landlock", "seccomp"]));
    for (control, state) in states(&report) {
        let off = control == "landlock" || control == "seccomp";
        assert_eq!(off, state == "observed", "{control} {state}");
    }
    assert!(container.gabion(&["delete", "--force", &container.id]).status.success());

    run(&["--audit-log", &log], &container.id);
    let require = |level: &str| {
        container
            .gabion(&["attest", "--require", level, &container.id])
            .status
            .code()
    };
    assert_eq!((require("hardened"), require("restricted")), (Some(0), Some(4)));
    assert_eq!(require("permissive"), Some(1), "no level to require");
    let every = container.gabion(&["attest", "--all", "--format", "json"]);
    let every: Value = serde_json::from_slice(&every.stdout).unwrap();
    assert_eq!(every["containers"][0]["id"], json!(container.id), "{every:#}");
    assert_eq!(
        container
            .gabion(&["attest", "--all", "--require", "restricted"])
            .status
            .code(),
        Some(4)
    );
    let report = &every["containers"][0];
    for key in [
        "policy",
        "made_by",
        "attested_by",
        "host",
        "kernel",
        "boot",
        "time",
        "created",
    ] {
        assert!(
            report[key].as_str().is_some_and(|text| !text.is_empty()),
            "{key}: {report:#}"
        );
    }
    let rows = report["controls"].as_array().unwrap();
    assert!(rows.iter().all(|row| !row["refs"].as_array().unwrap().is_empty()));
}

/// Processes that gabion brings in are seen in the container before they are confined.
#[test]
fn nothing_differs_beside_a_running_exec() {
    let Some(container) = Running::new("beside-exec") else {
        return;
    };
    let done = std::sync::atomic::AtomicBool::new(false);
    let rounds = std::thread::scope(|scope| {
        let exec = || {
            let mut times = 0;
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                let out = container.with_globals(
                    &["--audit-log", &container.path("log/audit.jsonl")],
                    &["exec", &container.id, "busybox", "true"],
                );
                assert!(out.status.success(), "{}", container.said());
                times += 1;
            }
            times
        };
        let execs = scope.spawn(exec);
        let looks: Vec<_> = (0..20).map(|_| container.attest()).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        let times: usize = execs.join().unwrap();
        for (code, report) in &looks {
            let bad: Vec<&Value> = report["facts"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|f| f["holds"] == false)
                .collect();
            assert_eq!(*code, Some(0), "{bad:#?} {:?}", states(report));
        }
        times
    });
    assert!(rounds > 0);
}

#[test]
fn a_sysctl_that_was_changed_in_the_containers_namespace() {
    let Some(container) = Running::with("sysctl", "run", |spec| {
        spec["linux"]["sysctl"] = json!({"net.ipv4.ping_group_range": "0 7", "kernel.shm_rmid_forced": "1"});
    }) else {
        return;
    };
    assert_eq!(container.differs(), []);
    let write = |namespace: &str, file: &str, value: &str| {
        let done = Command::new("nsenter")
            .args([
                "-t",
                &container.pid(),
                namespace,
                "sh",
                "-c",
                &format!("echo {value} > /proc/sys/{file}"),
            ])
            .status()
            .unwrap();
        assert!(done.success(), "{file}");
    };
    for (namespace, file, bad, good) in [
        ("-n", "net/ipv4/ping_group_range", "'0 99'", "'0 7'"),
        ("-i", "kernel/shm_rmid_forced", "0", "1"),
    ] {
        write(namespace, file, bad);
        container.differs_in("sysctl", file.rsplit('/').next().unwrap());
        write(namespace, file, good);
        assert_eq!(container.differs(), []);
    }
    let memfd = std::path::Path::new("/proc/sys/vm/memfd_noexec").exists();
    if memfd {
        write("-p", "vm/memfd_noexec", "0");
        container.differs_in("sysctl", "vm.memfd_noexec=0");
    }
}

/// The static program of the integration tests, which `--without` puts under a filter of its own; None where it is not built.
fn probe() -> Option<std::path::PathBuf> {
    let given = std::env::var_os("GABION_PROBE").map(std::path::PathBuf::from);
    let triple = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let built = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../target/probe/{triple}/dist/probe"));
    let found = given.or(Some(built)).filter(|probe| probe.exists());
    if found.is_none() {
        eprintln!("no probe (hack/test builds it): nothing is tested");
    }
    found
}

/// A program in all of the container's namespaces and its cgroup, as gabion's own processes are, but under one filter that is not gabion's.
fn enter(container: &Running, probe: &std::path::Path, program: &[&str]) -> Host {
    let mut command = Command::new(probe);
    command.args(["--without", "keyctl", "nsenter", "-t", &container.pid()]);
    command.args(["-m", "-p", "-n", "-i", "-u", "-C"]).args(program);
    let host = Host::new(&mut command);
    let inside = (0..500).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", host.0.id())).ok()?;
        let child = children.split_whitespace().next()?.to_owned();
        let name = fs::read_to_string(format!("/proc/{child}/comm")).ok()?;
        (name.trim() != "nsenter").then_some(child)
    });
    let inside = inside.unwrap();
    for dir in container.cgroups() {
        fs::write(dir.join("cgroup.procs"), &inside).unwrap();
    }
    host
}

fn end(host: Host) {
    let children = Command::new("pkill")
        .args(["-KILL", "-P", &host.0.id().to_string()])
        .status();
    assert!(children.unwrap().success());
    drop(host);
}

#[test]
fn a_process_under_another_filter_is_named_and_nobody_stays_stopped() {
    let (Some(container), Some(probe)) = (Running::new("filter"), probe()) else {
        return;
    };
    let exec = container.gabion(&["exec", "--detach", &container.id, "sleep", "300"]);
    assert!(exec.status.success(), "{}", container.said());
    let (code, report) = container.attest();
    assert_eq!(code, Some(0), "{report:#}");
    let compared = |report: &Value| {
        let facts = report["facts"].as_array().unwrap().iter();
        let compared = facts.filter(|f| f["expected"].as_str().unwrap().contains("instruction by instruction"));
        compared
            .map(|f| (f["holds"].clone(), f["pids"].as_array().unwrap().len()))
            .collect::<Vec<_>>()
    };
    // The first process was probed by gabion; its child, and the one by exec, may have come from anywhere.
    assert_eq!(compared(&report), [(json!("held"), 1), (json!(true), 2)], "{report:#}");
    let quiet = container.gabion(&["attest", "--no-stop", "--format", "json", &container.id]);
    let quiet: Value = serde_json::from_slice(&quiet.stdout).unwrap();
    assert!(compared(&quiet).iter().all(|(holds, _)| *holds == "held"), "{quiet:#}");

    let host = enter(&container, &probe, &["/bin/sleep", "300"]);
    container.differs_in("seccomp", "its 1 filters are others");
    let (_, report) = container.attest();
    for pid in report["processes"].as_array().unwrap() {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(
            status.contains("TracerPid:\t0") && !status.contains("State:\tt"),
            "{status}"
        );
    }
    end(host);
    assert_eq!(container.differs(), []);
}

#[test]
fn a_container_that_differs_is_paused_or_killed_and_that_is_written_down() {
    let (Some(container), Some(probe)) = (Running::new("acts"), probe()) else {
        return;
    };
    let on_differ = |what: &str| container.gabion(&["attest", "--all", "--on-differ", what, "--format", "json"]);
    let status = || {
        let state: Value = serde_json::from_slice(&container.gabion(&["state", &container.id]).stdout).unwrap();
        state["status"].as_str().unwrap().to_owned()
    };
    // Nothing is done to one that holds.
    assert_eq!(on_differ("kill").status.code(), Some(0), "{}", container.said());
    assert_eq!(status(), "running");
    let host = enter(&container, &probe, &["/bin/sleep", "300"]);
    assert_eq!(on_differ("report").status.code(), Some(3));
    assert_eq!(status(), "running");
    let paused = on_differ("pause");
    assert_eq!(
        (paused.status.code(), status().as_str()),
        (Some(3), "paused"),
        "{}",
        container.said()
    );
    let report: Value = serde_json::from_slice(&paused.stdout).unwrap();
    assert_eq!(report["containers"][0]["act"], json!({"what": "pause"}), "{report:#}");
    assert_eq!(
        (on_differ("kill").status.code(), status().as_str()),
        (Some(3), "stopped"),
        "{}",
        container.said()
    );
    drop(host);
    let log = fs::read_to_string(container.dir.join("log/audit.jsonl")).unwrap();
    let events: Vec<(String, Value)> = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|record| (record["event"].as_str().unwrap().to_owned(), record["act"].clone()))
        .filter(|(event, _)| ["attest", "pause", "kill"].contains(&event.as_str()))
        .collect();
    let events: Vec<(&str, &Value)> = events.iter().map(|(event, act)| (event.as_str(), act)).collect();
    let (none, pause, kill) = (json!(null), json!("pause"), json!("kill"));
    assert_eq!(
        events,
        [
            ("attest", &none),
            ("attest", &pause),
            ("pause", &none),
            ("attest", &kill),
            ("kill", &none)
        ]
    );
}

/// What the unit runs is what the program takes.
#[test]
fn the_timers_unit_runs_what_there_is() {
    let unit = fs::read_to_string(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../hack/units/gabion-attest.service"
    ))
    .unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    assert!(words[0].ends_with("/gabionctl"), "{line}");
    let root = std::env::temp_dir().join(format!("gabion-unit-{}", std::process::id()));
    fs::create_dir_all(&root).unwrap();
    let mut command = programs::gabion();
    let out = command.arg("--root").arg(&root).args(&words[1..]).output().unwrap();
    fs::remove_dir(&root).unwrap();
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    assert!(String::from_utf8_lossy(&out.stdout).contains("0 running"), "{out:?}");
}

#[test]
fn a_report_has_every_framework_and_the_evidence() {
    let Some(container) = Running::new("report") else {
        return;
    };
    let report = |format: &str| {
        let out = container.gabion(&["report", "--format", format, &container.id]);
        assert_eq!(out.status.code(), Some(0), "{}", container.said());
        String::from_utf8(out.stdout).unwrap()
    };
    let json: Value = serde_json::from_str(&report("json")).unwrap();
    let one = &json["containers"][0];
    assert_eq!(one["attest"]["id"], json!(container.id));
    let requirements = one["requirements"].as_array().unwrap();
    for framework in ["pss_baseline", "pss_restricted", "cis_docker", "cis_kubernetes", "nist"] {
        assert!(requirements.iter().any(|r| r["framework"] == framework), "{framework}");
    }
    let outcome = |framework: &str, name: &str| {
        let found = requirements
            .iter()
            .find(|r| r["framework"] == framework && r["name"] == name);
        found.unwrap()["outcome"].as_str().unwrap().to_owned()
    };
    assert_eq!(outcome("pss_baseline", "Host Namespaces"), "met");
    assert_eq!(
        outcome("pss_restricted", "Running as Non-root"),
        "not_asked",
        "it runs as root"
    );

    // The evidence can be found again by its hashes.
    let log = fs::read_to_string(container.dir.join("log/audit.jsonl")).unwrap();
    let records = one["audit"]["records"].as_array().unwrap();
    assert_eq!(one["audit"]["chain"], "holds", "{one:#}");
    let create = records.iter().find(|r| r["event"] == "create").unwrap();
    let line = log.lines().find(|line| line.contains("\"event\":\"create\"")).unwrap();
    let next = log.lines().find(|line| line.contains("\"event\":\"start\"")).unwrap();
    assert_eq!(
        serde_json::from_str::<Value>(next).unwrap()["prev"],
        create["sha256"],
        "{line}"
    );

    let text = report("text");
    assert!(
        text.contains("CIS Docker Benchmark") && text.contains("chain holds"),
        "{text}"
    );
    let html = report("html");
    assert!(
        html.starts_with("<!DOCTYPE html>") && html.contains("NIST SP 800-190"),
        "{html}"
    );
    sarif(&serde_json::from_str(&report("sarif")).unwrap(), &container.id);

    // A log that was tampered with is told of.
    fs::write(
        container.dir.join("log/audit.jsonl"),
        log.replace("\"uid\":0", "\"uid\":1"),
    )
    .unwrap();
    let json: Value = serde_json::from_str(&report("json")).unwrap();
    assert!(
        json["containers"][0]["audit"]["chain"]
            .as_str()
            .unwrap()
            .starts_with("broken: "),
        "{json:#}"
    );
    assert_eq!(container.gabion(&["report", "nobody"]).status.code(), Some(1));
}

/// What SARIF 2.1.0 requires (sarif-schema-2.1.0.json): properties, and the words that there are.
fn sarif(log: &Value, id: &str) {
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().ends_with("sarif-schema-2.1.0.json"));
    let run = &log["runs"][0];
    assert_eq!(run["tool"]["driver"]["name"], "gabion");
    assert!(run["invocations"][0]["executionSuccessful"].is_boolean());
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    let results = run["results"].as_array().unwrap();
    assert_eq!((rules.len(), results.len()), (19, 19));
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        let (kind, level) = (result["kind"].as_str().unwrap(), result["level"].as_str().unwrap());
        assert!(["pass", "fail", "open", "notApplicable"].contains(&kind), "{kind}");
        // Only what fails has a level (3.27.10).
        assert_eq!(kind == "fail", level != "none", "{result:#}");
        assert!(!result["message"]["text"].as_str().unwrap().is_empty());
        assert_eq!(result["locations"][0]["logicalLocations"][0]["name"], id);
    }
}
