//! Bounds how many of each thing a request may name.
//!
//! Each thing that is named costs a look at the host, a system call, a rule or a line of the log, as root and outside of the container's
//! cgroup. The bounds lie far above what engines write and near what the kernel would take; by them a file of eight megabytes is judged in a
//! bounded time, whatever it is made of. `tests/tests/bounds.rs` has the shapes.

use std::collections::HashMap;
use std::fmt::Display;

use oci_spec::runtime::{
    Hook, Hooks, Linux, LinuxBlockIo, LinuxIdMapping, LinuxResources, LinuxSeccomp, Mount, Process, Spec,
};

/// Arguments, and names of an environment: about what execve(2) takes with a stack of 8 MiB.
const WORDS: usize = 1 << 17;
/// Supplementary groups (NGROUPS_MAX).
const GROUPS: usize = 1 << 16;
/// Mounts: each is looked for on the host and in the image, and compared with those before it.
const MOUNTS: usize = 1024;
/// Paths to cover: each is a mount, and is looked for in what the kernel shows of all mounts.
const COVERS: usize = 2048;
/// Devices and rules for them.
const PLACES: usize = 4096;
/// Settings with names or devices of their own: sysctls, limits by device, files of a cgroup.
const SETTINGS: usize = 1024;
/// What there are few kinds of: namespaces, resource limits, sizes of pages, architectures, flags.
const KINDS: usize = 64;
/// Hooks of one kind: each is a process that is waited for.
const HOOKS: usize = 128;
/// Bytes of a path (PATH_MAX without its NUL).
const PATH: usize = 4095;
/// Names in the paths of all mounts, or of all covers, together: each may be a look into the image.
const PARTS: usize = 1 << 14;
/// Options of all mounts together.
const OPTIONS: usize = 1 << 14;
/// Lines of a mapping of ids (user_namespaces(7)); more than that the kernel refuses.
const MAPPINGS: usize = 340;
/// Annotations: they are kept with the container's state.
const ANNOTATIONS: usize = 1 << 14;
/// Rules of a seccomp profile. Engines have some forty.
const RULES: usize = 4096;
/// Names of system calls in all rules together. Engines have some 500.
const NAMES: usize = 1 << 13;
/// Conditions on arguments, for each name that they stand for. Engines have some 60.
const CONDITIONS: usize = 4096;

type Bounded = Result<(), String>;

/// Bounds one list or map.
fn at_most(most: usize, field: impl Display, count: usize) -> Bounded {
    if count > most {
        return Err(format!("{field} has {count} entries: at most {most} are taken"));
    }
    Ok(())
}

/// Bounds what the kernel would take for no path, and what walks it part by part.
fn path(field: impl Display, path: &[u8]) -> Bounded {
    if path.len() > PATH {
        return Err(format!(
            "{field} is {} bytes long: a path has at most {PATH}",
            path.len()
        ));
    }
    Ok(())
}

fn parts(field: &str, paths: impl Iterator<Item = usize>) -> Bounded {
    let parts = paths.fold(0, usize::saturating_add);
    if parts > PARTS {
        return Err(format!(
            "{field} have {parts} parts together: at most {PARTS} are taken"
        ));
    }
    Ok(())
}

fn slashes(path: &[u8]) -> usize {
    path.split(|byte| *byte == b'/').count()
}

fn length<T>(list: Option<&Vec<T>>) -> usize {
    list.map_or(0, Vec::len)
}

/// Bounds a config.json.
pub(super) fn spec(spec: &Spec) -> Bounded {
    if let Some(process) = spec.process() {
        self::process(process, "process.")?;
    }
    at_most(
        ANNOTATIONS,
        "annotations",
        spec.annotations().as_ref().map_or(0, HashMap::len),
    )?;
    at_most(MOUNTS, "mounts", length(spec.mounts().as_ref()))?;
    for (i, one) in spec.mounts().iter().flatten().enumerate() {
        mount(i, one)?;
    }
    // One string may hold several, separated by commas.
    let commas = |text: &String| text.bytes().filter(|byte| *byte == b',').count() + 1;
    let options = spec
        .mounts()
        .iter()
        .flatten()
        .flat_map(|m| m.options().iter().flatten());
    at_most(
        OPTIONS,
        "mounts[].options, all of them together,",
        options.map(commas).sum(),
    )?;
    let destinations = spec.mounts().iter().flatten().map(Mount::destination);
    parts(
        "the destinations of mounts",
        destinations.map(|path| slashes(path.as_os_str().as_encoded_bytes())),
    )?;
    if let Some(root) = spec.root() {
        path("root.path", root.path().as_os_str().as_encoded_bytes())?;
    }
    if let Some(all) = spec.hooks() {
        hooks(all)?;
    }
    spec.linux().as_ref().map_or(Ok(()), linux)
}

/// Bounds a process: a config.json's, or exec's process.json.
pub(super) fn process(process: &Process, prefix: &str) -> Bounded {
    at_most(WORDS, format_args!("{prefix}args"), length(process.args().as_ref()))?;
    at_most(WORDS, format_args!("{prefix}env"), length(process.env().as_ref()))?;
    at_most(
        KINDS,
        format_args!("{prefix}rlimits"),
        length(process.rlimits().as_ref()),
    )?;
    at_most(
        GROUPS,
        format_args!("{prefix}user.additionalGids"),
        length(process.user().additional_gids().as_ref()),
    )?;
    path(
        format_args!("{prefix}cwd"),
        process.cwd().as_os_str().as_encoded_bytes(),
    )?;
    let flags = process.scheduler().as_ref().map(|s| length(s.flags().as_ref()));
    at_most(KINDS, format_args!("{prefix}scheduler.flags"), flags.unwrap_or(0))
}

fn mount(i: usize, mount: &Mount) -> Bounded {
    path(
        format_args!("mounts[{i}].destination"),
        mount.destination().as_os_str().as_encoded_bytes(),
    )?;
    let source = mount.source().iter().map(|path| path.as_os_str().as_encoded_bytes());
    for source in source {
        path(format_args!("mounts[{i}].source"), source)?;
    }
    mappings(format_args!("mounts[{i}].uidMappings"), mount.uid_mappings())?;
    mappings(format_args!("mounts[{i}].gidMappings"), mount.gid_mappings())
}

fn mappings(field: impl Display, map: &Option<Vec<LinuxIdMapping>>) -> Bounded {
    at_most(MAPPINGS, field, length(map.as_ref()))
}

fn hooks(all: &Hooks) -> Bounded {
    // Going to be removed from the spec, and still what engines write.
    #[allow(deprecated)]
    let prestart = all.prestart();
    for (kind, list) in [
        ("prestart", prestart),
        ("createRuntime", all.create_runtime()),
        ("createContainer", all.create_container()),
        ("startContainer", all.start_container()),
        ("poststart", all.poststart()),
        ("poststop", all.poststop()),
    ] {
        at_most(HOOKS, format_args!("hooks.{kind}"), length(list.as_ref()))?;
        for (i, hook) in list.iter().flatten().enumerate() {
            words_of(kind, i, hook)?;
        }
    }
    Ok(())
}

fn words_of(kind: &str, i: usize, hook: &Hook) -> Bounded {
    path(
        format_args!("hooks.{kind}[{i}].path"),
        hook.path().as_os_str().as_encoded_bytes(),
    )?;
    at_most(
        WORDS,
        format_args!("hooks.{kind}[{i}].args"),
        length(hook.args().as_ref()),
    )?;
    at_most(
        WORDS,
        format_args!("hooks.{kind}[{i}].env"),
        length(hook.env().as_ref()),
    )
}

fn linux(linux: &Linux) -> Bounded {
    mappings("linux.uidMappings", linux.uid_mappings())?;
    mappings("linux.gidMappings", linux.gid_mappings())?;
    let map = |map: Option<usize>| map.unwrap_or(0);
    for (most, field, count) in [
        (KINDS, "namespaces", length(linux.namespaces().as_ref())),
        (PLACES, "devices", length(linux.devices().as_ref())),
        (COVERS, "maskedPaths", length(linux.masked_paths().as_ref())),
        (COVERS, "readonlyPaths", length(linux.readonly_paths().as_ref())),
        (SETTINGS, "sysctl", map(linux.sysctl().as_ref().map(HashMap::len))),
        (
            SETTINGS,
            "netDevices",
            map(linux.net_devices().as_ref().map(HashMap::len)),
        ),
        (
            KINDS,
            "timeOffsets",
            map(linux.time_offsets().as_ref().map(HashMap::len)),
        ),
        (
            SETTINGS,
            "intelRdt.schemata",
            linux.intel_rdt().as_ref().map_or(0, |r| length(r.schemata().as_ref())),
        ),
        (
            KINDS,
            "memoryPolicy.flags",
            linux.memory_policy().as_ref().map_or(0, |p| length(p.flags().as_ref())),
        ),
        (
            KINDS,
            "personality.flags",
            linux.personality().as_ref().map_or(0, |p| length(p.flags().as_ref())),
        ),
    ] {
        at_most(most, format_args!("linux.{field}"), count)?;
    }
    paths(linux)?;
    if let Some(limits) = linux.resources() {
        resources(limits, "linux.resources.")?;
    }
    linux.seccomp().as_ref().map_or(Ok(()), seccomp)
}

fn paths(linux: &Linux) -> Bounded {
    for (field, list) in [
        ("maskedPaths", linux.masked_paths()),
        ("readonlyPaths", linux.readonly_paths()),
    ] {
        for (i, one) in list.iter().flatten().enumerate() {
            path(format_args!("linux.{field}[{i}]"), one.as_bytes())?;
        }
        let all = list.iter().flatten().map(|one| slashes(one.as_bytes()));
        parts(&format!("linux.{field}"), all)?;
    }
    let devices = linux.devices().iter().flatten().map(|d| Some(d.path()));
    let namespaces = linux.namespaces().iter().flatten().map(|n| n.path().as_ref());
    for (field, list) in [
        ("devices", &mut devices.enumerate() as &mut dyn Iterator<Item = _>),
        ("namespaces", &mut namespaces.enumerate()),
    ] {
        for (i, one) in list {
            let one = one.map_or(&[][..], |path| path.as_os_str().as_encoded_bytes());
            path(format_args!("linux.{field}[{i}].path"), one)?;
        }
    }
    let cgroup = linux.cgroups_path().as_ref();
    path(
        "linux.cgroupsPath",
        cgroup.map_or(&[][..], |path| path.as_os_str().as_encoded_bytes()),
    )
}

/// Bounds limits: a config.json's, or update's.
pub(super) fn resources(limits: &LinuxResources, prefix: &str) -> Bounded {
    let map = |map: Option<usize>| map.unwrap_or(0);
    for (most, field, count) in [
        (PLACES, "devices", length(limits.devices().as_ref())),
        (KINDS, "hugepageLimits", length(limits.hugepage_limits().as_ref())),
        (SETTINGS, "rdma", map(limits.rdma().as_ref().map(HashMap::len))),
        (SETTINGS, "unified", map(limits.unified().as_ref().map(HashMap::len))),
        (
            SETTINGS,
            "network.priorities",
            limits.network().as_ref().map_or(0, |n| length(n.priorities().as_ref())),
        ),
    ] {
        at_most(most, format_args!("{prefix}{field}"), count)?;
    }
    limits.block_io().as_ref().map_or(Ok(()), |io| block_io(io, prefix))
}

fn block_io(io: &LinuxBlockIo, prefix: &str) -> Bounded {
    for (field, count) in [
        ("weightDevice", length(io.weight_device().as_ref())),
        ("throttleReadBpsDevice", length(io.throttle_read_bps_device().as_ref())),
        (
            "throttleWriteBpsDevice",
            length(io.throttle_write_bps_device().as_ref()),
        ),
        (
            "throttleReadIOPSDevice",
            length(io.throttle_read_iops_device().as_ref()),
        ),
        (
            "throttleWriteIOPSDevice",
            length(io.throttle_write_iops_device().as_ref()),
        ),
    ] {
        at_most(SETTINGS, format_args!("{prefix}blockIO.{field}"), count)?;
    }
    Ok(())
}

/// Bounds a profile: what is read and judged of it. What it takes to compile it is bounded where that is done.
fn seccomp(profile: &LinuxSeccomp) -> Bounded {
    at_most(
        KINDS,
        "linux.seccomp.architectures",
        length(profile.architectures().as_ref()),
    )?;
    at_most(KINDS, "linux.seccomp.flags", length(profile.flags().as_ref()))?;
    at_most(RULES, "linux.seccomp.syscalls", length(profile.syscalls().as_ref()))?;
    let (mut names, mut conditions) = (0, 0_usize);
    for rule in profile.syscalls().iter().flatten() {
        names += rule.names().len();
        conditions = conditions.saturating_add(rule.names().len().saturating_mul(length(rule.args().as_ref())));
    }
    at_most(NAMES, "linux.seccomp.syscalls[].names, all of them together,", names)?;
    at_most(
        CONDITIONS,
        "linux.seccomp.syscalls[].args, for all names together,",
        conditions,
    )
}
