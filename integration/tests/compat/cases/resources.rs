//! config-linux.md, Control groups.

use crate::case::Case;
use integration::cgroup::on;
use integration::{Container, disk, unified};
use serde_json::{Value, json};

pub(crate) fn cases() -> Vec<Case> {
    [limits(), placed(), memory_policy(), updates(), told()].concat()
}

type Files = &'static [(&'static str, &'static str)];

fn limits() -> Vec<Case> {
    let case = |section: &'static str, name: &'static str, resources: Value, files: Files| {
        Case::new(section, name, json!({"linux": {"resources": resources}}), "true").cgroup(files)
    };
    let memory = "config-linux.md#memory";
    let cpu = "config-linux.md#cpu";
    let limit: Files = &[
        ("memory", "memory.limit_in_bytes"),
        ("memory", "memory.memsw.limit_in_bytes"),
    ];
    let quota: Files = &[("cpu", "cpu.cfs_quota_us"), ("cpu", "cpu.cfs_period_us")];
    let (major, minor) = disk().unwrap_or_default();
    vec![
        case(memory, "memory-limit", json!({"memory": {"limit": 67_108_864}}), limit).field("/linux/resources/memory/limit").shows("67108864"),
        case(memory, "memory-limit-and-swap", json!({"memory": {"limit": 67_108_864, "swap": 134_217_728}}), limit).field("/linux/resources/memory/swap").shows(on("memsw.limit_in_bytes: 134217728", "memsw.limit_in_bytes: 67108864")),
        case(memory, "memory-unlimited", json!({"memory": {"limit": -1}}), limit),
        case(memory, "memory-zero", json!({"memory": {"limit": 0, "swap": 0}}), limit).runc(),
        case(memory, "memory-swap-unlimited", json!({"memory": {"limit": 67_108_864, "swap": -1}}), limit),
        case(memory, "memory-swap-below", json!({"memory": {"limit": 67_108_864, "swap": 33_554_432}}), &[]).shows("create 1"),
        case(memory, "memory-reservation", json!({"memory": {"reservation": 33_554_432}}), &[("memory", "memory.soft_limit_in_bytes")]).field("/linux/resources/memory/reservation").shows("33554432"),
        case(memory, "memory-kernel-tcp", json!({"memory": {"kernelTCP": 33_554_432}}), &[("memory", "memory.kmem.tcp.limit_in_bytes")]).crun().field("/linux/resources/memory/kernelTCP").shows("33554432").error_on_v2(),
        case(memory, "memory-kernel", json!({"memory": {"kernel": 33_554_432}}), &[("memory", "memory.kmem.limit_in_bytes")]).runc(),
        case(memory, "memory-swappiness", json!({"memory": {"swappiness": 33}}), &[("memory", "memory.swappiness")]).field("/linux/resources/memory/swappiness").shows("33").error_on_v2(),
        case(memory, "memory-swappiness-wrong", json!({"memory": {"swappiness": 333}}), &[]).shows("create 1").error_on_v2(),
        case(memory, "memory-oom-killer-off", json!({"memory": {"limit": 67_108_864, "disableOOMKiller": true}}), &[("memory", "memory.oom_control")]).field("/linux/resources/memory/disableOOMKiller").shows("oom_kill_disable 1").error_on_v2(),
        case(cpu, "cpu-shares", json!({"cpu": {"shares": 512}}), &[("cpu", "cpu.shares")]).field("/linux/resources/cpu/shares").shows(on("512", "59")).weighs(),
        case(cpu, "cpu-shares-zero", json!({"cpu": {"shares": 0}}), &[("cpu", "cpu.shares")]),
        case(cpu, "cpu-quota", json!({"cpu": {"quota": 20_000, "period": 50_000}}), quota).field("/linux/resources/cpu/quota").shows("20000"),
        case(cpu, "cpu-period", json!({"cpu": {"quota": 20_000, "period": 50_000}}), quota).field("/linux/resources/cpu/period").shows("50000"),
        case(cpu, "cpu-quota-unlimited", json!({"cpu": {"quota": -1}}), quota).runc(),
        case(cpu, "cpu-burst", json!({"cpu": {"quota": 20_000, "period": 50_000, "burst": 10_000}}), &[("cpu", "cpu.cfs_burst_us")]).field("/linux/resources/cpu/burst").alone().shows("10000"),
        case(cpu, "cpu-idle", json!({"cpu": {"idle": 1}}), &[("cpu", "cpu.idle")]).field("/linux/resources/cpu/idle").alone().shows("cpu.idle: 1"),
        case(cpu, "cpuset-cpus", json!({"cpu": {"cpus": "0"}}), &[("cpuset", "cpuset.cpus")]).field("/linux/resources/cpu/cpus").shows("cpuset.cpus: 0\n"),
        case(cpu, "cpuset-mems", json!({"cpu": {"mems": "0"}}), &[("cpuset", "cpuset.mems")]).shows("0"),
        case(cpu, "cpuset-wrong", json!({"cpu": {"cpus": "999"}}), &[]).shows("create 1"),
        case("config-linux.md#pids", "pids-limit", json!({"pids": {"limit": 55}}), &[("pids", "pids.max")]).field("/linux/resources/pids").shows("55"),
        case("config-linux.md#pids", "pids-unlimited", json!({"pids": {"limit": -1}}), &[("pids", "pids.max")]).runc().shows("max"),
        case("config-linux.md#pids", "pids-zero", json!({"pids": {"limit": 0}}), &[("pids", "pids.max")]),
        case("config-linux.md#block-io", "block-io-throttle",
            json!({"blockIO": {"throttleReadBpsDevice": [{"major": major, "minor": minor, "rate": 1_048_576}], "throttleWriteIOPSDevice": [{"major": major, "minor": minor, "rate": 100}]}}),
            &[("blkio", "blkio.throttle.read_bps_device"), ("blkio", "blkio.throttle.write_iops_device")]).field("/linux/resources/blockIO").shows("1048576").only_if(has_disk),
        case("config-linux.md#block-io", "block-io-throttle-others",
            json!({"blockIO": {"throttleWriteBpsDevice": [{"major": major, "minor": minor, "rate": 2_097_152}], "throttleReadIOPSDevice": [{"major": major, "minor": minor, "rate": 200}]}}),
            &[("blkio", "blkio.throttle.write_bps_device"), ("blkio", "blkio.throttle.read_iops_device")]).field("/linux/resources/blockIO").shows("2097152").only_if(has_disk),
        case("config-linux.md#block-io", "block-io-no-such-device", json!({"blockIO": {"throttleReadBpsDevice": [{"major": 99, "minor": 9, "rate": 1}]}}), &[]).shows("create 1"),
        case("config-linux.md#unified", "unified-on-v1", json!({"unified": {"pids.max": "7"}}), &[]).runc().shows("create 1").only_if(|| !unified()),
        case("config-linux.md#unified", "unified", json!({"unified": {"memory.high": "33554432", "pids.max": "77"}}), &[("memory", "memory.high"), ("pids", "pids.max")])
            .field("/linux/resources/unified").shows("memory.high: 33554432").only_if(unified),
        case("config-linux.md#unified", "unified-over-the-other", json!({"pids": {"limit": 55}, "unified": {"pids.max": "77"}}), &[("pids", "pids.max")])
            .shows("pids.max: 77").only_if(unified),
        case("config-linux.md#unified", "unified-no-such-file", json!({"unified": {"pids.none": "7"}}), &[]).shows("create 1").only_if(unified),
        case("config-linux.md#rdma", "rdma-without-controller", json!({"rdma": {"mlx": {"hcaHandles": 1}}}), &[]).runc().shows("create 1"),
        case("config-linux.md#rdma", "rdma-bad-name", json!({"rdma": {"mlx a=1": {"hcaHandles": 1}}}), &[]).alone().shows("create 1"),
        case("config-linux.md#network", "network-class-without-controller", json!({"network": {"classID": 7}}), &[]).alone().shows("create 1"),
        case("config-linux.md#huge-page-limits", "huge-pages-without-controller", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}), &[]).alone().shows("create 1").only_if(|| !has_huge_pages()),
        case("config-linux.md#huge-page-limits", "huge-pages", json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]}), &[("hugetlb", "hugetlb.2MB.limit_in_bytes")])
            .field("/linux/resources/hugepageLimits").shows("4194304").only_if(has_huge_pages),
        // On v2 the list is a program, which is seen by what it lets.
        case("config-linux.md#allowed-device-list", "device-list-default", json!({"devices": [{"allow": false, "access": "rwm"}]}), &[("devices", "devices.list")]).runc(),
        case("config-linux.md#allowed-device-list", "device-list-rule", json!({"devices": [{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw"}]}),
            &[("devices", "devices.list")]).runc().field("/linux/resources/devices/1").shows("c 10:229 rw").only_if(|| !unified()),
        case("config-linux.md#allowed-device-list", "device-list-all", json!({"devices": [{"allow": true, "access": "rwm"}]}), &[("devices", "devices.list")]).shows(on("a *:*", "create 0")),
        to_the_log("device-rule-of-odd-access", &json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "rwa"}])).runc().shows("open\n"),
        to_the_log("device-rule", &json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "w"}])).field("/linux/resources/devices/1").shows("open\n"),
        to_the_log("device-rule-of-another-kind", &json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "b", "major": 1, "minor": 11, "access": "w"}])).shows("denied\n"),
        to_the_log("device-rule-of-another-access", &json!([{"allow": false, "access": "rwm"}, {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"}])).shows("denied\n"),
        to_the_log("device-rule-taken-back", &json!([{"allow": true, "access": "rwm"}, {"allow": false, "type": "c", "major": 1, "minor": 11, "access": "w"}])).shows("denied\n"),
        Case::new("config-linux.md#allowed-device-list", "device-list-denies", json!({"process": {"capabilities": null}, "linux": {"devices": [{"path": "/dev/x", "type": "c", "major": 10, "minor": 229}]}}), "cat < /dev/x 2>&1").shows("not permitted"),
    ]
}

/// Opens the kernel's log, a device that no container has by itself, for writing: that takes no capability.
fn to_the_log(name: &'static str, rules: &Value) -> Case {
    Case::new(
        "config-linux.md#allowed-device-list",
        name,
        json!({"linux": {
            "resources": {"devices": rules},
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 11, "fileMode": 438}]
        }}),
        "(: > /dev/x) 2>/dev/null && echo open || echo denied",
    )
}

fn has_huge_pages() -> bool {
    unified() && std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").is_ok_and(|all| all.contains("hugetlb"))
}

fn has_disk() -> bool {
    disk().is_some()
}

fn placed() -> Vec<Case> {
    let section = "config-linux.md#cgroups-path";
    vec![
        Case::new(
            section,
            "cgroup-everywhere",
            json!({}),
            on(
                "cut -d: -f2- /proc/self/cgroup | grep -v hugetlb | grep -v ^: | sort",
                "cat /proc/self/cgroup",
            ),
        )
        .runc()
        .shows("/NAME"),
        Case::new(
            section,
            "cgroup-nested",
            json!({"linux": {"cgroupsPath": "/@NAME@/a/b"}}),
            on("grep pids /proc/self/cgroup", "cat /proc/self/cgroup"),
        )
        .drive(|c| {
            let done = c.run();
            let told = format!("{}exit {}", done.out, done.code);
            sweep(c);
            told
        })
        .field("/linux/cgroupsPath")
        .shows("/a/b"),
        Case::new(section, "resources-none", json!({"linux": {"resources": null}}), "true").cgroup(&[
            ("pids", "pids.max"),
            ("memory", "memory.limit_in_bytes"),
            ("cpu", "cpu.shares"),
        ]),
    ]
}

/// The parents of a nested cgroup stay, with every runtime: they are taken away here.
fn sweep(container: &Container) {
    for dir in integration::leaks::cgroups(&container.bundle.name) {
        std::fs::remove_dir(dir.join("a/b")).ok();
        std::fs::remove_dir(dir.join("a")).ok();
        std::fs::remove_dir(dir).ok();
    }
}

/// Newer than the runtimes compared with.
fn memory_policy() -> Vec<Case> {
    const SHOW: &str = "awk '{print $2}' /proc/self/numa_maps | sort -u";
    let case = |name: &'static str, policy: Value| {
        Case::new(
            "config-linux.md#memory-policy",
            name,
            json!({"linux": {"memoryPolicy": policy}}),
            SHOW,
        )
        .alone()
        .only_if(|| std::path::Path::new("/proc/self/numa_maps").exists())
    };
    vec![
        case("memory-policy", json!({"mode": "MPOL_BIND", "nodes": "0"}))
            .field("/linux/memoryPolicy")
            .shows("bind:0\n"),
        case("memory-policy-mode", json!({"mode": "MPOL_LOCAL"}))
            .field("/linux/memoryPolicy/mode")
            .shows("local\n"),
        case("memory-policy-nodes", json!({"mode": "MPOL_PREFERRED", "nodes": "0-0"}))
            .field("/linux/memoryPolicy/nodes")
            .shows("prefer:0\n"),
        case(
            "memory-policy-flags",
            json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_STATIC_NODES"]}),
        )
        .field("/linux/memoryPolicy/flags")
        .shows("interleave=static:0\n"),
        case("memory-policy-of-exec", json!({"mode": "MPOL_BIND", "nodes": "0"}))
            .drive(|container| {
                container.create().ok();
                let done = container.exec(&["sh", "-c", SHOW]);
                format!("{}exit {}", done.out, done.code)
            })
            .field("/linux/memoryPolicy")
            .shows("bind:0\n"),
        case("memory-policy-no-list", json!({"mode": "MPOL_BIND", "nodes": "zero"})).shows("exit 1"),
        case(
            "memory-policy-no-such-node",
            json!({"mode": "MPOL_BIND", "nodes": "1000"}),
        )
        .shows("exit 1"),
        case("memory-policy-no-such-mode", json!({"mode": "MPOL_DREAM"})).shows("exit 1"),
    ]
}

/// Updates a running container and tells the files' values.
fn update(container: &Container, calls: &[&[&str]], files: &[(&str, &str)]) -> String {
    container.run_detached().ok();
    let mut text = String::new();
    for call in calls {
        let words: Vec<&str> = ["update"]
            .into_iter()
            .chain(call.iter().copied())
            .chain([container.id()])
            .collect();
        text += &format!("exit {}\n", container.op(&words).code);
    }
    for (controller, file) in files {
        let value = container.cgroup(controller, file).unwrap_or_default();
        let mut lines: Vec<&str> = value.lines().collect();
        lines.sort_unstable();
        text += &format!("{file}: {}\n", lines.join("; "));
    }
    text
}

fn json_update(container: &Container, resources: &Value, files: &[(&str, &str)]) -> String {
    let file = container.bundle.dir.join("resources.json");
    std::fs::write(&file, serde_json::to_vec(resources).unwrap()).unwrap();
    update(container, &[&["--resources", file.to_str().unwrap()]], files)
}

fn updates() -> Vec<Case> {
    let case = |name: &'static str, drive: fn(&Container) -> String| {
        Case::new("runtime.md#update", name, json!({}), "sleep 60").drive(drive)
    };
    vec![
        case("update-memory", |c| {
            update(
                c,
                &[&["--memory", "64m", "--memory-reservation", "32m"]],
                &[
                    ("memory", "memory.limit_in_bytes"),
                    ("memory", "memory.soft_limit_in_bytes"),
                ],
            )
        })
        .runc()
        .shows("67108864"),
        case("update-memory-swap", |c| {
            update(
                c,
                &[
                    &["--memory", "64m", "--memory-swap", "128m"],
                    &["--memory", "32m", "--memory-swap", "32m"],
                ],
                &[
                    ("memory", "memory.limit_in_bytes"),
                    ("memory", "memory.memsw.limit_in_bytes"),
                ],
            )
        })
        .runc()
        .shows("33554432"),
        case("update-cpu", |c| {
            update(
                c,
                &[&["--cpu-share", "300", "--cpu-quota", "30000", "--cpu-period", "60000"]],
                &[
                    ("cpu", "cpu.shares"),
                    ("cpu", "cpu.cfs_quota_us"),
                    ("cpu", "cpu.cfs_period_us"),
                ],
            )
        })
        .weighs()
        .shows("30000"),
        case("update-cpu-burst", |c| {
            update(
                c,
                &[&["--cpu-quota", "30000", "--cpu-period", "60000", "--cpu-burst", "10000"]],
                &[("cpu", "cpu.cfs_burst_us")],
            )
        })
        .alone()
        .shows("10000"),
        case("update-cpu-idle", |c| {
            update(c, &[&["--cpu-idle", "1"]], &[("cpu", "cpu.idle")])
        })
        .alone()
        .shows("cpu.idle: 1"),
        case("update-cpu-quota-alone", |c| {
            update(
                c,
                &[&["--cpu-quota", "30000"], &["--cpu-quota", "-1"]],
                &[("cpu", "cpu.cfs_quota_us")],
            )
        })
        .runc()
        .shows(on("-1", "max")),
        case("update-kernel-memory", |c| {
            update(
                c,
                &[&["--kernel-memory", "64m"], &["--kernel-memory-tcp", "64m"]],
                &[("memory", "memory.kmem.tcp.limit_in_bytes")],
            )
        })
        .alone()
        .shows(on("exit 0\nexit 0\n", "exit 0\nexit 1\n")),
        case("update-reservation", |c| {
            update(
                c,
                &[&["--memory-reservation", "32m"]],
                &[("memory", "memory.soft_limit_in_bytes")],
            )
        })
        .runc()
        .shows("33554432"),
        case("update-cache-schema", |c| {
            update(c, &[&["--l3-cache-schema", "L3:0=f"]], &[])
        })
        .runc()
        .shows("exit 1"),
        case("update-stopped", |c| {
            c.run_detached().ok();
            c.kill("KILL").ok();
            c.wait_status("stopped");
            c.op(&["update", "--pids-limit", "44", c.id()]).code.to_string()
        })
        .runc()
        .shows("1"),
        case("update-cpuset", |c| {
            update(
                c,
                &[&["--cpuset-cpus", "0", "--cpuset-mems", "0"]],
                &[("cpuset", "cpuset.cpus")],
            )
        })
        .shows("cpuset.cpus: 0\n"),
        case("update-pids", |c| {
            update(c, &[&["--pids-limit", "44"]], &[("pids", "pids.max")])
        })
        .shows("44"),
        case("update-pids-unlimited", |c| {
            update(
                c,
                &[&["--pids-limit", "44"], &["--pids-limit", "-1"]],
                &[("pids", "pids.max")],
            )
        })
        .runc()
        .shows("max"),
        case("update-json", |c| {
            json_update(
                c,
                &json!({"memory": {"limit": 67_108_864}, "cpu": {"shares": 200}, "pids": {"limit": 33}}),
                &[
                    ("memory", "memory.limit_in_bytes"),
                    ("cpu", "cpu.shares"),
                    ("pids", "pids.max"),
                ],
            )
        })
        .weighs()
        .shows("67108864"),
        case("update-json-nothing", |c| {
            json_update(c, &json!({}), &[("pids", "pids.max")])
        }),
        case("update-keeps-devices", |c| {
            update(c, &[&["--pids-limit", "44"]], &[("devices", "devices.list")])
        })
        .runc(),
        case("update-too-small", |c| update(c, &[&["--memory", "4096"]], &[]))
            .runc()
            .alone_on_v2()
            .shows("exit 1"),
    ]
}

/// Where every number stands, without the numbers.
fn shape(prefix: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => map
            .iter()
            .for_each(|(key, inner)| shape(&format!("{prefix}/{key}"), inner, found)),
        Value::Array(list) => found.push(format!("{prefix}[{}]", if list.is_empty() { "" } else { "…" })),
        _ => found.push(prefix.to_owned()),
    }
}

fn told() -> Vec<Case> {
    let case = |name: &'static str, drive: fn(&Container) -> String| {
        Case::new(
            "runc events",
            name,
            json!({"linux": {"resources": {"pids": {"limit": 77}, "memory": {"limit": 67_108_864}}}}),
            "sleep 60",
        )
        .drive(drive)
        .runc()
    };
    vec![
        case("events-stats", |c| {
            c.run_detached().ok();
            let event: Value = serde_json::from_str(&c.op(&["events", "--stats", c.id()]).out).unwrap();
            let data = &event["data"];
            format!(
                "{} {} {} {}",
                event["type"], event["id"], data["pids"]["limit"], data["memory"]["usage"]["limit"]
            )
        })
        .shows("77 67108864"),
        case("events-stats-of-nothing", |c| {
            c.op(&["events", "--stats", c.id()]).code.to_string()
        })
        .shows("1"),
        case("events-stats-shape", |c| {
            c.run_detached().ok();
            let event: Value = serde_json::from_str(&c.op(&["events", "--stats", c.id()]).out).unwrap();
            let mut found = Vec::new();
            for part in ["cpu/usage", "cpu/throttling", "memory/usage", "memory/swap", "pids"] {
                shape(part, event["data"].pointer(&format!("/{part}")).unwrap(), &mut found);
            }
            // On v2 runc 1.1 does not look at it.
            found.retain(|place| !unified() || place != "memory/swap/max");
            found.sort();
            found.join("\n")
        })
        .shows("memory/usage/max"),
    ]
}
