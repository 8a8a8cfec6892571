//! What the kernel loads or runs for whoever asks: protocol modules, and interpreters of the host.

use std::collections::{BTreeMap, BTreeSet};

use super::node::{Node, Seen};
use super::{Check, Found, seen};

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "protocol-modules",
        reason: "socket(2) loads a protocol's module for anybody, and those that hardly anybody uses have the holes; gabion's filters know five families in hardened containers, others run with all of them",
        refs: &[
            "NIST SP 800-190 4.5.1",
            "CVE-2026-31431",
            "CVE-2026-43500",
            "modprobe.d(5)",
        ],
        remedy: "a line `install NAME /bin/false` for each in /etc/modprobe.d/gabion.conf",
        look: protocols,
    },
    Check {
        id: "binfmt",
        reason: "a handler with F runs a program of the host in every container whose image brings the format; one with C runs it with the rights of a file that is set-user-ID",
        refs: &["kernel: admin-guide/binfmt-misc.rst", "NIST SP 800-190 4.5.1"],
        remedy: "echo -1 >/proc/sys/fs/binfmt_misc/NAME, and uninstall what registers it (qemu-user-static, binfmt-support); without the flag where it is needed",
        look: binfmt,
    },
];

/// Families and their protocols that programs of containers use: UNIX, INET, INET6, NETLINK, PACKET.
const USUAL: [u32; 5] = [1, 2, 10, 16, 17];

/// Gives the module and the family (with a protocol, where it is one of INET's) of a line of `modules.alias`.
fn alias(line: &str) -> Option<(&str, u32, bool)> {
    let mut words = line.strip_prefix("alias net-pf-")?.split_whitespace();
    let (what, module) = (words.next()?, words.next()?);
    let (family, rest) = match what.split_once('-') {
        Some((family, rest)) => (family, rest.starts_with("proto-")),
        None => (what, false),
    };
    Some((module, family.parse().ok()?, rest))
}

/// Names are the same with - and with _.
fn same(name: &str) -> String {
    name.replace('-', "_")
}

/// Gives the modules that modprobe does not load by an alias: `blacklist NAME`, and `install NAME` with a program that does nothing.
fn closed(files: &[String]) -> BTreeSet<String> {
    let lines = files.iter().flat_map(|text| text.lines());
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            match (words.next()?, words.next()?, words.next()) {
                ("blacklist", name, _) => Some(same(name)),
                (
                    "install",
                    name,
                    Some("/bin/false" | "/bin/true" | "/usr/bin/false" | "/usr/bin/true" | "false" | "true" | ":"),
                ) => Some(same(name)),
                _ => None,
            }
        })
        .collect()
}

fn protocols(node: &Node) -> Found {
    match &node.modules.loaded {
        Seen::Absent => return Found::good("the kernel has no modules"),
        Seen::Unknown(why) => return Found::unknown(why.clone()),
        Seen::Is(_) => {}
    }
    if let Seen::Is("1") = node.sysctl("kernel/modules_disabled") {
        return Found::good("kernel.modules_disabled = 1: none is loaded any more");
    }
    if let Seen::Is("") = node.sysctl("kernel/modprobe") {
        return Found::good("kernel.modprobe is empty: none loads by itself");
    }
    let aliases = seen!(
        &node.modules.aliases,
        Found::unknown("there is no modules.alias of the kernel that runs")
    );
    let closed = match &node.modules.configuration {
        Seen::Is(files) => closed(files),
        Seen::Absent => BTreeSet::new(),
        Seen::Unknown(why) => return Found::unknown(why.clone()),
    };
    let mut open: BTreeMap<String, u32> = BTreeMap::new();
    for (module, family, protocol) in aliases.lines().filter_map(alias) {
        // Of the usual families only INET's and INET6's further protocols (SCTP, DCCP, L2TP) are asked for by socket(2).
        let rare = !USUAL.contains(&family) || (protocol && matches!(family, 2 | 10));
        if rare && !closed.contains(&same(module)) {
            open.insert(same(module), family);
        }
    }
    if open.is_empty() {
        return Found::good("none of a family that is not usual loads by itself");
    }
    let names: Vec<&str> = open.keys().map(String::as_str).collect();
    Found::advice(format!("{} load by themselves: {}", names.len(), names.join(", ")))
}

fn binfmt(node: &Node) -> Found {
    if let Seen::Unknown(why) = &node.binfmt {
        let remedy = "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc as the host's root, and look again";
        return Found::unknown(why.clone()).remedy(remedy);
    }
    let handlers = seen!(&node.binfmt, Found::good("the kernel has no binfmt_misc"));
    let dangerous = handlers.iter().filter_map(|(name, text)| {
        let mut lines = text.lines();
        if lines.next()?.trim() != "enabled" {
            return None;
        }
        let line = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)).map(str::trim);
        let flags: String = line("flags:")?
            .chars()
            .filter(|flag| matches!(flag, 'F' | 'C'))
            .collect();
        let program = line("interpreter").unwrap_or_default();
        (!flags.is_empty()).then(|| format!("{name} ({flags}: {program})"))
    });
    match dangerous.collect::<Vec<_>>().as_slice() {
        [] => Found::good(format!("{} handlers, none with F or C", handlers.len())),
        all => Found::weak(all.join(", ")),
    }
}
