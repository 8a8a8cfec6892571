//! The kernel itself: its version, Landlock, security modules, its audit, and the processor's faults.

use super::node::{KernelAudit, Node, Seen};
use super::{Check, Found, seen, trimmed};
use crate::control::lsm::DEFAULT_PROFILE;

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "kernel",
        reason: "an older kernel lacks layers that gabion would put on every container",
        refs: &["NIST SP 800-190 4.5.3", "docs/KERNEL-FEATURES.md"],
        remedy: "boot a kernel of 6.3 or later, kept up to date by the distribution",
        look: version,
    },
    Check {
        id: "landlock",
        reason: "without Landlock there is no second wall behind read-only roots and noexec, and none for TCP ports below ABI 4",
        refs: &["NIST SP 800-190 4.5.2", "landlock(7)", "docs/KERNEL-FEATURES.md"],
        remedy: "boot a kernel with CONFIG_SECURITY_LANDLOCK and with landlock in its lsm= list, of 6.10 or later",
        look: landlock,
    },
    Check {
        id: "landlock-errata",
        reason: "an erratum that is not mended lets a program past rules that gabion made",
        refs: &["landlock(7)", "kernel: userspace-api/landlock.rst"],
        remedy: "boot the distribution's newest kernel: errata are mended in stable series, too",
        look: errata,
    },
    Check {
        id: "lsm",
        reason: "without AppArmor or SELinux a process that got round namespaces and capabilities finds no mandatory second wall",
        refs: &[
            "PSS Baseline: AppArmor",
            "PSS Baseline: SELinux",
            "CIS Docker 5.2",
            "CIS Docker 5.3",
            "NIST SP 800-190 4.4.3",
        ],
        remedy: "boot with apparmor or selinux in the kernel's lsm= list, and SELinux enforcing",
        look: lsm,
    },
    Check {
        id: "apparmor-profile",
        reason: "a container of a user runs without gabion-default where nobody loaded it, and in complain mode it confines nobody",
        refs: &["PSS Baseline: AppArmor", "CIS Docker 5.2", "docs/INSTALL.md"],
        remedy: "gabion apparmor load; gabion apparmor show >/etc/apparmor.d/gabion-default has it loaded at each boot",
        look: profile,
    },
    Check {
        id: "kernel-audit",
        reason: "what AppArmor, SELinux, Landlock and seccomp deny is written nowhere",
        refs: &[
            "NIST SP 800-190 4.4.4",
            "kernel: admin-guide/kernel-parameters.txt (audit=)",
        ],
        remedy: "boot with audit=1 (and not audit=0), on a kernel with CONFIG_AUDIT; install auditd to keep the records",
        look: audit,
    },
    Check {
        id: "cpu-vulnerabilities",
        reason: "a fault of the processor that is not mitigated lets a container read its neighbours' and the kernel's memory",
        refs: &["NIST SP 800-190 4.5.2", "kernel: admin-guide/hw-vuln"],
        remedy: "install the newest microcode, and boot without mitigations=off; mitigations=auto,nosmt where several threads share a core",
        look: vulnerabilities,
    },
    Check {
        id: "samepage-merging",
        reason: "merged pages tell a container by timing what its neighbours have in memory",
        refs: &["kernel: admin-guide/mm/ksm.rst"],
        remedy: "echo 2 >/sys/kernel/mm/ksm/run, and disable ksmtuned",
        look: merging,
    },
    Check {
        id: "proc-mem",
        reason: "writing to /proc/PID/mem goes round the protection of pages: code that was loaded can be overwritten (at restricted, and under AppArmor, gabion closes it)",
        refs: &["kernel: admin-guide/kernel-parameters.txt (proc_mem.force_override=)"],
        remedy: "boot with proc_mem.force_override=never, or =ptrace where debuggers are used (Linux 6.12)",
        look: proc_mem,
    },
];

/// Without it nobody sees which modules there are.
const SECURITYFS: &str = "mount -t securityfs securityfs /sys/kernel/security, and look again; where that has no file lsm, boot a kernel with security modules";

/// Gives major and minor of `6.12.3-amd64`.
fn number(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn version(node: &Node) -> Found {
    let release = seen!(
        trimmed(&node.release),
        Found::unknown("/proc/sys/kernel/osrelease is not there")
    );
    let Some(version) = number(release) else {
        return Found::unknown(format!("{release:?} is no version that gabion knows"));
    };
    let lacks: Vec<&str> = [
        ((5, 12), "what gabion needs to start a container"),
        ((5, 13), "Landlock"),
        ((6, 2), "Landlock for truncate"),
        ((6, 3), "vm.memfd_noexec and PR_SET_MDWE"),
    ]
    .into_iter()
    .filter(|(since, _)| version < *since)
    .map(|(_, what)| what)
    .collect();
    if lacks.is_empty() {
        Found::good(release)
    } else {
        Found::weak(format!("{release}: without {}", lacks.join(", ")))
    }
}

fn landlock(node: &Node) -> Found {
    let landlock = seen!(&node.landlock, Found::weak("none"));
    match landlock.abi {
        0 => Found::weak("none"),
        abi @ 1..=2 => Found::weak(format!(
            "ABI {abi}: truncating is not held back, nor ports of TCP, nor ioctl"
        )),
        3 => Found::weak("ABI 3: no rules for ports of TCP, and ioctl is not held back"),
        4 => Found::weak("ABI 4: ioctl on devices is not held back"),
        abi => Found::good(format!("ABI {abi}")),
    }
}

/// The errata that are known, with the ABI that they are of, and what each leaves open.
const ERRATA: [(u32, u32, &str); 3] = [
    (1, 4, "rules for TCP held back other protocols"),
    (2, 6, "scoped signals between threads"),
    (
        3,
        1,
        "renames in a disconnected directory pass the rules of its new place",
    ),
];

fn errata(node: &Node) -> Found {
    let landlock = seen!(&node.landlock, Found::absent("there is no Landlock"));
    if landlock.abi == 0 {
        return Found::absent("there is no Landlock");
    }
    let open: Vec<String> = ERRATA
        .iter()
        .filter(|(bit, abi, _)| *abi <= landlock.abi && landlock.errata & (1 << (bit - 1)) == 0)
        .map(|(bit, _, what)| format!("{bit} ({what})"))
        .collect();
    match (landlock.errata, open.as_slice()) {
        (_, []) => Found::good("all that gabion knows of are mended"),
        // Kernels before 6.15 that were not patched cannot be asked.
        (0, _) => Found::unknown("the kernel does not say which errata it has mended"),
        (_, open) => Found::weak(format!("not mended: {}", open.join(", "))),
    }
}

fn lsm(node: &Node) -> Found {
    let list = seen!(
        trimmed(&node.lsm),
        Found::unknown(
            "/sys/kernel/security/lsm is not there: securityfs is not mounted, or the kernel has no security modules"
        )
        .remedy(SECURITYFS)
    );
    let has = |name: &str| list.split(',').any(|one| one.trim() == name);
    if has("selinux") {
        return match trimmed(&node.selinux) {
            Seen::Is("1") => Found::good(list),
            Seen::Is(_) => Found::weak(format!("{list}: SELinux is permissive"))
                .remedy("setenforce 1, and SELINUX=enforcing in /etc/selinux/config"),
            Seen::Absent => Found::unknown(format!(
                "{list}: selinuxfs is not mounted, so whether it enforces is not seen"
            )),
            Seen::Unknown(why) => Found::unknown(why),
        };
    }
    if has("apparmor") {
        return Found::good(list);
    }
    Found::weak(format!("{list}: neither apparmor nor selinux"))
}

fn profile(node: &Node) -> Found {
    if let Seen::Is(list) = trimmed(&node.lsm)
        && !list.split(',').any(|one| one.trim() == "apparmor")
    {
        return Found::absent("there is no AppArmor");
    }
    let profiles = match &node.profiles {
        Seen::Is(profiles) => profiles,
        Seen::Absent if matches!(node.lsm, Seen::Is(_)) => {
            return Found::unknown("AppArmor's list of profiles is not there: securityfs is not mounted")
                .remedy(SECURITYFS);
        }
        Seen::Absent => {
            return Found::unknown("whether there is AppArmor is not seen: securityfs is not mounted")
                .remedy(SECURITYFS);
        }
        Seen::Unknown(why) => return Found::unknown(why.clone()),
    };
    let mode = profiles.lines().find_map(|line| {
        let (name, mode) = line.rsplit_once(" (")?;
        (name == DEFAULT_PROFILE).then(|| mode.trim_end_matches(')'))
    });
    match mode {
        Some("enforce") => Found::good(format!("{DEFAULT_PROFILE} is in force")),
        Some(mode) => Found::weak(format!("{DEFAULT_PROFILE} is loaded in mode {mode}")),
        None => Found::weak(format!("{DEFAULT_PROFILE} is not loaded")),
    }
}

fn audit(node: &Node) -> Found {
    if let Seen::Is(cmdline) = &node.cmdline
        && cmdline
            .split_whitespace()
            .any(|word| matches!(word, "audit=0" | "audit=off"))
    {
        return Found::weak("switched off on the kernel's command line");
    }
    match seen!(&node.audit, Found::weak("the kernel has none")) {
        KernelAudit::On => Found::good("on"),
        KernelAudit::Off => Found::weak("switched off").remedy("auditctl -e 1; boot with audit=1"),
    }
}

fn vulnerabilities(node: &Node) -> Found {
    let all = seen!(
        &node.vulnerabilities,
        Found::unknown("the kernel says nothing of its processor's faults")
    );
    let open: Vec<String> = all
        .iter()
        .filter(|(_, text)| text.trim_start().starts_with("Vulnerable") || text.contains("SMT vulnerable"))
        .map(|(name, text)| format!("{name}: {}", text.trim()))
        .collect();
    let unknown = all.iter().find(|(_, text)| text.trim_start().starts_with("Unknown"));
    match (open.as_slice(), unknown) {
        ([], None) => Found::good(format!("{} faults are known, and none is open", all.len())),
        ([], Some((name, text))) => Found::unknown(format!("{name}: {}", text.trim())),
        (open, _) => Found::weak(open.join("; ")),
    }
}

fn merging(node: &Node) -> Found {
    match seen!(trimmed(&node.ksm), Found::absent("the kernel does not merge pages")) {
        "0" | "2" => Found::good("off"),
        _ => Found::advice("on"),
    }
}

fn proc_mem(node: &Node) -> Found {
    let cmdline = seen!(&node.cmdline, Found::unknown("/proc/cmdline is not there"));
    let word = cmdline
        .split_whitespace()
        .filter_map(|word| word.strip_prefix("proc_mem.force_override="))
        .next_back();
    let new_enough = match trimmed(&node.release) {
        Seen::Is(release) => number(release).is_some_and(|version| version >= (6, 12)),
        _ => false,
    };
    match word {
        Some(word @ ("never" | "ptrace")) if new_enough => Found::good(word),
        Some(word @ ("never" | "ptrace")) => Found::advice(format!("{word}, which kernels before 6.12 do not know")),
        Some(word) => Found::advice(word),
        None => Found::advice("not said on the command line: what the kernel was built with, mostly always"),
    }
}
