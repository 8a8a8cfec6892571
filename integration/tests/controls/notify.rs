//! `seccomp`: a profile that asks a supervisor. Its socket gets the descriptor and the container's state.

use integration::command::limit;
use integration::fdpass::Listener;
use integration::{Bundle, Container, Policy};
use serde_json::{Value, json};

fn asks(test: &str) -> (Container, Listener) {
    let mut bundle = Bundle::new(test);
    let path = bundle.dir.join("notify");
    bundle.config.acts(&["personality"]).set(
        "/linux/seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
            "listenerPath": path, "listenerMetadata": "of the test",
            "syscalls": [{ "names": ["personality"], "action": "SCMP_ACT_NOTIFY" }]
        }),
    );
    let listener = Listener::bind(&path);
    (Container::new(bundle).policy(&Policy::hardened()), listener)
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
