//! What a pod's securityContext may ask for, and what becomes of it.

use std::fs;

use serde_json::{Value, json};

use super::kubelet::{Kubelet, assert_refused, of_status};
use super::pods::{Config, Pod};

const SECURITY: &str = "/linux/security_context";

fn bounding(kubelet: &Kubelet, id: &str) -> u64 {
    u64::from_str_radix(&of_status(&kubelet.pid(id), "CapBnd"), 16).unwrap()
}

#[test]
fn namespaces_of_the_host_are_refused() {
    let kubelet = Kubelet::start("hostns");
    let option = |namespace: &str| format!("{SECURITY}/namespace_options/{namespace}");
    let network = kubelet.pod("default", "network").host_network();
    assert_refused(kubelet.run(&network, "gabion"), "namespaces.host-network");
    for (namespace, code) in [("pid", "namespaces.host-pid"), ("ipc", "namespaces.host-ipc")] {
        let pod = kubelet
            .pod("default", namespace)
            .with(&option(namespace), json!("NODE"));
        assert_refused(kubelet.run(&pod, "gabion"), code);
    }
    // What was refused leaves nothing behind, and the node goes on.
    let pod = kubelet.pod("default", "shares").with(&option("pid"), json!("POD"));
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    // shareProcessNamespace: the pod's own, so it may be.
    let shares = Config::sleeper("shares").security("namespace_options", json!({ "pid": "POD" }));
    let id = kubelet.container(&pod, &sandbox, &shares).unwrap();
    let namespace = |id: &str| fs::read_link(format!("/proc/{}/ns/pid", kubelet.pid(id))).unwrap();
    assert_eq!(namespace(&id), namespace(&sandbox));
    // A container of such a pod that ends, ends alone.
    kubelet.stop(&id, 0);
    let other = kubelet.container(&pod, &sandbox, &Config::sleeper("other")).unwrap();
    assert_eq!(kubelet.output(&other, &["echo", "here"]), "here\n");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn a_privileged_pod_is_refused() {
    let kubelet = Kubelet::start("priv");
    let pod = kubelet
        .pod("default", "web")
        .with(&format!("{SECURITY}/privileged"), json!(true));
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let attested = kubelet.node.gabion(&["attest", &sandbox]);
    assert_eq!(attested.code(), Some(0), "{attested:?}");
    let privileged = Config::sleeper("app").security("privileged", json!(true));
    let privileged = privileged.security("seccomp", json!({ "profile_type": "Unconfined" }));
    let status = kubelet.container(&pod, &sandbox, &privileged).unwrap_err();
    // One sentence names the first reason and counts the rest by their codes.
    for code in ["capabilities.", "devices."] {
        assert!(
            status.message.contains("gabion: refused [") && status.message.contains(code),
            "{code}: {status:?}"
        );
    }
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn capabilities_users_and_devices() {
    let kubelet = Kubelet::start("caps");
    let pod = kubelet.pod("default", "web");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let run = |config: Config| kubelet.container(&pod, &sandbox, &config);
    for (name, code) in [
        ("NET_ADMIN", "capabilities.not-allowed"),
        ("SYS_ADMIN", "capabilities.not-allowed"),
        ("ALL", "capabilities.not-allowed"),
    ] {
        let config = Config::sleeper(&format!("add-{name}"));
        assert_refused(
            run(config.security("capabilities", json!({ "add_capabilities": [name] }))),
            code,
        );
    }
    let least = json!({ "drop_capabilities": ["ALL"], "add_capabilities": ["NET_BIND_SERVICE"] });
    let id = run(Config::sleeper("least").security("capabilities", least)).unwrap();
    assert_eq!(bounding(&kubelet, &id), 1 << 10);
    // containerd's 14 less what no ordinary image needs.
    let id = run(Config::sleeper("default")).unwrap();
    assert_eq!(bounding(&kubelet, &id), 0x4fb, "{:x}", bounding(&kubelet, &id));
    // allowPrivilegeEscalation: true is not an order.
    assert_eq!(of_status(&kubelet.pid(&id), "NoNewPrivs"), "1");
    let user = Config::sleeper("user").security("run_as_user", json!({ "value": "1000" }));
    let id = run(user.security("run_as_group", json!({ "value": "2000" }))).unwrap();
    assert_eq!(kubelet.output(&id, &["id", "-u"]), "1000\n");
    assert_eq!(kubelet.output(&id, &["id", "-g"]), "2000\n");
    let device = |path: &str| json!([{ "host_path": path, "container_path": path, "permissions": "rwm" }]);
    assert_refused(
        run(Config::sleeper("kmsg").with("/devices", device("/dev/kmsg"))),
        "devices.not-allowed",
    );
    run(Config::sleeper("zero").with("/devices", device("/dev/zero"))).unwrap();
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn seccomp_profiles() {
    let kubelet = Kubelet::start("seccomp");
    let pod = kubelet.pod("default", "web");
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let run = |name: &str, profile: Value| {
        let id = kubelet
            .container(&pod, &sandbox, &Config::sleeper(name).security("seccomp", profile))
            .unwrap();
        assert_eq!(of_status(&kubelet.pid(&id), "Seccomp"), "2", "{name}");
        id
    };
    let filters = |id: &str| of_status(&kubelet.pid(id), "Seccomp_filters").parse::<u32>().unwrap();
    let profile = kubelet.node.dir.join("profile.json");
    let denies = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 } ] });
    fs::write(&profile, denies.to_string()).unwrap();
    let local = run(
        "local",
        json!({ "profile_type": "Localhost", "localhost_ref": profile }),
    );
    let (_, _, said) = kubelet.exec(&local, &["mkdir", "/tmp/new"]);
    assert!(said.contains("Operation not supported"), "{said}");
    let default = run("default", json!({ "profile_type": "RuntimeDefault" }));
    let unconfined = run("unconfined", json!({ "profile_type": "Unconfined" }));
    for id in [&default, &unconfined] {
        kubelet.output(id, &["mkdir", "/tmp/new"]);
    }
    // gabion's own profile holds the floor; under any other it lies as a filter of its own.
    for (id, count) in [(&local, 2), (&default, 2), (&unconfined, 1)] {
        assert_eq!(filters(id), count);
        assert_eq!(kubelet.node.gabion(&["attest", id]).code(), Some(0));
    }
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn sysctls_proc_mounts_and_labels() {
    let kubelet = Kubelet::start("proc");
    for (name, value) in [
        ("net.core.somaxconn", "9"),
        ("kernel.msgmax", "9"),
        ("vm.swappiness", "9"),
    ] {
        let pod = kubelet
            .pod("default", &name.replace('.', "-"))
            .with("/linux/sysctls", json!({ name: value }));
        let status = kubelet.run(&pod, "gabion").unwrap_err();
        assert!(
            status.message.contains("gabion: refused [sysctl."),
            "{name}: {status:?}"
        );
    }
    let range = "net.ipv4.ip_local_port_range";
    let pod = kubelet
        .pod("default", "web")
        .with("/linux/sysctls", json!({ range: "40000 41000" }));
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    // procMount: Unmasked
    let unmasked = Config::sleeper("unmasked")
        .security("masked_paths", json!([]))
        .security("readonly_paths", json!([]));
    let id = kubelet.container(&pod, &sandbox, &unmasked).unwrap();
    assert_eq!(
        kubelet.output(&id, &["cat", "/proc/sys/net/ipv4/ip_local_port_range"]),
        "40000\t41000\n"
    );
    assert_eq!(kubelet.output(&id, &["cat", "/proc/keys"]), "");
    assert!(!kubelet.succeeds(&id, &["sh", "-c", "echo 9 > /proc/sys/kernel/msgmax"]));
    assert!(!kubelet.succeeds(&id, &["sh", "-c", "echo h > /proc/sysrq-trigger"]));
    // Labels: on a machine without the module containerd drops them or says so itself; none makes anything weaker.
    let unconfined = Config::sleeper("unconfined").security("apparmor", json!({ "profile_type": "Unconfined" }));
    let spc = Config::sleeper("spc").security("selinux_options", json!({ "type": "spc_t", "level": "s0" }));
    for config in [unconfined, spc] {
        let id = kubelet.container(&pod, &sandbox, &config).unwrap();
        let attested = kubelet.node.gabion(&["attest", &id]);
        assert_eq!(attested.code(), Some(0), "{attested:?}");
    }
    let named = json!({ "profile_type": "Localhost", "localhost_ref": "localhost/gabion-test-none" });
    let named = Config::sleeper("named").security("apparmor", named);
    let status = kubelet.container(&pod, &sandbox, &named).unwrap_err();
    assert!(status.message.to_lowercase().contains("apparmor"), "{status:?}");
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}

#[test]
fn restricted_pods() {
    let kubelet = Kubelet::start("restr");
    let pod = kubelet.pod("default", "strict");
    let sandbox = kubelet.run(&pod, "gabion-restricted").unwrap();
    assert_refused(kubelet.container(&pod, &sandbox, &Config::sleeper("root")), "user.root");
    let user = |name: &str| {
        let user = Config::sleeper(name).security("run_as_user", json!({ "value": "1000" }));
        user.security("run_as_group", json!({ "value": "1000" }))
    };
    let least = user("user").security("capabilities", json!({ "drop_capabilities": ["ALL"] }));
    let id = kubelet.container(&pod, &sandbox, &least).unwrap();
    assert_eq!(bounding(&kubelet, &id), 0);
    // Side by side on one node: the other handler's pods go by the policy's own level.
    let lax: Pod = kubelet.pod("default", "lax");
    let other = kubelet.run(&lax, "gabion").unwrap();
    kubelet.container(&lax, &other, &Config::sleeper("root")).unwrap();
    kubelet.remove_pod(&sandbox);
    kubelet.remove_pod(&other);
    kubelet.assert_clean();
}
