//! Settings of the kernel below /proc/sys.

use super::{Check, Found, seen};

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "memfd-noexec",
        reason: "without the setting a program makes executable files in memory, past noexec and Landlock",
        refs: &["kernel: userspace-api/mfd_noexec.rst", "docs/KERNEL-FEATURES.md"],
        remedy: "boot a kernel of 6.3 or later",
        look: |node| match seen!(
            node.sysctl("vm/memfd_noexec"),
            Found::weak("the kernel does not have vm.memfd_noexec")
        ) {
            "2" => Found::good("2"),
            value => Found::good(format!("{value}; gabion sets 2 in each pid namespace that it makes")),
        },
    },
    Check {
        id: "io-uring",
        reason: "io_uring does what seccomp does not see, and was a way out of the kernel's checks many times; gabion's filters deny it unless the policy opens it",
        refs: &[
            "NIST SP 800-190 4.5.1",
            "kernel: admin-guide/sysctl/kernel.rst (io_uring_disabled)",
        ],
        remedy: "sysctl -w kernel.io_uring_disabled=2, in /etc/sysctl.d; 1 where a service of this node needs it",
        look: |node| match seen!(
            node.sysctl("kernel/io_uring_disabled"),
            Found::advice("the kernel does not have kernel.io_uring_disabled")
                .remedy("boot a kernel of 6.6 or later, and set it to 2")
        ) {
            value @ ("1" | "2") => Found::good(value),
            value => Found::advice(value),
        },
    },
    Check {
        id: "unprivileged-bpf",
        reason: "programs of BPF loaded by anybody reach a verifier that had many holes; gabion's filters deny bpf(2) in containers",
        refs: &[
            "NIST SP 800-190 4.5.1",
            "kernel: admin-guide/sysctl/kernel.rst (unprivileged_bpf_disabled)",
        ],
        remedy: "sysctl -w kernel.unprivileged_bpf_disabled=1, in /etc/sysctl.d (2: root may open it again)",
        look: |node| match seen!(
            node.sysctl("kernel/unprivileged_bpf_disabled"),
            Found::good("the kernel has no bpf(2)")
        ) {
            value @ ("1" | "2") => Found::good(value),
            value => Found::advice(value),
        },
    },
    Check {
        id: "userfaultfd",
        reason: "userfaultfd stops the kernel in the middle of a copy, which makes many races certain; gabion's filters deny it in containers",
        refs: &[
            "NIST SP 800-190 4.5.1",
            "kernel: admin-guide/sysctl/vm.rst (unprivileged_userfaultfd)",
        ],
        remedy: "sysctl -w vm.unprivileged_userfaultfd=0, in /etc/sysctl.d",
        look: |node| match seen!(
            node.sysctl("vm/unprivileged_userfaultfd"),
            Found::unknown(
                "no vm.unprivileged_userfaultfd: a kernel without userfaultfd, or one before 5.2, which lets everybody have it"
            )
        ) {
            "0" => Found::good("0"),
            value => Found::advice(value),
        },
    },
    Check {
        id: "ptrace-scope",
        reason: "where anybody traces processes of their own user, one stolen process takes over the others; gabion's filters deny attaching in containers",
        refs: &["kernel: admin-guide/LSM/Yama.rst"],
        remedy: "sysctl -w kernel.yama.ptrace_scope=1, in /etc/sysctl.d; boot with yama in lsm= where it is missing",
        look: |node| match seen!(
            node.sysctl("kernel/yama/ptrace_scope"),
            Found::advice("the kernel runs without Yama")
        ) {
            "0" => Found::advice("0"),
            value => Found::good(value),
        },
    },
    Check {
        id: "core-pattern",
        reason: "for each program that crashes in a container the kernel runs a handler as root of the host, with the container's memory as its input; RLIMIT_CORE 0 does not stop it",
        refs: &["core(5)", "CVE-2025-4598", "CVE-2025-5054"],
        remedy: "sysctl -w kernel.core_pattern=core, in /etc/sysctl.d; or keep the handler up to date (systemd-coredump, apport)",
        look: |node| {
            let pattern = seen!(
                node.sysctl("kernel/core_pattern"),
                Found::absent("the kernel writes no core files")
            );
            if pattern.starts_with('|') {
                Found::weak(format!("a handler: {pattern}"))
            } else if pattern.starts_with('@') {
                Found::weak(format!("a socket: {pattern}"))
            } else {
                Found::good(format!("a file: {pattern}"))
            }
        },
    },
    Check {
        id: "kernel-pointers",
        reason: "addresses of the kernel in /proc tell an attacker where to aim; gabion masks kallsyms and modules' addresses are hidden from users",
        refs: &["kernel: admin-guide/sysctl/kernel.rst (kptr_restrict)"],
        remedy: "sysctl -w kernel.kptr_restrict=1, in /etc/sysctl.d",
        look: |node| match seen!(
            node.sysctl("kernel/kptr_restrict"),
            Found::unknown("there is no kernel.kptr_restrict")
        ) {
            "0" => Found::advice("0"),
            value => Found::good(value),
        },
    },
    Check {
        id: "kernel-log",
        reason: "the kernel's log tells whoever may read it addresses and what happens beside them",
        refs: &["kernel: admin-guide/sysctl/kernel.rst (dmesg_restrict)"],
        remedy: "sysctl -w kernel.dmesg_restrict=1, in /etc/sysctl.d",
        look: |node| match seen!(
            node.sysctl("kernel/dmesg_restrict"),
            Found::unknown("there is no kernel.dmesg_restrict")
        ) {
            "0" => Found::advice("0"),
            value => Found::good(value),
        },
    },
    Check {
        id: "perf-events",
        reason: "counters of the kernel tell what it does for others, and their code had many holes; gabion's filters deny them unless the policy opens them",
        refs: &["NIST SP 800-190 4.5.1", "kernel: admin-guide/perf-security.rst"],
        remedy: "sysctl -w kernel.perf_event_paranoid=2, in /etc/sysctl.d (3 on Debian and Ubuntu)",
        look: |node| {
            let value = seen!(
                node.sysctl("kernel/perf_event_paranoid"),
                Found::good("the kernel has no perf events")
            );
            match value.parse::<i64>() {
                Ok(number) if number >= 2 => Found::good(value),
                Ok(_) => Found::advice(value),
                Err(_) => Found::unknown(format!("{value:?} is no number")),
            }
        },
    },
];
