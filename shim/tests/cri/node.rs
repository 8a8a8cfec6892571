//! A node that comes up with gabion as its default runtime: what its own pods need, and what a handler's options are for.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::common::host::until;
use super::common::{SOON, engine, runtime};
use super::config;
use super::kubelet::{Kubelet, assert_refused, of_status};
use super::pods::{Config, Pod};

/// The policy that such a node gets.
fn kubeadm() -> String {
    fs::read_to_string(file()).unwrap()
}

fn file() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../runtime/policy/kubeadm.toml")
}

/// A pod of the system as its project ships it: its namespace, its name, its container.
struct System {
    namespace: &'static str,
    name: &'static str,
    container: Config,
    privileged: bool,
}

/// Static pods of kubeadm, and the node's agents that every cluster has one of.
fn systems(kubelet: &Kubelet) -> Vec<System> {
    let host = kubelet.node.dir.join("host");
    fs::create_dir_all(&host).unwrap();
    fs::write(host.join("xtables.lock"), "").unwrap();
    let of_host = |name: &str, file: &Path, to: &str| {
        let config =
            Config::sleeper(name).security("namespace_options", json!({ "network": "NODE", "pid": "CONTAINER" }));
        // The node's settings to read, its data to write.
        config
            .mount(Path::new("/etc"), "/etc/kubernetes", true)
            .mount(file, to, false)
    };
    let plane = |name: &'static str| System {
        namespace: "kube-system",
        name,
        container: of_host("main", &host, "/data"),
        privileged: false,
    };
    let agent = |namespace, name| System {
        namespace,
        name,
        container: of_host("main", &host, "/data")
            .security("privileged", json!(true))
            .security("seccomp", json!({ "profile_type": "Unconfined" })),
        privileged: true,
    };
    vec![
        plane("kube-apiserver-node1"),
        plane("kube-controller-manager-node1"),
        plane("kube-scheduler-node1"),
        plane("etcd-node1"),
        agent("kube-system", "kube-proxy-x7k2p"),
        agent("kube-flannel", "kube-flannel-ds-8sh2k"),
        agent("calico-system", "calico-node-vzq4t"),
        agent("kube-system", "cilium-qw9zx"),
        agent("kube-system", "csi-nfs-node-4k9dm"),
        agent("kube-system", "ebs-csi-node-7hd2s"),
    ]
}

fn pod_of(kubelet: &Kubelet, namespace: &str, system: &System) -> Pod {
    let pod = kubelet.pod(namespace, system.name).host_network();
    pod.with("/linux/security_context/privileged", json!(system.privileged))
}

#[test]
fn the_policy_is_valid_and_names_each_pod_once() {
    let mut check = std::process::Command::new(runtime());
    let checked = check.args(["policy", "validate"]).arg(file()).output().unwrap();
    assert_eq!(checked.status.code(), Some(0), "{checked:?}");
    let policy: toml::Table = kubeadm().parse().unwrap();
    let exceptions = policy["exception"].as_array().unwrap();
    let mut seen: Vec<_> = exceptions
        .iter()
        .map(|exception| format!("{:?}", exception["match"]))
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), exceptions.len());
    for exception in exceptions {
        let permissive = exception
            .get("level")
            .is_some_and(|level| level.as_str() == Some("permissive"));
        let sandbox = exception["match"]
            .get("type")
            .is_none_or(|typ| typ.as_str() == Some("sandbox"));
        assert!(!(permissive && sandbox), "a sandbox stays hardened: {exception:?}");
        assert_ne!(exception["match"]["namespace"].as_str(), Some("*"));
        assert!(
            exception["match"].get("name").is_some(),
            "not a whole namespace: {exception:?}"
        );
    }
}

#[test]
fn the_nodes_own_pods_run_by_the_policy_for_kubeadm() {
    let kubelet = Kubelet::with("kubeadm", "[\"*\"]", &kubeadm());
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    for system in systems(&kubelet) {
        let pod = pod_of(&kubelet, system.namespace, &system);
        // Without a handler's name: gabion is what runs when nobody asks for it.
        let sandbox = kubelet
            .run(&pod, "")
            .unwrap_or_else(|status| panic!("{}: {status:?}", system.name));
        let id = kubelet.container(&pod, &sandbox, &system.container);
        let id = id.unwrap_or_else(|status| panic!("{}: {status:?}", system.name));
        let pid = kubelet.pid(&id);
        assert_eq!(fs::read_link(format!("/proc/{pid}/ns/net")).unwrap(), own);
        kubelet.output(
            &id,
            &["sh", "-c", "ls /etc/kubernetes/passwd && echo kept > /data/file"],
        );
        assert_eq!(
            fs::read_to_string(kubelet.node.dir.join("host/file")).unwrap(),
            "kept\n"
        );
        fs::remove_file(kubelet.node.dir.join("host/file")).unwrap();
        let sandbox_pid = kubelet.pid(&sandbox);
        assert_eq!(of_status(&sandbox_pid, "NoNewPrivs"), "1", "the sandbox stays hardened");
        assert_eq!(of_status(&sandbox_pid, "Seccomp"), "2");
        let (privileges, seccomp) = if system.privileged { ("0", "0") } else { ("1", "2") };
        assert_eq!(of_status(&pid, "NoNewPrivs"), privileges, "{}", system.name);
        assert_eq!(of_status(&pid, "Seccomp"), seccomp, "{}", system.name);
        if !system.privileged {
            assert!(!kubelet.succeeds(&id, &["touch", "/file"]), "its root stays read-only");
        }
        kubelet.remove_pod(&sandbox);
        // The same pod anywhere else is anybody's.
        let elsewhere = pod_of(&kubelet, "default", &system);
        assert_refused(kubelet.run(&elsewhere, ""), "namespaces.host-network");
        // Nor is the name enough that is nearly the same.
        let named = kubelet
            .pod(system.namespace, &format!("my-{}", system.name))
            .host_network();
        if !named.config["metadata"]["name"]
            .as_str()
            .unwrap()
            .contains("-csi-node-")
        {
            assert_refused(kubelet.run(&named, ""), "namespaces.host-network");
        }
    }
    kubelet.assert_clean();
}

#[test]
fn other_pods_of_the_system_run_hardened() {
    let kubelet = Kubelet::with("coredns", "[\"*\"]", &kubeadm());
    let name = "coredns-5d78c9869d-x2x4q";
    assert_refused(
        kubelet.run(&kubelet.pod("kube-system", name).host_network(), ""),
        "namespaces.host-network",
    );
    let pod = kubelet.pod("kube-system", name);
    let sandbox = kubelet.run(&pod, "").unwrap();
    let least = json!({ "drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE"] });
    let config = Config::sleeper("coredns")
        .security("capabilities", least)
        .security("no_new_privs", json!(true))
        .security("readonly_rootfs", json!(true));
    let id = kubelet
        .container(&pod, &sandbox, &kubelet.mounts(&pod, config))
        .unwrap();
    assert_eq!(of_status(&kubelet.pid(&id), "Seccomp"), "2");
    assert_eq!(kubelet.node.gabion(&["attest", &id]).code(), Some(0));
    let host = Config::sleeper("host").mount(Path::new("/etc"), "/etc/kubernetes", true);
    assert_refused(kubelet.container(&pod, &sandbox, &host), "mounts.host-path");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn without_that_policy_they_are_refused() {
    let kubelet = Kubelet::start("plain");
    for system in systems(&kubelet) {
        let pod = pod_of(&kubelet, system.namespace, &system);
        assert_refused(kubelet.run(&pod, ""), "namespaces.host-network");
    }
    // Also where a pod has a network of its own.
    let system = systems(&kubelet).remove(4);
    let pod = kubelet.pod("kube-system", system.name);
    let pod = pod.with("/linux/security_context/privileged", json!(true));
    let sandbox = kubelet.run(&pod, "").unwrap();
    let refused = kubelet.container(
        &pod,
        &sandbox,
        &system.container.security("namespace_options", json!({})),
    );
    assert_refused(refused, "mounts.host-path");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn a_pods_annotation_asks_for_holes() {
    let kubelet = Kubelet::start("holes");
    let pod = kubelet.pod("default", "web");
    let annotations = json!({ "dev.gabion.holes": "/data:size=1m", "dev.gabion.holes.second": "/srv" });
    let pod = pod.with("/annotations", annotations);
    for handler in ["gabion", "gabion-restricted"] {
        let sandbox = kubelet.run(&pod, handler).unwrap();
        let user = |name: &str| Config::sleeper(name).security("run_as_user", json!({ "value": "0" }));
        let config = if handler == "gabion" {
            user("first")
        } else {
            Config::sleeper("first")
                .security("run_as_user", json!({ "value": "1000" }))
                .security("run_as_group", json!({ "value": "1000" }))
        };
        let id = kubelet.container(&pod, &sandbox, &config).unwrap();
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", kubelet.pid(&id))).unwrap();
        let hole = mounts
            .lines()
            .find(|line| line.split(' ').nth(4) == Some("/data"))
            .unwrap();
        assert!(
            hole.contains(" - tmpfs ") && hole.contains("noexec") && hole.contains("size=1024k"),
            "{hole}"
        );
        if handler == "gabion" {
            kubelet.output(&id, &["sh", "-c", "echo kept > /data/file"]);
            assert!(!kubelet.succeeds(&id, &["dd", "if=/dev/zero", "of=/data/big", "bs=1M", "count=2"]));
            // Another container of the pod may ask for another.
            let second = kubelet.container(&pod, &sandbox, &user("second")).unwrap();
            kubelet.output(&second, &["touch", "/srv/file"]);
            assert!(!kubelet.succeeds(&second, &["touch", "/data/file"]));
        }
        kubelet.remove_pod(&sandbox);
    }
    // What no handler's list names never arrives.
    let quiet = Kubelet::with("quiet", "[]", "cri = \"containerd\"");
    let sandbox = quiet.run(&pod, "gabion").unwrap();
    let id = quiet.container(&pod, &sandbox, &Config::sleeper("first")).unwrap();
    assert!(!quiet.succeeds(&id, &["touch", "/data/file"]));
    quiet.remove_pod(&sandbox);
    quiet.assert_clean();
    kubelet.assert_clean();
}

#[test]
fn a_handlers_options_may_stand_in_containerds_own_configuration() {
    let version = std::process::Command::new(engine("containerd"))
        .arg("--version")
        .output()
        .unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    if version.contains(" 1.6.") {
        println!("LEFT OUT: containerd 1.6 knows the name of a file only: {version}");
        return;
    }
    let handlers = |dir: &Path| {
        config::inline_handler(dir, "gabion-inline", "level = \"restricted\"")
            + &config::inline_handler(dir, "gabion-wrong", "levle = \"restricted\"")
    };
    let kubelet = Kubelet::with_handlers("inline", "[]", "cri = \"containerd\"", &handlers);
    let pod = kubelet
        .pod("default", "strict")
        .with("/annotations", json!({ "dev.gabion.holes": "/srv" }));
    let sandbox = kubelet.run(&pod, "gabion-inline").unwrap();
    assert_refused(kubelet.container(&pod, &sandbox, &Config::sleeper("root")), "user.root");
    let user = Config::sleeper("user").security("run_as_user", json!({ "value": "1000" }));
    let user = user.security("run_as_group", json!({ "value": "1000" }));
    let id = kubelet.container(&pod, &sandbox, &user).unwrap();
    assert!(
        kubelet.succeeds(&id, &["sh", "-c", "grep -q ' /srv tmpfs ' /proc/mounts"]),
        "its hole is there"
    );
    let wrong = kubelet
        .run(&kubelet.pod("default", "wrong"), "gabion-wrong")
        .unwrap_err();
    assert!(wrong.message.contains("levle"), "{wrong:?}");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn every_decision_is_on_record() {
    let kubelet = Kubelet::with("audit", "[]", &kubeadm());
    let system = &systems(&kubelet)[0];
    let pod = pod_of(&kubelet, system.namespace, system);
    let sandbox = kubelet.run(&pod, "").unwrap();
    let id = kubelet.container(&pod, &sandbox, &system.container).unwrap();
    assert_refused(
        kubelet.run(&pod_of(&kubelet, "default", system), ""),
        "namespaces.host-network",
    );
    kubelet.remove_pod(&sandbox);
    let log = kubelet.node.dir.join("audit.jsonl");
    let text = until(SOON, "the records", || {
        let text = fs::read_to_string(&log).ok()?;
        text.lines()
            .any(|line| line.contains(&id) && line.contains("\"delete\""))
            .then_some(text)
    });
    let has = |words: &[&str]| text.lines().any(|line| words.iter().all(|word| line.contains(word)));
    assert!(has(&[&id, "the API server listens on the node's address"]), "{text}");
    assert!(has(&["namespaces.host-network", "refus"]), "{text}");
    let verified = kubelet.node.gabion(&["audit", "verify", log.to_str().unwrap()]);
    assert_eq!(verified.code(), Some(0), "{verified:?}");
    kubelet.assert_clean();
}
