//! Facts: what was decided beside what a kernel could show. One kernel that shows all as decided, then one lie at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use gabion_core::control::CONTROLS;
use gabion_core::fact::{Fact, Holds};
use gabion_core::hardened::Hardened;
use gabion_core::id::ControlId;
use gabion_core::namespace::NsType;
use gabion_core::observed::{Masked, MountPoint, Observed};
use gabion_core::policy::Policy;
use golden::host::{HostFile, host_ns, other_ns};
use golden::{home, json, request};
use serde_json::json;

fn hardened() -> Hardened {
    let mut config = json::read(&home().join("base/bundle.json")).unwrap_or_default();
    let volume = json!({"/mounts": [
        {"destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "rw"],
            "uidMappings": [{"containerID": 0, "hostID": 7, "size": 1}], "gidMappings": [{"containerID": 0, "hostID": 7, "size": 1}]}
    ]});
    json::merge(
        &mut config,
        json!({"linux": {"sysctl": {"net.ipv4.ping_group_range": "0 0"}}}),
    );
    assert_eq!(json::append(&mut config, Some(volume)), Ok(()));
    let request = request("c1", config).unwrap_or_else(|e| unreachable!("{e}"));
    let mut host = HostFile::default().build(&request);
    let effective = Policy::default().effective(&request, &host, "test");
    for (i, mount) in request.spec.mounts().iter().flatten().enumerate() {
        host.targets.insert(i, mount.destination().clone());
    }
    gabion_core::harden::harden(&request, &effective, &host).unwrap_or_else(|d| unreachable!("{d}"))
}

fn words(text: &str) -> BTreeSet<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// What lies in /proc, and in /sys, are parts of one file system; everything else is one of its own.
fn device(target: &str) -> u32 {
    let own = |sum: u32, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
    let top = ["/proc", "/sys"].into_iter().find(|top| target.starts_with(top));
    top.unwrap_or(target).bytes().fold(7, own)
}

fn point(target: &str, fstype: &str, options: &str, superblock: &str) -> MountPoint {
    MountPoint {
        id: 0,
        parent: 0,
        dev: (0, device(target)),
        target: target.into(),
        root: "/".into(),
        fstype: fstype.to_owned(),
        options: words(options),
        super_options: words(superblock),
        propagation: Vec::new(),
    }
}

/// A kernel that did as it was told.
fn obedient(hardened: &Hardened) -> Observed {
    let mut mounts = vec![point("/", "overlay", "ro", "rw")];
    for hole in &hardened.plan().holes {
        let size = format!("rw size={}k", hole.size / 1024);
        mounts.push(point(
            &hole.target.to_string_lossy(),
            "tmpfs",
            "rw nosuid nodev noexec",
            &size,
        ));
    }
    for mount in hardened.spec().mounts().iter().flatten() {
        let mapped = mount.uid_mappings().is_some().then(|| "idmapped".to_owned());
        let options: Vec<String> = mount.options().iter().flatten().cloned().chain(mapped).collect();
        let options = options.join(" ");
        // A devpts shows its bound, which it was given among the options.
        mounts.push(point(&mount.destination().to_string_lossy(), "x", &options, &options));
    }
    mounts.push(point("/data/sub", "ext4", "rw nosuid nodev noexec", ""));
    let linux = hardened.spec().linux().clone().unwrap_or_default();
    for path in linux.readonly_paths().iter().flatten() {
        mounts.push(point(path, "proc", "ro", ""));
    }
    let masked = linux.masked_paths().clone().unwrap_or_default();
    let devices = "c 1:3 rwm\nc 1:5 rwm\nc 136:* rwm\n";
    Observed {
        status: BTreeMap::from([
            ("Uid".to_owned(), "0\t0\t0\t0".to_owned()),
            ("Gid".to_owned(), "0\t0\t0\t0".to_owned()),
        ]),
        mounts,
        namespaces: NsType::ALL.into_iter().map(|t| (t, other_ns(t))).collect(),
        cgroup: BTreeMap::from([("devices.list".to_owned(), devices.to_owned())]),
        sysctls: BTreeMap::from([
            ("vm.memfd_noexec".to_owned(), "2\n".to_owned()),
            ("net.ipv4.ping_group_range".to_owned(), "0\t0".to_owned()),
        ]),
        masked: masked.into_iter().map(|p| (p.into(), Masked::NullDevice)).collect(),
        ..Observed::default()
    }
}

fn facts(id: ControlId, hardened: &Hardened, seen: &Observed) -> Vec<Fact> {
    CONTROLS
        .iter()
        .filter(|c| c.id() == id)
        .flat_map(|c| c.facts(hardened, seen))
        .collect()
}

fn worst(facts: &[Fact]) -> Holds {
    for holds in [Holds::No, Holds::Unknown] {
        if facts.iter().any(|f| f.holds == holds) {
            return holds;
        }
    }
    Holds::Yes
}

const MINE: [ControlId; 8] = [
    ControlId::Namespaces,
    ControlId::User,
    ControlId::Rootfs,
    ControlId::Holes,
    ControlId::Mounts,
    ControlId::MaskedPaths,
    ControlId::Devices,
    ControlId::Sysctl,
];

#[test]
fn all_holds_where_the_kernel_did_as_told() {
    let hardened = hardened();
    let seen = obedient(&hardened);
    for id in MINE {
        let facts = facts(id, &hardened, &seen);
        assert!(!facts.is_empty(), "{id} has no facts");
        assert_eq!(worst(&facts), Holds::Yes, "{facts:#?}");
    }
}

#[test]
fn what_is_not_shown_is_unknown_and_never_yes() {
    let hardened = hardened();
    for id in MINE {
        let facts = facts(id, &hardened, &Observed::default());
        assert!(facts.iter().all(|f| f.holds != Holds::Yes), "{facts:#?}");
    }
}

fn at<'a>(seen: &'a mut Observed, target: &str) -> &'a mut MountPoint {
    let found = seen.mounts.iter_mut().rev().find(|m| m.target == Path::new(target));
    found.unwrap_or_else(|| unreachable!("{target}"))
}

/// One lie: what it changes in what is seen.
type Lie = fn(&mut Observed);

#[test]
fn each_lie_is_found_by_the_control_that_it_concerns() {
    let lies: [(&str, ControlId, Holds, Lie); 22] = [
        ("host network", ControlId::Namespaces, Holds::No, |s| {
            s.namespaces.insert(NsType::Network, host_ns(NsType::Network));
        }),
        ("pid not shown", ControlId::Namespaces, Holds::Unknown, |s| {
            s.namespaces.remove(&NsType::Pid);
        }),
        ("uid not shown", ControlId::User, Holds::Unknown, |s| {
            s.status.remove("Uid");
        }),
        ("root is writable", ControlId::Rootfs, Holds::No, |s| {
            at(s, "/").options = words("rw");
        }),
        ("root is shared", ControlId::Rootfs, Holds::No, |s| {
            at(s, "/").propagation = vec!["shared:1".to_owned()];
        }),
        ("hole may execute", ControlId::Holes, Holds::No, |s| {
            at(s, "/tmp").options.remove("noexec");
        }),
        ("hole has no size", ControlId::Holes, Holds::No, |s| {
            at(s, "/tmp").super_options.clear();
        }),
        ("hole is larger", ControlId::Holes, Holds::No, |s| {
            at(s, "/run").super_options = words("size=999999k");
        }),
        ("terminals without bound", ControlId::Mounts, Holds::No, |s| {
            at(s, "/dev/pts").super_options.retain(|o| !o.starts_with("max="));
        }),
        ("hole is no tmpfs", ControlId::Holes, Holds::No, |s| {
            at(s, "/run").fstype = "ext4".to_owned();
        }),
        ("hole is not there", ControlId::Holes, Holds::No, |s| {
            s.mounts.retain(|m| m.target != Path::new("/run"));
        }),
        ("volume may execute", ControlId::Mounts, Holds::No, |s| {
            at(s, "/data").options.remove("noexec");
        }),
        ("volume keeps its owners", ControlId::Mounts, Holds::No, |s| {
            at(s, "/data").options.remove("idmapped");
        }),
        ("submount has devices", ControlId::Mounts, Holds::No, |s| {
            at(s, "/data/sub").options.remove("nodev");
        }),
        ("submount is the host's proc", ControlId::Mounts, Holds::No, |s| {
            at(s, "/data/sub").fstype = "proc".to_owned();
        }),
        ("volume is not there", ControlId::Mounts, Holds::No, |s| {
            s.mounts.retain(|m| m.target != Path::new("/data"));
        }),
        ("kcore is open", ControlId::MaskedPaths, Holds::No, |s| {
            s.masked.insert("/proc/kcore".into(), Masked::Open);
        }),
        (
            "kcore cannot be looked at",
            ControlId::MaskedPaths,
            Holds::Unknown,
            |s| {
                s.masked.insert("/proc/kcore".into(), Masked::Unreadable(13));
            },
        ),
        ("/proc/sys is writable", ControlId::MaskedPaths, Holds::No, |s| {
            at(s, "/proc/sys").options = words("rw");
            s.masked.insert("/proc/sys".into(), Masked::Open);
        }),
        ("a disk", ControlId::Devices, Holds::No, |s| {
            s.cgroup
                .insert("devices.list".to_owned(), "c 1:3 rwm\nb 8:0 r".to_owned());
        }),
        ("mknod of anything", ControlId::Devices, Holds::No, |s| {
            s.cgroup.insert("devices.list".to_owned(), "c *:* m".to_owned());
        }),
        ("memfd may execute", ControlId::Sysctl, Holds::No, |s| {
            s.sysctls.insert("vm.memfd_noexec".to_owned(), "0".to_owned());
        }),
    ];
    each_found(&lies);
}

fn each_found(lies: &[(&str, ControlId, Holds, Lie)]) {
    let hardened = hardened();
    for (name, concerned, holds, lie) in lies {
        let mut seen = obedient(&hardened);
        lie(&mut seen);
        for id in MINE {
            let expected = if id == *concerned { *holds } else { Holds::Yes };
            assert_eq!(worst(&facts(id, &hardened, &seen)), expected, "{name}: {id}");
        }
    }
}

#[test]
fn what_a_mount_is_beside_others_is_found() {
    each_found(&[
        (
            "a read-only name of what is writable",
            ControlId::Mounts,
            Holds::No,
            |s| {
                let mut twin = at(s, "/data").clone();
                (twin.target, twin.options) = ("/opt/x".into(), words("ro nosuid nodev"));
                twin.root = "/a/part".into();
                s.mounts.push(twin);
            },
        ),
        ("the image, writable by a part", ControlId::Mounts, Holds::No, |s| {
            let dev = at(s, "/").dev;
            at(s, "/data").dev = dev;
        }),
        ("a debugfs below a volume", ControlId::Mounts, Holds::No, |s| {
            let mut brought = at(s, "/data/sub").clone();
            (brought.target, brought.fstype) = ("/data/sub/deep".into(), "debugfs".to_owned());
            s.mounts.push(brought);
        }),
    ]);
}
