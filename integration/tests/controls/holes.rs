//! `holes`: what a service needs to write can be written, and nothing there can be executed.

use crate::hardens;
use integration::{Bundle, Container, Outcome, Policy};
use std::os::unix::fs::{PermissionsExt as _, chown};

const ANNOTATION: &str = "dev.gabion.holes";

fn hardened(bundle: Bundle, acts: &[&str]) -> Outcome {
    Container::new(bundle).policy(&Policy::hardened()).acts(acts)
}

#[test]
fn the_default_holes_can_be_written_and_not_executed() {
    if !hardens() {
        return;
    }
    let acts = [
        "create-file=/tmp/x",
        "create-file=/var/tmp/x",
        "create-file=/run/x",
        "write-file=/var/run/x",
        "create-file=/var/lib/app/x",
        "exec-file=/tmp/dropped",
        "mountinfo=/tmp",
        "mountinfo=/run",
    ];
    let outcome = hardened(Bundle::new("holes-default"), &acts);
    outcome.all_ok(&acts[..4]);
    outcome.denied("create-file=/var/lib/app/x", "EROFS");
    outcome.denied("exec-file=/tmp/dropped", "EACCES at exec");
    for hole in &acts[6..] {
        let info = outcome.ok(hole);
        assert!(
            ["nosuid", "nodev", "noexec"].iter().all(|flag| info.contains(flag)),
            "{info}"
        );
    }
    assert!(outcome.ok("mountinfo=/tmp").contains("type=tmpfs"));
}

#[test]
fn without_this_control_nothing_can_be_written() {
    if !hardens() {
        return;
    }
    let container = Container::new(Bundle::new("holes-off")).policy(&Policy::hardened().observe("holes"));
    let mut container = container;
    container
        .acts(&["create-file=/tmp/x"])
        .denied("create-file=/tmp/x", "EROFS");
}

#[test]
fn no_holes_where_the_spec_itself_asked_for_a_read_only_root() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("holes-readonly");
    bundle.config.set("/root/readonly", true.into());
    hardened(bundle, &["create-file=/tmp/x"]).denied("create-file=/tmp/x", "EROFS");
}

#[test]
fn a_declared_hole_keeps_the_images_content_and_owner() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("holes-copy-up");
    let dir = bundle.rootfs().join("var/lib/app");
    std::fs::write(dir.join("seed"), "seed").unwrap();
    chown(&dir, Some(1000), Some(1000)).unwrap();
    std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700)).unwrap();
    bundle
        .config
        .user(1000)
        .capabilities(&[])
        .annotation(ANNOTATION, "/var/lib/app:size=4m,/var/log/app");
    let outcome = hardened(
        bundle,
        &[
            "read-file=/var/lib/app/seed",
            "create-file=/var/lib/app/new",
            "exec-file=/var/lib/app/p",
        ],
    );
    outcome.ok("read-file=/var/lib/app/seed");
    outcome.ok("create-file=/var/lib/app/new");
    outcome.denied("exec-file=/var/lib/app/p", "EACCES at exec");
}

/// What was asked for holds over what the image has there: its owner is root, and the service is not.
#[test]
fn a_mode_that_is_asked_for_replaces_the_images() {
    if !hardens() {
        return;
    }
    let outcome = |hole: &str| {
        let mut bundle = Bundle::new("holes-mode");
        let dir = bundle.rootfs().join("var/lib/app");
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o755)).unwrap();
        bundle.config.user(1000).capabilities(&[]).annotation(ANNOTATION, hole);
        hardened(bundle, &["create-file=/var/lib/app/new"])
    };
    outcome("/var/lib/app").denied("create-file=/var/lib/app/new", "EACCES");
    outcome("/var/lib/app:mode=1777").ok("create-file=/var/lib/app/new");
}

#[test]
fn content_that_does_not_fit_is_a_refusal_that_names_the_size() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("holes-overflow");
    std::fs::write(bundle.rootfs().join("var/lib/app/big"), vec![1u8; 3 << 20]).unwrap();
    bundle.config.annotation(ANNOTATION, "/var/lib/app:size=1m");
    let container = Container::new(bundle).policy(&Policy::hardened());
    container.run().fails_with(1).says(&["holes.", "/var/lib/app", "1"]);
    container.nothing_left();
}

#[test]
fn the_specs_own_mounts_lie_above_the_holes() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("holes-below");
    let secrets = bundle.host_dir("secrets");
    std::fs::write(secrets.join("token"), "t").unwrap();
    std::fs::create_dir_all(bundle.rootfs().join("run/secrets")).unwrap();
    bundle.config.bind(secrets.to_str().unwrap(), "/run/secrets", &["ro"]);
    hardened(bundle, &["read-file=/run/secrets/token"]).ok("read-file=/run/secrets/token");
}

#[test]
fn no_hole_follows_a_symlink_of_the_image_out_of_it() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("holes-symlink");
    let outside = bundle.host_dir("outside");
    let link = bundle.rootfs().join("var/lib/evil");
    std::os::unix::fs::symlink(format!("../../../../../..{}", outside.display()), link).unwrap();
    bundle.config.annotation(ANNOTATION, "/var/lib/evil");
    let container = Container::new(bundle).policy(&Policy::hardened());
    drop(container.run());
    assert!(std::fs::read_dir(&outside).unwrap().next().is_none());
    container.nothing_left();
}
