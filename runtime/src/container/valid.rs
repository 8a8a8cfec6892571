//! What a spec must not contain at any level: fields that contradict each other, would reach the host, or are not supported.
//!
//! runc refuses the same (libcontainer/configs/validate). A field that we do not do is an error: it is never left out in silence.

use std::collections::BTreeSet;
use std::path::Path;

use nix::sys::stat::{fstat, stat};
use oci_spec::runtime::{Linux, Mount, Spec};

use gabion_core::namespace::NsType;
use gabion_core::request::idmap::{self, HalfMapped, IdMap};
use gabion_core::request::mount_options::{self, is_bind, meaning};
use gabion_see::error::{Error, Result};
use gabion_see::survey::Handles;

/// Sysctls of the IPC namespace (ipc_namespaces(7)), beside fs.mqueue.*.
const IPC: [&str; 8] = [
    "kernel.msgmax",
    "kernel.msgmnb",
    "kernel.msgmni",
    "kernel.sem",
    "kernel.shmall",
    "kernel.shmmax",
    "kernel.shmmni",
    "kernel.shm_rmid_forced",
];

/// Words of engines for themselves (relabelling, copying, ownership), which some leave in the list.
const OF_ENGINES: [&str; 7] = ["z", "Z", "U", "O", "copy", "nocopy", "tmpcopyup"];

fn wrong(field: impl Into<String>, why: impl Into<String>) -> Error {
    Error::Unsupported {
        field: field.into(),
        why: why.into(),
    }
}

/// Looks at the spec that is about to run.
///
/// # Errors
/// The first thing that cannot be.
pub(crate) fn check(spec: &Spec, handles: &Handles) -> Result<()> {
    let namespaces = Namespaces::of(spec, handles)?;
    for (field, name) in [("hostname", spec.hostname()), ("domainname", spec.domainname())] {
        if name.as_ref().is_some_and(|n| !n.is_empty()) && !namespaces.listed.contains(&NsType::Uts) {
            return Err(wrong(
                field,
                "it would be the host's: list a uts namespace in linux.namespaces",
            ));
        }
    }
    spec.mounts().iter().flatten().try_for_each(|m| mount(m, &namespaces))?;
    let Some(linux) = spec.linux() else { return Ok(()) };
    for name in linux.sysctl().iter().flatten().map(|(name, _)| name) {
        sysctl(name, &namespaces)?;
    }
    fields(linux, &namespaces)
}

/// Which kinds are listed, and which of these are really the runtime's own.
struct Namespaces {
    listed: BTreeSet<NsType>,
    hosts: BTreeSet<NsType>,
}

impl Namespaces {
    fn of(spec: &Spec, handles: &Handles) -> Result<Self> {
        let mut found = Self {
            listed: BTreeSet::new(),
            hosts: BTreeSet::new(),
        };
        let list = spec.linux().as_ref().and_then(|l| l.namespaces().as_ref());
        for namespace in list.into_iter().flatten() {
            let typ = NsType::from(namespace.typ());
            if !found.listed.insert(typ) {
                return Err(wrong(
                    "linux.namespaces",
                    format!("{} is listed twice", typ.spec_name()),
                ));
            }
            let path = namespace.path().as_ref().filter(|p| !p.as_os_str().is_empty());
            if path.is_some_and(|path| is_ours(path, typ, handles)) {
                found.hosts.insert(typ);
            }
        }
        Ok(found)
    }

    /// The container has one that is not the runtime's own.
    fn own(&self, typ: NsType) -> bool {
        self.listed.contains(&typ) && !self.hosts.contains(&typ)
    }
}

/// By identity: a path may lead anywhere.
fn is_ours(path: &Path, typ: NsType, handles: &Handles) -> bool {
    let ours = stat(format!("/proc/self/ns/{}", typ.proc_name()).as_str());
    let theirs = handles
        .ns
        .get(path)
        .map(|fd| fstat(std::os::fd::AsRawFd::as_raw_fd(fd)));
    matches!((ours, theirs), (Ok(a), Some(Ok(b))) if (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
}

/// A sysctl of the host would be changed for everybody, and for good.
fn sysctl(name: &str, namespaces: &Namespaces) -> Result<()> {
    let dotted = name.replace('/', ".");
    let needs = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        NsType::Ipc
    } else if dotted.starts_with("net.") {
        NsType::Network
    } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
        NsType::Uts
    } else if dotted == "vm.memfd_noexec" {
        NsType::Pid
    } else {
        return Err(wrong(
            format!("linux.sysctl.{name}"),
            "it is the whole host's, not a namespace's",
        ));
    };
    if dotted.split('.').any(str::is_empty) {
        return Err(wrong(format!("linux.sysctl.{name}"), "not a sysctl's name"));
    }
    if namespaces.own(needs) {
        return Ok(());
    }
    let why = format!(
        "it would be the host's: it needs a {} namespace of the container's own",
        needs.spec_name()
    );
    Err(wrong(format!("linux.sysctl.{name}"), why))
}

fn mount(mount: &Mount, namespaces: &Namespaces) -> Result<()> {
    idmapped(mount, namespaces)?;
    mount_options::of(mount).try_for_each(|option| mount_option(mount, option))
}

/// A mapping of ids that nobody could apply, or that says only half (runtime-spec, config.md, Mounts).
fn idmapped(mount: &Mount, namespaces: &Namespaces) -> Result<()> {
    let why = match idmap::asked(mount) {
        Ok(None) => return Ok(()),
        Ok(Some(_)) if !is_bind(mount) => "only a bind mount can be idmapped",
        Ok(Some(IdMap::Container)) if !namespaces.own(NsType::User) => {
            "it names no uidMappings, and there is no user namespace of the container's own in linux.namespaces"
        }
        Ok(Some(_)) => return Ok(()),
        Err(HalfMapped) => "uidMappings and gidMappings come together or not at all",
    };
    Err(wrong(
        format!("idmapped mount at {}", mount.destination().display()),
        why,
    ))
}

/// What a bind may say: its file system is mounted already, so that anything else would be heard by nobody, and a slip of the
/// pen (`noexce`) would loosen what was meant.
fn mount_option(mount: &Mount, option: &str) -> Result<()> {
    let known = meaning(option).is_some() || OF_ENGINES.contains(&option);
    let why = match option {
        "remount" => "nothing that is mounted is changed",
        _ if is_bind(mount) && !known => "a bind mount has no such option",
        _ => return Ok(()),
    };
    Err(wrong(
        format!("option {option:?} of the mount at {}", mount.destination().display()),
        why,
    ))
}

fn fields(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    const PROPAGATIONS: [&str; 8] = [
        "private",
        "rprivate",
        "shared",
        "rshared",
        "slave",
        "rslave",
        "unbindable",
        "runbindable",
    ];
    if let Some(how) = linux
        .rootfs_propagation()
        .as_deref()
        .filter(|h| !h.is_empty() && !PROPAGATIONS.contains(h))
    {
        return Err(wrong(
            "linux.rootfsPropagation",
            format!("{how:?} is no way of propagation"),
        ));
    }
    let has_offsets = linux.time_offsets().as_ref().is_some_and(|o| !o.is_empty());
    if has_offsets && !namespaces.listed.contains(&NsType::Time) {
        return Err(wrong(
            "linux.timeOffsets",
            "they need a time namespace in linux.namespaces",
        ));
    }
    let maps = [linux.uid_mappings(), linux.gid_mappings()];
    if maps.iter().any(|m| m.as_ref().is_some_and(|m| !m.is_empty())) && !namespaces.listed.contains(&NsType::User) {
        return Err(wrong(
            "linux.uidMappings",
            "they need a user namespace in linux.namespaces",
        ));
    }
    if linux.intel_rdt().is_some() {
        return Err(wrong("linux.intelRdt", "gabion does not use resctrl"));
    }
    net_devices(linux, namespaces)
}

/// Devices that go from the host into a network of the container's own, each under one name (net/core/dev.c, dev_valid_name; a
/// `%` would be a pattern).
fn net_devices(linux: &Linux, namespaces: &Namespaces) -> Result<()> {
    let Some(devices) = linux.net_devices().as_ref().filter(|d| !d.is_empty()) else {
        return Ok(());
    };
    if !namespaces.own(NsType::Network) {
        let why = "they need a network namespace of the container's own in linux.namespaces";
        return Err(wrong("linux.netDevices", why));
    }
    let mut taken = BTreeSet::new();
    for (name, device) in devices {
        let new_name = device.name().as_deref().filter(|n| !n.is_empty()).unwrap_or(name);
        for name in [name, new_name] {
            let odd = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c == '\0';
            if name.is_empty()
                || name.len() >= libc::IFNAMSIZ
                || [".", "..", "lo"].contains(&name)
                || name.contains(odd)
            {
                return Err(wrong("linux.netDevices", format!("{name:?} is no name for a device")));
            }
        }
        if !taken.insert(new_name) {
            return Err(wrong(
                "linux.netDevices",
                format!("two devices are to be called {new_name:?}"),
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn own(types: &[NsType]) -> Namespaces {
        Namespaces {
            listed: types.iter().copied().collect(),
            hosts: BTreeSet::new(),
        }
    }

    #[test]
    fn options_that_nobody_would_hear() {
        let with = |options: serde_json::Value| -> Mount {
            serde_json::from_value(serde_json::json!({"destination": "/d", "source": "/s", "options": options}))
                .unwrap()
        };
        for good in [
            serde_json::json!(["rbind", "rro", "nosuid", "rprivate", "nosymfollow", "z"]),
            serde_json::json!(["size=64k", "mode=755", "rslave"]),
        ] {
            assert!(mount(&with(good), &own(&[])).is_ok());
        }
        for (bad, named) in [
            (serde_json::json!(["bind", "noexce"]), "noexce"),
            (serde_json::json!(["bind", "size=3"]), "size=3"),
            (serde_json::json!(["remount"]), "remount"),
            (serde_json::json!(["bind", "idmap"]), "idmapped"),
        ] {
            let error = mount(&with(bad), &own(&[])).unwrap_err();
            assert_eq!(error.code(), "bundle.unsupported");
            assert!(error.to_string().contains(named), "{error}");
        }
    }

    #[test]
    fn a_mapping_that_nobody_could_apply() {
        let map = serde_json::json!([{"containerID": 0, "hostID": 7, "size": 2}]);
        let judged = |patch: serde_json::Value, namespaces: &[NsType]| {
            let mut value = serde_json::json!({"destination": "/d", "source": "/s", "type": "bind"});
            value
                .as_object_mut()
                .unwrap()
                .extend(patch.as_object().unwrap().clone());
            mount(&serde_json::from_value(value).unwrap(), &own(namespaces))
        };
        let option = serde_json::json!({"options": ["rbind", "ridmap"]});
        assert!(judged(option.clone(), &[NsType::User]).is_ok());
        assert!(judged(option, &[]).is_err());
        let both = serde_json::json!({"uidMappings": map, "gidMappings": map});
        assert!(judged(both, &[]).is_ok());
        assert!(
            judged(
                serde_json::json!({"uidMappings": map, "gidMappings": map, "type": "tmpfs"}),
                &[]
            )
            .is_err()
        );
        for half in ["uidMappings", "gidMappings"] {
            assert!(
                judged(serde_json::json!({half: map, "options": ["idmap"]}), &[NsType::User]).is_err(),
                "{half}"
            );
        }
    }

    #[test]
    fn net_devices_have_names_and_a_place() {
        let judged = |devices: serde_json::Value, types: &[NsType]| {
            let linux: Linux = serde_json::from_value(serde_json::json!({"netDevices": devices})).unwrap();
            net_devices(&linux, &own(types))
        };
        let net = [NsType::Network];
        assert!(judged(serde_json::json!({"eth1": {}, "eth2": {"name": "net0"}}), &net).is_ok());
        assert!(judged(serde_json::json!({"eth1": {}}), &[]).is_err());
        assert!(judged(serde_json::json!({"eth1": {"name": "a"}, "eth2": {"name": "a"}}), &net).is_err());
        for bad in ["lo", "..", "a/b", "eth%d", "a b", "sixteen-letters-"] {
            assert!(judged(serde_json::json!({bad: {}}), &net).is_err(), "{bad}");
            assert!(
                judged(serde_json::json!({"eth1": {"name": bad}}), &net).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn only_sysctls_of_the_container_s_own_namespaces() {
        let all = own(&NsType::ALL);
        for (name, good) in [
            ("net.ipv4.ip_forward", true),
            ("net/ipv4/conf/eth0.1/forwarding", true),
            ("kernel.msgmax", true),
            ("fs.mqueue.msg_max", true),
            ("kernel.domainname", true),
            ("kernel.panic", false),
            ("vm.swappiness", false),
            ("kernel.core_pattern", false),
            ("net.../../kernel/panic", false),
        ] {
            assert_eq!(sysctl(name, &all).is_ok(), good, "{name}");
            assert!(sysctl(name, &own(&[])).is_err(), "{name}");
        }
    }
}
