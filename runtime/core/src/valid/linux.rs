//! What the Linux part of a spec cannot say.

use std::collections::BTreeSet;

use oci_spec::runtime::{Linux, LinuxDeviceType, LinuxIdMapping};

use super::{Invalid, Namespaces, resources};
use crate::id::ControlId;
use crate::list::Numbers;
use crate::namespace::NsType;
use crate::request::mount_options::Propagation;

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
/// Lines of a uid_map (user_namespaces(7)).
const MAPPINGS: usize = 340;
/// NUMA nodes of set_mempolicy(2)'s mask.
const NODES: u32 = 1024;
/// Bytes of a network device's name with its NUL (IFNAMSIZ).
const IFNAMSIZ: usize = 16;
const SECOND: u32 = 1_000_000_000;

pub(super) fn judge(linux: &Linux, namespaces: &Namespaces, found: &mut Vec<Invalid>) {
    for (name, value) in linux.sysctl().iter().flatten() {
        found.extend(sysctl(name, namespaces));
        let names = ["kernel.hostname", "kernel.domainname"].contains(&name.replace('/', ".").as_str());
        let why = super::not_a_name(value).filter(|_| names);
        found.extend(why.map(|why| Invalid::malformed(format!("linux.sysctl.{name}"), why)));
    }
    if let Some(how) = linux.rootfs_propagation().as_deref().filter(|how| !how.is_empty())
        && Propagation::named(how).is_none()
    {
        let why = format!("{how:?} is no way of propagation");
        found.push(Invalid::unsupported("linux.rootfsPropagation", why));
    }
    clocks(linux, namespaces, found);
    ids(linux, namespaces, found);
    if linux.intel_rdt().is_some() {
        found.push(Invalid::unsupported("linux.intelRdt", "gabion does not use resctrl"));
    }
    if linux
        .personality()
        .as_ref()
        .and_then(|p| p.flags().as_ref())
        .is_some_and(|f| !f.is_empty())
    {
        let why = "personality flags are not known to the kernel interface";
        found.push(Invalid::unsupported("linux.personality.flags", why));
    }
    if let Some(nodes) = linux.memory_policy().as_ref().and_then(|p| p.nodes().as_deref())
        && !nodes.is_empty()
        && Numbers::parse(nodes, NODES).is_err()
    {
        let field = format!("linux.memoryPolicy.nodes {nodes:?}");
        found.push(Invalid::unsupported(field, "it is not a list of nodes like 0-1,3"));
    }
    found.extend(net_devices(linux, namespaces));
    devices(linux, found);
    if let Some(limits) = linux.resources() {
        resources::judge(limits, found);
    }
}

/// A sysctl of the host would be changed for everybody, and for good.
fn sysctl(name: &str, namespaces: &Namespaces) -> Option<Invalid> {
    let dotted = name.replace('/', ".");
    let wrong = |why: &str| {
        let bad = Invalid::unsupported(format!("linux.sysctl.{name}"), why);
        Some(bad.told_by(ControlId::Sysctl))
    };
    let needs = if IPC.contains(&dotted.as_str()) || dotted.starts_with("fs.mqueue.") {
        NsType::Ipc
    } else if dotted.starts_with("net.") {
        NsType::Network
    } else if dotted == "kernel.domainname" || dotted == "kernel.hostname" {
        NsType::Uts
    } else if dotted == "vm.memfd_noexec" {
        NsType::Pid
    } else {
        return wrong("it is the whole host's, not a namespace's");
    };
    if dotted.split('.').any(str::is_empty) {
        return wrong("not a sysctl's name");
    }
    if namespaces.own(needs) {
        return None;
    }
    wrong(&format!(
        "it would be the host's: it needs a {} namespace of the container's own",
        needs.spec_name()
    ))
}

fn clocks(linux: &Linux, namespaces: &Namespaces, found: &mut Vec<Invalid>) {
    let Some(offsets) = linux.time_offsets().as_ref().filter(|o| !o.is_empty()) else {
        return;
    };
    let mut wrong = |why: &str| found.push(Invalid::unsupported("linux.timeOffsets", why));
    if !namespaces.listed.contains(&NsType::Time) {
        wrong("they need a time namespace in linux.namespaces");
    }
    for (clock, offset) in offsets {
        if !["monotonic", "boottime"].contains(&clock.as_str()) {
            wrong(&format!(
                "{clock:?} is no clock of a time namespace: monotonic and boottime are"
            ));
        }
        if offset.nanosecs().is_some_and(|n| n >= SECOND) {
            wrong("nanosecs are fewer than a second's");
        }
    }
}

/// Mappings of ids, as the kernel takes them (user_namespaces(7)).
fn ids(linux: &Linux, namespaces: &Namespaces, found: &mut Vec<Invalid>) {
    let maps = [
        ("linux.uidMappings", linux.uid_mappings().as_deref().unwrap_or_default()),
        ("linux.gidMappings", linux.gid_mappings().as_deref().unwrap_or_default()),
    ];
    let some = maps.iter().any(|(_, map)| !map.is_empty());
    if some && !namespaces.listed.contains(&NsType::User) {
        let why = "they need a user namespace in linux.namespaces";
        found.push(Invalid::unsupported("linux.uidMappings", why).told_by(ControlId::Namespaces));
    }
    for (field, map) in maps {
        if map.is_empty() && namespaces.made.contains(&NsType::User) {
            let why = "a new user namespace needs linux.uidMappings and linux.gidMappings";
            found.push(Invalid::malformed(field, why));
        }
        if let Some(why) = mappings(map) {
            found.push(Invalid::malformed(field, why));
        }
    }
}

fn mappings(map: &[LinuxIdMapping]) -> Option<&'static str> {
    if map.len() > MAPPINGS {
        return Some("more than 340 lines, which is all that the kernel takes");
    }
    if map.iter().any(|m| {
        m.size() == 0 || m.container_id().checked_add(m.size()).is_none() || m.host_id().checked_add(m.size()).is_none()
    }) {
        return Some("a line is empty or goes beyond the last id");
    }
    for start in [LinuxIdMapping::container_id, LinuxIdMapping::host_id] {
        let mut ranges: Vec<(u32, u32)> = map.iter().map(|m| (start(m), start(m) + m.size())).collect();
        ranges.sort_unstable();
        if ranges.windows(2).any(|pair| pair[1].0 < pair[0].1) {
            return Some("two lines overlap");
        }
    }
    None
}

/// Devices that go from the host into a network of the container's own, each under one name (net/core/dev.c, dev_valid_name; a
/// `%` would be a pattern).
fn net_devices(linux: &Linux, namespaces: &Namespaces) -> Option<Invalid> {
    let devices = linux.net_devices().as_ref().filter(|d| !d.is_empty())?;
    let wrong = |why: String| Some(Invalid::unsupported("linux.netDevices", why));
    if !namespaces.own(NsType::Network) {
        return wrong("they need a network namespace of the container's own in linux.namespaces".to_owned());
    }
    let mut taken = BTreeSet::new();
    for (name, device) in devices {
        let new_name = device.name().as_deref().filter(|n| !n.is_empty()).unwrap_or(name);
        for name in [name, new_name] {
            let odd = |c: char| c == '/' || c == ':' || c == '%' || c.is_whitespace() || c == '\0';
            let reserved = [".", "..", "lo"].contains(&name);
            if name.is_empty() || name.len() >= IFNAMSIZ || reserved || name.contains(odd) {
                return wrong(format!("{name:?} is no name for a device"));
            }
        }
        if !taken.insert(new_name) {
            return wrong(format!("two devices are to be called {new_name:?}"));
        }
    }
    None
}

/// Nodes that cannot be made.
fn devices(linux: &Linux, found: &mut Vec<Invalid>) {
    // The kernel keeps twelve bits and twenty (kdev_t.h).
    let major = |n: i64| (0..1 << 12).contains(&n);
    let minor = |n: i64| (0..1 << 20).contains(&n);
    for device in linux.devices().iter().flatten() {
        let path = device.path();
        let why = if device.typ() == LinuxDeviceType::A {
            "«a» is no type of a node"
        } else if path.parent().is_none() || path.file_name().is_none() {
            "it is no path of a node"
        } else if !major(device.major()) || !minor(device.minor()) {
            "it has no device number"
        } else {
            continue;
        };
        let bad = Invalid::malformed(format!("linux.devices {}", path.display()), why);
        found.push(bad.told_by(ControlId::Devices));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn own(types: &[NsType]) -> Namespaces {
        Namespaces {
            listed: types.iter().copied().collect(),
            made: types.iter().copied().collect(),
            ..Namespaces::default()
        }
    }

    fn fields(linux: &Value, types: &[NsType]) -> Vec<String> {
        let mut found = Vec::new();
        judge(&serde_json::from_value(linux.clone()).unwrap(), &own(types), &mut found);
        found.into_iter().map(|bad| bad.field).collect()
    }

    #[test]
    fn net_devices_have_names_and_a_place() {
        let judged = |devices: Value, types: &[NsType]| fields(&json!({"netDevices": devices}), types).is_empty();
        let net = [NsType::Network];
        assert!(judged(json!({"eth1": {}, "eth2": {"name": "net0"}}), &net));
        assert!(!judged(json!({"eth1": {}}), &[]));
        assert!(!judged(json!({"eth1": {"name": "a"}, "eth2": {"name": "a"}}), &net));
        for bad in ["lo", "..", "a/b", "eth%d", "a b", "sixteen-letters-"] {
            assert!(!judged(json!({bad: {}}), &net), "{bad}");
            assert!(!judged(json!({"eth1": {"name": bad}}), &net), "{bad}");
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
            assert_eq!(sysctl(name, &all).is_none(), good, "{name}");
            assert!(sysctl(name, &own(&[])).is_some(), "{name}");
        }
    }

    #[test]
    fn fields_that_can_be() {
        let map = json!([{"containerID": 0, "hostID": 1, "size": 1}, {"containerID": 1, "hostID": 2, "size": 9}]);
        for (good, types) in [
            (json!({"rootfsPropagation": "rslave"}), &[] as &[_]),
            (json!({"uidMappings": map, "gidMappings": map}), &[NsType::User]),
            (json!({"timeOffsets": {"boottime": {"secs": 3}}}), &[NsType::Time]),
            (json!({"personality": {"domain": "LINUX32"}}), &[]),
            (
                json!({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-2, 64,1023"}}),
                &[],
            ),
            (
                json!({"devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 3}]}),
                &[],
            ),
            (
                json!({"resources": {"devices": [{"allow": true, "type": "c", "major": -1, "access": "rwm"}]}}),
                &[],
            ),
        ] {
            assert_eq!(fields(&good, types), [] as [&str; 0], "{good}");
        }
    }

    #[test]
    fn fields_that_cannot() {
        let map = |from: u32, to: u32, size: u32| json!([{"containerID": from, "hostID": to, "size": size}]);
        let good = map(0, 7, 2);
        let overlap = json!([{"containerID": 0, "hostID": 7, "size": 2}, {"containerID": 2, "hostID": 8, "size": 1}]);
        let user = &[NsType::User];
        for (bad, types, wanted) in [
            (
                json!({"rootfsPropagation": "sideways"}),
                &[] as &[_],
                "linux.rootfsPropagation",
            ),
            (json!({"rootfsPropagation": "ro"}), &[], "linux.rootfsPropagation"),
            (
                json!({"timeOffsets": {"boottime": {"secs": 3}}}),
                &[],
                "linux.timeOffsets",
            ),
            (
                json!({"timeOffsets": {"realtime": {"secs": 3}}}),
                &[NsType::Time],
                "linux.timeOffsets",
            ),
            (
                json!({"timeOffsets": {"boottime": {"nanosecs": 1_000_000_000}}}),
                &[NsType::Time],
                "linux.timeOffsets",
            ),
            (
                json!({"uidMappings": good, "gidMappings": good}),
                &[],
                "linux.uidMappings",
            ),
            (json!({"uidMappings": good}), user, "linux.gidMappings"),
            (
                json!({"uidMappings": map(0, 7, 0), "gidMappings": good}),
                user,
                "linux.uidMappings",
            ),
            (
                json!({"uidMappings": map(0, u32::MAX, 2), "gidMappings": good}),
                user,
                "linux.uidMappings",
            ),
            (
                json!({"uidMappings": overlap, "gidMappings": good}),
                user,
                "linux.uidMappings",
            ),
            (json!({"intelRdt": {"closID": "x"}}), &[], "linux.intelRdt"),
            (
                json!({"personality": {"domain": "LINUX", "flags": ["ADDR_NO_RANDOMIZE"]}}),
                &[],
                "linux.personality.flags",
            ),
            (
                json!({"memoryPolicy": {"mode": "MPOL_BIND", "nodes": "0-99999999"}}),
                &[],
                "linux.memoryPolicy.nodes \"0-99999999\"",
            ),
            (
                json!({"devices": [{"path": "/dev/x", "type": "a", "major": 1, "minor": 3}]}),
                &[],
                "linux.devices /dev/x",
            ),
            (
                json!({"devices": [{"path": "/dev/x", "type": "c", "major": -1, "minor": 3}]}),
                &[],
                "linux.devices /dev/x",
            ),
            (
                json!({"resources": {"devices": [{"allow": false}, {"allow": true, "type": "p"}]}}),
                &[],
                "linux.resources.devices[1]",
            ),
            (
                json!({"resources": {"devices": [{"allow": true, "access": "rx"}]}}),
                &[],
                "linux.resources.devices[0]",
            ),
        ] {
            let bad: Value = bad;
            if serde_json::from_value::<Linux>(bad.clone()).is_err() {
                // What oci-spec does not read is refused before, by `Request::parse`.
                assert!(bad.get("personality").is_some(), "{bad}");
                continue;
            }
            assert_eq!(fields(&bad, types), [wanted], "{bad}");
        }
    }
}
