//! What one container asks for, whoever's words it was written in, and the config.json that its engine would make of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use gabion_core::capability;
use gabion_core::namespace::NsType;
use gabion_core::policy::Policy;
use gabion_core::request::{BadInput, CRI_NAMESPACE, Channel, Request};

use super::at::At;

/// In whose words it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum World {
    Kubernetes,
    Compose,
    Docker,
    Podman,
}

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Role {
    #[default]
    Container,
    Sandbox,
}

/// A pod's names.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodNames {
    pub(crate) namespace: String,
    pub(crate) pod: String,
    /// The container's own name; empty for a sandbox.
    pub(crate) container: String,
    pub(crate) image: Option<String>,
}

/// What stands behind a mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A path of the host that the person named.
    Host(PathBuf),
    /// A volume of the pod's: its plugin's directory and its name.
    OfPod(&'static str, String),
    /// A named volume of the engine's.
    OfEngine(String),
    /// Memory.
    Tmpfs,
}

/// Something that is to be mounted.
#[derive(Clone, Debug)]
pub(crate) struct Mounted {
    pub(crate) from: Origin,
    pub(crate) target: String,
    pub(crate) options: Vec<String>,
}

/// What seccomp is to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Filter {
    /// The spec brings none.
    #[default]
    None,
    /// The engine's own, or a file of the person's: neither is here.
    OfEngine,
}

/// What one container asks for.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a key of somebody's file, which is true or false there"
)]
pub(crate) struct Wish {
    pub(crate) world: World,
    pub(crate) role: Role,
    /// For people: `Deployment shop/web, container nginx`.
    pub(crate) name: String,
    pub(crate) pod: PodNames,
    /// Namespaces that are to be the host's.
    pub(crate) shared: BTreeSet<NsType>,
    pub(crate) user_namespace: bool,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) privileged: bool,
    /// By their bare names, `ALL` among them.
    pub(crate) add: Vec<String>,
    pub(crate) drop: Vec<String>,
    pub(crate) read_only_root: bool,
    pub(crate) no_new_privs: bool,
    pub(crate) mounts: Vec<Mounted>,
    pub(crate) devices: Vec<(String, String)>,
    pub(crate) limits: Limits,
    pub(crate) sysctls: BTreeMap<String, String>,
    pub(crate) filter: Filter,
    pub(crate) apparmor: Option<String>,
    pub(crate) selinux: Option<String>,
    pub(crate) unmasked: bool,
    pub(crate) rlimits: Vec<(String, u64, u64)>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) args: Vec<String>,
    pub(crate) cwd: String,
    /// Where in the person's file each part of the config.json comes from.
    pub(crate) places: BTreeMap<String, String>,
    /// What the file does not say, and what was taken for it.
    pub(crate) assumed: Vec<String>,
}

/// Limits, where the file has them.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Limits {
    pub(crate) memory: Option<i64>,
    pub(crate) pids: Option<i64>,
    /// Microseconds of each 100 000.
    pub(crate) quota: Option<i64>,
}

/// What stands for the image's own program, which no file but the image's tells.
const UNKNOWN_PROGRAM: &str = "the-program-of-the-image";

/// Ids as long as engines' are. Nothing on a machine has these.
const ID: &str = "c0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ffeec0ff";
const SANDBOX_ID: &str = "5ab0c5ab0c5ab0c5ab0c5ab0c5ab0c5ab0c5ab0c5ab0c5ab0c5ab0c5ab0c5ab0";
const POD_UID: &str = "00000000-0000-4000-8000-000000000000";

/// What engines give a container that asks for nothing, by their own sources.
const CRI_AND_DOCKER: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
const PODMAN: [&str; 11] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

impl Wish {
    pub(crate) fn new(world: World, name: String) -> Self {
        Self {
            world,
            role: Role::Container,
            name,
            pod: PodNames::default(),
            shared: BTreeSet::new(),
            user_namespace: false,
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            privileged: false,
            add: Vec::new(),
            drop: Vec::new(),
            read_only_root: false,
            no_new_privs: false,
            mounts: Vec::new(),
            devices: Vec::new(),
            limits: Limits::default(),
            sysctls: BTreeMap::new(),
            filter: Filter::None,
            apparmor: None,
            selinux: None,
            unmasked: false,
            rlimits: Vec::new(),
            annotations: BTreeMap::new(),
            args: Vec::new(),
            cwd: "/".to_owned(),
            places: BTreeMap::new(),
            assumed: Vec::new(),
        }
    }

    /// Notes where a part of the config.json comes from.
    pub(crate) fn note(&mut self, part: &str, place: &str) {
        self.places.insert(part.to_owned(), place.to_owned());
    }

    /// The same, where the file has it: what an engine does by itself is nobody's wish.
    pub(crate) fn note_if(&mut self, part: &str, at: &At<'_>) {
        if at.is_there() {
            self.note(part, &at.place);
        }
    }

    pub(crate) fn assume(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.assumed.contains(&what) {
            self.assumed.push(what);
        }
    }

    /// Says where in the person's file a part of the config.json comes from: the part itself, or the nearest above it.
    pub(crate) fn place_of(&self, part: &str) -> Option<&str> {
        let above = |known: &&String| {
            part.strip_prefix(known.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        let nearest = self.places.keys().filter(above).max_by_key(|known| known.len())?;
        self.places.get(nearest).map(String::as_str)
    }

    /// Gives the request that the engine would make.
    ///
    /// # Errors
    /// What the file says makes no config.json.
    pub(crate) fn request(&self, policy: &Policy) -> Result<Request, BadInput> {
        let text = self.spec(policy).to_string();
        let id = if self.role == Role::Sandbox { SANDBOX_ID } else { ID };
        let invalid = |why: String| BadInput {
            path: self.name.clone().into(),
            why,
            code: gabion_core::request::INVALID,
        };
        let parsed = id.parse().map_err(|error| invalid(format!("{error}")))?;
        let bundle = match self.world {
            World::Kubernetes => task(policy, CRI_NAMESPACE, id),
            World::Docker | World::Compose => task(policy, gabion_core::request::DOCKERS_NAMESPACE, id),
            World::Podman => format!("/var/lib/containers/storage/overlay-containers/{id}/userdata").into(),
        };
        let mut request = Request::parse(parsed, bundle, text.as_bytes(), Path::new(&self.name))?;
        if self.world == World::Kubernetes {
            request.channel = Channel::Shim {
                namespace: CRI_NAMESPACE.to_owned(),
            };
        }
        Ok(request)
    }

    /// Gives the sources of mounts, by their index in the spec, that no file of this machine stands for.
    pub(crate) fn sources(&self, policy: &Policy) -> Vec<(usize, PathBuf, &Origin)> {
        let binds = self.mounts.iter().enumerate();
        let of = |(i, mount): (usize, &'_ Mounted)| {
            let source = source(&mount.from, self.world, policy)?;
            Some((OF_ENGINES + i, source, i))
        };
        binds
            .filter_map(of)
            .filter_map(|(index, path, i)| Some((index, path, &self.mounts.get(i)?.from)))
            .collect()
    }

    /// The capabilities that the engine would write down, without their prefix.
    pub(crate) fn capabilities(&self) -> BTreeSet<String> {
        let all = || {
            capability::NAMES
                .iter()
                .map(ToString::to_string)
                .collect::<BTreeSet<String>>()
        };
        if self.privileged {
            return all();
        }
        let has = |list: &[String], word: &str| list.iter().any(|name| name == word);
        let mut caps: BTreeSet<String> = match self.world {
            _ if has(&self.add, "ALL") => all(),
            _ if has(&self.drop, "ALL") => BTreeSet::new(),
            World::Podman => PODMAN.iter().map(ToString::to_string).collect(),
            _ => CRI_AND_DOCKER.iter().map(ToString::to_string).collect(),
        };
        caps.extend(self.add.iter().filter(|name| *name != "ALL").cloned());
        for name in &self.drop {
            caps.remove(name);
        }
        caps
    }

    fn spec(&self, policy: &Policy) -> Value {
        let caps: Vec<String> = self.capabilities().iter().map(|name| format!("CAP_{name}")).collect();
        let args = if self.args.is_empty() {
            vec![UNKNOWN_PROGRAM.to_owned()]
        } else {
            self.args.clone()
        };
        let rlimits: Vec<Value> = self
            .rlimits
            .iter()
            .map(|(name, soft, hard)| json!({"type": name, "soft": soft, "hard": hard}))
            .collect();
        let mut process = json!({
            "user": {"uid": self.uid, "gid": self.gid, "additionalGids": self.groups},
            "args": args,
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
            "cwd": self.cwd,
            "capabilities": {"bounding": caps, "effective": caps, "permitted": caps},
            "noNewPrivileges": self.no_new_privs,
            "rlimits": rlimits,
        });
        if let Some(profile) = &self.apparmor {
            process["apparmorProfile"] = json!(profile);
        }
        if let Some(label) = &self.selinux {
            process["selinuxLabel"] = json!(label);
        }
        let mut spec = json!({
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": "rootfs", "readonly": self.read_only_root},
            "mounts": self.spec_mounts(policy),
            "annotations": self.spec_annotations(),
            "linux": self.linux(),
        });
        if !self.shared.contains(&NsType::Uts) {
            spec["hostname"] = json!("host");
        }
        spec
    }

    fn spec_mounts(&self, policy: &Policy) -> Vec<Value> {
        let mut mounts = engines_own(if self.privileged { "rw" } else { "ro" });
        for mount in &self.mounts {
            mounts.push(match source(&mount.from, self.world, policy) {
                Some(source) => {
                    let mut options = vec!["rbind".to_owned()];
                    options.extend(mount.options.iter().cloned());
                    json!({"destination": mount.target, "type": "bind", "source": source, "options": options})
                }
                None => {
                    json!({"destination": mount.target, "type": "tmpfs", "source": "tmpfs", "options": mount.options})
                }
            });
        }
        mounts
    }

    fn spec_annotations(&self) -> BTreeMap<String, String> {
        let mut all = self.annotations.clone();
        let mut put = |key: &str, value: &str| all.insert(key.to_owned(), value.to_owned());
        match self.world {
            World::Kubernetes => {
                let typ = if self.role == Role::Sandbox {
                    "sandbox"
                } else {
                    "container"
                };
                put("io.kubernetes.cri.container-type", typ);
                put("io.kubernetes.cri.sandbox-id", SANDBOX_ID);
                put("io.kubernetes.cri.sandbox-namespace", &self.pod.namespace);
                put("io.kubernetes.cri.sandbox-name", &self.pod.pod);
                put("io.kubernetes.cri.sandbox-uid", POD_UID);
                if self.role == Role::Container {
                    put("io.kubernetes.cri.container-name", &self.pod.container);
                    if let Some(image) = &self.pod.image {
                        put("io.kubernetes.cri.image-name", image);
                    }
                }
            }
            World::Podman => {
                put("io.container.manager", "libpod");
            }
            World::Docker | World::Compose => {}
        }
        all
    }

    fn linux(&self) -> Value {
        let own = [
            NsType::Pid,
            NsType::Network,
            NsType::Ipc,
            NsType::Uts,
            NsType::Mount,
            NsType::Cgroup,
        ];
        let mut namespaces: Vec<Value> = own
            .into_iter()
            .filter(|typ| !self.shared.contains(typ))
            .map(|typ| json!({"type": typ.spec_name()}))
            .collect();
        let mut resources = json!({"devices": [{"allow": self.privileged, "access": "rwm"}]});
        if let Some(memory) = self.limits.memory {
            resources["memory"] = json!({"limit": memory});
        }
        if let Some(pids) = self.limits.pids {
            resources["pids"] = json!({"limit": pids});
        }
        if let Some(quota) = self.limits.quota {
            resources["cpu"] = json!({"quota": quota, "period": 100_000});
        }
        let mut linux = json!({
            "resources": resources,
            "cgroupsPath": format!("/gabion-check/{ID}"),
            "sysctl": self.sysctls,
            "devices": self.devices.iter().map(|(path, _)| node(path)).collect::<Vec<_>>(),
            "maskedPaths": if self.unmasked || self.privileged { Vec::new() } else { MASKED.to_vec() },
            "readonlyPaths": if self.unmasked || self.privileged { Vec::new() } else { READ_ONLY.to_vec() },
        });
        if self.user_namespace {
            namespaces.push(json!({"type": "user"}));
            let map = json!([{"containerID": 0, "hostID": 1_000_000, "size": 65_536}]);
            linux["uidMappings"] = map.clone();
            linux["gidMappings"] = map;
        }
        linux["namespaces"] = json!(namespaces);
        if self.filter == Filter::OfEngine && !self.privileged {
            // What it allows is its engine's; that there is one is what is decided by.
            linux["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_ALLOW"}]});
        }
        linux
    }
}

fn task(policy: &Policy, namespace: &str, id: &str) -> PathBuf {
    let tasks = policy.mounts.containerd_state.join("io.containerd.runtime.v2.task");
    tasks.join(namespace).join(id)
}

/// Where a source lies; None for what has none.
fn source(from: &Origin, world: World, policy: &Policy) -> Option<PathBuf> {
    Some(match from {
        Origin::Host(path) => path.clone(),
        Origin::OfPod(plugin, name) => policy
            .mounts
            .kubelet_root
            .join("pods")
            .join(POD_UID)
            .join("volumes")
            .join(plugin)
            .join(name),
        Origin::OfEngine(name) if world == World::Podman => Path::new("/var/lib/containers/storage/volumes")
            .join(name)
            .join("_data"),
        Origin::OfEngine(name) => Path::new("/var/lib/docker/volumes").join(name).join("_data"),
        Origin::Tmpfs => return None,
    })
}

/// A device node: as this machine has it, else with a number that nothing has.
fn node(path: &str) -> Value {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    let meta = std::fs::symlink_metadata(path).ok();
    let found = meta.and_then(|meta| {
        let kind = meta.file_type();
        let typ = match (kind.is_char_device(), kind.is_block_device()) {
            (true, _) => "c",
            (_, true) => "b",
            _ => return None,
        };
        let number = meta.rdev();
        Some((typ, nix::sys::stat::major(number), nix::sys::stat::minor(number)))
    });
    let (typ, major, minor) = found.unwrap_or(("c", ABSENT.0, ABSENT.1));
    json!({"path": path, "type": typ, "major": major, "minor": minor, "fileMode": 0o600, "uid": 0, "gid": 0})
}

/// The number of a device that this machine does not have (reserved for experiments).
pub(crate) const ABSENT: (u64, u64) = (240, 0);

/// How many mounts engines bring before those that somebody named.
const OF_ENGINES: usize = 7;

/// What every engine mounts. Its files for one container (hosts, resolv.conf and the like) are left out: gabion lets them pass.
fn engines_own(sys: &str) -> Vec<Value> {
    vec![
        json!({"destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
            "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]}),
        json!({"destination": "/dev/pts", "type": "devpts", "source": "devpts",
            "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]}),
        json!({"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue", "options": ["nosuid", "noexec", "nodev"]}),
        json!({"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
            "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]}),
        json!({"destination": "/sys", "type": "sysfs", "source": "sysfs", "options": ["nosuid", "noexec", "nodev", sys]}),
        json!({"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", sys]}),
    ]
}

const MASKED: [&str; 8] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 6] = [
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];
