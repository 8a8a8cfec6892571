//! What containerd is told of a container, in its order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::PathBuf;

use common::{Node, SOON, until};

/// What `ctr events` has seen of containers, from when it is known to listen.
struct Events {
    listener: std::process::Child,
    log: PathBuf,
}

impl Events {
    fn listen(node: &Node) -> Self {
        let log = node.dir.join("events");
        let mut command = node.ctr_command(&["events"]);
        let listener = command.stdout(fs::File::create(&log).unwrap()).spawn().unwrap();
        let events = Self { listener, log };
        let mut attempt = 0;
        until(SOON, "it listens", || {
            attempt += 1;
            node.ctr(&["namespaces", "label", "default", &format!("attempt={attempt}")])
                .ok();
            events.text().contains("/namespaces/update").then_some(())
        });
        events
    }

    fn text(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The topics of a container's events, in their order.
    fn of(&self, id: &str) -> Vec<String> {
        let text = self.text();
        let wanted = format!("\"container_id\":\"{id}\"");
        let lines = text.lines().filter(|line| line.contains(&wanted));
        let topics = lines.filter_map(|line| line.split_whitespace().find_map(|word| word.strip_prefix("/tasks/")));
        topics.map(str::to_owned).collect()
    }

    fn until(&self, id: &str, topic: &str) {
        until(SOON, topic, || {
            self.of(id).iter().any(|seen| seen == topic).then_some(())
        });
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.listener.kill().unwrap();
        self.listener.wait().unwrap();
    }
}

#[test]
fn events_come_in_order_and_once() {
    let node = Node::start("event");
    let events = Events::listen(&node);
    let id = node.sleeper("s");
    node.ctr(&["task", "exec", "--exec-id", "e", &id, "true"]).ok();
    node.ctr(&["task", "pause", &id]).ok();
    node.ctr(&["task", "resume", &id]).ok();
    node.remove(&id);
    let quick: Vec<_> = (0..10).map(|round| node.id(&format!("quick{round}"))).collect();
    for id in &quick {
        node.run(&["--rm"], id, &["true"]).ok();
    }
    // What came twice would have come by the time that another container's whole life has been told.
    let last = node.id("last");
    node.run(&["--rm"], &last, &["true"]).ok();
    for id in quick.iter().chain([&id, &last]) {
        events.until(id, "delete");
    }
    let expected = [
        "create",
        "start",
        "exec-added",
        "exec-started",
        "exit",
        "paused",
        "resumed",
        "exit",
        "delete",
    ];
    assert_eq!(events.of(&id), expected, "{}", events.text());
    for id in &quick {
        assert_eq!(
            events.of(id),
            ["create", "start", "exit", "delete"],
            "{}",
            events.text()
        );
    }
    drop(events);
    node.assert_clean();
}

#[test]
fn out_of_memory_is_an_event() {
    let node = Node::start("oom");
    let events = Events::listen(&node);
    let id = node.id("eats");
    let limit = (16 << 20).to_string();
    let ran = node.run(
        &["--rm", "--memory-limit", &limit],
        &id,
        &["sh", "-c", "dd if=/dev/zero of=/dev/null bs=64M"],
    );
    assert_ne!(ran.code(), Some(0));
    events.until(&id, "oom");
    drop(events);
    node.assert_clean();
}
