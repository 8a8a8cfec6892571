//! Escapes tried by whoever writes config.json and the image, at the level that is the default.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "test code: a panic is how a test fails"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

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

/// A root that the host mounted a procfs below, as chroots have: it came along, with no mask and no flag.
#[test]
fn a_proc_that_the_host_mounted_below_the_root_is_refused() {
    let mut bundle = Bundle::with_busybox("escape-chroot");
    let inner = bundle.rootfs().join("srv/proc");
    fs::create_dir_all(&inner).unwrap();
    shell(&mut bundle, "true");
    let container = Container::new(bundle).policy(&Policy::hardened());
    let run = container.command(&["run", "--bundle", &container.path(), container.id()]);
    // In a mount namespace of the test's own, so that nothing of it is left.
    let mut apart = Command::new("unshare");
    apart.args(["--mount", "sh", "-c", "mount -t proc proc \"$0\" && exec \"$@\""]);
    apart.arg(&inner).arg(run.get_program()).args(run.get_args());
    let done = integration::command::run(apart, &container.bundle.dir);
    assert!(
        done.code == 1 && done.err.contains("rootfs") && done.err.contains("/srv/proc"),
        "{done}"
    );
}

/// A symlink of the bundle's author on the way to root.path: it is judged where it leads. (To a place in which nothing could be
/// made, for the day on which this fails.)
#[test]
fn a_root_behind_a_symlink_is_where_it_leads() {
    let mut bundle = Bundle::new("escape-root");
    symlink("/", bundle.bundle().join("up")).unwrap();
    bundle.config.set("/root/path", "up/sys/kernel".into());
    let container = Container::new(bundle).policy(&Policy::hardened());
    let done = container.run();
    assert!(done.code == 1 && done.err.contains("refused [rootfs.host]"), "{done}");
}
