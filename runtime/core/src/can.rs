//! Whether a container may do something, by what was decided for it: every layer that says no, and the smallest loosening that takes all of them off.
//!
//! It goes by paths as they are written: a symlink in the image is not followed, and the owner and mode of a file decide beside it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::{Capability, Linux, Mount, Spec};

use crate::capability;
use crate::control::capabilities::is_kept;
use crate::hardened::Hardened;
use crate::id::ControlId;
use crate::policy::{Level, MemoryRule};
use crate::request::mount_options::{MountOptions, attr};
use crate::request::normalize;

mod act;

pub use act::{Act, NotAnAct};

/// Who says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Control(ControlId),
    /// The spec, as its author wrote it.
    Spec,
}

/// One layer that says no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    pub by: By,
    /// What it is, in a clause.
    pub what: String,
    /// What takes this layer off.
    pub loosen: String,
}

/// What is known of one act.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Every layer that says no; none: it may.
    pub denied: Vec<Denied>,
    /// What else decides and is not known from here.
    pub also: Vec<String>,
}

impl Verdict {
    pub const fn may(&self) -> bool {
        self.denied.is_empty()
    }

    /// The loosenings that take all layers off, each once.
    pub fn loosenings(&self) -> Vec<&str> {
        let mut all: Vec<&str> = Vec::new();
        for denied in &self.denied {
            if !all.contains(&denied.loosen.as_str()) {
                all.push(&denied.loosen);
            }
        }
        all
    }

    fn no(&mut self, by: By, what: impl Into<String>, loosen: impl Into<String>) {
        let (what, loosen) = (what.into(), loosen.into());
        self.denied.push(Denied { by, what, loosen });
    }
}

const OWNER: &str = "owner and mode of the file, and links in the image";

/// Judges an act. System calls are asked of the filters themselves, which are not here: [`missing`] says what the kernel asks for beside them.
pub fn judge(hardened: &Hardened, act: &Act) -> Verdict {
    let asked = Asked { hardened };
    let mut verdict = Verdict::default();
    match act {
        Act::Exec(path) => asked.exec(path, &mut verdict),
        Act::Write(path) => asked.write(path, &mut verdict),
        Act::Read(path) => asked.read(path, &mut verdict),
        Act::Open(path) => asked.open(path, &mut verdict),
        Act::Cap(cap) => asked.cap(*cap, &mut verdict),
        Act::Bind(port) => asked.bind(*port, &mut verdict),
        Act::Connect(port) => asked.connect(*port, &mut verdict),
        Act::Call { .. } => {}
    }
    verdict
}

/// Says no where the container's first process has not this capability.
pub fn missing(hardened: &Hardened, cap: Capability, verdict: &mut Verdict) {
    Asked { hardened }.cap(cap, verdict);
}

struct Asked<'a> {
    hardened: &'a Hardened,
}

/// What a path lies on.
enum Place<'a> {
    Root,
    Hole(&'a Path),
    Mount(&'a Mount, PathBuf),
}

impl<'a> Asked<'a> {
    fn spec(&self) -> &'a Spec {
        self.hardened.spec()
    }

    fn linux(&self) -> Option<&'a Linux> {
        self.spec().linux().as_ref()
    }

    /// The control, where it is in force; else it is the spec's own doing.
    fn by(&self, control: ControlId) -> By {
        if self.hardened.enforces(control) {
            By::Control(control)
        } else {
            By::Spec
        }
    }

    /// The last mount at or above a path is the one that it lies on; holes lie below the spec's mounts.
    fn place(&self, path: &Path) -> Place<'a> {
        let plan = self.hardened.plan();
        let mounts = self.spec().mounts().as_deref().unwrap_or_default();
        let target = |(index, mount): (usize, &'a Mount)| {
            let seen = plan.targets.get(&index).cloned();
            (mount, seen.unwrap_or_else(|| normalize(mount.destination())))
        };
        let on = mounts
            .iter()
            .enumerate()
            .map(target)
            .rfind(|(_, target)| target != Path::new("/") && path.starts_with(target));
        let hole = plan.holes.iter().map(|hole| hole.target.as_path());
        let hole = hole
            .filter(|hole| path.starts_with(hole))
            .max_by_key(|hole| hole.as_os_str().len());
        match (on, hole) {
            (Some((mount, target)), _) => Place::Mount(mount, target),
            (None, Some(hole)) => Place::Hole(hole),
            (None, None) => Place::Root,
        }
    }

    fn exec(&self, path: &Path, verdict: &mut Verdict) {
        verdict.also.push(OWNER.to_owned());
        let exec_paths = |target: &Path| {
            format!(
                "keep the program in the image; else, not at level restricted, [mounts] exec_paths = [\"{}\"] (`mounts.exec_paths` in an exception for that container)",
                target.display()
            )
        };
        // One key for both layers: what is excepted from the flag is excepted from Landlock.
        let loosen = match self.place(path) {
            Place::Root => "keep it in the image, where nothing is written".to_owned(),
            Place::Hole(hole) => {
                let loosen = format!("{}, with a volume mounted there", exec_paths(hole));
                let what = format!("{} is a hole, mounted noexec", hole.display());
                verdict.no(self.by(ControlId::Holes), what, loosen.clone());
                loosen
            }
            Place::Mount(mount, target) => {
                let loosen = exec_paths(&target);
                if has(mount, attr::NOEXEC) {
                    let what = format!("the mount at {} is noexec", target.display());
                    verdict.no(self.by(ControlId::Mounts), what, loosen.clone());
                }
                loosen
            }
        };
        let Some(plan) = &self.hardened.plan().landlock else {
            return;
        };
        let covers = |list: &[PathBuf]| list.iter().any(|place| path.starts_with(place));
        let depth = |list: &[PathBuf]| {
            let below = list.iter().filter(|place| path.starts_with(place));
            below.map(|place| place.as_os_str().len()).max()
        };
        let closed = depth(&plan.writable).max(depth(&plan.inert));
        let opened = depth(&plan.executable).max(depth(&plan.writable_exec));
        if closed.is_some() && closed >= opened && !covers(&plan.writable_exec) {
            verdict.no(
                By::Control(ControlId::Landlock),
                "Landlock lets nothing be executed where files can be written",
                loosen,
            );
        }
    }

    fn write(&self, path: &Path, verdict: &mut Verdict) {
        verdict.also.push(OWNER.to_owned());
        let hole = |path: &Path| {
            let dir = path.parent().filter(|dir| *dir != Path::new("/")).unwrap_or(path);
            format!(
                "a hole or a volume there: annotation dev.gabion.holes = \"{}:size=16m\"",
                dir.display()
            )
        };
        let mut loosen = hole(path);
        match self.place(path) {
            Place::Root if self.is_root_read_only() => {
                verdict.no(
                    self.by(ControlId::Rootfs),
                    "the root file system is read-only",
                    loosen.clone(),
                );
            }
            Place::Root | Place::Hole(_) => {}
            Place::Mount(mount, target) => {
                let kernels = matches!(mount.typ().as_deref(), Some("proc" | "sysfs" | "cgroup" | "cgroup2"));
                if has(mount, attr::RDONLY) {
                    loosen = if kernels {
                        "nothing smaller than `loosen = [\"mounts\"]` in an exception for that container".to_owned()
                    } else {
                        "mount it writable (readOnly: false; without :ro)".to_owned()
                    };
                    let what = format!("the mount at {} is read-only", target.display());
                    verdict.no(self.by(ControlId::Mounts), what, loosen.clone());
                }
            }
        }
        self.kernels_files(path, verdict);
        if self.hardened.plan().memory.contains(&MemoryRule::Proc) && path.starts_with("/proc") {
            let loosen = "[memory] proc = \"observe\", by an exception for that container";
            verdict.no(By::Control(ControlId::Memory), "/proc is mounted read-only", loosen);
        }
        if let Some(plan) = &self.hardened.plan().landlock {
            let lists = plan.writable.iter().chain(&plan.writable_exec);
            if !lists.into_iter().any(|place| path.starts_with(place)) {
                verdict.no(
                    By::Control(ControlId::Landlock),
                    "Landlock lets nothing be written there",
                    loosen,
                );
            }
        }
    }

    fn read(&self, path: &Path, verdict: &mut Verdict) {
        verdict.also.push(OWNER.to_owned());
        if let Some(masked) = self.masked(path) {
            self.no_mask(masked, verdict);
        }
    }

    fn open(&self, path: &Path, verdict: &mut Verdict) {
        const STANDARD: [&str; 8] = [
            "/dev/null",
            "/dev/zero",
            "/dev/full",
            "/dev/random",
            "/dev/urandom",
            "/dev/tty",
            "/dev/ptmx",
            "/dev/console",
        ];
        verdict.also.push(OWNER.to_owned());
        let devices = self
            .linux()
            .and_then(|linux| linux.devices().as_deref())
            .unwrap_or_default();
        let asked = devices.iter().any(|device| normalize(device.path()) == path);
        let bound = matches!(self.place(path), Place::Mount(mount, target) if target == path && crate::request::mount_options::is_bind(mount));
        if asked || bound || STANDARD.iter().any(|name| path == Path::new(name)) || path.starts_with("/dev/pts") {
            return;
        }
        let loosen = format!(
            "ask for it (--device, a device plugin), with [devices] allow = [\"{}\"] in the policy or an exception",
            path.display()
        );
        verdict.no(
            self.by(ControlId::Devices),
            format!("{} is not among the container's devices", path.display()),
            loosen,
        );
    }

    fn cap(&self, cap: Capability, verdict: &mut Verdict) {
        let process = self.spec().process().as_ref();
        let caps = process.and_then(|process| process.capabilities().as_ref());
        let has = |set: Option<&std::collections::HashSet<Capability>>| set.is_some_and(|set| set.contains(&cap));
        let root = process.is_none_or(|process| process.user().uid() == 0);
        if !has(caps.and_then(|caps| caps.bounding().as_ref())) {
            let level = self.hardened.level();
            let by = if is_kept(cap, level) && level != Level::Permissive {
                By::Spec
            } else {
                self.by(ControlId::Capabilities)
            };
            let loosen = match by {
                By::Spec => format!("the spec asks for it (capabilities.add: [\"{cap}\"]; --cap-add {cap})"),
                By::Control(_) => format!(
                    "[capabilities] allow = [\"CAP_{cap}\"] in the policy, or `capabilities.allow` in an exception for that container, where the spec asks for it"
                ),
            };
            verdict.no(by, format!("CAP_{cap} is in none of its sets"), loosen);
        } else if !root && !has(caps.and_then(|caps| caps.ambient().as_ref())) {
            let what = format!(
                "CAP_{cap} is in its bounding set alone: it starts as another user than root, and no_new_privs keeps file capabilities from giving it"
            );
            verdict.no(By::Spec, what, "start it as root, who has it");
        }
    }

    fn bind(&self, port: u16, verdict: &mut Verdict) {
        let plan = self.hardened.plan().landlock.as_ref();
        Self::ports(
            plan.and_then(|plan| plan.tcp_bind.as_ref()),
            port,
            "dev.gabion.landlock.tcp-bind",
            verdict,
        );
        let sysctl = self.linux().and_then(|linux| linux.sysctl().as_ref());
        let start = sysctl.and_then(|all| all.get("net.ipv4.ip_unprivileged_port_start"));
        let start = start.and_then(|text| text.trim().parse().ok()).unwrap_or(1024);
        if port != 0 && port < start {
            self.cap(Capability::NetBindService, verdict);
            verdict
                .also
                .push("net.ipv4.ip_unprivileged_port_start of the network namespace".to_owned());
        }
    }

    fn connect(&self, port: u16, verdict: &mut Verdict) {
        let plan = self.hardened.plan().landlock.as_ref();
        Self::ports(
            plan.and_then(|plan| plan.tcp_connect.as_ref()),
            port,
            "dev.gabion.landlock.tcp-connect",
            verdict,
        );
        verdict
            .also
            .push("the network that the container has, and policies of it (NetworkPolicy, firewalls)".to_owned());
    }

    fn ports(list: Option<&Vec<u16>>, port: u16, key: &str, verdict: &mut Verdict) {
        if list.is_some_and(|list| !list.contains(&port)) {
            let by = By::Control(ControlId::Landlock);
            verdict.no(
                by,
                format!("the container's own annotation {key} has not {port}"),
                format!("add {port} to the annotation {key}"),
            );
        }
    }

    fn is_root_read_only(&self) -> bool {
        self.spec().root().as_ref().and_then(oci_spec::runtime::Root::readonly) == Some(true)
    }

    fn masked(&self, path: &Path) -> Option<&'a str> {
        let masks = self.linux()?.masked_paths().as_ref()?;
        masks.iter().map(String::as_str).find(|mask| path.starts_with(mask))
    }

    fn no_mask(&self, masked: &str, verdict: &mut Verdict) {
        let loosen = "nothing smaller than `loosen = [\"masked_paths\"]` in an exception for that container";
        verdict.no(
            self.by(ControlId::MaskedPaths),
            format!("{masked} is masked: what is there is empty"),
            loosen,
        );
    }

    /// Files of /proc and /sys that are masked or read-only.
    fn kernels_files(&self, path: &Path, verdict: &mut Verdict) {
        if let Some(masked) = self.masked(path) {
            return self.no_mask(masked, verdict);
        }
        let list = self.linux().and_then(|linux| linux.readonly_paths().as_ref());
        let read_only = list.into_iter().flatten().find(|place| path.starts_with(place));
        if let Some(place) = read_only {
            let loosen = if path.starts_with("/proc/sys") {
                "ask for the sysctl in the spec (securityContext.sysctls, --sysctl), with [sysctl] allow"
            } else {
                "nothing smaller than `loosen = [\"masked_paths\"]` in an exception for that container"
            };
            verdict.no(self.by(ControlId::MaskedPaths), format!("{place} is read-only"), loosen);
        }
    }
}

fn has(mount: &Mount, bit: u64) -> bool {
    let options = MountOptions::of(mount);
    // A tree's attributes are set after those of the one.
    let one = options.one.set & bit != 0 && options.tree.clear & bit == 0;
    one || options.tree.set & bit != 0
}

/// Reads a capability's name.
pub(crate) fn capability_of(word: &str) -> Option<Capability> {
    capability::parse(&word.to_ascii_uppercase())
}

#[cfg(test)]
#[path = "can/tests.rs"]
mod tests;
