//! The image's own /dev, without a tmpfs over it: its null device and its console are what masks and terminals are made of
//! (CVE-2025-31133, CVE-2025-52565).

use crate::race::{Race, exchange};
use integration::fdpass::Listener;
use integration::{Bundle, Container, Policy};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

/// Readable, and full of text, where nothing masks it.
const MASKED: &str = "/proc/filesystems";

fn without_dev(bundle: &mut Bundle) {
    for place in ["/dev/pts", "/dev/shm", "/dev/mqueue", "/dev"] {
        bundle.config.without_mount(place);
    }
}

fn null_device(at: &Path) {
    let mode = Mode::from_bits_truncate(0o666);
    mknod(at, SFlag::S_IFCHR, mode, makedev(1, 3)).unwrap();
}

fn masked(test: &str) -> Bundle {
    let mut bundle = Bundle::new(test);
    without_dev(&mut bundle);
    bundle
        .config
        .set("/linux/maskedPaths", json!([MASKED]))
        .acts(&[&format!("read-file={MASKED}")]);
    bundle
}

/// What a mask would be made of: the container is not made, or the file reads empty.
fn stays_masked(container: &Container) -> bool {
    let done = container.run();
    if done.code != 0 {
        assert!(done.err.contains("/dev/null"), "{done}");
        return false;
    }
    assert!(done.out.contains("ENODATA"), "it is not masked: {done}");
    true
}

#[test]
fn masks_are_made_of_the_null_device_alone() {
    for name in ["symlink", "file", "other"] {
        let bundle = masked(&format!("attack-null-{name}"));
        let null = bundle.rootfs().join("dev/null");
        match name {
            "symlink" => symlink("/proc/sys/kernel/hostname", &null).unwrap(),
            "file" => fs::write(&null, "not empty\n").unwrap(),
            _ => mknod(&null, SFlag::S_IFCHR, Mode::from_bits_truncate(0o666), makedev(1, 5)).unwrap(),
        }
        let container = Container::new(bundle).policy(&Policy::permissive());
        assert!(!stays_masked(&container), "{name} was taken for the null device");
        container.nothing_left();
    }
    let bundle = masked("attack-null-device");
    null_device(&bundle.rootfs().join("dev/null"));
    assert!(stays_masked(&Container::new(bundle).policy(&Policy::permissive())));
}

#[test]
fn masks_are_made_of_the_null_device_while_it_is_exchanged() {
    let bundle = masked("attack-null-race");
    let (null, fake) = (bundle.rootfs().join("dev/null"), bundle.rootfs().join("dev/fake"));
    null_device(&null);
    symlink("/proc/sys/kernel/hostname", &fake).unwrap();
    let container = Container::new(bundle).policy(&Policy::permissive());
    let race = Race::between(null, fake);
    for _ in 0..40 {
        stays_masked(&container);
    }
    race.end();
    container.nothing_left();
}

/// What is mounted in the container with a terminal, as it says on that terminal; None: it was not made.
fn mounts_with_terminal(bundle: Bundle) -> Option<String> {
    let container = Container::new(bundle).policy(&Policy::permissive());
    let path = container.bundle.dir.join("con");
    let listener = Listener::bind(&path);
    let socket = path.to_str().unwrap();
    let words = [
        "create",
        "--console-socket",
        socket,
        "--bundle",
        &container.path(),
        container.id(),
    ];
    let done = container.op(&words);
    if done.code != 0 {
        return None;
    }
    let console = listener.receive();
    container.start().ok();
    Some(console.read_until("the end"))
}

fn with_terminal(test: &str) -> Bundle {
    let mut bundle = Bundle::with_busybox(test);
    bundle.config.set("/process/terminal", true.into()).args(&[
        "/bin/sh",
        "-c",
        "cat /proc/self/mountinfo; echo the end",
    ]);
    bundle
}

/// The container's own /proc stays as it was mounted: nothing over a file of it.
#[track_caller]
fn proc_is_whole(mounts: &str) {
    assert!(mounts.contains(" /proc "), "{mounts}");
    let over: Vec<&str> = mounts.lines().filter(|line| line.contains(" /proc/")).collect();
    assert!(over.is_empty(), "mounted over what the kernel shows: {over:?}");
}

/// /dev/pts/ptmx and /dev/pts/0 are the image's, and lead to files of the kernel.
#[test]
fn a_terminal_is_none_that_the_image_made() {
    let mut bundle = with_terminal("attack-pts");
    without_dev(&mut bundle);
    let pts = bundle.rootfs().join("dev/pts");
    fs::create_dir_all(&pts).unwrap();
    symlink("/proc/sys/kernel/hostname", pts.join("0")).unwrap();
    let mode = Mode::from_bits_truncate(0o666);
    mknod(&pts.join("ptmx"), SFlag::S_IFCHR, mode, makedev(5, 2)).unwrap();
    if let Some(mounts) = mounts_with_terminal(bundle) {
        proc_is_whole(&mounts);
        assert!(
            mounts
                .lines()
                .any(|line| line.contains(" /dev/console ") && line.contains(" - devpts ")),
            "{mounts}"
        );
    }
}

/// /dev/console is the image's, and leads to a file of the kernel: the terminal is not bound over that. By turns, so that
/// both have been seen, and in a race.
#[test]
fn the_terminal_is_not_bound_where_the_image_leads() {
    let prepared = |test: &str| {
        let mut bundle = with_terminal(test);
        bundle
            .config
            .without_mount("/dev")
            .without_mount("/dev/shm")
            .without_mount("/dev/mqueue");
        let dev = bundle.rootfs().join("dev");
        fs::create_dir_all(dev.join("pts")).unwrap();
        fs::write(dev.join("console"), "").unwrap();
        symlink("/proc/sys/kernel/hostname", dev.join("fake")).unwrap();
        bundle
    };
    let plain = prepared("attack-console");
    let mounts = mounts_with_terminal(plain).expect("an image with a console of its own runs");
    proc_is_whole(&mounts);
    let led = prepared("attack-console-led");
    let dev = led.rootfs().join("dev");
    exchange(&dev.join("console"), &dev.join("fake"));
    assert_eq!(mounts_with_terminal(led), None, "the image's symlink was followed");
    for _ in 0..20 {
        let bundle = prepared("attack-console-race");
        let dev = bundle.rootfs().join("dev");
        let race = Race::between(dev.join("console"), dev.join("fake"));
        let mounts = mounts_with_terminal(bundle);
        drop(race);
        if let Some(mounts) = mounts {
            proc_is_whole(&mounts);
        }
    }
}
