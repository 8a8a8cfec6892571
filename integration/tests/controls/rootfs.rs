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
fn the_root_is_read_only_and_private_whatever_was_asked() {
    if !hardens() {
        return;
    }
    let mut bundle = Bundle::new("rootfs-shared");
    bundle.config.set("/linux/rootfsPropagation", "shared".into());
    let outcome = Container::new(bundle)
        .policy(&Policy::permissive().enforce("rootfs"))
        .acts(&["mountinfo=/"]);
    let info = outcome.ok("mountinfo=/");
    assert!(info.starts_with("flags=ro"), "{info}");
    assert!(!info.contains("shared:") && !info.contains("master:"), "{info}");
}
