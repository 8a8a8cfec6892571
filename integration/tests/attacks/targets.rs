//! Mount points that lead elsewhere (CVE-2021-30465, CVE-2024-45310).

use crate::race::Race;
use integration::{Bundle, Container, Policy, Runtime};
use std::fs;
use std::os::unix::fs::symlink;

/// The image's content decides no path of the host.
#[test]
fn a_mount_target_that_is_a_symlink_stays_inside() {
    let mut bundle = Bundle::new("attack-target");
    let outside = bundle.host_dir("outside");
    let data = bundle.host_dir("data");
    symlink(&outside, bundle.rootfs().join("target")).unwrap();
    bundle.config.bind(data.to_str().unwrap(), "/target/below", &["rw"]);
    let mut container = Container::new(bundle).policy(&Policy::permissive());
    drop(container.acts(&["cwd"]));
    assert!(
        fs::read_dir(&outside).unwrap().next().is_none(),
        "made outside of the root file system"
    );
    container.nothing_left();
}

/// A volume that two containers share: one exchanges a directory in it for a symlink to the host's while the other one's
/// mounts are made below it. What is made and mounted stays inside, or the container is not made.
#[test]
fn a_mount_target_that_is_exchanged_for_a_symlink_stays_inside() {
    let mut bundle = Bundle::with_busybox("attack-race");
    let outside = bundle.host_dir("outside");
    let data = bundle.host_dir("data");
    let volume = bundle.host_dir("volume");
    fs::create_dir(volume.join("target")).unwrap();
    symlink(&outside, volume.join("link")).unwrap();
    bundle
        .config
        .bind(volume.to_str().unwrap(), "/volume", &["rw"])
        .bind(data.to_str().unwrap(), "/volume/target/below", &["rw"])
        .args(&["/bin/cat", "/proc/self/mountinfo"]);
    // Its place in the file system: what no name can hide. /tmp may be one of its own.
    let root = format!("/{}/data ", bundle.name);
    let container = Container::new(bundle).policy(&Policy::permissive());
    let race = Race::between(volume.join("target"), volume.join("link"));
    let mut ran = 0;
    for _ in 0..40 {
        let done = container.run();
        let found: Vec<_> = fs::read_dir(&outside).unwrap().flatten().map(|e| e.path()).collect();
        assert!(found.is_empty(), "made outside of the root file system: {found:?}");
        if done.code == 0 {
            ran += 1;
            let mounts = done.out.lines().filter(|line| line.contains(&root)).count();
            assert_eq!(mounts, 1, "mounted outside of the root file system: {}", done.out);
        }
    }
    race.end();
    assert!(
        ran > 0 || !Runtime::under_test().hardens,
        "it never ran, and nothing was proved"
    );
    container.nothing_left();
}

/// What the runtime itself puts into /dev, /proc and /sys is not put where the image's symlink leads (CVE-2026-41579).
#[test]
fn dev_proc_and_sys_that_are_symlinks_lead_nowhere() {
    if !Runtime::under_test().hardens {
        return;
    }
    for name in ["dev", "proc", "sys"] {
        let mut bundle = Bundle::new(&format!("attack-{name}"));
        let outside = bundle.host_dir("outside");
        fs::remove_dir(bundle.rootfs().join(name)).unwrap();
        symlink(&outside, bundle.rootfs().join(name)).unwrap();
        bundle.config.acts(&["cwd"]);
        let container = Container::new(bundle).policy(&Policy::permissive());
        let done = container.run();
        assert!(done.code != 0 && done.err.contains(&format!("/{name}")), "{done}");
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "made on the host: {done}");
        container.nothing_left();
    }
}
