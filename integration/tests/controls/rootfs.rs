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
