//! Device nodes and the links beside them, made inside the root by descriptor: the image may have put links anywhere.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;

use libcontainer::rootfs::utils::default_devices;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, SFlag, umask};
use nix::unistd::{Gid, Uid};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};
use pathrs::RootRef;

use crate::build::target::{self, Point};
use crate::contract::setup::Setup;
use crate::faults;
use gabion_core::id::ControlId;
use gabion_core::namespace::NsType;
use gabion_see::error::{Error, Result, Step};
use gabion_sys::Reach;

/// What a runtime puts into /dev (runtime-spec, config-linux.md#default-devices, and runc's links).
const LINKS: [(&str, &str); 4] = [
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
];

/// Makes the nodes of the spec and the default ones.
pub(crate) fn make(setup: &Setup<'_>, root: &OwnedFd) -> Result<()> {
    faults::at(Step::Devices)?;
    let linux = setup.hardened.spec().linux().as_ref();
    let asked = linux.and_then(|l| l.devices().as_deref()).unwrap_or_default();
    let defaults = default_devices();
    let missing = defaults.iter().filter(|d| asked.iter().all(|a| a.path() != d.path()));
    // mknod is not for user namespaces (user_namespaces(7)): the host's nodes are bound.
    let bind = setup.hardened.spec().linux().is_some()
        && (setup.enters_new(NsType::User) || setup.joins.iter().any(|(t, _)| *t == NsType::User) || nested(setup)?);
    let mut nodes = Nodes { root, last: None };
    // mknod(2) masks the mode.
    let mask = umask(Mode::empty());
    for device in asked.iter().chain(missing) {
        let made = if bind {
            bind_node(root, device)
        } else {
            nodes.make(device)
        };
        made.map_err(|e| match e {
            Error::Step { step, doing, errno } => Error::Step {
                step,
                doing: format!("{doing} {}", device.path().display()),
                errno,
            },
            other => other,
        })?;
    }
    umask(mask);
    link(root)
}

fn in_root(doing: &'static str) -> impl Fn(pathrs::error::Error) -> Error {
    move |e| match e.kind() {
        pathrs::error::ErrorKind::OsError(Some(raw)) => Step::Devices.failing(doing)(Errno::from_raw(raw)),
        _ => Error::failed(Step::Devices, format!("cannot {doing}: {e}")),
    }
}

/// Where nodes are made: most of them lie in one directory, which stays open from one to the next.
struct Nodes<'a> {
    root: &'a OwnedFd,
    last: Option<(PathBuf, OwnedFd)>,
}

impl Nodes<'_> {
    /// A node of its own, looked at without following a link: another file that is there already is left as it is (runc).
    fn make(&mut self, device: &LinuxDevice) -> Result<()> {
        let path = device.path();
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let why = format!("{} is no path of a node", path.display());
            return Err(Error::failed(Step::Devices, why));
        };
        let parent = self.directory(parent)?;
        let mode = Mode::from_bits_truncate(device.file_mode().unwrap_or(0o666) & 0o7777);
        let number = libc::makedev(number(device.major())?, number(device.minor())?);
        let typ = match device.typ() {
            LinuxDeviceType::B => SFlag::S_IFBLK,
            LinuxDeviceType::P => SFlag::S_IFIFO,
            LinuxDeviceType::C | LinuxDeviceType::U => SFlag::S_IFCHR,
            LinuxDeviceType::A => return Err(Error::failed(Step::Devices, "«a» is no type of a node")),
        };
        match nix::sys::stat::mknodat(Some(parent.as_raw_fd()), name, typ, mode, number) {
            Ok(()) => {}
            Err(Errno::EEXIST) => return Ok(()),
            Err(e) => return Err(Step::Devices.failing("make")(e)),
        }
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let made =
            gabion_sys::openat(parent.as_fd(), name, flags, Mode::empty()).map_err(Step::Devices.failing("open"))?;
        let stat = nix::sys::stat::fstat(made.as_raw_fd()).map_err(Step::Devices.failing("look at"))?;
        if stat.st_mode & libc::S_IFMT != typ.bits() || (typ != SFlag::S_IFIFO && stat.st_rdev != number) {
            let why = format!("{} is not the node that was made", path.display());
            return Err(Error::failed(Step::Devices, why));
        }
        let name = format!("/proc/self/fd/{}", made.as_raw_fd());
        let owner = (device.uid().map(Uid::from_raw), device.gid().map(Gid::from_raw));
        let given = owner != (None, None);
        if given {
            nix::unistd::chown(name.as_str(), owner.0, owner.1).map_err(Step::Devices.failing("give away"))?;
        }
        // chown(2) may take bits of the mode, so it goes first. A default ACL of the directory may have taken some, too.
        if given || stat.st_mode & 0o7777 != mode.bits() {
            std::fs::set_permissions(&name, Permissions::from_mode(mode.bits()))
                .map_err(Error::file("set the mode of", path))?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &Path) -> Result<&OwnedFd> {
        let open = match self.last.take() {
            Some((last, fd)) if last == path => fd,
            _ => self.open(path)?,
        };
        let (_, fd) = self.last.insert((path.to_path_buf(), open));
        Ok(fd)
    }

    fn open(&self, path: &Path) -> Result<OwnedFd> {
        match target::resolve(self.root.as_fd(), path) {
            Err(Errno::ENOENT) => {}
            other => return other.map_err(Step::Devices.failing("open the directory of")),
        }
        // mkdir_all makes itself a procfs first; most directories are there: /dev itself.
        RootRef::from_fd(self.root.as_fd())
            .mkdir_all(path, &Permissions::from_mode(0o755))
            .map(OwnedFd::from)
            .map_err(in_root("make the directory of"))
    }
}

fn number(n: i64) -> Result<libc::c_uint> {
    libc::c_uint::try_from(n).map_err(|_| Error::failed(Step::Devices, format!("{n} is no device number")))
}

/// The host's node, bound: its number must be the one that was asked for.
fn bind_node(root: &OwnedFd, device: &LinuxDevice) -> Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW;
    let host =
        gabion_sys::open(device.path(), flags, Mode::empty()).map_err(Step::Devices.failing("open the host's"))?;
    let stat = nix::sys::stat::fstat(host.as_raw_fd()).map_err(Step::Devices.failing("look at the host's"))?;
    let wanted = libc::makedev(number(device.major())?, number(device.minor())?);
    let is_fifo = device.typ() == LinuxDeviceType::P;
    if !is_fifo && stat.st_rdev != wanted {
        let why = format!(
            "the host's {} is another device than the one asked for",
            device.path().display()
        );
        return Err(Error::failed(Step::Devices, why));
    }
    let tree =
        gabion_sys::open_tree_clone(host.as_fd(), Reach::One).map_err(Step::Devices.failing("clone the mount of"))?;
    let place = target::open(Step::Devices, root.as_fd(), device.path(), Point::File)?;
    gabion_sys::move_mount(tree.as_fd(), place.as_fd()).map_err(Step::Devices.failing("bind"))
}

/// Tries what the cgroup must deny, the one evidence on v2, whose rules no file shows: a node of a number that no rule has.
/// Where not even an allowed one can be made (a user namespace) there is nothing to learn, and no node to be had.
pub(crate) fn probe(setup: &Setup<'_>, place: &OwnedFd) -> Result<()> {
    /// Majors beyond 511 belong to nobody (include/linux/fs.h, CHRDEV_MAJOR_MAX).
    const NOBODYS: u32 = 4094;
    if !setup.hardened.enforces(ControlId::Devices) {
        return Ok(());
    }
    let node = |name: &str, major, minor| {
        let (mode, number) = (Mode::S_IRUSR, libc::makedev(major, minor));
        nix::sys::stat::mknodat(Some(place.as_raw_fd()), name, SFlag::S_IFCHR, mode, number)
    };
    if node("null", 1, 3).is_err() {
        return Ok(());
    }
    let observed = match node("other", NOBODYS, 254) {
        Err(Errno::EPERM) => return Ok(()),
        Err(e) => e.to_string(),
        Ok(()) => "success".to_owned(),
    };
    let expected = "EPERM for a device that no rule allows".to_owned();
    Err(Error::Mismatch {
        control: ControlId::Devices,
        expected,
        observed,
    })
}

/// Whether gabion itself runs in a user namespace that is not the host's (rootless podman).
fn nested(setup: &Setup<'_>) -> Result<bool> {
    let map = setup
        .proc
        .read("self/uid_map")
        .map_err(|e| Error::step(Step::Devices, "read our uid map", e))?;
    Ok(!map.split_ascii_whitespace().eq(["0", "0", "4294967295"]))
}

fn link(root: &OwnedFd) -> Result<()> {
    let failed = Step::Devices.failing("link what belongs into");
    let dev = target::resolve(root.as_fd(), Path::new("/dev")).map_err(&failed)?;
    let mut links = LINKS.to_vec();
    if target::resolve(root.as_fd(), Path::new("/dev/pts")).is_ok() {
        links.push(("pts/ptmx", "ptmx"));
    }
    for (to, name) in links {
        match nix::unistd::symlinkat(to, Some(dev.as_raw_fd()), name) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(e) => return Err(failed(e)),
        }
    }
    Ok(())
}
