//! `hostUsers: false`: pods whose root is nobody on the host, on the containerds that have it (2.0 and later).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use serde_json::json;

use super::common::settings::engine_version;
use super::common::{SHIM, by_systemd, runtime};
use super::kubelet::{Kubelet, assert_refused, of_status};
use super::pods::{Config, Pod};

/// Where the pod's ids begin on the host.
const FIRST: u32 = 1_879_048_192;

/// The handler as containerd 2.0 to 2.3.3 needs it: they ask for features only what says that it is runc's. What is no option of runc's the
/// program that it names says: here a script, on a node a second name of gabion.
fn handler(dir: &Path, level: &str) -> String {
    let script = dir.join(format!("gabion-{level}"));
    let (binary, dir) = (runtime(), dir.display());
    let text = format!(
        "#!/bin/sh\nexec {} --policy {dir}/policy.toml --level {level} \"$@\"\n",
        binary.display()
    );
    fs::write(&script, text).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    let table = format!("[plugins.\"io.containerd.grpc.v1.cri\".containerd.runtimes.users-{level}");
    format!(
        "{table}]\nruntime_type = \"io.containerd.runc.v2\"\nruntime_path = \"{SHIM}\"\n\
         {table}.options]\nBinaryName = \"{}\"\nRoot = \"{dir}/runtime\"\nSystemdCgroup = {}\n",
        script.display(),
        by_systemd()
    )
}

fn with_users(pod: Pod) -> Pod {
    let map = json!([{ "host_id": FIRST, "container_id": 0, "length": 65536 }]);
    let options = json!({ "mode": "POD", "uids": map, "gids": map });
    pod.with("/linux/security_context/namespace_options/userns_options", options)
}

fn of_users(config: Config) -> Config {
    let map = json!([{ "host_id": FIRST, "container_id": 0, "length": 65536 }]);
    let options = json!({ "pid": "CONTAINER", "userns_options": { "mode": "POD", "uids": map, "gids": map } });
    config.security("namespace_options", options)
}

#[test]
fn a_pod_s_root_is_nobody_on_the_host() {
    if engine_version() < (2, 0) {
        eprintln!("left out: a kubelet of today has user namespaces from containerd 2.0 on");
        return;
    }
    let handlers = |dir: &Path| handler(dir, "hardened") + &handler(dir, "restricted");
    let kubelet = Kubelet::with_handlers("users", "[]", "cri = \"containerd\"", &handlers);
    // What the kubelet asks before it lets such a pod be.
    let status = kubelet.ok("Status", &json!({}));
    let said = |name: &str| {
        let all = status["runtime_handlers"].as_array().unwrap();
        let one = all.iter().find(|handler| handler["name"] == name);
        one.unwrap_or_else(|| panic!("{status}"))["features"].clone()
    };
    let both = json!({ "recursive_read_only_mounts": true, "user_namespaces": true });
    assert_eq!((said("users-hardened"), said("users-restricted")), (both.clone(), both));

    // At restricted nobody is root, but for the root of a user namespace: the remedy of user.root.
    for name in ["users-hardened", "users-restricted"] {
        let pod = with_users(kubelet.pod("default", name));
        let sandbox = kubelet.run(&pod, name).unwrap();
        let config = of_users(Config::sleeper("main"));
        let id = kubelet.container(&pod, &sandbox, &config).unwrap();
        let pid = kubelet.pid(&id);
        assert_eq!(of_status(&pid, "Uid").split('\t').next(), Some(&*FIRST.to_string()));
        assert_eq!(of_status(&kubelet.pid(&sandbox), "NoNewPrivs"), "1");
        // The image's files are its root's, and what it makes in its holes is on the host the pod's.
        let seen = kubelet.output(
            &id,
            &[
                "sh",
                "-c",
                "cat /proc/self/uid_map; ls -ln /bin/busybox; touch /bin/x 2>&1; echo made > /tmp/x",
            ],
        );
        assert!(seen.contains(&format!("{FIRST}      65536")), "{seen}");
        assert!(seen.contains(" 0        0 ") || seen.contains(" 0 0 "), "{seen}");
        assert!(seen.contains("Read-only file system"), "{seen}");
        let made = fs::metadata(format!("/proc/{pid}/root/tmp/x")).unwrap();
        assert_eq!((made.uid(), made.gid()), (FIRST, FIRST));
        assert_eq!(kubelet.node.gabion(&["attest", &id]).code(), Some(0));
        // Nothing of the layers' copies is left on the host.
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!table.contains("gabion-lower"), "{table}");
        kubelet.remove_pod(&sandbox);
    }
    let pod = kubelet.pod("default", "without");
    let sandbox = kubelet.run(&pod, "users-restricted").unwrap();
    assert_refused(kubelet.container(&pod, &sandbox, &Config::sleeper("root")), "user.root");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}
