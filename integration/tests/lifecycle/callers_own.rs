//! What our caller is limited to by itself: gabion needs more for a moment, and the workload gets what is the caller's, or the cgroup's.

use integration::{Bundle, Container, Policy};
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;
use serde_json::json;
use std::process::Command;

/// More binds than the caller's soft limit of open files lets anybody open.
fn many_binds(name: &str, count: u32) -> Bundle {
    let mut bundle = Bundle::with_busybox(name);
    let host = bundle.host_dir("host").display().to_string();
    for n in 0..count {
        bundle.config.bind(&host, &format!("/tmp/{n}"), &["bind", "ro"]);
    }
    bundle.config.remove("/process/rlimits");
    bundle
}

/// The command under a soft limit of 40 open files.
fn limited(command: &Command) -> Command {
    under("ulimit -Sn 40", command)
}

fn under(limit: &str, command: &Command) -> Command {
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", &format!("{limit}; exec \"$0\" \"$@\"")]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

#[test]
fn a_caller_s_soft_limit_is_the_workload_s_and_not_ours() {
    for policy in [Policy::permissive(), Policy::hardened()] {
        let mut bundle = many_binds("own-limits", 60);
        bundle.config.args(&["/bin/sh", "-c", "ulimit -Sn; ulimit -Hn"]);
        let container = Container::new(bundle).policy(&policy);
        let words = ["run", "--bundle", &container.path(), container.id()];
        let done = integration::command::run(limited(&container.command(&words)), &container.bundle.dir).ok();
        let (soft, hard) = done.out.trim().split_once('\n').unwrap();
        assert_eq!(soft, "40");
        assert_ne!(hard, "40");
        let check = limited(&container.command(&["check", &container.path()]));
        integration::command::run(check, &container.bundle.dir).ok();
    }
}

/// Where the hard limit is too low, too, that is said, and nothing is left.
#[test]
fn a_hard_limit_that_is_too_low_is_named() {
    let mut bundle = many_binds("own-limits-hard", 60);
    bundle.config.args(&["/bin/true"]);
    let container = Container::new(bundle).policy(&Policy::permissive());
    for words in [
        &["run", "--bundle", &container.path(), container.id()][..],
        &["check", &container.path()],
    ] {
        let command = under("ulimit -n 100", &container.command(words));
        let done = integration::command::run(command, &container.bundle.dir).fails_with(1);
        done.says(&["60 binds", "open files", "100"]);
    }
    container.nothing_left();
}

#[test]
fn an_exec_s_soft_limit_is_its_caller_s() {
    let mut bundle = many_binds("own-limits-exec", 60);
    bundle.config.args(&["/bin/sleep", "100"]);
    let container = Container::new(bundle).policy(&Policy::permissive());
    container.create().ok();
    container.start().ok();
    let words = ["exec", container.id(), "/bin/sh", "-c", "ulimit -Sn"];
    let done = integration::command::run(limited(&container.command(&words)), &container.bundle.dir).ok();
    assert_eq!(done.out, "40\n");
}

/// A hook of the host's is a program that the caller's limit is for, too.
#[test]
fn a_hook_s_soft_limit_is_the_caller_s() {
    let mut bundle = many_binds("own-limits-hook", 2);
    let told = bundle.host_dir("told").join("limit");
    let word = format!("ulimit -Sn > {}", told.display());
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", word]}]);
    bundle.config.set("/hooks", json!({"createRuntime": hook}));
    bundle.config.args(&["/bin/true"]);
    let container = Container::new(bundle).policy(&Policy::permissive());
    let words = ["run", "--bundle", &container.path(), container.id()];
    integration::command::run(limited(&container.command(&words)), &container.bundle.dir).ok();
    assert_eq!(std::fs::read_to_string(told).unwrap(), "40\n");
}

/// `taskset -c 0 gabion run`: the CPUs are the cgroup's.
#[test]
fn the_caller_s_cpus_are_not_the_workload_s() {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<usize> = (0..CpuSet::count())
        .filter(|cpu| all.is_set(*cpu) == Ok(true))
        .collect();
    if cpus.len() < 2 {
        integration::left_out("the_caller_s_cpus_are_not_the_workload_s");
        return;
    }
    let mut bundle = Bundle::with_busybox("own-cpus");
    let count = "grep -c '^Cpus_allowed_list:.*[-,]' /proc/self/status";
    bundle
        .config
        .args(&["/bin/sh", "-c", &format!("{count}; exec sleep 100")]);
    let container = Container::new(bundle).policy(&Policy::permissive());
    std::thread::scope(|scope| {
        let bound = scope.spawn(|| {
            let mut one = CpuSet::new();
            one.set(cpus[0]).unwrap();
            // The thread's alone, and of what it starts.
            sched_setaffinity(Pid::from_raw(0), &one).unwrap();
            let run = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
            run.wait_for("1\n");
            let done = container.op(&["exec", container.id(), "/bin/sh", "-c", count]).ok();
            assert_eq!(done.out, "1\n");
            container.kill("KILL").ok();
            assert_eq!(run.wait(integration::command::limit(20)).code, 137);
        });
        bound.join().unwrap();
    });
}
