//! What the container's first process does to itself, up to execve.

use std::ffi::CString;
use std::os::unix::fs::symlink;
use std::path::Path;

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::{Any, sys};

const NOTHING: Option<&str> = None;
/// Of what gabion masks, what this kernel has: directories by an empty tmpfs, files by /dev/null.
const MASKS: [&str; 14] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/devices/system/cpu/cpu0/thermal_throttle",
    "/sys/devices/system/cpu/cpu1/thermal_throttle",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

pub(crate) fn become_program(root: &str, hierarchies: &[&Path], program: &[CString]) -> Result<(), Any> {
    nix::unistd::setsid()?;
    unshare(CloneFlags::CLONE_NEWCGROUP)?;
    nix::unistd::sethostname("floor")?;
    mounts(root, hierarchies)?;
    std::env::set_current_dir(root)?;
    nix::unistd::pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    std::env::set_current_dir("/")?;
    if Path::new("/proc/sys/vm/memfd_noexec").exists() {
        std::fs::write("/proc/sys/vm/memfd_noexec", "2")?;
    }
    cover()?;
    let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(NOTHING, "/", NOTHING, read_only, NOTHING)?;
    sys::drop_capabilities()?;
    sys::no_new_privileges()?;
    sys::landlock()?;
    sys::filter()?;
    nix::unistd::execv(&program[0], program)?;
    Ok(())
}

fn mounts(root: &str, hierarchies: &[&Path]) -> Result<(), Any> {
    let private = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let at = |path: &str| format!("{root}{path}");
    mount(NOTHING, "/", NOTHING, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NOTHING)?;
    mount(Some(root), root, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)?;
    for (place, options) in [("/run", "mode=755"), ("/tmp", "mode=1777"), ("/var/tmp", "mode=1777")] {
        mount(Some("hole"), at(place).as_str(), Some("tmpfs"), private, Some(options))?;
    }
    mount(Some("proc"), at("/proc").as_str(), Some("proc"), private, NOTHING)?;
    mount(
        Some("tmpfs"),
        at("/dev").as_str(),
        Some("tmpfs"),
        MsFlags::MS_NOSUID,
        Some("mode=755,size=65536k"),
    )?;
    for (place, kind, options) in [
        ("/dev/pts", "devpts", "newinstance,ptmxmode=0666,mode=0620,gid=5"),
        ("/dev/shm", "tmpfs", "mode=1777,size=65536k"),
        ("/dev/mqueue", "mqueue", ""),
    ] {
        std::fs::create_dir(at(place))?;
        mount(
            Some(kind),
            at(place).as_str(),
            Some(kind),
            MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC,
            Some(options),
        )?;
    }
    let read_only = private | MsFlags::MS_RDONLY;
    mount(Some("sysfs"), at("/sys").as_str(), Some("sysfs"), read_only, NOTHING)?;
    cgroups(&at("/sys/fs/cgroup"), hierarchies, read_only)?;
    for (name, major, minor) in DEVICES {
        let mode = Mode::from_bits_truncate(0o666);
        mknod(
            at(&format!("/dev/{name}")).as_str(),
            SFlag::S_IFCHR,
            mode,
            makedev(major, minor),
        )?;
    }
    for (to, name) in [
        ("/proc/self/fd", "fd"),
        ("/proc/self/fd/0", "stdin"),
        ("/proc/self/fd/1", "stdout"),
        ("/proc/self/fd/2", "stderr"),
        ("pts/ptmx", "ptmx"),
    ] {
        symlink(to, at(&format!("/dev/{name}")))?;
    }
    Ok(())
}

/// The cgroup namespace's view: v2 as it is, v1 with a mount for each hierarchy.
fn cgroups(place: &str, hierarchies: &[&Path], flags: MsFlags) -> Result<(), Any> {
    if let [_] = hierarchies {
        mount(Some("cgroup"), place, Some("cgroup2"), flags, NOTHING)?;
        return Ok(());
    }
    mount(
        Some("cgroup"),
        place,
        Some("tmpfs"),
        flags & !MsFlags::MS_RDONLY,
        Some("mode=755"),
    )?;
    for top in hierarchies {
        let name = top
            .file_name()
            .and_then(|name| name.to_str())
            .ok_or("a hierarchy without a name")?;
        let options = match name {
            "unified" => continue,
            "systemd" => "none,name=systemd",
            controllers => controllers,
        };
        let here = format!("{place}/{name}");
        std::fs::create_dir(&here)?;
        mount(Some("cgroup"), here.as_str(), Some("cgroup"), flags, Some(options))?;
    }
    Ok(())
}

fn cover() -> Result<(), Any> {
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        mount(Some(path), path, NOTHING, MsFlags::MS_BIND | MsFlags::MS_REC, NOTHING)?;
        let read_only = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(NOTHING, path, NOTHING, read_only, NOTHING)?;
    }
    for path in MASKS {
        let path = Path::new(path);
        if path.is_dir() {
            mount(
                Some("mask"),
                path,
                Some("tmpfs"),
                MsFlags::MS_RDONLY,
                Some("nr_inodes=2"),
            )?;
        } else if path.exists() {
            mount(Some("/dev/null"), path, NOTHING, MsFlags::MS_BIND, NOTHING)?;
        }
    }
    Ok(())
}
