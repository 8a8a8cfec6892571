//! Looks up what `gabion doctor` judges: files of the kernel and of engines below one root, so that a node can also be looked at from a pod that
//! has its root mounted; and what only the kernel that runs can be asked.

use std::collections::BTreeMap;

use gabion_core::caller::Reader;
use gabion_core::doctor::node::{Cgroups, Engine, KernelAudit, Landlock, Modules, Node, Program, SYSCTLS, Seen};
use libc::O_PATH;
use nix::errno::Errno;

use crate::kernel_audit;

mod engine;
mod own;
mod root;

pub use root::Root;

/// What only the kernel that runs can be asked, wherever the files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    pub landlock: Seen<Landlock>,
    pub audit: Seen<KernelAudit>,
}

impl Asked {
    /// Asks.
    #[must_use]
    pub fn now() -> Self {
        Self {
            landlock: Seen::Is(Landlock {
                abi: gabion_sys::landlock_abi(),
                errata: gabion_sys::landlock_errata(),
            }),
            audit: match kernel_audit::is_on() {
                Ok(true) => Seen::Is(KernelAudit::On),
                Ok(false) => Seen::Is(KernelAudit::Off),
                Err(Errno::EPROTONOSUPPORT) => Seen::Absent,
                Err(errno) => Seen::Unknown(format!("the kernel's audit does not answer us: {}", errno.desc())),
            },
        }
    }
}

/// Looks at the machine whose root this is. Engines' versions are not among it: nothing is started here.
#[must_use]
pub fn look(root: &Root, asked: Asked, reader: Reader) -> Node {
    let release = root.text("/proc/sys/kernel/osrelease");
    let (policies, log) = own::policies(root, reader);
    let containerd = engine::configuration(root);
    Node {
        modules: modules(root, &release),
        cgroups: cgroups(root),
        sysctls: SYSCTLS
            .iter()
            .map(|name| (*name, root.text(&format!("/proc/sys/{name}"))))
            .collect(),
        cmdline: root.text("/proc/cmdline"),
        landlock: asked.landlock,
        lsm: root.text("/sys/kernel/security/lsm"),
        selinux: root.text("/sys/fs/selinux/enforce"),
        profiles: root.text("/sys/kernel/security/apparmor/profiles"),
        audit: asked.audit,
        vulnerabilities: root.texts("/sys/devices/system/cpu/vulnerabilities"),
        ksm: root.text("/sys/kernel/mm/ksm/run"),
        binfmt: binfmt(root),
        engines: BTreeMap::new(),
        kubelet: own::kubelet(root, &policies),
        shim: engine::shim(root, &containerd, reader),
        programs: ["gabion", "gabionctl"]
            .map(|name| (name, root.program(name, reader)))
            .into(),
        containerd,
        policies,
        log,
        release,
    }
}

/// The engines whose programs are here.
#[must_use]
pub fn engines(root: &Root, reader: Reader) -> Vec<(Engine, Seen<Program>)> {
    let all = Engine::ALL.into_iter();
    all.map(|engine| (engine, root.program(engine.program(), reader)))
        .collect()
}

fn modules(root: &Root, release: &Seen<String>) -> Modules {
    let aliases = match release {
        Seen::Is(release) => {
            let below = |base: &str| root.text(&format!("{base}/{}/modules.alias", release.trim()));
            match below("/lib/modules") {
                Seen::Absent => below("/usr/lib/modules"),
                seen => seen,
            }
        }
        Seen::Absent => Seen::Absent,
        Seen::Unknown(why) => Seen::Unknown(why.clone()),
    };
    let mut files = Vec::new();
    let mut configuration = None;
    for dir in [
        "/lib/modprobe.d",
        "/usr/lib/modprobe.d",
        "/run/modprobe.d",
        "/etc/modprobe.d",
    ] {
        match root.texts(dir) {
            Seen::Is(texts) => files.extend(texts.into_iter().map(|(_, text)| text)),
            Seen::Absent => {}
            Seen::Unknown(why) => configuration = Some(Seen::Unknown(why)),
        }
    }
    Modules {
        loaded: root.text("/proc/modules"),
        aliases,
        configuration: configuration.unwrap_or(Seen::Is(files)),
    }
}

fn cgroups(root: &Root) -> Cgroups {
    const AT: &str = "/sys/fs/cgroup";
    let exists = |path: &str| Root::seen(path, root.at(path, O_PATH).map(drop));
    let mut swap_limit = Seen::Absent;
    for file in [
        "memory/memory.memsw.limit_in_bytes",
        "init.scope/memory.swap.max",
        "system.slice/memory.swap.max",
        "kubepods.slice/memory.swap.max",
        "kubepods/memory.swap.max",
    ] {
        match exists(&format!("{AT}/{file}")) {
            Seen::Absent => {}
            seen => {
                swap_limit = seen;
                break;
            }
        }
    }
    let users = match root.names(&format!("{AT}/user.slice")) {
        Seen::Is(names) => Seen::Is(
            names
                .into_iter()
                .filter_map(|slice| {
                    let uid = slice.strip_prefix("user-")?.strip_suffix(".slice")?.to_owned();
                    let service = format!("{AT}/user.slice/{slice}/user@{uid}.service");
                    // A user without a manager has no containers with limits to begin with.
                    matches!(exists(&service), Seen::Is(())).then(|| {
                        (
                            format!("user {uid}"),
                            root.text(&format!("{service}/cgroup.controllers")),
                        )
                    })
                })
                .collect(),
        ),
        Seen::Absent => Seen::Absent,
        Seen::Unknown(why) => Seen::Unknown(why),
    };
    Cgroups {
        controllers: root.text(&format!("{AT}/cgroup.controllers")),
        hierarchies: root.names(AT),
        users,
        swap_limit,
        swaps: root.text("/proc/swaps"),
    }
}

fn binfmt(root: &Root) -> Seen<Vec<(String, String)>> {
    const AT: &str = "/proc/sys/fs/binfmt_misc";
    // `register` can only be written.
    match root.texts_but(AT, &["register"]) {
        // The directory is the kernel's; what is mounted on it has this file.
        Seen::Is(found) if !found.iter().any(|(name, _)| name == "status") => Seen::Unknown(format!(
            "binfmt_misc is not mounted at {AT}, so that its handlers are not seen"
        )),
        Seen::Is(mut found) => {
            if found
                .iter()
                .any(|(name, text)| name == "status" && text.trim() == "disabled")
            {
                return Seen::Is(Vec::new());
            }
            found.retain(|(name, _)| name != "status");
            Seen::Is(found)
        }
        seen => seen,
    }
}
