//! The names that engines give containers: `list` shows them, `attest` and `events` take them.

use std::path::PathBuf;

use crate::gabion;
use integration::{Bundle, Container, Policy};
use serde_json::{Value, json};

/// A container in a bundle where containerd has those of this namespace. The first one's root keeps the state of all.
fn task(test: &str, namespace: &str, annotations: Value) -> (Container, PathBuf) {
    let mut bundle = Bundle::new(test);
    let tasks = bundle.dir.join("io.containerd.runtime.v2.task").join(namespace);
    let dir = tasks.join(&bundle.name);
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::rename(bundle.rootfs(), dir.join("rootfs")).unwrap();
    bundle.config.set("/annotations", annotations);
    let container = Container::new(bundle).policy(&Policy::hardened());
    std::fs::copy(container.bundle.bundle().join("config.json"), dir.join("config.json")).unwrap();
    (container, dir)
}

fn pod(kind: &str, name: &str) -> Value {
    json!({"io.kubernetes.cri.container-type": kind, "io.kubernetes.cri.sandbox-namespace": "shop",
        "io.kubernetes.cri.sandbox-name": "web-0", "io.kubernetes.cri.container-name": name,
        "io.kubernetes.cri.image-name": "nginx:1\u{1b}[2J"})
}

#[test]
fn a_container_is_known_by_its_engines_name() {
    if !gabion() {
        return;
    }
    let (container, dir) = task("names-pod", "k8s.io", pod("container", "nginx"));
    let run = |id: &str, dir: &std::path::Path| {
        container
            .op(&["run", "--detach", "--bundle", dir.to_str().unwrap(), id])
            .ok()
    };
    drop(run(container.id(), &dir));
    let table = container.op(&["list"]).ok().out;
    assert!(
        table
            .lines()
            .next()
            .unwrap()
            .split_whitespace()
            .collect::<Vec<_>>()
            .ends_with(&["ENGINE", "NAME", "IMAGE"]),
        "{table}"
    );
    assert!(
        table.contains("kubernetes   shop/web-0/nginx   nginx:1\\u{1b}[2J\n"),
        "{table}"
    );
    let all: Vec<Value> = serde_json::from_str(&container.op(&["list", "--format", "json"]).ok().out).unwrap();
    assert_eq!(
        (&all[0]["engine"], &all[0]["name"]),
        (&json!("kubernetes"), &json!("shop/web-0/nginx"))
    );
    assert_eq!(
        all[0]["pod"],
        json!({"namespace": "shop", "pod": "web-0", "container": "nginx"})
    );
    // What callers read of one container is runc's alone.
    assert_eq!(container.state().get("engine"), None);
    for name in ["nginx", "web-0/nginx", "shop/web-0/nginx", container.id()] {
        assert!(
            container.op(&["attest", name]).ok().out.contains(container.id()),
            "{name}"
        );
        assert!(
            container
                .op(&["events", "--stats", name])
                .ok()
                .out
                .contains(container.id()),
            "{name}"
        );
    }
    // The beginning of an id is nothing to a command of runc's.
    let part = &container.id()[..container.id().len() - 1];
    drop(container.op(&["attest", part]).ok());
    drop(
        container
            .op(&["events", "--stats", part])
            .fails_with(1)
            .says(&["does not exist"]),
    );
    // nor a name to those that change something.
    drop(
        container
            .op(&["kill", "nginx"])
            .fails_with(1)
            .says(&["container nginx does not exist"]),
    );

    // A second one of that name, and one whose id is the name: the id counts.
    let (other, dir) = task("names-nerdctl", "default", json!({"nerdctl/name": "nginx"}));
    drop(run(other.id(), &dir));
    for command in [&["attest", "nginx"][..], &["events", "--stats", "nginx"]] {
        let said = container
            .op(command)
            .fails_with(1)
            .says(&["more than one container", "nerdctl nginx"]);
        assert!(
            said.err.contains(container.id()) && said.err.contains(other.id()),
            "{said}"
        );
    }
    let third = crate::container("names-id");
    drop(run("nginx", &third.bundle.bundle()));
    let told = container.op(&["events", "--stats", "nginx"]).ok();
    assert!(told.out.contains("\"id\":\"nginx\""), "{told}");
    for id in ["nginx", other.id(), container.id()] {
        drop(container.op(&["delete", "--force", id]).ok());
    }
}

/// Whoever writes the same annotations elsewhere has no name by them.
#[test]
fn annotations_alone_are_no_name() {
    if !gabion() {
        return;
    }
    let mut bundle = Bundle::new("names-forged");
    bundle.config.set("/annotations", pod("container", "nginx"));
    let container = Container::new(bundle).policy(&Policy::hardened());
    drop(container.run_detached().ok());
    let table = container.op(&["list"]).ok().out;
    assert!(!table.contains("ENGINE"), "{table}");
    drop(
        container
            .op(&["attest", "nginx"])
            .fails_with(1)
            .says(&["does not exist"]),
    );
    drop(container.op(&["delete", "--force", container.id()]).ok());
}
