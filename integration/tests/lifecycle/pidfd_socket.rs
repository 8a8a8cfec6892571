//! `--pidfd-socket` (runc 1.2): who called gets a descriptor of the process, before its program runs. And sockets of callers that nobody answers.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use integration::command::{limit, until};
use integration::fdpass::{Listener, Received};
use integration::{Bundle, Container, Policy};
use nix::sys::signal::{Signal, kill};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket};
use nix::unistd::Pid;
use serde_json::json;

use crate::gabion;

fn sleeper(test: &str) -> Container {
    let mut bundle = Bundle::new(test);
    bundle.config.acts(&["sleep"]);
    Container::new(bundle).policy(&Policy::hardened())
}

/// The pid that the descriptor is of, as the kernel says; -1 where that has ended.
fn pid_of(received: &Received) -> i32 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", received.fd)).unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("Pid:"));
    line.expect("it is no pidfd").trim().parse().unwrap()
}

#[test]
fn create_sends_the_first_processs() {
    if !gabion() {
        return;
    }
    for command in [&["create"][..], &["run", "--detach"]] {
        let container = sleeper("pidfd-create");
        let path = container.bundle.dir.join("pidfd");
        let listener = Listener::bind(&path);
        let bundle = container.path();
        let more = [
            "--pidfd-socket",
            path.to_str().unwrap(),
            "--bundle",
            &bundle,
            container.id(),
        ];
        container.op(&[command, &more].concat()).ok();
        let received = listener.receive();
        assert_eq!(received.text, "standard");
        assert_eq!(pid_of(&received), container.pid());
        container.op(&["delete", "--force", container.id()]).ok();
        assert!(until(limit(5), || pid_of(&received) == -1));
        container.nothing_left();
    }
}

#[test]
fn exec_sends_its_own() {
    if !gabion() {
        return;
    }
    let container = sleeper("pidfd-exec");
    container.run_detached().ok();
    let (path, file) = (container.bundle.dir.join("pidfd"), container.bundle.dir.join("pid"));
    let listener = Listener::bind(&path);
    let (socket, pid_file) = (path.to_str().unwrap(), file.to_str().unwrap());
    let words = [
        "exec",
        "--detach",
        "--pidfd-socket",
        socket,
        "--pid-file",
        pid_file,
        container.id(),
        "/usr/bin/probe",
        "sleep",
    ];
    container.op(&words).ok();
    let received = listener.receive();
    assert_eq!(received.text, "setns");
    assert_eq!(pid_of(&received).to_string(), fs::read_to_string(&file).unwrap());
}

/// What cannot be told of does not run.
#[test]
fn without_a_listener_nothing_begins() {
    if !gabion() {
        return;
    }
    let container = sleeper("pidfd-deaf");
    let path = container.bundle.dir.join("pidfd");
    drop(Listener::bind(&path));
    let socket = path.to_str().unwrap();
    for command in ["create", "run"] {
        let done = container.op(&[
            command,
            "--pidfd-socket",
            socket,
            "--bundle",
            &container.path(),
            container.id(),
        ]);
        done.fails_with(1).says(&[socket]);
        container.nothing_left();
    }
    container.run_detached().ok();
    let done = container.op(&[
        "exec",
        "--pidfd-socket",
        socket,
        container.id(),
        "/usr/bin/probe",
        "sleep",
    ]);
    done.fails_with(255).says(&[socket]);
    let ps = container.op(&["ps", "--format", "json", container.id()]).ok();
    assert_eq!(serde_json::from_str::<Vec<i32>>(&ps.out).unwrap().len(), 1, "{ps}");
}

/// A socket whose queue is full: who connects waits for somebody who accepts.
fn deaf(path: &Path) -> [std::os::fd::OwnedFd; 2] {
    let make = || socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    let (listener, first) = (make(), make());
    let address = UnixAddr::new(path).unwrap();
    bind(listener.as_raw_fd(), &address).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    connect(first.as_raw_fd(), &address).unwrap();
    [listener, first]
}

/// TERM ends the wait for a console, a pidfd and a seccomp listener's socket, and nothing is left.
#[test]
fn term_ends_the_wait_for_a_socket_that_nobody_answers() {
    if !gabion() {
        return;
    }
    for which in ["--console-socket", "--pidfd-socket", "listenerPath"] {
        let mut container = sleeper("socket-deaf");
        let path = container.bundle.dir.join("s");
        let queue = deaf(&path);
        let bundle = container.path();
        let mut words = vec!["run", "--bundle", &bundle];
        match which {
            "listenerPath" => {
                let seccomp = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path,
                    "syscalls": [{"names": ["mkdir"], "action": "SCMP_ACT_NOTIFY"}]});
                container.bundle.config.set("/linux/seccomp", seccomp);
            }
            flag => words.extend([flag, path.to_str().unwrap()]),
        }
        if which == "--console-socket" {
            container.bundle.config.set("/process/terminal", true.into());
        }
        container.bundle.write_config();
        let id = container.id().to_owned();
        words.push(&id);
        let running = container.spawn(&words);
        // Until it holds TERM back, which it does where it waits.
        let status = format!("/proc/{}/status", running.pid());
        let holds = || {
            let status = fs::read_to_string(&status).unwrap_or_default();
            let mask = status
                .lines()
                .find_map(|line| line.strip_prefix("SigBlk:\t"))
                .unwrap_or("0");
            u64::from_str_radix(mask, 16).unwrap_or(0) & (1 << 14) != 0 && has_socket(running.pid())
        };
        assert!(until(limit(10), holds), "{which}");
        let asked = Instant::now();
        kill(Pid::from_raw(running.pid()), Signal::SIGTERM).unwrap();
        let done = running.wait(limit(5));
        assert!(asked.elapsed() < Duration::from_secs(5));
        done.fails_with(1).says(&["SIGTERM"]);
        drop(queue);
        container.nothing_left();
    }
}

/// Whether it has a socket that is not connected: the one that it tries to connect.
fn has_socket(pid: i32) -> bool {
    let Ok(fds) = fs::read_dir(format!("/proc/{pid}/fd")) else {
        return false;
    };
    let mut links = fds.flatten().filter_map(|fd| fs::read_link(fd.path()).ok());
    links.any(|link| link.to_string_lossy().starts_with("socket:"))
}
