//! config-linux.md: namespaces, id mappings, devices, sysctl.

use crate::case::Case;
use integration::cgroup::on;
use integration::{Bundle, Container};
use serde_json::{Value, json};
use std::process::{Child, Command, Stdio};

const NAMESPACES: &str = "config-linux.md#namespaces";
const DEVICES: &str = "config-linux.md#devices";
const IDS: &str = "config-linux.md#user-namespace-mappings";

pub(crate) fn cases() -> Vec<Case> {
    [made(), joined(), users(), devices(), net_devices(), sysctls()].concat()
}

/// The host's namespaces as the workload can compare them, in its environment.
fn host_namespaces(bundle: &mut Bundle) {
    for name in ["pid", "net", "ipc", "uts", "mnt", "cgroup", "user", "time"] {
        let link = std::fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        bundle
            .config
            .push("/process/env", json!(format!("H_{name}={}", link.display())));
    }
}

fn made() -> Vec<Case> {
    let one = |name: &'static str, script: &'static str, list: Value| {
        Case::new(
            NAMESPACES,
            name,
            json!({"hostname": null, "linux": {"namespaces": list}}),
            script,
        )
        .setup(host_namespaces)
        .field("/linux/namespaces/-")
    };
    let with = |last: &str| json!([{"type": "mount"}, {"type": last}]);
    vec![
        one("namespace-pid", "[ \"$(readlink /proc/self/ns/pid)\" = \"$H_pid\" ] && echo same || echo own; echo $$",
            json!([{"type": "mount"}, {"type": "pid"}])).shows("own\n1"),
        one("namespace-network", "[ \"$(readlink /proc/self/ns/net)\" = \"$H_net\" ] && echo same || echo own; grep -c : /proc/net/dev", with("network")).shows("own"),
        one("namespace-ipc", "[ \"$(readlink /proc/self/ns/ipc)\" = \"$H_ipc\" ] && echo same || echo own", with("ipc")).shows("own"),
        one("namespace-uts", "[ \"$(readlink /proc/self/ns/uts)\" = \"$H_uts\" ] && echo same || echo own; hostname", with("uts")).shows("own"),
        one("namespace-cgroup", 
            on("[ \"$(readlink /proc/self/ns/cgroup)\" = \"$H_cgroup\" ] && echo same || echo own; grep pids /proc/self/cgroup",
                "[ \"$(readlink /proc/self/ns/cgroup)\" = \"$H_cgroup\" ] && echo same || echo own; cat /proc/self/cgroup"), with("cgroup")).shows("own"),
        one("namespace-time", "[ \"$(readlink /proc/self/ns/time)\" = \"$H_time\" ] && echo same || echo own", with("time")).crun().shows("own"),
        Case::new("config-linux.md#time-offsets", "time-offsets",
            json!({"linux": {"namespaces+": [{"type": "time"}], "timeOffsets": {"boottime": {"secs": 90_000_000, "nanosecs": 0}, "monotonic": {"secs": 90_000_000, "nanosecs": 0}}}}),
            "awk '{print ($1 > 90000000) ? \"later\" : \"now\"}' /proc/uptime").field("/linux/timeOffsets").alone().shows("later"),
        Case::new(NAMESPACES, "namespaces-only-mount", json!({"hostname": null, "linux": {"namespaces": [{"type": "mount"}]}}),
            "for n in pid net ipc uts; do eval h=\\$H_$n; [ \"$(readlink /proc/self/ns/$n)\" = \"$h\" ] && echo $n same; done").setup(host_namespaces).shows("uts same"),
        Case::new(NAMESPACES, "namespaces-twice", json!({"linux": {"namespaces+": [{"type": "pid"}]}}), "echo ran").runc().shows("exit 1"),
        Case::new(NAMESPACES, "namespace-unknown", json!({"linux": {"namespaces+": [{"type": "dream"}]}}), "echo ran").shows("exit 1"),
        Case::new(NAMESPACES, "namespace-path-missing", json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/no/such"}]}}), "echo ran").shows("exit 1"),
        Case::new(NAMESPACES, "namespace-path-wrong-kind", json!({"linux": {"namespaces": [{"type": "mount"}, {"type": "network", "path": "/proc/self/ns/ipc"}]}}), "echo ran").shows("exit 1"),
        Case::new("config-linux.md#intelrdt", "intel-rdt", json!({"linux": {"intelRdt": {"closID": "x"}}}), "true").alone().shows("exit 1"),
        Case::new("config-linux.md#time-offsets", "time-offsets-without-namespace", json!({"linux": {"timeOffsets": {"boottime": {"secs": 5}}}}), "true").alone().shows("exit 1"),
        Case::new(NAMESPACES, "loopback-is-up", json!({}), "cat /sys/class/net/lo/operstate /sys/class/net/lo/flags"),
    ]
}

/// A process in a new namespace, until the case ends.
struct Owner(Child);

impl Owner {
    fn new(flag: &str) -> Self {
        let mut child = Command::new("unshare")
            .args([flag, "--fork", "sh", "-c", "echo ready; exec sleep 60"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.as_mut().unwrap()), &mut line).unwrap();
        Self(child)
    }

    /// The process that is inside: the one that unshare forked.
    fn inside(&self) -> u32 {
        let path = format!("/proc/{0}/task/{0}/children", self.0.id());
        std::fs::read_to_string(path).unwrap().trim().parse().unwrap()
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let inside = i32::try_from(self.inside()).unwrap();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(inside), nix::sys::signal::Signal::SIGKILL).unwrap();
        self.0.wait().unwrap();
    }
}

/// Runs the container in another's namespace and says whether it got there.
fn join(container: &Container, flag: &str, spec: &str, file: &str) -> String {
    let owner = Owner::new(flag);
    let path = format!("/proc/{}/ns/{file}", owner.inside());
    let link = std::fs::read_link(&path).unwrap().display().to_string();
    let mut config = container.bundle.config.clone();
    config.namespace_path(spec, &path);
    let text = serde_json::to_vec(&config.0).unwrap();
    std::fs::write(container.bundle.bundle().join("config.json"), text).unwrap();
    let done = container.run();
    format!("{} exit {}", done.out.replace(&link, "THEIRS"), done.code)
}

fn joined() -> Vec<Case> {
    let case = |name: &'static str, script: &'static str, drive: fn(&Container) -> String| {
        Case::new(NAMESPACES, name, json!({"hostname": null}), script)
            .drive(drive)
            .shows("THEIRS")
    };
    vec![
        case("join-network", "readlink /proc/self/ns/net", |c| {
            join(c, "--net", "network", "net")
        }),
        case("join-ipc", "readlink /proc/self/ns/ipc", |c| {
            join(c, "--ipc", "ipc", "ipc")
        }),
        case("join-uts", "readlink /proc/self/ns/uts", |c| {
            join(c, "--uts", "uts", "uts")
        }),
        Case::new(
            NAMESPACES,
            "join-uts-and-name-it",
            json!({"hostname": "renamed"}),
            "hostname; readlink /proc/self/ns/uts",
        )
        .drive(|c| join(c, "--uts", "uts", "uts"))
        .shows("renamed"),
        case(
            "join-pid",
            "readlink /proc/self/ns/pid; [ $$ -gt 1 ] && echo not first",
            |c| join(c, "--pid", "pid", "pid"),
        ),
        case("join-cgroup", "readlink /proc/self/ns/cgroup", |c| {
            join(c, "--cgroup", "cgroup", "cgroup")
        }),
    ]
}

pub(super) fn mapped(size: u32) -> Value {
    json!({"linux": {
        "namespaces+": [{"type": "user"}],
        "uidMappings": [{"containerID": 0, "hostID": 100_000, "size": size}],
        "gidMappings": [{"containerID": 0, "hostID": 200_000, "size": size}]
    }})
}

pub(super) fn own_rootfs(bundle: &mut Bundle) {
    bundle.give_to(100_000, 200_000);
}

fn users() -> Vec<Case> {
    let maps = "cat /proc/self/uid_map /proc/self/gid_map; id; cat /proc/self/setgroups";
    vec![
        Case::new(IDS, "user-namespace", mapped(65536), maps).setup(own_rootfs).field("/linux/uidMappings").shows("100000"),
        Case::new(IDS, "user-namespace-files", mapped(65536), "touch /tmp/f; stat -c '%u %g' /tmp/f /etc/passwd; chown 5:6 /tmp/f; stat -c '%u %g' /tmp/f").setup(own_rootfs).field("/linux/gidMappings"),
        Case::new(IDS, "user-namespace-devices", mapped(65536), "ls -l /dev | grep -v core | awk '{print $1, $NF}' | sort; echo x > /dev/null; head -c 4 /dev/zero | wc -c").setup(own_rootfs),
        Case::new(IDS, "user-namespace-mounts", mapped(65536), "awk '{f=\"\"; for(i=7;i<=NF;i++) if($i==\"-\") f=$(i+1); print $5, $6, f}' /proc/self/mountinfo | grep -v /sys/fs/cgroup | sort").setup(own_rootfs).runc(),
        Case::new(IDS, "user-namespace-caps", mapped(65536), "grep ^Cap /proc/self/status").setup(own_rootfs).field("/linux/namespaces/-"),
        Case::new(IDS, "user-namespace-user", json!({"process": {"user": {"uid": 1000, "gid": 1000}}, "linux": mapped(65536)["linux"]}), "id; grep Uid /proc/self/status").setup(own_rootfs),
        Case::new(IDS, "user-namespace-unmapped-user", json!({"process": {"user": {"uid": 1000, "gid": 1000}}, "linux": mapped(10)["linux"]}), "id").setup(own_rootfs).shows("exit 1"),
        Case::new(IDS, "mappings-without-namespace", json!({"linux": {"uidMappings": [{"containerID": 0, "hostID": 100_000, "size": 10}]}}), "echo ran").alone().shows("exit 1"),
        Case::new(IDS, "user-namespace-without-mappings", json!({"linux": {"namespaces+": [{"type": "user"}]}}), "echo ran").setup(own_rootfs).runc(),
    ]
}

fn devices() -> Vec<Case> {
    let device = |value: Value| json!({"linux": {"devices": [value]}});
    let show = "ls -ln /dev/x | awk '{print $1, $3, $4, $5, $6}'";
    vec![
        Case::new("config-linux.md#default-devices", "default-devices", json!({}), "for f in $(ls /dev | grep -v core | sort); do stat -c '%n %F %a %u %g %t %T' /dev/$f; done"),
        Case::new("config-linux.md#default-devices", "default-links", json!({}), "for f in fd stdin stdout stderr ptmx; do readlink /dev/$f; done").shows("/proc/self/fd"),
        Case::new("config-linux.md#default-devices", "default-devices-work", json!({}), "echo x > /dev/null && head -c 3 /dev/zero | wc -c; head -c 3 /dev/urandom | wc -c; echo x > /dev/full 2>&1").shows("3"),
        Case::new(DEVICES, "device-char", device(json!({"path": "/dev/x", "type": "c", "major": 10, "minor": 229, "fileMode": 432, "uid": 7, "gid": 8})), show)
            .field("/linux/devices").shows("crw-rw----"),
        Case::new(DEVICES, "device-block", device(json!({"path": "/dev/x", "type": "b", "major": 7, "minor": 0, "fileMode": 384})), show).shows("brw-------"),
        Case::new(DEVICES, "device-fifo", device(json!({"path": "/dev/x", "type": "p", "fileMode": 432})), "stat -c '%F %a' /dev/x").shows("fifo"),
        Case::new(DEVICES, "device-unbuffered", device(json!({"path": "/dev/x", "type": "u", "major": 1, "minor": 3, "fileMode": 438})), "stat -c '%F %a' /dev/x").runc(),
        Case::new(DEVICES, "device-mode-absent", device(json!({"path": "/dev/x", "type": "c", "major": 1, "minor": 3})), "stat -c '%F %a %u %g' /dev/x"),
        Case::new(DEVICES, "device-below", device(json!({"path": "/dev/a/b", "type": "c", "major": 1, "minor": 3, "fileMode": 438})), "stat -c '%F %a' /dev/a/b").shows("666"),
        Case::new(DEVICES, "device-outside-dev", device(json!({"path": "/opt/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438})), "stat -c '%F %a' /opt/x").shows("666"),
        Case::new(DEVICES, "device-replaces-default", device(json!({"path": "/dev/null", "type": "c", "major": 1, "minor": 3, "fileMode": 384})), "stat -c '%a' /dev/null").alone(),
        Case::new(DEVICES, "device-bad-type", device(json!({"path": "/dev/x", "type": "z", "major": 1, "minor": 3})), "echo ran").runc().shows("exit 1"),
    ]
}

/// A device of this case alone; IFNAMSIZ leaves 15 letters.
fn net_device(name: &str) -> String {
    let mut parts = name.rsplit('-').map(|n| n.parse::<u32>().unwrap_or(0));
    let (serial, pid) = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    format!("g{pid:x}x{serial:x}")
}

fn ip(words: &str) -> bool {
    let run = Command::new("ip").args(words.split(' ')).stderr(Stdio::null()).status();
    run.is_ok_and(|status| status.success())
}

/// Has a pair of devices, one end of which the spec names, as long as the container runs.
fn with_a_device(container: &Container) -> String {
    let name = net_device(container.id());
    assert!(ip(&format!("link add {name} type veth peer name p{name}")));
    assert!(ip(&format!("addr add 10.99.7.1/24 dev {name}")));
    let done = container.run();
    // Gone with the namespace that the other end is in, sooner or later.
    ip(&format!("link del p{name}"));
    format!("{}exit {}", done.out, done.code)
}

/// The same where the network is another's: a pod's.
fn with_a_device_for_another(container: &Container) -> String {
    let owner = Owner::new("--net");
    let mut config = container.bundle.config.clone();
    config.namespace_path("network", &format!("/proc/{}/ns/net", owner.inside()));
    let text = serde_json::to_vec(&config.0).unwrap();
    std::fs::write(container.bundle.bundle().join("config.json"), text).unwrap();
    with_a_device(container)
}

/// Newer than the runtimes compared with.
fn net_devices() -> Vec<Case> {
    let section = "config-linux.md#network-devices";
    let show =
        "ls /sys/class/net; busybox ip -o -4 addr show dev net0 | awk '{print $2, $4}'; cat /sys/class/net/net0/flags";
    let case = |name: &'static str| {
        Case::new(section, name, json!({}), show)
            .alone()
            .setup(|b| {
                let device = json!({ net_device(&b.name): { "name": "net0" } });
                b.config.set("/linux/netDevices", device);
            })
            .field("/linux/netDevices")
            .shows("lo\nnet0\nnet0 10.99.7.1/24\n0x1003\n")
    };
    let wrong = |name: &'static str, linux: Value| {
        Case::new(section, name, json!({"linux": linux}), "true")
            .alone()
            .shows("exit 1")
    };
    vec![
        case("net-devices").drive(with_a_device),
        case("net-devices-of-a-pod").drive(with_a_device_for_another),
        wrong("net-devices-no-such", json!({"netDevices": {"nosuchdevice": {}}})),
        wrong("net-devices-loopback", json!({"netDevices": {"lo": {"name": "net0"}}})),
        wrong(
            "net-devices-host-network",
            json!({"netDevices": {"nosuchdevice": {}}, "namespaces": [{"type": "mount"}, {"type": "uts"}]}),
        ),
    ]
}

fn sysctls() -> Vec<Case> {
    let section = "config-linux.md#sysctl";
    vec![
        Case::new(section, "sysctl", json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1", "kernel.msgmax": "4242"}}}), "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/msgmax")
            .field("/linux/sysctl").shows("4242"),
        Case::new(section, "sysctl-not-namespaced", json!({"linux": {"sysctl": {"kernel.panic": "7"}}}), "echo ran").runc().shows("exit 1"),
        Case::new(section, "sysctl-host-network", json!({"linux": {"sysctl": {"net.ipv4.ip_forward": "1"}, "namespaces": [{"type": "mount"}, {"type": "uts"}]}}), "echo ran").runc().shows("exit 1"),
        Case::new(section, "sysctl-unknown", json!({"linux": {"sysctl": {"net.no.such": "7"}}}), "echo ran").shows("exit 1"),
    ]
}
