//! `masked_paths`: what the kernel tells of the host is hidden or read-only.

use crate::{check, errno, hardens};
use integration::{Bundle, Case, Container, Policy};

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

/// What the kernel has for root alone. A kernel that does not have one of them has nothing to hide.
#[test]
fn what_only_root_reads_is_hidden() {
    let files = [
        "/proc/allocinfo",
        "/proc/dynamic_debug/control",
        "/proc/kallsyms",
        "/proc/kpagecgroup",
        "/proc/kpagecount",
        "/proc/kpageflags",
        "/proc/pagetypeinfo",
        "/proc/slabinfo",
        "/proc/tty/driver/serial",
        "/proc/vmallocinfo",
    ];
    let there = |path: &&&str| std::path::Path::new(path).exists();
    let mut acts: Vec<String> = files
        .iter()
        .filter(there)
        .map(|path| format!("read-file={path}"))
        .collect();
    if std::path::Path::new("/sys/kernel/slab").exists() {
        acts.push("list-dir=/sys/kernel/slab".to_owned());
    }
    let acts: Vec<&str> = acts.iter().map(String::as_str).collect();
    assert!(!acts.is_empty());
    let tried = |policy: &Policy| Container::new(Bundle::new("masked-root")).policy(policy).acts(&acts);
    // The pages' files are read by whole numbers, which is more than this act knows: it is let in, and that tells.
    let shown = tried(&Policy::permissive());
    for act in &acts {
        let answer = shown.answer(act);
        assert!(
            answer.starts_with("ok") || answer.starts_with("EINVAL"),
            "{act}: {answer}"
        );
    }
    if !hardens() {
        return;
    }
    let hidden = tried(&Policy::permissive().enforce("masked_paths"));
    for act in &acts {
        // What lies in a masked directory is not there.
        let answer = hidden.answer(act);
        assert!(
            answer.starts_with("ENODATA") || answer.starts_with("ENOENT"),
            "{act}: {answer}"
        );
    }
}

#[test]
fn each_alone() {
    check(CASES);
}
