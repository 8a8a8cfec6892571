//! `masked_paths`: what the kernel tells of the host is hidden or read-only.

use crate::{check, errno};
use integration::Case;

pub(crate) const CASES: &[Case] = &[
    // A masked file is /dev/null: it opens and is empty.
    Case {
        control: "masked_paths",
        name: "interrupts",
        prepare: |_| {},
        act: "read-file=/proc/interrupts",
        expect: errno("ENODATA"),
        covered_by: &[],
    },
    Case {
        control: "masked_paths",
        name: "keys",
        prepare: |_| {},
        act: "read-file=/proc/keys",
        expect: errno("ENODATA"),
        covered_by: &[],
    },
    Case {
        control: "masked_paths",
        name: "sys-firmware",
        prepare: |_| {},
        act: "list-dir=/sys/firmware",
        expect: errno("ENODATA"),
        covered_by: &[],
    },
    Case {
        control: "masked_paths",
        name: "proc-sys-read-only",
        prepare: |_| {},
        act: "sysctl-write=kernel.domainname,x",
        expect: errno("EROFS"),
        covered_by: &[],
    },
    Case {
        control: "masked_paths",
        name: "irq-read-only",
        prepare: |_| {},
        act: "open-write=/proc/irq/default_smp_affinity",
        expect: errno("EROFS"),
        covered_by: &[],
    },
    Case {
        control: "masked_paths",
        name: "writable-sys",
        prepare: |b| {
            b.config.mount_options("/sys", &["nosuid", "noexec", "nodev", "rw"]);
        },
        act: "open-write=/sys/kernel/mm/transparent_hugepage/enabled",
        expect: errno("EROFS"),
        covered_by: &["landlock", "mounts"],
    },
];

#[test]
fn each_alone() {
    check(CASES);
}
