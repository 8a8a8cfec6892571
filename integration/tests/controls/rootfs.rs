//! `rootfs`: the image cannot be written to.

use crate::{check, errno, hardens};
use integration::{Bundle, Case, Container, Policy};

pub(crate) const CASES: &[Case] = &[
    Case {
        control: "rootfs",
        name: "create-in-usr",
        prepare: |_| {},
        act: "create-file=/usr/dropped",
        expect: errno("EROFS"),
        covered_by: &["landlock"],
    },
    Case {
        control: "rootfs",
        name: "write-etc",
        prepare: |_| {},
        act: "write-file=/etc/hostname",
        expect: errno("EROFS"),
        covered_by: &["landlock"],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}

#[test]
fn the_root_is_read_only_and_private() {
    if !hardens() {
        return;
    }
    let only = Policy::permissive().enforce("rootfs");
    let outcome = Container::new(Bundle::new("rootfs-private"))
        .policy(&only)
        .acts(&["mountinfo=/"]);
    let info = outcome.ok("mountinfo=/");
    assert!(info.starts_with("flags=ro"), "{info}");
    assert!(!info.contains("shared:") && !info.contains("master:"), "{info}");
    let mut bundle = Bundle::new("rootfs-shared");
    bundle.config.set("/linux/rootfsPropagation", "shared".into());
    Container::new(bundle)
        .policy(&only)
        .run()
        .fails_with(1)
        .says(&["refused [rootfs."]);
}

/// What an image without holes writes is written where the root is left to it.
#[test]
fn a_root_that_is_left_writable_is_written_in_its_usual_places() {
    if !hardens() {
        return;
    }
    let acts = ["create-file=/tmp/x", "create-file=/var/tmp/x", "create-file=/run/x"];
    let open = Policy::hardened().observe("rootfs");
    Container::new(Bundle::new("rootfs-open"))
        .policy(&open)
        .acts(&acts)
        .all_ok(&acts);
    let open = open.observe("landlock");
    Container::new(Bundle::new("rootfs-open"))
        .policy(&open)
        .acts(&["create-file=/usr/x"])
        .ok("create-file=/usr/x");
}
