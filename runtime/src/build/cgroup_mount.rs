//! `/sys/fs/cgroup` of the container: one file system on v2, one for each hierarchy on v1.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::mount::MsFlags;
use nix::sys::stat::Mode;

use crate::build::fsmount;
use crate::build::target;
use crate::contract::setup::{Create, Setup};
use gabion_core::namespace::NsType;
use gabion_see::error::{Result, Step};
use gabion_sys::{MOUNT_ATTR_NODEV, MOUNT_ATTR_NOEXEC, MOUNT_ATTR_NOSUID, MountAttr, Reach};

const ATTRIBUTES: u64 = MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOEXEC;
const HOST: &str = "/sys/fs/cgroup";

/// Mounts the container's view of its cgroups and gives the top of it.
pub(crate) fn attach(setup: &Setup<'_>, create: &Create<'_>, place: &OwnedFd) -> Result<OwnedFd> {
    let listing = setup
        .proc
        .read("self/cgroup")
        .map_err(Step::Mounts.failing("read /proc/self/cgroup"))?;
    let hierarchies: Vec<Hierarchy<'_>> = listing.lines().filter_map(Hierarchy::parse).collect();
    // In a cgroup namespace, new or joined, paths are its own and mean nothing on the host.
    let own_view = setup.enters_new(NsType::Cgroup) || setup.joins.iter().any(|(t, _)| *t == NsType::Cgroup);
    if hierarchies.iter().all(|h| h.controllers.is_empty()) {
        let path = hierarchies.first().map_or("/", |h| h.path);
        let made = if own_view { unified()? } else { host_view("", path)? };
        gabion_sys::move_mount(made.as_fd(), place.as_fd()).map_err(Step::Mounts.failing("attach cgroup2"))?;
        return Ok(made);
    }
    let mut options = vec!["mode=755".to_owned()];
    options.extend(fsmount::context(create.mount_label.as_deref()));
    let top = fsmount::create("tmpfs", "cgroup", &options, ATTRIBUTES)
        .map_err(Step::Mounts.failing("make a tmpfs for cgroups"))?;
    gabion_sys::move_mount(top.as_fd(), place.as_fd()).map_err(Step::Mounts.failing("attach the tmpfs for cgroups"))?;
    // Mounted somewhere, if only in another namespace, and not here: the host does not see it, nor does the container.
    let is_here = |h: &&Hierarchy<'_>| {
        let top = Path::new(HOST).join(h.name());
        let below = if own_view { "" } else { h.path.trim_start_matches('/') };
        top.join(below).join("cgroup.procs").exists()
    };
    for hierarchy in hierarchies.iter().filter(|h| !h.controllers.is_empty()).filter(is_here) {
        hierarchy.attach(top.as_fd(), own_view)?;
    }
    Ok(top)
}

fn unified() -> Result<OwnedFd> {
    fsmount::create("cgroup2", "cgroup", &[], ATTRIBUTES).map_err(Step::Mounts.failing("make cgroup2"))
}

/// Without a cgroup namespace: a bind of the container's own directory.
fn host_view(name: &str, path: &str) -> Result<OwnedFd> {
    let full = Path::new(HOST).join(name).join(path.trim_start_matches('/'));
    let flags = nix::fcntl::OFlag::O_PATH | nix::fcntl::OFlag::O_DIRECTORY | nix::fcntl::OFlag::O_CLOEXEC;
    let fd = gabion_sys::open(&full, flags, Mode::empty()).map_err(Step::Mounts.failing("open our cgroup"))?;
    let tree = gabion_sys::open_tree_clone(fd.as_fd(), Reach::One)
        .map_err(Step::Mounts.failing("clone our cgroup's mount"))?;
    let attr = MountAttr {
        set: ATTRIBUTES,
        propagation: MsFlags::MS_PRIVATE.bits(),
        ..MountAttr::default()
    };
    gabion_sys::mount_setattr(tree.as_fd(), Reach::One, &attr)
        .map_err(Step::Mounts.failing("set the attributes of our cgroup's mount"))?;
    Ok(tree)
}

/// A line of /proc/self/cgroup on v1 (cgroups(7)): `4:cpu,cpuacct:/path`.
struct Hierarchy<'a> {
    /// `cpu,cpuacct` or `name=systemd`; empty for v2.
    controllers: &'a str,
    path: &'a str,
}

impl<'a> Hierarchy<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut parts = line.splitn(3, ':').skip(1);
        Some(Self {
            controllers: parts.next()?,
            path: parts.next()?,
        })
    }

    /// Its directory's name: `systemd` for `name=systemd`.
    fn name(&self) -> &'a str {
        self.controllers.strip_prefix("name=").unwrap_or(self.controllers)
    }

    fn attach(&self, top: BorrowedFd<'_>, own_view: bool) -> Result<()> {
        let name = self.name();
        nix::sys::stat::mkdirat(
            Some(std::os::fd::AsRawFd::as_raw_fd(&top)),
            name,
            Mode::from_bits_retain(0o755),
        )
        .map_err(Step::Mounts.failing("make a cgroup directory"))?;
        let place = target::resolve(top, Path::new(name)).map_err(Step::Mounts.failing("open a cgroup directory"))?;
        let made = if own_view {
            self.own()?
        } else {
            host_view(name, self.path)?
        };
        gabion_sys::move_mount(made.as_fd(), place.as_fd())
            .map_err(Step::Mounts.failing("attach a cgroup hierarchy"))?;
        if name.contains(',') {
            for alias in name.split(',') {
                nix::unistd::symlinkat(name, Some(std::os::fd::AsRawFd::as_raw_fd(&top)), alias)
                    .map_err(Step::Mounts.failing("link a co-mounted cgroup"))?;
            }
        }
        Ok(())
    }

    fn own(&self) -> Result<OwnedFd> {
        let options: Vec<String> = if self.controllers.starts_with("name=") {
            vec!["none".to_owned(), self.controllers.to_owned()]
        } else {
            self.controllers.split(',').map(str::to_owned).collect()
        };
        fsmount::create("cgroup", "cgroup", &options, ATTRIBUTES)
            .map_err(Step::Mounts.failing("make a cgroup hierarchy"))
    }
}
