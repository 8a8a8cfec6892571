//! `seccomp`: a profile that asks a supervisor. Its socket gets the descriptor and the container's state.

use crate::hardens;
use integration::command::limit;
use integration::fdpass::Listener;
use integration::{Bundle, Container, Policy};
use serde_json::{Value, json};

fn asks(test: &str) -> (Container, Listener) {
    let (container, path) = asks_at(test, "notify");
    let listener = Listener::bind(&path);
    (container, listener)
}

fn asks_at(test: &str, socket: &str) -> (Container, std::path::PathBuf) {
    let mut bundle = Bundle::new(test);
    let path = bundle.dir.join(socket);
    bundle.config.acts(&["personality"]).set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "listenerPath": path, "listenerMetadata": "of the test",
            "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_NOTIFY" }]
        }),
    );
    (Container::new(bundle).policy(&Policy::hardened()), path)
}

/// The supervisor hangs up: the calls it would have answered are ENOSYS.
#[test]
fn the_listener_gets_the_descriptor_and_the_state() {
    let (container, listener) = asks("notify");
    let run = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    let received = listener.receive();
    let state: Value = serde_json::from_str(&received.text).unwrap();
    assert_eq!(state["metadata"], "of the test");
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["state"]["id"], container.id());
    assert!(state["pid"].as_i64().is_some_and(|pid| pid > 0), "{state}");
    drop(received);
    let done = run.wait(limit(20)).ok();
    assert!(done.out.starts_with("personality: ENOSYS"), "{done}");
}

/// Whatever calls are notified, and nobody answers yet: gabion's own way to the end of `create` is none of them.
#[test]
fn it_comes_in_create_whichever_calls_are_notified() {
    let calls = [
        "accept4",
        "clone",
        "clone3",
        "close",
        "execve",
        "fcntl",
        "futex",
        "getsockopt",
        "getuid",
        "openat",
        "personality",
        "poll",
        "prctl",
        "read",
        "recvmsg",
        "rt_sigaction",
        "rt_sigprocmask",
        "seccomp",
        "sendmsg",
        "sendto",
        "wait4",
    ];
    for privileges in [true, false] {
        let (mut container, listener) = asks("notify-early");
        // Without no_new_privs capabilities are dropped under the filter: those calls are its own.
        let own: &[&str] = if privileges {
            &[]
        } else {
            &["fcntl", "openat", "prctl", "read", "close"]
        };
        let names: Vec<&str> = calls.into_iter().filter(|call| !own.contains(call)).collect();
        container
            .bundle
            .config
            .set("/linux/seccomp/syscalls/0/names", json!(names))
            .set(
                "/hooks",
                json!({"startContainer": [{"path": "/usr/bin/probe", "args": ["probe", "exit"]}]}),
            )
            .set("/process/noNewPrivileges", privileges.into());
        container.bundle.write_config();
        let policy = if privileges {
            Policy::hardened()
        } else {
            Policy::permissive()
        };
        let container = container.policy(&policy);
        container.create().ok();
        let received = listener.receive();
        let state: Value = serde_json::from_str(&received.text).unwrap();
        assert_eq!(state["state"]["status"], "creating", "{state}");
        assert_eq!(container.status(), "created");
        drop(received);
        container.op(&["delete", "--force", container.id()]).ok();
        container.nothing_left();
    }
}

/// Hooks and workload are under one filter, whose listener has one descriptor.
#[test]
fn a_start_hook_needs_no_listener_of_its_own() {
    let (mut container, listener) = asks("notify-hook");
    let hook = json!({"path": "/usr/bin/probe", "args": ["probe", "exit"]});
    container.bundle.config.set("/hooks", json!({"startContainer": [hook]}));
    container.bundle.write_config();
    container.create().ok();
    drop(listener.receive());
    container.start().ok();
    container.wait_status("stopped");
    container.delete().ok();
    container.nothing_left();
}

/// One that joins is told of with its own pid, and the container's with that of its first process.
#[test]
fn exec_tells_the_listener_of_a_container_that_runs() {
    let (mut container, listener) = asks("notify-exec");
    container.bundle.config.acts(&["sleep"]);
    container.bundle.write_config();
    container.create().ok();
    let first: Value = serde_json::from_str(&listener.receive().text).unwrap();
    container.start().ok();
    let exec = container.spawn(&["exec", container.id(), "/usr/bin/probe", "personality"]);
    let received = listener.receive();
    let told: Value = serde_json::from_str(&received.text).unwrap();
    assert_eq!(told["state"]["status"], "running", "{told}");
    assert_eq!(told["state"]["pid"], first["pid"]);
    assert_ne!(told["pid"], first["pid"]);
    drop(received);
    let done = exec.wait(limit(20)).ok();
    assert!(done.out.starts_with("personality: ENOSYS"), "{done}");
}

#[test]
fn without_a_listener_it_does_not_start() {
    let (container, listener) = asks("notify-deaf");
    drop(listener);
    let done = container.run();
    assert!(done.code != 0 && !done.out.contains("personality"), "{done}");
    container.nothing_left();
}

/// gabion would connect with its own rights, and write what the spec says (walls M7).
#[test]
fn an_engines_socket_is_no_listener() {
    if !hardens() {
        return;
    }
    let (container, path) = asks_at("notify-engine", "containerd.sock");
    let listener = Listener::bind(&path);
    let done = container.run().fails_with(1);
    assert!(done.err.contains("refused [seccomp.listener]"), "{done}");
    // Nor by another name, nor one of somebody else's, nor what is no socket.
    let link = container.bundle.dir.join("notify");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    let (other, at) = asks_at("notify-alias", "link.sock");
    std::os::unix::fs::symlink(&path, at).unwrap();
    assert!(other.run().fails_with(1).err.contains("refused [seccomp.listener]"));
    let (users, at) = asks_at("notify-user", "agent.sock");
    let theirs = Listener::bind(&at);
    std::os::unix::fs::chown(&at, Some(4242), None).unwrap();
    assert!(users.run().fails_with(1).err.contains("refused [seccomp.listener]"));
    drop(theirs);
    let (file, at) = asks_at("notify-file", "agent.sock");
    std::fs::write(&at, "").unwrap();
    assert!(file.run().fails_with(1).err.contains("refused [seccomp.listener]"));
    // With the rule off it is connected to, and told the metadata of the spec.
    let container = container.policy(&Policy::hardened().observe("seccomp"));
    let run = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    let received = listener.receive();
    assert!(received.text.contains("of the test"), "{}", received.text);
    drop(received);
    run.wait(limit(20));
}

/// The queue of a listener that accepts nobody is full: the runtime waits in bounds, and TERM ends it before.
#[test]
fn a_listener_that_accepts_nobody_does_not_keep_the_runtime() {
    use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
    use std::os::fd::AsRawFd;
    if !hardens() {
        return;
    }
    let (container, path) = asks_at("notify-full", "full.sock");
    let deaf = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).unwrap();
    bind(deaf.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&deaf, Backlog::new(0).unwrap()).unwrap();
    let first = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let run = container.spawn(&["run", "--bundle", &container.path(), container.id()]);
    let waits = || {
        let text = std::fs::read_to_string(format!("/proc/{}/wchan", run.pid())).unwrap_or_default();
        let state = container.bundle.state().join(container.id()).join("state.json");
        state.exists() && (text.contains("poll") || text == "0")
    };
    assert!(integration::command::until(limit(10), waits), "it does not wait");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(run.pid()), nix::sys::signal::Signal::SIGTERM).unwrap();
    let begun = std::time::Instant::now();
    let done = run.wait(limit(20));
    assert!(
        done.code != 0 && begun.elapsed() < std::time::Duration::from_secs(8),
        "{done}"
    );
    assert!(done.err.contains("ended by SIGTERM"), "{done}");
    drop(first);
    container.nothing_left();
}
