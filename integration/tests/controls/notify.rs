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

#[test]
fn without_a_listener_it_does_not_start() {
    let (container, listener) = asks("notify-deaf");
    drop(listener);
    let done = container.run();
    assert!(done.code != 0 && !done.out.contains("personality"), "{done}");
    container.nothing_left();
}
