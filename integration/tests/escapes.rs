//! Escapes tried by whoever writes config.json and the image, at the level that is the default.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

use std::fs;
use std::os::unix::fs::symlink;

use integration::{Bundle, Container, Policy};

fn shell(bundle: &mut Bundle, script: &str) {
    bundle.config.args(&["/usr/bin/sh", "-c", script]);
}

/// Where file systems of this type are mounted, in a container that printed its mountinfo.
fn places<'a>(mountinfo: &'a str, fstype: &str) -> Vec<&'a str> {
    let of_type = |line: &&str| line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with(fstype));
    let place = |line: &'a str| line.split(' ').nth(4);
    mountinfo.lines().filter(of_type).filter_map(place).collect()
}

/// The image says that `/b/link` is /proc. A volume that is mounted over the image's directory says otherwise, after the
/// destination was judged: a second /proc would lie in a hole, where nothing of it is masked and core_pattern can be written.
#[test]
fn a_volume_does_not_lead_a_second_proc_elsewhere() {
    let mut bundle = Bundle::with_busybox("escape-proc");
    let root = bundle.rootfs();
    fs::create_dir_all(root.join("a")).unwrap();
    fs::create_dir_all(root.join("tmp/elsewhere")).unwrap();
    symlink("a", root.join("b")).unwrap();
    symlink("/proc", root.join("a/link")).unwrap();
    let volume = bundle.host_dir("volume");
    symlink("/tmp/elsewhere", volume.join("link")).unwrap();
    bundle.config.bind(volume.to_str().unwrap(), "/a", &["ro"]);
    bundle.config.mount("/b/link", "proc", "proc", &[]);
    shell(&mut bundle, "cat /proc/self/mountinfo");
    let container = Container::new(bundle).policy(&Policy::hardened());
    let done = container.run().ok();
    let procs = places(&done.out, "proc");
    assert!(
        !procs.is_empty() && procs.iter().all(|p| p.starts_with("/proc")),
        "{procs:?}"
    );
}

/// The same by the destination that is judged as it is written: there is a symlink where it was to be.
#[test]
fn a_symlink_of_a_volume_in_a_destination_is_refused() {
    let mut bundle = Bundle::with_busybox("escape-link");
    fs::create_dir_all(bundle.rootfs().join("a")).unwrap();
    let volume = bundle.host_dir("volume");
    let other = bundle.host_dir("other");
    symlink("/usr/bin", volume.join("link")).unwrap();
    bundle.config.bind(volume.to_str().unwrap(), "/a", &["ro"]);
    bundle.config.bind(other.to_str().unwrap(), "/a/link", &["rw"]);
    shell(&mut bundle, "true");
    let container = Container::new(bundle).policy(&Policy::hardened());
    let done = container.run();
    assert!(
        done.code == 1 && done.err.contains("refused [mounts.led-elsewhere]"),
        "{done}"
    );
}
