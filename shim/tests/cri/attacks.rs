//! What a pod's author may try to get at others: by paths, by annotations, by namespaces.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;

use super::kubelet::{Kubelet, assert_refused, of_status};
use super::pods::Config;

const EXCEPTION: &str = r#"
cri = "containerd"
[[exception]]
reason = "the system's own"
match = { namespace = "kube-system", name = "agent-*" }
loosen = ["namespaces", "mounts", "sysctl"]
[[exception]]
reason = "only the sandbox may share the host's network"
match = { namespace = "default", name = "half-*", type = "sandbox" }
loosen = ["namespaces", "sysctl"]
"#;

#[test]
fn files_of_the_node_and_of_other_pods() {
    let kubelet = Kubelet::start("paths");
    let (pod, other) = (kubelet.pod("default", "web"), kubelet.pod("default", "other"));
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let (own, others) = (kubelet.pod_dir(&pod), kubelet.pod_dir(&other));
    let node = &kubelet.node.dir;
    let data = own.join("volumes/kubernetes.io~empty-dir/data");
    // What the pod itself puts into its volume, for a subPath to follow.
    symlink(&others, data.join("link")).unwrap();
    symlink("/etc", data.join("etc")).unwrap();
    let tries = [
        node.join("kubelet/pods"),
        node.join("kubelet"),
        others.clone(),
        others.join("volumes/kubernetes.io~projected/token"),
        others.join("etc-hosts"),
        own.clone(),
        own.join("volumes/../../default-other-uid/volumes"),
        data.join("link"),
        data.join("etc"),
        node.join("root"),
        node.join("state"),
        node.join("c.sock"),
        node.join("runtime"),
        "/".into(),
        "/etc".into(),
        "/root".into(),
        "/var/run".into(),
    ];
    for (number, path) in tries.iter().enumerate() {
        for readonly in [true, false] {
            let config = Config::sleeper(&format!("try{number}{readonly}"));
            let result = kubelet.container(&pod, &sandbox, &config.mount(path, "/stolen", readonly));
            let status = result.expect_err(&path.display().to_string());
            assert!(
                status.message.contains("gabion: refused [mounts."),
                "{}: {status:?}",
                path.display()
            );
        }
    }
    assert_refused(
        kubelet.container(&pod, &sandbox, &Config::sleeper("c").mount(&others, "/x", true)),
        "mounts.host-path",
    );
    // Its own are its own.
    kubelet
        .container(&pod, &sandbox, &Config::sleeper("own").mount(&data, "/data", false))
        .unwrap();
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn forged_annotations_name_nobody() {
    let kubelet = Kubelet::with("forged", "[\"*\"]", EXCEPTION);
    let forge = |name: &str| {
        let pod = kubelet.pod("default", name);
        let annotations = json!({
            "io.kubernetes.cri.sandbox-namespace": "kube-system", "io.kubernetes.cri.sandbox-name": "agent-x",
            "io.kubernetes.cri.sandbox-uid": "default-victim-uid", "io.kubernetes.cri.sandbox-id": "forged",
            "io.kubernetes.cri.container-type": "container", "io.kubernetes.pod.namespace": "kube-system",
            "io.kubernetes.cri-o.SandboxID": "forged", "io.container.manager": "libpod",
        });
        pod.with("/annotations", annotations)
    };
    assert_refused(
        kubelet.run(&forge("net").host_network(), "gabion"),
        "namespaces.host-network",
    );
    let lower = forge("lower").with("/annotations/dev.gabion.level", json!("permissive"));
    assert_refused(kubelet.run(&lower, "gabion"), "annotations.value");
    let victim = kubelet.pod("default", "victim");
    let pod = forge("web");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let own = kubelet.mounts(&pod, Config::sleeper("own"));
    // Not only the pod's: a container's own annotations, too.
    let own = own.with(
        "/annotations",
        json!({ "io.kubernetes.cri.sandbox-namespace": "kube-system" }),
    );
    let id = kubelet.container(&pod, &sandbox, &own).unwrap();
    assert_eq!(kubelet.node.gabion(&["attest", &id]).code(), Some(0));
    for (key, value) in [("NoNewPrivs", "1"), ("Seccomp", "2")] {
        assert_eq!(
            of_status(&kubelet.pid(&id), key),
            value,
            "a level is not a pod's to lower"
        );
    }
    for path in [kubelet.pod_dir(&victim).join("volumes"), "/etc".into()] {
        let result = kubelet.container(&pod, &sandbox, &Config::sleeper("steals").mount(&path, "/stolen", true));
        assert_refused(result, "mounts.host-path");
    }
    assert_eq!(kubelet.node.shims().len(), 1);
    // The name that counts is the one that the kubelet gave: the exception is there and works.
    let system = kubelet.pod("kube-system", "agent-x").host_network();
    let agent = kubelet.run(&system, "gabion").unwrap();
    kubelet.remove_pod(&agent);
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn a_joined_namespace_is_the_hosts_under_any_path() {
    let kubelet = Kubelet::with("joined", "[\"dev.gabion.*\"]", EXCEPTION);
    let pod = kubelet.pod("default", "half-way").host_network();
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let of_host = |pid: &str| fs::read_link(Path::new("/proc").join(pid).join("ns/net")).unwrap();
    assert_eq!(of_host(&kubelet.pid(&sandbox).to_string()), of_host("self"));
    // The container's network is /proc/PID/ns/net of the sandbox: a path like any pod's, and the host's network.
    let config = Config::sleeper("app").security("namespace_options", json!({ "network": "NODE", "pid": "CONTAINER" }));
    assert_refused(kubelet.container(&pod, &sandbox, &config), "namespaces.host-network");
    // Said or not said makes no difference: containerd gives it the sandbox's either way.
    assert_refused(
        kubelet.container(&pod, &sandbox, &Config::sleeper("quiet")),
        "namespaces.host-network",
    );
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}
