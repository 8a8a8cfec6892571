//! Cgroups: without them no limit of a container's memory, tasks and devices holds.

use super::node::{Node, Seen};
use super::{Check, Found, seen};

pub(super) static CHECKS: &[Check] = &[
    Check {
        id: "cgroup-version",
        reason: "cgroup v1 hands nothing on to users safely: containers of users have no limits, and none has memory.high or cgroup.kill",
        refs: &["NIST SP 800-190 4.4.4", "kernel: admin-guide/cgroup-v2.rst"],
        remedy: "boot with systemd.unified_cgroup_hierarchy=1, or a distribution that has cgroup v2 by default",
        look: version,
    },
    Check {
        id: "cgroup-controllers",
        reason: "a container has no limit of what has no controller: memory, tasks, processor time",
        refs: &["CIS Docker 5.10", "CIS Docker 5.28", "NIST SP 800-190 4.4.4"],
        remedy: "take cgroup_disable= off the kernel's command line, and give it cgroup_enable=memory where it is needed",
        look: controllers,
    },
    Check {
        id: "cgroup-delegated",
        reason: "containers of users have limits only by controllers that systemd hands on to them",
        refs: &[
            "CIS Docker 5.10",
            "CIS Docker 5.28",
            "systemd.resource-control(5), Delegate=",
        ],
        remedy: "in /etc/systemd/system/user@.service.d/delegate.conf: [Service] Delegate=cpu cpuset io memory pids; then systemctl daemon-reload",
        look: delegated,
    },
    Check {
        id: "swap-accounting",
        reason: "a container swaps beyond its memory limit, at its neighbours' cost",
        refs: &["CIS Docker 5.10", "docs/KERNEL-FEATURES.md"],
        remedy: "boot with swapaccount=1 (kernels before 6.1), or swapoff",
        look: swap,
    },
];

const NEEDED: [&str; 3] = ["cpu", "memory", "pids"];

fn lacking<'a>(has: impl Iterator<Item = &'a str>) -> Vec<&'static str> {
    let has: Vec<&str> = has.collect();
    NEEDED.into_iter().filter(|name| !has.contains(name)).collect()
}

fn version(node: &Node) -> Found {
    match &node.cgroups.controllers {
        Seen::Is(_) => Found::good("v2"),
        Seen::Unknown(why) => Found::unknown(why.clone()),
        Seen::Absent => match seen!(&node.cgroups.hierarchies, Found::weak("none is mounted")).as_slice() {
            [] => Found::weak("none is mounted"),
            names if names.iter().any(|name| name == "unified") => Found::weak("v1 beside v2 (hybrid)"),
            _ => Found::weak("v1"),
        },
    }
}

fn controllers(node: &Node) -> Found {
    let lacking = match &node.cgroups.controllers {
        Seen::Is(text) => lacking(text.split_whitespace()),
        Seen::Unknown(why) => return Found::unknown(why.clone()),
        Seen::Absent => {
            let names = seen!(&node.cgroups.hierarchies, Found::weak("none is mounted"));
            // One mount may have two: `cpu,cpuacct`.
            lacking(names.iter().flat_map(|name| name.split(',')))
        }
    };
    match lacking.as_slice() {
        [] => Found::good("cpu, memory and pids"),
        lacking => Found::weak(format!("missing: {}", lacking.join(", "))),
    }
}

fn delegated(node: &Node) -> Found {
    let users = seen!(
        &node.cgroups.users,
        Found::absent("no user of systemd's has a session here")
    );
    let each = users.iter().map(|(user, controllers)| match controllers {
        Seen::Is(text) => match lacking(text.split_whitespace()).as_slice() {
            [] => Found::good(format!("{user}: cpu, memory and pids")),
            lacking => Found::weak(format!("{user} is without {}", lacking.join(", "))),
        },
        Seen::Absent => Found::weak(format!("{user} has none: cgroup v1 hands nothing on")),
        Seen::Unknown(why) => Found::unknown(why.clone()),
    });
    Found::gravest(each.collect(), Found::absent("no user of systemd's has a session here"))
}

fn swap(node: &Node) -> Found {
    if let Seen::Is(()) = node.cgroups.swap_limit {
        return Found::good("swap is accounted for");
    }
    // The first line is a heading.
    match &node.cgroups.swaps {
        Seen::Is(text) if text.lines().skip(1).all(|line| line.trim().is_empty()) => Found::good("there is no swap"),
        Seen::Absent => Found::good("the kernel has no swap"),
        Seen::Is(_) => match &node.cgroups.swap_limit {
            Seen::Unknown(why) => Found::unknown(why.clone()),
            _ => Found::weak("there is swap, and no group has a limit of it"),
        },
        Seen::Unknown(why) => Found::unknown(why.clone()),
    }
}
