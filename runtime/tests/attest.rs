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
    // A domain is never shown: not to be called good.
    let landlock: Vec<&Value> = facts
        .iter()
        .filter(|f| f["control"] == "landlock")
        .map(|f| &f["holds"])
        .collect();
    assert!(landlock.iter().all(|h| **h == "unknown"));
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
