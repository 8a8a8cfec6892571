//! Whose state is whose: two containerds on one machine, what an older shim left, and what was there before.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use common::host::{alive, run};
use common::{Node, SOON, runtime};
use nix::unistd::Pid;

#[test]
fn a_second_containerd_with_the_same_names_touches_nothing_of_the_first() {
    let (one, two) = (Node::start("one"), Node::start("two"));
    // All that could tell them apart is their own addresses.
    fs::copy(one.dir.join("options.toml"), two.dir.join("options.toml")).unwrap();
    let id = one.sleeper("s");
    let init = one.pid(&id);
    let second = two.run(&["-d"], &id, &["sleep", "1000"]);
    assert!(alive(init), "{second:?}");
    if second.status.success() {
        two.remove(&id);
    } else {
        // The cgroup's name is the same, too: that may be refused, and cleaned up after.
        two.ctr(&["container", "rm", &id]);
    }
    assert!(alive(init));
    assert_eq!(one.status(&id).as_deref(), Some("RUNNING"));
    two.assert_clean();
    one.remove(&id);
    one.assert_clean();
}

#[test]
fn a_directory_that_was_there_before_is_refused_and_left() {
    let node = Node::start("before");
    let id = node.id("x");
    let places = [node.root(), node.dir.join("runtime/default")].map(|root| root.join(&id));
    for place in &places {
        fs::create_dir_all(place.join("below")).unwrap();
        fs::write(place.join("below/file"), "somebody's").unwrap();
    }
    let ran = node.run(&["-d"], &id, &["sleep", "1000"]);
    assert!(!ran.status.success(), "{ran:?}");
    node.ctr(&["container", "rm", &id]);
    for place in &places {
        assert_eq!(fs::read_to_string(place.join("below/file")).unwrap(), "somebody's");
        fs::remove_dir_all(place).unwrap();
    }
    assert!(ran.err.contains("exists already"), "{ran:?}");
    node.assert_clean();
}

/// A container of `bundle` made in the place, and with the words, of a shim that knew its containerd's namespace only.
fn make_as_before(node: &Node, id: &str, bundle: &Path) -> Pid {
    let image = node.dir.join("image/root");
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&image), &bundle.join("rootfs"), None::<&str>, flags, None::<&str>).unwrap();
    let mut command = Command::new(runtime());
    command.arg("--root").arg(node.dir.join("runtime/default"));
    command.arg("--policy").arg(node.dir.join("policy.toml"));
    if common::by_systemd() {
        command.arg("--systemd-cgroup");
    }
    command.arg("create").arg("--bundle").arg(bundle);
    command.arg("--pid-file").arg(bundle.join("init.pid")).arg(id);
    run(command, &node.dir, None, SOON).ok();
    let pid = fs::read_to_string(bundle.join("init.pid")).unwrap();
    Pid::from_raw(pid.trim().parse().unwrap())
}

fn keep_as_before(node: &Node, bundle: &Path) {
    let kept = serde_json::json!({
        "binary": runtime(), "root": node.dir.join("runtime"), "policy": node.dir.join("policy.toml"),
        "level": null, "systemd_cgroup": common::by_systemd(),
    });
    fs::write(bundle.join("gabion-shim.json"), kept.to_string()).unwrap();
}

#[test]
fn what_an_older_shim_made_is_deleted_and_nobody_else_s() {
    let node = Node::start("older");
    let like = node.sleeper("s");
    let id = node.id("x");
    let bundle = node.bundle(&like, &id);
    let init = make_as_before(&node, &id, &bundle);
    // Another containerd's bundle for the same namespace and id, whose create failed because of the first.
    let other = node.dir.join("elsewhere").join(&id);
    fs::create_dir_all(other.join("rootfs")).unwrap();
    keep_as_before(&node, &other);
    let deleted = node.shim_delete(&id, &other);
    assert!(deleted.status.success(), "{deleted:?}");
    assert!(alive(init));
    keep_as_before(&node, &bundle);
    let deleted = node.shim_delete(&id, &bundle);
    assert!(deleted.status.success(), "{deleted:?}");
    assert!(!alive(init));
    assert!(!node.dir.join("runtime/default").join(&id).exists());
    assert!(common::host::mounts_below(&bundle).is_empty());
    node.remove(&like);
    node.assert_clean();
}

#[test]
fn gabion_finds_every_containerd_s_containers_without_a_root() {
    let node = Node::start("finds");
    let id = node.sleeper("s");
    node.gabion(&["state", &id]).ok();
    let parent = node.root().parent().unwrap().to_owned();
    // The default place is the machine's: here it is this node's, in a mount namespace of its own.
    let script = "mount -t tmpfs none /run/containerd && mkdir /run/containerd/gabion &&
        mount --bind \"$1\" /run/containerd/gabion && exec \"$2\" list";
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script, "sh"]).arg(&parent);
    command.arg(runtime()).stdin(Stdio::null());
    let list = run(command, &node.dir, None, SOON).ok();
    assert!(list.out.contains(&id), "{list:?}");
    node.remove(&id);
    node.assert_clean();
}
