//! A narrow exception, end to end: the container that it names has what it says, its neighbours in the same pod and in others have not.

use serde_json::json;

use super::config;
use super::kubelet::{Kubelet, assert_refused};
use super::pods::{Config, Pod};

const POLICY: &str = r#"
cri = "containerd"
[[exception]]
reason = "its sandbox is a browser's"
match = { namespace = "shop", name = "db-*", container = "browser" }
seccomp.allow = ["userns"]
"#;

/// With gabion's own profile: the engine's would refuse the call by itself.
fn sleeper(name: &str) -> Config {
    Config::sleeper(name).security("seccomp", json!({ "profile_type": "Unconfined" }))
}

fn can_unshare(kubelet: &Kubelet, pod: &Pod, sandbox: &str, name: &str) -> bool {
    let id = kubelet.container(pod, sandbox, &sleeper(name)).unwrap();
    kubelet.succeeds(&id, &["true"]) && kubelet.succeeds(&id, &["busybox", "unshare", "-U", "true"])
}

/// The lines that a refusal prints for the policy.
fn printed(message: &str) -> String {
    let (_, lines) = message
        .split_once("by these lines in /etc/gabion/policy.toml: ")
        .expect(message);
    // Whatever containerd adds stands behind them.
    lines
        .split('`')
        .skip(1)
        .step_by(2)
        .map(|line| format!("{line}\n"))
        .collect()
}

#[test]
fn a_narrow_exception_reaches_the_container_that_it_names_and_no_neighbour() {
    let kubelet = Kubelet::with("narrow", "[\"*\"]", POLICY);
    let (pod, other) = (kubelet.pod("shop", "db-0"), kubelet.pod("shop", "web-0"));
    let sandbox = kubelet.run(&pod, "gabion").unwrap();
    let beside = kubelet.run(&other, "gabion").unwrap();
    assert!(
        can_unshare(&kubelet, &pod, &sandbox, "browser"),
        "the one that is named"
    );
    assert!(
        !can_unshare(&kubelet, &pod, &sandbox, "main"),
        "its neighbour in the pod"
    );
    assert!(
        !can_unshare(&kubelet, &other, &beside, "browser"),
        "its neighbour on the node"
    );

    // What a refusal prints, put into the policy as it stands, is for that container alone.
    let asks = |name: &str| sleeper(name).security("capabilities", json!({ "add_capabilities": ["NET_ADMIN"] }));
    let refused = kubelet.container(&other, &beside, &asks("router")).unwrap_err();
    let lines = printed(&refused.message);
    assert!(lines.contains("capabilities.allow = [\"CAP_NET_ADMIN\"]"), "{lines}");
    let policy = config::policy(&kubelet.node.dir, &format!("{POLICY}{lines}"));
    kubelet.node.write_policy("policy.toml", &policy);
    let id = kubelet.container(&other, &beside, &asks("router")).unwrap();
    assert!(kubelet.succeeds(&id, &["true"]));
    assert_refused(
        kubelet.container(&other, &beside, &asks("second")),
        "capabilities.not-allowed",
    );
    assert_refused(
        kubelet.container(&pod, &sandbox, &asks("router")),
        "capabilities.not-allowed",
    );
    kubelet.remove_pod(&beside);
    kubelet.remove_pod(&sandbox);
    kubelet.assert_clean();
}
