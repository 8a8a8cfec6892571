//! A pod's whole life, call by call.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::common::host::until;
use super::common::{SOON, host};
use super::kubelet::{Kubelet, of_status};
use super::pods::Config;
use super::stream::Stream;

fn link(pid: &Value, namespace: &str) -> String {
    let link = fs::read_link(format!("/proc/{pid}/ns/{namespace}")).unwrap();
    link.to_str().unwrap().to_owned()
}

#[test]
fn containers_share_their_pods_network_and_ipc() {
    let kubelet = Kubelet::start("share");
    let pod = kubelet.pod("default", "web");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let status = kubelet.ok("PodSandboxStatus", &json!({ "pod_sandbox_id": sandbox }));
    assert_eq!(status["status"]["state"], "SANDBOX_READY");
    assert_eq!(status["status"]["runtime_handler"], "gabion");
    let ip = status["status"]["network"]["ip"].as_str().unwrap().to_owned();
    assert!(ip.starts_with("10.97.0."), "{ip}");
    let [a, b] = ["a", "b"].map(|name| kubelet.container(&pod, &sandbox, &Config::sleeper(name)).unwrap());
    assert_eq!(kubelet.node.shims().len(), 1, "a pod has one shim");
    let [pause, first, second] = [&sandbox, &a, &b].map(|id| kubelet.pid(id));
    for shared in ["net", "ipc", "uts"] {
        assert_eq!(link(&pause, shared), link(&first, shared), "{shared}");
        assert_eq!(link(&pause, shared), link(&second, shared), "{shared}");
    }
    for own in ["pid", "mnt", "cgroup"] {
        assert_ne!(link(&first, own), link(&second, own), "{own}");
        assert_ne!(link(&pause, own), link(&first, own), "{own}");
    }
    for namespace in ["net", "ipc", "uts", "pid", "mnt", "cgroup"] {
        assert_ne!(
            link(&first, namespace),
            link(&json!(std::process::id()), namespace),
            "{namespace}"
        );
    }
    assert!(kubelet.output(&a, &["ip", "address"]).contains(&ip));
    assert_eq!(kubelet.output(&b, &["hostname"]), "web\n");
    kubelet.output(&a, &["sh", "-c", "echo shared > /dev/shm/file"]);
    assert_eq!(kubelet.output(&b, &["cat", "/dev/shm/file"]), "shared\n");
    // A container that goes takes nothing of its pod with it.
    kubelet.stop(&a, 0);
    assert_eq!(kubelet.output(&b, &["cat", "/dev/shm/file"]), "shared\n");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn the_pause_container_is_hardened() {
    let kubelet = Kubelet::start("pause");
    let pod = kubelet.pod("default", "web");
    let sandbox = kubelet.run(&pod, "").unwrap();
    let app = kubelet.container(&pod, &sandbox, &Config::sleeper("app")).unwrap();
    for id in [&sandbox, &app] {
        let attested = kubelet.node.gabion(&["attest", id]);
        assert_eq!(attested.code(), Some(0), "{attested:?}");
        let pid = kubelet.pid(id);
        assert_eq!(of_status(&pid, "NoNewPrivs"), "1");
        assert_eq!(of_status(&pid, "Seccomp"), "2");
        // The 8 of the policy at most; nothing effective for the sandbox, whose image has a user of its own.
        let bounding = u64::from_str_radix(&of_status(&pid, "CapBnd"), 16).unwrap();
        assert_eq!(bounding & !0x4fb, 0, "{bounding:x}");
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).unwrap();
        let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap();
        assert!(root.split(' ').nth(5).unwrap().starts_with("ro"), "{root}");
    }
    assert_eq!(of_status(&kubelet.pid(&sandbox), "CapEff"), "0000000000000000");
    assert_eq!(
        of_status(&kubelet.pid(&sandbox), "Uid").split_whitespace().next(),
        Some("65535")
    );
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn logs_codes_and_signals() {
    let kubelet = Kubelet::start("logs");
    let pod = kubelet.pod("default", "job");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let config = Config::new("talks", &["sh", "-c", "echo out; echo err >&2; exit 7"]);
    let talks = kubelet.container(&pod, &sandbox, &config).unwrap();
    assert_eq!(kubelet.exit_code(&talks), 7);
    assert_eq!(kubelet.status(&talks)["reason"], "Error");
    let mut log = until(SOON, "the log is written", || {
        let log = kubelet.log(&pod, "talks");
        (log.len() == 2).then_some(log)
    });
    log.sort();
    assert_eq!(log, [("stderr".into(), "err".into()), ("stdout".into(), "out".into())]);
    let polite = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.1; done";
    let polite = kubelet
        .container(&pod, &sandbox, &Config::new("polite", &["sh", "-c", polite]))
        .unwrap();
    until(SOON, "its trap is set", || {
        (!kubelet.log(&pod, "polite").is_empty()).then_some(())
    });
    kubelet.stop(&polite, 60);
    assert_eq!(kubelet.exit_code(&polite), 3);
    let deaf = kubelet.container(&pod, &sandbox, &Config::sleeper("deaf")).unwrap();
    kubelet.stop(&deaf, 1);
    assert_eq!(kubelet.exit_code(&deaf), 137);
    let oom = Config::new("oom", &["dd", "if=/dev/zero", "of=/dev/null", "bs=64M"]);
    let oom = oom.with("/linux/resources", json!({ "memory_limit_in_bytes": "16777216" }));
    let oom = kubelet.container(&pod, &sandbox, &oom).unwrap();
    assert_eq!(kubelet.exit_code(&oom), 137);
    until(SOON, "the kubelet hears why", || {
        (kubelet.status(&oom)["reason"] == "OOMKilled").then_some(())
    });
    for id in [&talks, &polite, &deaf, &oom] {
        kubelet.ok("RemoveContainer", &json!({ "container_id": id }));
    }
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn exec_and_attach_stream() {
    let kubelet = Kubelet::start("stream");
    let pod = kubelet.pod("default", "shell");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let id = kubelet.container(&pod, &sandbox, &Config::sleeper("sleeps")).unwrap();
    let (code, out, err) = kubelet.exec(&id, &["sh", "-c", "echo out; echo err >&2; exit 5"]);
    assert_eq!((code, out.as_str(), err.as_str()), (5, "out\n", "err\n"));
    // A probe that takes too long is ended, and is an error.
    let slow = json!({ "container_id": id, "cmd": ["sleep", "12345"], "timeout": 1 });
    let status = kubelet.call("ExecSync", &slow).unwrap_err();
    assert!(status.message.contains("timeout 1s exceeded"), "{status:?}");
    assert!(
        !host::processes()
            .iter()
            .any(|(_, words)| words.iter().any(|word| word == "12345"))
    );
    let exec = |program: &[&str], tty: bool| {
        let request =
            json!({ "container_id": id, "cmd": program, "tty": tty, "stdin": true, "stdout": true, "stderr": !tty });
        Stream::open(kubelet.ok("Exec", &request)["url"].as_str().unwrap())
    };
    let mut stream = exec(&["sh", "-c", "read line; echo \"got $line\"; exit 4"], false);
    stream.write("this\n");
    let status = stream.status();
    assert_eq!(stream.text(1), "got this\n");
    assert_eq!(status["details"]["causes"][0]["message"], "4", "{status}");
    let mut stream = exec(&["sh", "-c", "tty; read line; echo \"got $line\""], true);
    stream.until("/dev/pts/0\r\n");
    stream.write("that\n");
    assert_eq!(stream.status()["status"], "Success");
    assert!(stream.text(1).contains("got that\r\n"), "{:?}", stream.text(1));
    // Attach: to what already runs, and it goes on when the client leaves.
    let echo = "while read line; do echo \"heard $line\"; done";
    let config = Config::new("hears", &["sh", "-c", echo]).with("/stdin", json!(true));
    let hears = kubelet.container(&pod, &sandbox, &config).unwrap();
    for word in ["one", "two"] {
        let request = json!({ "container_id": hears, "stdin": true, "stdout": true, "stderr": true });
        let mut stream = Stream::open(kubelet.ok("Attach", &request)["url"].as_str().unwrap());
        stream.write(&format!("{word}\n"));
        stream.until(&format!("heard {word}\n"));
    }
    until(SOON, "the log has both", || {
        let heard: Vec<_> = kubelet.log(&pod, "hears").into_iter().map(|(_, text)| text).collect();
        (heard == ["heard one", "heard two"]).then_some(())
    });
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn figures_and_limits() {
    let kubelet = Kubelet::start("figures");
    let pod = kubelet.pod("default", "app");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let config = Config::new("busy", &["sh", "-c", "while :; do :; done"]);
    let limits =
        json!({ "memory_limit_in_bytes": (64 << 20).to_string(), "cpu_quota": "20000", "cpu_period": "100000" });
    let busy = kubelet
        .container(&pod, &sandbox, &config.with("/linux/resources", limits))
        .unwrap();
    let idle = kubelet.container(&pod, &sandbox, &Config::sleeper("idle")).unwrap();
    let number = |value: &Value| value["value"].as_str().unwrap().parse::<u64>().unwrap();
    let used = until(SOON, "it has used the processor", || {
        let stats = kubelet.ok("ContainerStats", &json!({ "container_id": busy }));
        let used = number(&stats["stats"]["cpu"]["usage_core_nano_seconds"]);
        (used > 0).then_some(used)
    });
    until(SOON, "it goes on using it", || {
        let list = kubelet.ok(
            "ListContainerStats",
            &json!({ "filter": { "pod_sandbox_id": sandbox } }),
        );
        let stats = list["stats"].as_array().unwrap().clone();
        let of = |id: &str| stats.iter().find(|one| one["attributes"]["id"] == id).cloned();
        let (busy, idle) = (of(&busy)?, of(&idle)?);
        assert!(number(&idle["memory"]["working_set_bytes"]) > 0, "{idle}");
        (number(&busy["cpu"]["usage_core_nano_seconds"]) > used).then_some(())
    });
    let limit = |wanted: u64| {
        let pid = kubelet.pid(&busy);
        let cgroups = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap();
        let line = cgroups
            .lines()
            .find(|line| line.contains(":memory:") || line.starts_with("0::"))
            .unwrap();
        let path = line.rsplit(':').next().unwrap();
        let (v1, v2) = (
            format!("/sys/fs/cgroup/memory{path}/memory.limit_in_bytes"),
            format!("/sys/fs/cgroup{path}/memory.max"),
        );
        let file = if Path::new(&v1).exists() { v1 } else { v2 };
        assert_eq!(fs::read_to_string(file).unwrap().trim(), wanted.to_string());
    };
    limit(64 << 20);
    let update = json!({ "container_id": busy, "linux": { "memory_limit_in_bytes": (96 << 20).to_string() } });
    kubelet.ok("UpdateContainerResources", &update);
    limit(96 << 20);
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn pods_outlive_containerd() {
    let mut kubelet = Kubelet::start("outlive");
    let pod = kubelet.pod("default", "app");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let stays = kubelet.container(&pod, &sandbox, &Config::sleeper("stays")).unwrap();
    let script = "trap 'exit 9' TERM; echo ready; while :; do sleep 0.1; done";
    let ends = kubelet
        .container(&pod, &sandbox, &Config::new("ends", &["sh", "-c", script]))
        .unwrap();
    until(SOON, "its trap is set", || {
        (!kubelet.log(&pod, "ends").is_empty()).then_some(())
    });
    let process = nix::unistd::Pid::from_raw(kubelet.pid(&ends).as_i64().unwrap().try_into().unwrap());
    kubelet.node.kill_containerd();
    nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGTERM).unwrap();
    until(SOON, "it ends while containerd is away", || {
        (!host::alive(process)).then_some(())
    });
    kubelet.node.up();
    until(SOON, "the pods are served again", || {
        kubelet
            .call("PodSandboxStatus", &json!({ "pod_sandbox_id": sandbox }))
            .is_ok()
            .then_some(())
    });
    assert_eq!(kubelet.exit_code(&ends), 9);
    assert_eq!(kubelet.status(&stays)["state"], "CONTAINER_RUNNING");
    assert_eq!(kubelet.output(&stays, &["echo", "here"]), "here\n");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn a_pod_whose_shim_dies_is_dead_and_leaves_nothing() {
    let kubelet = Kubelet::start("dead");
    let pod = kubelet.pod("default", "app");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let ids = ["a", "b"].map(|name| kubelet.container(&pod, &sandbox, &Config::sleeper(name)).unwrap());
    let raw = |id: &str| nix::unistd::Pid::from_raw(kubelet.pid(id).as_i64().unwrap().try_into().unwrap());
    let pids = [&ids[0], &ids[1], &sandbox].map(|id| raw(id));
    let shims = kubelet.node.shims();
    nix::sys::signal::kill(shims[0], nix::sys::signal::Signal::SIGKILL).unwrap();
    for (id, pid) in ids.iter().zip(pids) {
        // 137 by the shim's `delete`, 255 where containerd sees its connection end first.
        assert!([137, 255].contains(&kubelet.exit_code(id)));
        until(SOON, "its process is dead", || (!host::alive(pid)).then_some(()));
    }
    until(SOON, "the kubelet hears of it", || {
        let status = kubelet.ok("PodSandboxStatus", &json!({ "pod_sandbox_id": sandbox }));
        (status["status"]["state"] == "SANDBOX_NOTREADY").then_some(())
    });
    kubelet.remove_pod(&sandbox);
    // Its next attempt is a pod like any other.
    let again = kubelet.run(&pod.with("/metadata/attempt", json!(1)), "gabion").unwrap();
    kubelet.remove_pod(&again);
    kubelet.assert_clean();
}
