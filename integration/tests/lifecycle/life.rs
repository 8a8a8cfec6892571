//! create, start, state, kill, delete, pause.

use crate::{container, gabion, script};
use integration::command::{limit, until};
use integration::{Bundle, Container, Policy, leaks};

#[test]
fn created_running_stopped_gone() {
    let container = container("life");
    container.create().ok();
    let state = container.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["id"], container.id());
    assert_eq!(state["bundle"], container.path());
    assert!(
        state["ociVersion"]
            .as_str()
            .is_some_and(|version| version.starts_with("1.")),
        "{state}"
    );
    let pid = container.pid();
    assert!(leaks::is_alive(pid.unsigned_abs()));
    container.start().ok();
    assert_eq!(container.status(), "running");
    assert_eq!(container.pid(), pid);
    container.kill("KILL").ok();
    container.wait_status("stopped");
    assert!(!leaks::is_alive(pid.unsigned_abs()));
    container.delete().ok();
    let done = container.op(&["state", container.id()]);
    assert!(done.code == 1 && done.err.contains("does not exist"), "{done}");
    container.nothing_left();
}

#[test]
fn the_workload_does_not_run_before_start() {
    let container = script("life-waits", "echo started; sleep 60");
    let create = container.spawn(&["create", "--bundle", &container.path(), container.id()]);
    container.wait_status("created");
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(create.out(), "");
    container.start().ok();
    create.wait_for("started");
    create.wait(limit(20)).ok();
}

#[test]
fn options_may_stand_after_the_id() {
    let container = container("life-order");
    let pid_file = container.bundle.dir.join("pid");
    let (path, pid_file) = (container.path(), pid_file.display().to_string());
    if gabion() {
        container
            .op(&["create", container.id(), "--bundle", &path, "--pid-file", &pid_file])
            .ok();
    } else {
        container
            .op(&["create", "--bundle", &path, "--pid-file", &pid_file, container.id()])
            .ok();
    }
    assert_eq!(std::fs::read_to_string(&pid_file).unwrap(), container.pid().to_string());
    if gabion() {
        container.op(&["delete", container.id(), "--force"]).ok();
        container.nothing_left();
    }
}

#[test]
fn the_bundle_defaults_to_the_working_directory() {
    let container = container("life-cwd");
    let mut command = container.command(&["create", container.id()]);
    command.current_dir(container.bundle.bundle());
    integration::command::run(command, &container.bundle.dir).ok();
    assert_eq!(container.status(), "created");
}

/// Who stops a container that was never started need not wait for the time at which it is killed: its first process ends as runc's does.
#[test]
fn what_asks_a_program_to_end_ends_one_that_waits_for_its_start() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let container = container(&format!("life-waits-{signal}"));
        container
            .op(&["create", "--bundle", &container.path(), container.id()])
            .ok();
        // As many programs do with it: nothing.
        container.op(&["kill", container.id(), "USR1"]).ok();
        assert_eq!(container.status(), "created");
        container.op(&["kill", container.id(), signal]).ok();
        container.wait_status("stopped");
        container.op(&["delete", container.id()]).ok();
        container.nothing_left();
    }
}

#[test]
fn signals_by_number_and_by_name() {
    for signal in ["TERM", "SIGTERM", "15"] {
        let mut bundle = Bundle::new("life-signal");
        bundle.config.acts(&["wait-term=0"]);
        let container = Container::new(bundle).policy(&Policy::hardened());
        let run = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
        run.wait_for("waiting");
        container.kill(signal).ok();
        run.wait(limit(20)).ok();
    }
    let container = container("life-signal-bad");
    container.create().ok();
    assert_eq!(container.kill("NOSUCH").code, 1);
}

#[test]
fn kill_all_ends_every_process() {
    let container = script("life-kill-all", "sleep 100 & sleep 100 & echo up; wait");
    let run = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    run.wait_for("up");
    container.op(&["kill", "--all", container.id(), "KILL"]).ok();
    assert_eq!(run.wait(limit(20)).code, 137);
}

/// With the host's pid namespace the end of the first process does not end the others.
#[test]
fn kill_all_without_a_pid_namespace() {
    let mut bundle = Bundle::with_busybox("life-kill-shared");
    bundle
        .config
        .without_namespace("pid")
        .args(&["/bin/sh", "-c", "sleep 100 & sleep 100 & wait"]);
    let container = Container::new(bundle).policy(&Policy::permissive());
    container.run_detached().ok();
    let pid = container.pid().unsigned_abs();
    container.op(&["kill", "--all", container.id(), "9"]).ok();
    assert!(until(limit(10), || !leaks::is_alive(pid)));
    container.op(&["delete", "--force", container.id()]).ok();
    container.nothing_left();
}

#[test]
fn a_running_container_is_not_deleted_without_force() {
    let container = container("life-delete");
    container.run_detached().ok();
    assert_eq!(container.delete().code, 1);
    assert_eq!(container.status(), "running");
    container.op(&["delete", "--force", container.id()]).ok();
    container.nothing_left();
}

#[test]
fn deleting_what_is_not_there() {
    let container = container("life-absent");
    let done = container.delete();
    assert!(done.code == 1 && done.err.contains("does not exist"), "{done}");
    container.op(&["delete", "--force", container.id()]).ok();
}

#[test]
fn starting_twice_is_an_error() {
    let container = container("life-twice");
    container.create().ok();
    container.start().ok();
    assert_eq!(container.start().code, 1);
    assert_eq!(container.status(), "running");
}

/// Which of them wins is open; those that lose end nothing.
#[test]
fn of_starts_at_once_one_wins_and_its_workload_lives() {
    for round in 0..10 {
        let container = container(&format!("life-race-{round}"));
        container.create().ok();
        let starts: Vec<_> = (0..4).map(|_| container.spawn(&["start", container.id()])).collect();
        let codes: Vec<i32> = starts.into_iter().map(|start| start.wait(limit(30)).code).collect();
        assert!(codes.contains(&0), "{codes:?}");
        assert_eq!(container.status(), "running", "{codes:?}");
        container.op(&["delete", "--force", container.id()]).ok();
        container.nothing_left();
    }
}

#[test]
fn killing_a_stopped_container_says_so_in_containerds_words() {
    let container = container("life-dead");
    container.run_detached().ok();
    container.kill("9").ok();
    container.wait_status("stopped");
    let done = container.kill("9");
    let known = ["container not running", "no such process"]
        .iter()
        .any(|words| done.err.contains(words));
    assert!(done.code == 1 && known, "{done}");
}

#[test]
fn pause_and_resume() {
    let container = container("life-pause");
    container.run_detached().ok();
    container.op(&["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    container
        .exec(&["true"])
        .fails_with(255)
        .says(&["cannot exec in a paused container"]);
    container.op(&["resume", container.id()]).ok();
    assert_eq!(container.status(), "running");
}

#[test]
fn a_paused_container_can_be_deleted_by_force() {
    let container = container("life-pause-delete");
    container.run_detached().ok();
    container.op(&["pause", container.id()]).ok();
    container.op(&["delete", "--force", container.id()]).ok();
    container.nothing_left();
}

#[test]
fn an_id_in_use_is_an_error_and_the_first_lives_on() {
    let container = container("life-in-use");
    container.run_detached().ok();
    let done = container.create();
    assert!(done.code == 1 && done.err.contains("exist"), "{done}");
    assert_eq!(container.status(), "running");
}

/// The runtime may be started with the parent-death signal set: it must not reach the container.
#[test]
fn the_container_outlives_the_create_that_made_it() {
    let container = container("life-pdeathsig");
    let inner = container.command(&["create", "--bundle", &container.path(), container.id()]);
    let mut command = std::process::Command::new("setpriv");
    command
        .args(["--pdeathsig", "KILL"])
        .arg(inner.get_program())
        .args(inner.get_args());
    integration::command::run(command, &container.bundle.dir).ok();
    container.start().ok();
    assert_eq!(container.status(), "running");
}
