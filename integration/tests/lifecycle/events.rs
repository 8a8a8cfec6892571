//! `events`: numbers again and again, and the kernel's word that memory ran out.

use integration::command::limit;
use integration::{Bundle, Container, Policy};
use serde_json::{Value, json};

fn small(test: &str) -> Container {
    let mut bundle = Bundle::with_busybox(test);
    bundle
        .config
        .set(
            "/linux/resources/memory",
            json!({ "limit": 33_554_432, "swap": 33_554_432 }),
        )
        .args(&["/bin/sh", "-c", "while :; do sleep 1; done"]);
    Container::new(bundle).policy(&Policy::hardened())
}

/// Each line is one object.
fn lines(out: &str) -> Vec<Value> {
    let whole = out.rfind('\n').map_or("", |end| &out[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn they_come_at_the_interval_until_the_container_ends() {
    let container = small("events-interval");
    container.run_detached().ok();
    let running = container.spawn(&["events", "--interval", "100ms", container.id()]);
    let seen = integration::command::until(limit(20), || lines(&running.out()).len() >= 3);
    assert!(seen, "{}", running.out());
    container.kill("KILL").ok();
    let done = running.wait(limit(20)).ok();
    for event in lines(&done.out) {
        assert_eq!(
            (&event["type"], &event["id"]),
            (&json!("stats"), &json!(container.id()))
        );
        assert_eq!(event["data"]["memory"]["usage"]["limit"], 33_554_432);
    }
}

#[test]
fn the_end_of_memory_is_told() {
    let container = small("events-oom");
    container.run_detached().ok();
    // A long interval: what comes is not the next look at the numbers.
    let running = container.spawn(&["events", "--interval", "1h", container.id()]);
    let told = integration::command::until(limit(40), || {
        // More than there is; killed by the kernel, and not only once: the watch may have begun after the first.
        let done = container.exec(&["busybox", "dd", "if=/dev/zero", "of=/dev/null", "bs=128M", "count=1"]);
        assert_ne!(done.code, 0, "{done}");
        running.out().contains("\"oom\"")
    });
    assert!(told, "{}", running.out());
    assert!(
        lines(&running.out())
            .iter()
            .all(|event| event["type"] == "oom" && event["data"].is_null())
    );
    container.kill("KILL").ok();
    running.wait(limit(20)).ok();
}
