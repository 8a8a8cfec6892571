//! SELinux: a type that confines, and a pair of categories that no other container has. Real containers on a kernel that enforces.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use crate::hardens;
use integration::command::{limit, until};
use integration::{Bundle, Container, Outcome, Policy, Runtime, selinux};
use serde_json::{Value, json};

const PROCESS: &str = "system_u:system_r:container_t:";
const FILE: &str = "system_u:object_r:container_file_t:";

/// Left out where the kernel has none or only says what it would deny, aloud.
fn here() -> bool {
    let here = selinux();
    if !here {
        integration::left_out("SELinux does not enforce here");
    }
    here && hardens()
}

/// Nothing but this control: what is denied is denied by SELinux.
fn alone() -> Policy {
    Policy::permissive().enforce("lsm")
}

fn running(test: &str, label: Option<&str>, policy: &Policy) -> Container {
    let mut bundle = Bundle::new(test);
    bundle.config.set("/process/selinuxLabel", json!(label));
    let container = Container::new(bundle).policy(policy);
    container.run_detached().ok();
    container
}

/// What the kernel says of the first process, from outside.
fn label_of(container: &Container) -> String {
    let label = std::fs::read_to_string(format!("/proc/{}/attr/current", container.pid())).unwrap();
    label.trim_end_matches(['\0', '\n']).to_owned()
}

/// The pair of a container that gabion labelled.
fn level_of(container: &Container) -> String {
    let label = label_of(container);
    let level = label
        .strip_prefix(PROCESS)
        .unwrap_or_else(|| panic!("not container_t: {label}"));
    let pair = level.strip_prefix("s0:c").and_then(|pair| pair.split_once(",c"));
    let numbers = pair.and_then(|(a, b)| Some((a.parse::<u16>().ok()?, b.parse::<u16>().ok()?)));
    assert!(
        numbers.is_some_and(|(a, b)| a < b && b < 1024),
        "no pair of categories: {label}"
    );
    level.to_owned()
}

#[track_caller]
fn chcon(label: &str, path: &Path) {
    let status = Command::new("chcon").args(["-R", label]).arg(path).status().unwrap();
    assert!(status.success(), "chcon {label} {}", path.display());
}

/// What the kernel says a file of the container is labelled, from outside.
#[track_caller]
fn label_of_file(container: &Container, path: &str) -> String {
    let path = format!("/proc/{}/root{path}", container.pid());
    let done = Command::new("stat").args(["--format=%C", &path]).output().unwrap();
    String::from_utf8(done.stdout).unwrap().trim().to_owned()
}

/// Every one of these acts of a second process has this answer: one without any fails, too.
#[track_caller]
fn each(container: &Container, acts: &[&str], expected: &str) {
    let answers = container.exec_acts(acts);
    for act in acts {
        let answer = answers.get(*act).map_or("no answer", String::as_str);
        assert!(answer.starts_with(expected), "{act} should give {expected}: {answer}");
    }
}

fn attested(container: &Container) -> Value {
    let done = container.op(&["attest", "--format", "json", container.id()]).ok();
    let report: Value = serde_json::from_str(&done.out).unwrap();
    let facts = report["facts"].as_array().unwrap();
    facts.iter().find(|fact| fact["control"] == "lsm").unwrap().clone()
}

/// Fedora's policy and Debian's have names of their own for a runtime's domain.
#[test]
fn gabion_is_in_the_runtimes_domain() {
    if !here() {
        return;
    }
    let container = Container::new(Bundle::new("selinux-domain")).policy(&Policy::hardened());
    let gabion = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    let label = || std::fs::read_to_string(format!("/proc/{}/attr/current", gabion.pid())).unwrap();
    let in_domain = || {
        matches!(
            label().split(':').nth(2),
            Some("container_engine_t" | "container_runtime_t")
        )
    };
    // Whoever started it is told a moment before execve gives it its domain.
    assert!(until(limit(10), in_domain), "{}", label());
}

#[test]
fn each_container_has_a_pair_of_its_own() {
    if !here() {
        return;
    }
    let containers = [0, 1].map(|_| running("selinux-pair", None, &Policy::hardened()));
    let levels = containers.each_ref().map(level_of);
    assert_ne!(levels[0], levels[1]);
    for (container, level) in containers.iter().zip(&levels) {
        let expected = format!("{PROCESS}{level}");
        assert_eq!(container.exec_acts(&["label"])["label"], format!("ok {expected}"));
        let fact = attested(container);
        assert_eq!(fact["holds"], json!(true), "{fact}");
        assert!(fact["observed"].as_str().unwrap().contains(&expected), "{fact}");
    }
}

#[test]
fn a_label_that_confines_is_kept() {
    if !here() {
        return;
    }
    let asked = format!("{PROCESS}s0:c17,c99");
    let container = running("selinux-kept", Some(&asked), &Policy::hardened());
    assert_eq!(label_of(&container), asked);
    assert_eq!(container.exec_acts(&["label"])["label"], format!("ok {asked}"));
    // Its holes are its own, though the spec has no label for mounts.
    assert_eq!(label_of_file(&container, "/tmp"), format!("{FILE}s0:c17,c99"));
    assert_eq!(container.exec_acts(&["create-file=/tmp/x"])["create-file=/tmp/x"], "ok");
}

#[test]
fn a_label_that_confines_nothing_is_refused() {
    if !here() {
        return;
    }
    for (label, code) in [
        ("system_u:system_r:spc_t:s0", "lsm.unconfined-label"),
        (
            "unconfined_u:unconfined_r:unconfined_t:s0-s0:c0.c1023",
            "lsm.unconfined-label",
        ),
        ("system_u:system_r:container_engine_t:s0", "lsm.unconfined-label"),
        ("system_u:system_r:container_t:s0-s0:c0.c1023", "lsm.all-categories"),
    ] {
        let mut bundle = Bundle::new("selinux-refused");
        bundle.config.set("/process/selinuxLabel", json!(label));
        match Container::new(bundle).policy(&Policy::hardened()).acts(&["label"]) {
            Outcome::Refused { code: got, line } => assert_eq!(got, code, "{line}"),
            other => panic!("{label} not refused: {other:?}"),
        }
    }
}

/// A type that the machine's policy does not have: the kernel takes no such label, and nothing runs without it.
#[test]
fn a_label_that_the_kernel_does_not_know_starts_nothing() {
    if !here() {
        return;
    }
    let mut bundle = Bundle::new("selinux-unknown");
    let label = "system_u:system_r:git_no_such_type_t:s0";
    bundle.config.set("/process/selinuxLabel", json!(label));
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.create().fails_with(1).says(&[label]);
    container.nothing_left();
}

/// The same directory in both, everything of it open to everybody: only the categories differ.
#[test]
fn two_containers_cannot_touch_each_others_files() {
    if !here() {
        return;
    }
    let owner = Bundle::new("selinux-owner");
    let shared = owner.host_dir("shared");
    std::fs::write(shared.join("secret"), "x").unwrap();
    std::fs::set_permissions(shared.join("secret"), Permissions::from_mode(0o666)).unwrap();
    let with = |mut bundle: Bundle, label: Option<&str>| {
        bundle.config.set("/process/selinuxLabel", json!(label));
        bundle.config.bind(
            &shared.display().to_string(),
            "/shared",
            &["rw", "nosuid", "nodev", "noexec"],
        );
        let container = Container::new(bundle).policy(&alone());
        container.run_detached().ok();
        container
    };
    let owner = with(owner, None);
    let level = level_of(&owner);
    chcon(&format!("{FILE}{level}"), &shared);
    let acts = [
        "read-file=/shared/secret",
        "open-write=/shared/secret",
        "list-dir=/shared",
        "create-file=/shared/new",
    ];
    let stranger = with(Bundle::new("selinux-stranger"), None);
    each(&stranger, &acts, "EACCES");
    assert!(!shared.join("new").exists());
    each(&owner, &acts, "ok");
    // Nothing else tells them apart: a third one with the owner's pair may.
    let friend = with(Bundle::new("selinux-friend"), Some(&format!("{PROCESS}{level}")));
    each(&friend, &acts, "ok");
}

/// What is the runtime's own is not for containers, whatever its mode. (By Debian's policy container_var_lib_t is: it is a kubelet's too.)
#[test]
fn files_of_the_host_are_not_for_containers() {
    if !here() {
        return;
    }
    let mut bundle = Bundle::new("selinux-host");
    let dir = bundle.host_dir("data");
    std::fs::write(dir.join("file"), "x").unwrap();
    bundle.config.bind(
        &dir.display().to_string(),
        "/state",
        &["rw", "nosuid", "nodev", "noexec"],
    );
    chcon("system_u:object_r:container_runtime_t:s0", &dir);
    let container = Container::new(bundle).policy(&alone());
    container.run_detached().ok();
    let acts = ["read-file=/state/file", "list-dir=/state"];
    each(&container, &acts, "EACCES");
    chcon(&format!("{FILE}s0"), &dir);
    each(&container, &acts, "ok");
}

#[test]
fn mounts_carry_the_containers_pair() {
    if !here() {
        return;
    }
    let container = running("selinux-mounts", None, &Policy::hardened());
    let expected = format!("{FILE}{}", level_of(&container));
    for path in [
        "/tmp",
        "/run",
        "/dev",
        "/dev/shm",
        "/dev/pts",
        "/dev/mqueue",
        "/dev/null",
    ] {
        assert_eq!(label_of_file(&container, path), expected, "{path}");
    }
    let acts = [
        "create-file=/tmp/x",
        "create-file=/dev/shm/x",
        "open-device=/dev/null",
        "list-dir=/dev/pts",
    ];
    each(&container, &acts, "ok");
    // A covered directory is empty, and not forbidden (ENODATA is the probe's word for empty).
    let covered = "list-dir=/sys/firmware";
    assert_eq!(container.exec_acts(&[covered])[covered], "ENODATA at readdir");
}

/// A label of the spec's for mounts goes before gabion's own.
#[test]
fn a_label_for_mounts_is_kept() {
    if !here() {
        return;
    }
    let mut bundle = Bundle::new("selinux-mount-label");
    // Not the process's own pair, which it would be without one.
    let asked = format!("{FILE}s0:c3");
    let process = format!("{PROCESS}s0:c3,c4");
    bundle.config.set("/process/selinuxLabel", json!(process));
    bundle.config.set("/linux/mountLabel", json!(asked));
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run_detached().ok();
    for path in ["/tmp", "/dev/shm"] {
        assert_eq!(label_of_file(&container, path), asked, "{path}");
    }
}

/// keyctl is seccomp's to forbid, so that is off here.
#[test]
fn the_session_keyring_is_the_containers() {
    if !here() {
        return;
    }
    let container = running("selinux-keys", None, &alone().enforce("fds"));
    let expected = format!("ok {}", label_of(&container));
    let said = container.exec_acts(&["key-label", "add-key"]);
    assert_eq!(said["key-label"], expected);
    assert_eq!(said["add-key"], "ok");
}

/// Whoever may not look at vm.memfd_noexec cannot set it either: a kubelet's domain, by Debian's policy with gabion's module.
#[test]
fn a_sysctl_that_may_not_be_looked_at_is_not_taken_as_absent() {
    if !here() {
        return;
    }
    let bundle = Bundle::new("selinux-memfd");
    // Itself, not by way of gabion: that domain may not run what it is not entered by.
    let program = bundle.dir.join("gabionctl");
    std::fs::copy(Runtime::under_test().program.with_file_name("gabionctl"), &program).unwrap();
    chcon("system_u:object_r:kubelet_exec_t:s0", &program);
    let kubelets = Runtime { program, hardens: true };
    // Judged only: that domain may not make containers at all.
    let mut container = Container::of(&kubelets, bundle).policy(&Policy::permissive().enforce("sysctl"));
    let judged = container.op(&["check", &container.path()]).fails_with(3);
    assert!(judged.out.contains("sysctl.memfd-hidden"), "{judged}");
    container.runtime = Runtime::under_test().clone();
    container.op(&["check", &container.path()]).ok();
}
