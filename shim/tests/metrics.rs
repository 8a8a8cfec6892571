//! What a container used and may use: the shim's metrics beside the kernel's own files, and limits that change.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use common::Node;
use common::client::{Client, V2};
use common::host::unified;
use containerd_shim_protos::cgroups::metrics::Metrics as First;
use containerd_shim_protos::cgroups_v2::metrics::Metrics as Second;
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::shim::{StatsRequest, StatsResponse, UpdateTaskRequest};
use nix::unistd::Pid;

const MEMORY: u64 = 64 << 20;
const PIDS: u64 = 77;

/// What both versions of cgroups know, under one name.
#[derive(Debug)]
struct Figures {
    pids: u64,
    pids_limit: u64,
    memory: u64,
    memory_limit: u64,
    /// The largest part of `memory` of a program that allocates.
    anonymous: u64,
    /// Microseconds.
    cpu: u64,
    throttled: u64,
    kills: u64,
}

impl Figures {
    fn of(client: &mut Client, id: &str) -> Self {
        let request = StatsRequest {
            id: id.into(),
            ..StatsRequest::default()
        };
        let answer = client.call(V2, "Stats", &request).unwrap();
        let stats = StatsResponse::parse_from_bytes(&answer).unwrap().stats.unwrap();
        if unified() {
            assert_eq!(stats.type_url, "io.containerd.cgroups.v2.Metrics");
            Self::second(&Second::parse_from_bytes(&stats.value).unwrap())
        } else {
            assert_eq!(stats.type_url, "io.containerd.cgroups.v1.Metrics");
            Self::first(&First::parse_from_bytes(&stats.value).unwrap())
        }
    }

    fn first(metrics: &First) -> Self {
        assert_eq!(metrics.cpu.usage.per_cpu.iter().sum::<u64>(), metrics.cpu.usage.total);
        Self {
            pids: metrics.pids.current,
            pids_limit: metrics.pids.limit,
            memory: metrics.memory.usage.usage,
            memory_limit: metrics.memory.usage.limit,
            anonymous: metrics.memory.total_rss,
            cpu: metrics.cpu.usage.total / 1000,
            throttled: metrics.cpu.throttling.throttled_periods,
            kills: metrics.memory_oom_control.oom_kill,
        }
    }

    fn second(metrics: &Second) -> Self {
        assert!(metrics.cpu.usage_usec >= metrics.cpu.user_usec);
        assert!(metrics.memory.max_usage >= metrics.memory.usage);
        Self {
            pids: metrics.pids.current,
            pids_limit: metrics.pids.limit,
            memory: metrics.memory.usage,
            memory_limit: metrics.memory.usage_limit,
            anonymous: metrics.memory.anon,
            cpu: metrics.cpu.usage_usec,
            throttled: metrics.cpu.nr_throttled,
            kills: metrics.memory_events.oom_kill,
        }
    }
}

/// A process's cgroup: its directory for one controller of v1, the only one of v2.
fn cgroup(pid: Pid, controller: &str) -> PathBuf {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
    let found = text.lines().find_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        let (names, path) = (fields.next()?, fields.next()?.trim_start_matches('/').to_owned());
        match names {
            "" if unified() => Some(Path::new("/sys/fs/cgroup").join(path)),
            _ if names.split(',').any(|name| name == controller) => {
                Some(Path::new("/sys/fs/cgroup").join(controller).join(path))
            }
            _ => None,
        }
    });
    found.unwrap_or_else(|| panic!("{controller}: {text}"))
}

/// The number in a file of v1, or in that of v2 which means the same.
fn number(pid: Pid, controller: &str, first: &str, second: &str) -> u64 {
    let file = cgroup(pid, controller).join(if unified() { second } else { first });
    let text = fs::read_to_string(&file).unwrap();
    text.trim()
        .parse()
        .unwrap_or_else(|_| panic!("{}: {text}", file.display()))
}

fn memory(pid: Pid) -> u64 {
    number(pid, "memory", "memory.usage_in_bytes", "memory.current")
}

fn update(client: &mut Client, id: &str, resources: &serde_json::Value) {
    let resources = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources".into(),
        value: resources.to_string().into_bytes(),
        ..Any::default()
    };
    let request = UpdateTaskRequest {
        id: id.into(),
        resources: Some(resources).into(),
        ..UpdateTaskRequest::default()
    };
    client.call(V2, "Update", &request).unwrap();
}

/// `of` before and after `during`, as bounds of what was seen meanwhile.
fn around<T>(of: impl Fn() -> u64, during: impl FnOnce() -> T) -> (RangeInclusive<u64>, T) {
    let (before, seen, after) = (of(), during(), of());
    (before.min(after)..=before.max(after), seen)
}

#[test]
fn figures_are_those_of_the_kernels_files() {
    let node = Node::start("figures");
    let id = node.sleeper("s");
    let pid = node.pid(&id);
    let mut client = Client::connect(&node.shim_socket(&id));
    let resources = serde_json::json!({ "memory": { "limit": MEMORY }, "pids": { "limit": PIDS },
        "cpu": { "quota": 10_000, "period": 100_000 } });
    update(&mut client, &id, &resources);
    assert_eq!(number(pid, "memory", "memory.limit_in_bytes", "memory.max"), MEMORY);
    assert_eq!(number(pid, "pids", "pids.max", "pids.max"), PIDS);
    let (bounds, idle) = around(|| memory(pid), || Figures::of(&mut client, &id));
    assert!(bounds.contains(&idle.memory), "{bounds:?}: {idle:?}");
    assert_eq!((idle.memory_limit, idle.pids_limit), (MEMORY, PIDS), "{idle:?}");
    assert_eq!((idle.pids, idle.kills), (1, 0), "{idle:?}");
    assert!(
        idle.cpu > 0 && idle.anonymous > 0 && idle.anonymous <= idle.memory,
        "{idle:?}"
    );
    // More than a tenth of a processor for a moment, where that is the limit: it was held back.
    let busy = "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done";
    node.ctr(&["task", "exec", "--exec-id", "busy", &id, "sh", "-c", busy])
        .ok();
    let spent = Figures::of(&mut client, &id);
    assert!(spent.cpu > idle.cpu + 50_000, "{idle:?} {spent:?}");
    assert!(spent.throttled > idle.throttled, "{idle:?} {spent:?}");
    // More than it may have: killed, and counted.
    let eats = [
        "task",
        "exec",
        "--exec-id",
        "eats",
        &id,
        "dd",
        "if=/dev/zero",
        "of=/dev/null",
        "bs=256M",
    ];
    assert_eq!(node.ctr(&eats).code(), Some(137));
    let killed = Figures::of(&mut client, &id);
    assert_eq!((killed.kills, killed.pids), (1, 1), "{killed:?}");
    drop(client);
    node.remove(&id);
    node.assert_clean();
}
