//! exec: its options and exit codes.

use crate::{container, gabion};
use integration::command::{limit, until};
use integration::{Bundle, Container, Policy, unified};

fn shell(test: &str) -> Container {
    let container = Container::new(Bundle::with_busybox(test)).policy(&Policy::hardened());
    container.run_detached().ok();
    container
}

#[test]
fn exit_codes() {
    let container = shell("exec-codes");
    for code in [0, 3, 255] {
        container
            .exec(&["/bin/sh", "-c", &format!("exit {code}")])
            .fails_with(code);
    }
    container.exec(&["/bin/sh", "-c", "kill -9 $$"]).fails_with(137);
}

#[test]
fn what_cannot_be_started_is_255() {
    let container = container("exec-255");
    container.run_detached().ok();
    container.exec(&["/no/such/program"]).fails_with(255);
    assert_eq!(container.status(), "running");
}

#[test]
fn environment_directory_and_user() {
    let container = container("exec-options");
    container.run_detached().ok();
    let args = [
        "exec",
        "-e",
        "A=1",
        "-e",
        "B=2",
        "--cwd",
        "/var/tmp",
        "-u",
        "1000:1000",
        container.id(),
        "/usr/bin/probe",
    ];
    let done = container.op(&[&args[..], &["env", "cwd", "id"]].concat()).ok();
    let answers = integration::outcome::answers(&done.out);
    assert!(
        answers["env"].contains("A=1") && answers["env"].contains("B=2"),
        "{answers:?}"
    );
    assert_eq!(answers["cwd"], "ok /var/tmp");
    assert!(
        answers["id"].starts_with("ok Uid=1000,1000,1000,1000 Gid=1000,1000"),
        "{answers:?}"
    );
}

#[test]
fn options_of_the_program_are_the_programs() {
    let container = shell("exec-dashes");
    let done = container.exec(&["echo", "-e", "--detach", "x"]).ok();
    assert!(done.out.contains("--detach"), "{done}");
}

/// What cannot be raised is said, in runc's words, and the rest is had.
#[test]
fn ambient_capabilities_that_cannot_be_raised_are_told() {
    if !gabion() {
        return;
    }
    let mut bundle = Bundle::new("exec-ambient");
    for set in ["bounding", "permitted", "effective", "ambient"] {
        bundle.config.set(
            &format!("/process/capabilities/{set}"),
            serde_json::json!(["CAP_CHOWN", "CAP_KILL"]),
        );
    }
    bundle
        .config
        .set("/process/capabilities/inheritable", serde_json::json!(["CAP_KILL"]));
    let container = Container::new(bundle).policy(&Policy::permissive());
    let done = container.create().ok();
    assert_eq!(
        done.err.matches("can't raise ambient capability CAP_CHOWN: ").count(),
        1,
        "{done}"
    );
    assert!(!done.err.contains("CAP_KILL"), "{done}");
}

#[test]
fn detach_and_pid_file() {
    let container = container("exec-detach");
    container.run_detached().ok();
    let pid_file = container.bundle.dir.join("exec.pid");
    let file = pid_file.display().to_string();
    container
        .op(&[
            "exec",
            "--detach",
            "--pid-file",
            &file,
            container.id(),
            "/usr/bin/probe",
            "sleep",
        ])
        .ok();
    let pid: u32 = std::fs::read_to_string(&pid_file).unwrap().parse().unwrap();
    assert!(integration::leaks::is_alive(pid));
    let done = container.op(&["ps", "--format", "json", container.id()]).ok();
    let pids: Vec<u32> = serde_json::from_str(&done.out).unwrap();
    assert!(
        pids.contains(&pid) && pids.contains(&container.pid().unsigned_abs()),
        "{pids:?}"
    );
}

#[test]
fn into_a_stopped_or_absent_container_is_an_error() {
    let container = container("exec-stopped");
    let done = container.exec(&["/usr/bin/probe", "cwd"]);
    assert!(done.code != 0 && done.err.contains("does not exist"), "{done}");
    container.run_detached().ok();
    container.kill("9").ok();
    container.wait_status("stopped");
    assert!(container.exec(&["/usr/bin/probe", "cwd"]).code != 0);
}

#[test]
fn the_exec_is_in_the_containers_cgroup_and_namespaces() {
    let container = container("exec-inside");
    container.run_detached().ok();
    let pid = container.pid();
    let host = |kind: &str| {
        std::fs::read_link(format!("/proc/{pid}/ns/{kind}"))
            .unwrap()
            .display()
            .to_string()
    };
    for kind in ["pid", "net", "ipc", "uts", "mnt"] {
        let act = format!("namespace={kind}");
        assert_eq!(
            container.exec_acts(&[&act])[&act],
            format!("ok {}", host(kind)),
            "{kind}"
        );
    }
}

/// clone3(2), CLONE_INTO_CGROUP: nobody has to be moved, and no moment is outside of the limits. What is written of cgroups stands
/// in the diagnostics.
#[test]
fn on_v2_a_process_is_born_in_its_cgroup() {
    if !unified() || !gabion() {
        integration::left_out("needs cgroup v2");
        return;
    }
    let container = container("exec-born");
    let done = container
        .op(&[
            "--debug",
            "run",
            "--detach",
            "--bundle",
            &container.path(),
            container.id(),
        ])
        .ok();
    assert!(done.err.contains("pids.max"), "it tells of what it writes: {done}");
    assert!(!done.err.contains("cgroup.procs"), "moved: {done}");
    let place = std::fs::read_to_string(format!("/proc/{}/cgroup", container.pid())).unwrap();
    assert!(place.contains(container.id()), "{place}");
    let done = container
        .op(&["--debug", "exec", container.id(), "/usr/bin/probe", "cwd"])
        .ok();
    assert!(!done.err.contains("cgroup.procs"), "moved: {done}");
}

/// Where nobody can be born any more, who comes to look is let in beyond the limit.
#[test]
fn an_exec_gets_in_where_the_limit_of_processes_is_reached() {
    let mut bundle = Bundle::with_busybox("exec-full");
    let script = "for i in 1 2 3 4 5 6 7; do sleep 600 & done; wait";
    bundle
        .config
        .set("/linux/resources/pids", serde_json::json!({ "limit": 8 }))
        .args(&["/bin/sh", "-c", script]);
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run_detached().ok();
    let full = until(limit(20), || {
        container.cgroup("pids", "pids.current").as_deref() == Some("8")
    });
    assert!(full, "{:?}", container.cgroup("pids", "pids.current"));
    assert_eq!(container.exec(&["/bin/echo", "in"]).ok().out.trim(), "in");
}

#[test]
fn nothing_of_an_exec_is_left() {
    let container = shell("exec-nothing");
    container.exec(&["true"]).ok();
    let done = container.op(&["ps", "--format", "json", container.id()]).ok();
    let pids: Vec<i32> = serde_json::from_str(&done.out).unwrap();
    assert_eq!(pids, [container.pid()]);
}
