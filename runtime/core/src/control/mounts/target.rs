//! Where in the container something may be mounted.

use std::path::{Component, Path};

use oci_spec::runtime::Mount;

use crate::control::Context;
use crate::decision::Findings;
use crate::host::{FileKind, SourceFs, SourcePath};
use crate::request::mount_options::is_bind;

/// Files of /proc over which lxcfs and engines lay their own, and which decide nothing (runc's list).
const OVER_PROC: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// Whether the destination is one; refuses it otherwise.
pub(super) fn check(index: usize, mount: &Mount, target: &Path, cx: &Context<'_>, findings: &mut Findings) -> bool {
    let written = mount.destination();
    let place = format!("mounts.{}", written.display());
    if !written.is_absolute() || written.components().any(|c| c == Component::ParentDir) || target == Path::new("/") {
        let what = format!(
            "{} is not a place to mount at: it must be absolute, without `..`, and not the root",
            written.display()
        );
        findings.refused(
            "destination",
            place,
            what,
            "give an absolute path below / inside the container",
        );
        return false;
    }
    let typ = mount.typ().as_deref().unwrap_or_default();
    let home = match typ {
        _ if is_bind(mount) => None,
        "proc" => Some("/proc"),
        "sysfs" => Some("/sys"),
        "cgroup" | "cgroup2" => Some("/sys/fs/cgroup"),
        _ => None,
    };
    if let Some(home) = home {
        let there = target == Path::new(home) || (home == "/sys/fs/cgroup" && target.starts_with(home));
        if !there {
            let what = format!(
                "{typ} is to be mounted at {}: masks and read-only paths hold at {home} only",
                target.display()
            );
            findings.refused("kernel-filesystem", place, what, format!("mount it at {home}"));
        }
        return there;
    }
    for tree in ["/proc", "/sys"] {
        if target.starts_with(tree) && !may_cover(index, target, typ, cx) {
            let what = format!(
                "a mount at {} would replace what the kernel shows there",
                target.display()
            );
            let remedy = cx.request.caller().word(
                "remove the volume mount",
                "remove the `--volume`",
                "remove it from `mounts`; `linux.maskedPaths` hides files",
            );
            findings.refused("over-kernel", place, what, remedy);
            return false;
        }
    }
    true
}

/// What may lie over a file of /proc or /sys: lxcfs's files, a mask, and what `source` lets through for /sys itself.
fn may_cover(index: usize, target: &Path, typ: &str, cx: &Context<'_>) -> bool {
    let source = match cx.host.sources.get(&index) {
        Some(SourcePath::Open(source)) => Some(source),
        _ => None,
    };
    if OVER_PROC.iter().any(|p| target == Path::new(p)) {
        return source.is_some_and(|s| s.kind == FileKind::Regular);
    }
    // An empty place for cgroups: what is mounted below it is judged by itself.
    if target == Path::new("/sys/fs/cgroup") && typ == "tmpfs" {
        return true;
    }
    source.is_some_and(|s| {
        s.kind == FileKind::CharDevice(1, 3) || (s.filesystem == SourceFs::Sys && target == Path::new("/sys"))
    })
}
