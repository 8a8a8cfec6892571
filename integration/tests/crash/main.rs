//! Two callers at once, and a runtime that dies anywhere: `state` never lies, and `delete --force` leaves the machine as it was.
//! The harness checks at the end of each test that no mount, cgroup, process or state is left.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

mod damaged;

use integration::cgroup::by_systemd;
use integration::command::{limit, run, until};
use integration::{Bundle, Container, Done, Policy, leaks};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::process::{Command, Stdio};
use std::time::Duration;

fn container(test: &str) -> Container {
    Container::new(Bundle::new(test)).policy(&Policy::hardened())
}

const STATES: [&str; 5] = ["creating", "created", "running", "paused", "stopped"];

/// The state is one of those there are, or there is none; a pid that it names lives. A runtime that was killed may have sent KILL
/// before, which takes effect when the kernel gets to it: a process that dies after the state was told is «stopped» when asked again.
fn state_is_true(container: &Container, when: &str) {
    if !state_fits(container, when) {
        assert!(
            state_fits(container, when),
            "{when}: told again of a process that is gone"
        );
    }
}

/// Whether the process of the state that was told is (still) there where the status says so, and is not where it does not.
fn state_fits(container: &Container, when: &str) -> bool {
    let done = container.op(&["state", container.id()]);
    if done.code != 0 {
        assert!(done.err.contains("does not exist"), "{when}: {done}");
        return true;
    }
    let state: serde_json::Value = serde_json::from_str(&done.out).unwrap();
    let status = state["status"].as_str().unwrap();
    assert!(STATES.contains(&status), "{when}: {done}");
    let pid = state["pid"].as_u64().unwrap_or(0);
    let alive = pid != 0 && leaks::is_alive(u32::try_from(pid).unwrap());
    let said = matches!(status, "created" | "running" | "paused");
    // A process can end in between, it cannot come back.
    assert!(said || !alive, "{when}: {done}");
    said == alive
}

/// Starts a command, kills it after so long, and gives whether it was still at work.
fn killed_after(container: &Container, args: &[&str], time: Duration) -> bool {
    let mut command = container.command(args);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    std::thread::sleep(time);
    let working = matches!(child.try_wait(), Ok(None));
    child.kill().unwrap();
    child.wait().unwrap();
    working
}

#[test]
fn create_that_is_killed_anywhere_can_be_cleaned_up() {
    let mut interrupted = 0;
    for step in 0..40_u64 {
        let container = container("killed-create");
        let path = container.path();
        let time = Duration::from_micros(step * step * 60);
        if killed_after(&container, &["create", "--bundle", &path, container.id()], time) {
            interrupted += 1;
        }
        state_is_true(&container, &format!("create killed after {time:?}"));
        container.op(&["delete", "--force", container.id()]).ok();
        container.nothing_left();
        assert_eq!(container.op(&["list", "-q"]).ok().out, "");
    }
    assert!(interrupted > 3, "the runtime was never caught at work");
}

#[test]
fn start_and_delete_that_are_killed_can_be_repeated() {
    for step in 0..8_u64 {
        let container = container("killed-others");
        container.create().ok();
        let time = Duration::from_millis(step * 2);
        killed_after(&container, &["start", container.id()], time);
        state_is_true(&container, &format!("start killed after {time:?}"));
        killed_after(&container, &["delete", "--force", container.id()], time);
        state_is_true(&container, &format!("delete killed after {time:?}"));
        container.op(&["delete", "--force", container.id()]).ok();
        container.nothing_left();
    }
}

#[test]
fn of_two_creates_of_one_id_one_wins() {
    for _ in 0..5 {
        let container = container("two-creates");
        let path = container.path();
        let words = ["create", "--bundle", &path, container.id()];
        let (a, b) = (container.spawn(&words), container.spawn(&words));
        let codes = [a.wait(limit(20)), b.wait(limit(20))];
        assert_eq!(codes.iter().filter(|d| d.code == 0).count(), 1, "{codes:?}");
        let lost = codes.iter().find(|d| d.code != 0).unwrap();
        assert!(lost.err.contains("already exists"), "{lost}");
        // The winner's container is whole.
        container.start().ok();
        container.wait_status("running");
    }
}

#[test]
fn deletes_at_once_leave_nothing() {
    let container = container("two-deletes");
    container.run_detached().ok();
    let words = ["delete", "--force", container.id()];
    let running: Vec<_> = (0..4).map(|_| container.spawn(&words)).collect();
    let codes: Vec<i32> = running.into_iter().map(|r| r.wait(limit(30)).code).collect();
    assert!(codes.contains(&0), "{codes:?}");
    container.op(&words).ok();
    container.nothing_left();
}

#[test]
fn delete_during_start_ends_both() {
    for step in 0..4_u64 {
        let container = container("delete-start");
        container.create().ok();
        let start = container.spawn(&["start", container.id()]);
        std::thread::sleep(Duration::from_millis(step * 3));
        container.op(&["delete", "--force", container.id()]).ok();
        start.wait(limit(20));
        container.nothing_left();
    }
}

#[test]
fn updates_at_once_are_all_kept() {
    let container = container("updates");
    container.run_detached().ok();
    let (id, all) = (
        container.id().to_owned(),
        [["--pids-limit", "100"], ["--cpu-share", "333"], ["--memory", "99m"]],
    );
    let running: Vec<_> = all
        .iter()
        .map(|[flag, value]| container.spawn(&["update", flag, value, &id]))
        .collect();
    for one in running {
        one.wait(limit(30)).ok();
    }
    // One more update writes nothing of these, and the state has them all.
    let text = std::fs::read_to_string(container.bundle.state().join(&id).join("state.json")).unwrap();
    let state: serde_json::Value = serde_json::from_str(&text).unwrap();
    let resources = &state["hardened"]["spec"]["linux"]["resources"];
    assert_eq!(resources["pids"]["limit"], 100);
    assert_eq!(resources["cpu"]["shares"], 333);
    assert_eq!(resources["memory"]["limit"], 99 << 20);
    assert_eq!(resources["memory"]["swap"], 99 << 20, "swap stays closed");
}

#[test]
fn an_update_that_lifts_a_bound_changes_nothing() {
    let container = container("update-refused");
    container.run_detached().ok();
    let before = container.cgroup("pids", "pids.max");
    for (words, code) in [
        (["--pids-limit", "-1"], "cgroup.pids-unlimited"),
        // As much as the machine has.
        (["--pids-limit", "9999999"], "cgroup.pids-unlimited"),
        (["--memory", "-1"], "cgroup.memory-unlimited"),
    ] {
        // Whatever level this call names: the one of create governs.
        let done = container
            .op(&["update", words[0], words[1], container.id()])
            .fails_with(1);
        done.says(&["refused", code]);
    }
    assert_eq!(container.cgroup("pids", "pids.max"), before);
}

#[test]
fn a_pid_that_came_round_again_is_not_the_container() {
    let container = container("pid-reuse");
    container.run_detached().ok();
    let pid = container.pid();
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    container.wait_status("stopped");
    // Another process with the number: ours, with another start time.
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    let file = container.bundle.state().join(container.id()).join("pid");
    let start = std::fs::read_to_string(&file)
        .unwrap()
        .split_once(' ')
        .unwrap()
        .1
        .to_owned();
    std::fs::write(&file, format!("{} {start}", other.id())).unwrap();
    assert_eq!(container.status(), "stopped");
    container.op(&["kill", container.id(), "KILL"]).fails_with(1);
    container.op(&["delete", "--force", container.id()]).ok();
    assert!(matches!(other.try_wait(), Ok(None)), "the other process was killed");
    other.kill().unwrap();
    other.wait().unwrap();
}

/// A shell in a mount namespace of its own, for a file system that only it sees; `$0` is the runtime.
fn in_own_mounts(container: &Container, script: &str) -> Done {
    let mut shell = Command::new("unshare");
    shell
        .args(["-m", "--propagation", "private", "sh", "-c", script])
        .arg(&container.runtime.program);
    run(shell, &container.bundle.dir)
}

/// The disk fills up later: what needs no room works, an update that cannot be kept is none, and delete gives all back.
#[test]
fn a_disk_that_fills_up_under_a_container_is_survived() {
    let container = container("disk-fills");
    let root = container.bundle.dir.join("small");
    std::fs::create_dir(&root).unwrap();
    let script = format!(
        "set -e; mount -t tmpfs -o size=512k,mode=700 none {root}; g() {{ \"$0\" --root {root} {driver} --level hardened \"$@\"; }}; \
         g create --bundle {bundle} {id} </dev/null >/dev/null; \
         dd if=/dev/zero of={root}/.fill bs=1k 2>/dev/null || true; \
         g start {id}; \
         cp {root}/{id}/state.json {dir}/before; \
         if g update --pids-limit 55 {id}; then echo updated; exit 1; fi; \
         cmp {root}/{id}/state.json {dir}/before; \
         g state {id} | grep -q running; echo; echo pids $(cat /sys/fs/cgroup/pids/{id}/pids.max || cat /sys/fs/cgroup/{id}/pids.max || \
         cat /sys/fs/cgroup/system.slice/git-{id}.scope/pids.max); \
         g kill {id} KILL; g delete --force {id}; ! test -e {root}/{id}",
        root = root.display(),
        bundle = container.path(),
        dir = container.bundle.dir.display(),
        driver = if by_systemd() { "--systemd-cgroup" } else { "" },
        id = container.id()
    );
    let done = in_own_mounts(&container, &script).ok();
    assert!(
        done.err.contains("gabion: ") && done.out.contains("pids 4096"),
        "{done}"
    );
    assert!(until(limit(20), || leaks::of(&container.bundle).is_empty()));
}

#[test]
fn no_room_for_the_state_is_an_error_and_nothing_stays() {
    let mut failed = 0;
    for size in ["4k", "8k", "16k"] {
        let container = container("full-disk");
        let root = container.bundle.dir.join("tiny");
        std::fs::create_dir(&root).unwrap();
        let script = format!(
            "mount -t tmpfs -o size={size},mode=700 none {root} && \"$0\" --root {root} --level permissive create --bundle {bundle} {id}; \
             code=$?; test $code = 0 || ! test -e {root}/{id} || exit 98; \"$0\" --root {root} delete --force {id} || exit 99; exit $code",
            root = root.display(),
            bundle = container.path(),
            id = container.id()
        );
        let done = in_own_mounts(&container, &script);
        assert!(matches!(done.code, 0 | 1), "{size}: {done}");
        failed += i32::from(done.code == 1 && done.err.contains("gabion: "));
        assert!(
            until(limit(3), || leaks::of(&container.bundle).is_empty()),
            "{size}: {:?}",
            leaks::of(&container.bundle)
        );
    }
    assert!(failed > 0, "there was always room");
}
