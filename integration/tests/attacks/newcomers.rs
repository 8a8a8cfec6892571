//! A process of ours that others in a container can see shows them nothing of the host (CVE-2016-9962 and its kind): its mounts, network,
//! cgroup, command line, environment and memory are the container's, or nobody's, from the first moment that it can be seen.

use integration::command::{Running, limit, until};
use integration::{Bundle, Container, Policy, Runtime, User};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use std::process::Command;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// How many processes are looked at: `GABION_EXECS`, or what a busy machine does in a minute.
static MANY: LazyLock<usize> = LazyLock::new(|| {
    let asked = std::env::var("GABION_EXECS");
    asked.map_or(200, |number| number.parse().expect("GABION_EXECS is a number"))
});

/// What `newcomers` told: how many it saw, how many of them before they ran their program, how many showed something, and what.
#[derive(Debug)]
struct Told {
    seen: usize,
    early: usize,
    showed: usize,
    what: String,
}

fn told(text: &str) -> Told {
    let line = text.lines().find(|l| l.contains(": ok seen=")).expect(text);
    let value = |key: &str| {
        let mut words = line.split(' ');
        words.find_map(|w| w.strip_prefix(key)).expect(line).to_owned()
    };
    let number = |key: &str| value(key).parse().expect(line);
    Told {
        seen: number("seen="),
        early: number("early="),
        showed: number("showed="),
        what: value("what="),
    }
}

/// Execs until the container's own process has seen enough of them; how many it took, and what it told.
fn execs(running: Running, mut exec: impl FnMut() -> Command) -> (usize, Told) {
    running.wait_for("watching");
    let mut made = 0;
    while made < *MANY * 2 {
        let done = exec().env("HOSTSECRET", "HOSTSECRET").output().expect("exec");
        if !done.status.success() {
            // The container ends when it has seen enough, maybe in the middle of one.
            assert!(made >= *MANY - 1, "{made}: {done:?}");
            break;
        }
        made += 1;
    }
    (made, told(&running.wait(limit(60)).ok().out))
}

/// Most of them were seen before they ran their program: on a busy machine some are through before anybody looks.
fn none_shows_anything((made, told): &(usize, Told)) {
    assert!(
        told.seen >= *MANY && told.early * 4 >= made * 3,
        "it did not look: {told:?} of {made}"
    );
    assert_eq!((told.showed, told.what.as_str()), (0, ""), "{told:?}");
}

fn watching(test: &str, how: &str, many: usize) -> Container {
    let mut bundle = Bundle::new(test);
    let act = format!("newcomers={how},{many},300");
    bundle.config.args(&["/usr/bin/probe", &act]);
    Container::new(bundle).policy(&Policy::permissive())
}

fn of_root(test: &str, how: &str) -> (usize, Told) {
    let container = watching(test, how, *MANY);
    let running = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    execs(running, || {
        container.command(&[
            "exec",
            "--env",
            "SECRET=hunter2",
            container.id(),
            "/usr/bin/probe",
            "cwd",
        ])
    })
}

#[test]
fn an_exec_of_roots_shows_nothing_of_the_host() {
    none_shows_anything(&of_root("newcomers-look", "look"));
}

/// Root in the container has all the time that it wants to look.
#[test]
fn an_exec_that_is_stopped_shows_nothing_of_the_host() {
    none_shows_anything(&of_root("newcomers-stop", "stop"));
}

/// With every capability in a user namespace of its own: whoever is root there may look into what the kernel does not keep from them.
#[test]
fn an_exec_of_a_users_shows_nothing_of_the_host() {
    let user = User::new(Bundle::new("newcomers-user"));
    let gabion = user.install(&Runtime::under_test().program);
    let path = user.bundle.bundle().display().to_string();
    let id = user.bundle.name.clone();
    let call = |words: &[&str]| user.command(&gabion, &[&["--level", "permissive"], words].concat());
    user.run(&gabion, &["spec", "--rootless", "--bundle", &path]).ok();
    let config = user.bundle.bundle().join("config.json");
    let mut spec: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&config).unwrap()).unwrap();
    let every = json!([
        "CAP_SYS_PTRACE",
        "CAP_SYS_ADMIN",
        "CAP_DAC_OVERRIDE",
        "CAP_DAC_READ_SEARCH",
        "CAP_KILL"
    ]);
    for set in ["bounding", "effective", "permitted"] {
        spec["process"]["capabilities"][set] = every.clone();
    }
    spec["process"]["terminal"] = json!(false);
    spec["process"]["args"] = json!(["/usr/bin/probe", format!("newcomers=stop,{},300", *MANY)]);
    std::fs::write(&config, spec.to_string()).unwrap();
    let running = Running::start(call(&["run", "--bundle", &path, &id]), &user.bundle.dir);
    running.wait_for("watching");
    // One shell for all: to become the user takes longer than an exec.
    let script = format!(
        "for i in $(seq {}); do HOSTSECRET=hunter2 {} --level permissive exec --env SECRET=hunter2 {id} /usr/bin/probe cwd \
         >/dev/null 2>&1 || break; done",
        *MANY + *MANY / 10,
        gabion.display(),
    );
    let shell = std::path::Path::new("/bin/sh");
    let made = Running::start(user.command(shell, &["-c", &script]), &user.bundle.dir).wait(limit(290));
    eprintln!("{}", made.err);
    let made = made.out.matches("cwd: ok").count();
    let told = told(&running.wait(limit(60)).ok().out);
    user.run(&gabion, &["delete", "--force", &id]);
    user.nothing_left();
    none_shows_anything(&(made, told));
}

/// The tests above can fail: a process that is not ours, in the pid namespace alone, shows the host's mounts, network and command line.
#[test]
fn what_shows_something_is_found() {
    let container = watching("newcomers-control", "stop", 1);
    let running = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    running.wait_for("watching");
    let mut enter = Command::new("nsenter");
    enter.args(["--target", &container.pid().to_string(), "--pid", "sleep", "0.5"]);
    // It dies with the container, which ends when it has seen enough.
    integration::command::run(enter, &container.bundle.dir);
    let told = told(&running.wait(limit(60)).ok().out);
    assert_eq!(told.showed, 1, "{told:?}");
    for what in ["mountinfo", "net", "cgroup", "cmdline"] {
        assert!(told.what.contains(what), "{told:?}");
    }
}

/// An exec whose process was stopped before it was a program. On a busy machine it takes more than one.
fn held(container: &Container, running: &Running, pid_file: &str, detach: bool) -> Running {
    let holds = || running.out().matches("holds it").count();
    for _ in 0..50 {
        let before = holds();
        let mut words = vec!["exec", "--pid-file", pid_file];
        if detach {
            words.push("--detach");
        }
        words.extend([container.id(), "/usr/bin/probe", "sleep"]);
        let exec = container.spawn(&words);
        if until(limit(2), || holds() > before) {
            return exec;
        }
    }
    panic!("none was held");
}

/// One that is stopped for good is told to end, or ended when its time is over; either way nothing of it is left.
#[test]
fn an_exec_that_is_held_ends_when_it_is_told_to_or_its_time_is_over() {
    let container = watching("newcomers-hold", "hold", 1000);
    let running = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    running.wait_for("watching");
    let pid_file = container.bundle.dir.join("exec.pid").display().to_string();
    for (signal, detach) in [
        (Some(Signal::SIGTERM), false),
        (Some(Signal::SIGTERM), true),
        (Some(Signal::SIGKILL), true),
        (None, true),
    ] {
        let exec = held(&container, &running, &pid_file, detach);
        // To where it waits for it.
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        if let Some(signal) = signal {
            kill(Pid::from_raw(exec.pid()), signal).unwrap();
        }
        let done = exec.wait(limit(60));
        let time = begun.elapsed();
        assert_ne!(done.code, 0, "{signal:?} {detach}: {done}");
        match signal {
            None => assert!(done.err.contains("did not go on for 30 s"), "{done}"),
            Some(Signal::SIGTERM) => assert!(
                done.err.contains("SIGTERM") && time < Duration::from_secs(5),
                "{done} {time:?}"
            ),
            Some(_) => {}
        }
        let alone = until(limit(5), || {
            let ps = container.op(&["ps", "--format", "json", container.id()]).ok();
            serde_json::from_str::<Vec<i32>>(&ps.out).unwrap().len() == 1
        });
        assert!(alone, "{signal:?} {detach}: its process is left");
        assert!(
            signal == Some(Signal::SIGKILL) || !std::path::Path::new(&pid_file).exists(),
            "a pid file of nobody"
        );
    }
}
