//! Whose word names a pod: the CRI's own calls, and no annotation that anybody else can write.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;

use integration::command::run;
use integration::{Bundle, Container, Done, Podman, Runtime};
use serde_json::{Value, json};

/// An exception that lets a pod of this name do everything, as a node's policy has one for kube-proxy.
const EXCEPTION: &str = "[[exception]]\nreason = \"it is the node's own\"\nlevel = \"permissive\"\n\
    match = { namespace = \"kube-system\", name = \"kube-proxy-*\", type = \"container\" }\n";

const SANDBOX: &str = "5a9d0b0c";

/// What containerd's CRI plugin writes of a container of kube-proxy.
const CONTAINERD: [(&str, &str); 5] = [
    ("io.kubernetes.cri.container-type", "container"),
    ("io.kubernetes.cri.sandbox-id", SANDBOX),
    ("io.kubernetes.cri.sandbox-namespace", "kube-system"),
    ("io.kubernetes.cri.sandbox-name", "kube-proxy-x7k2p"),
    ("io.kubernetes.cri.sandbox-uid", "e8b1"),
];

/// The same as CRI-O writes it.
const CRI_O: [(&str, &str); 5] = [
    ("io.kubernetes.cri-o.ContainerType", "container"),
    ("io.kubernetes.cri-o.SandboxID", SANDBOX),
    ("io.kubernetes.pod.namespace", "kube-system"),
    ("io.kubernetes.pod.name", "kube-proxy-x7k2p"),
    ("io.kubernetes.pod.uid", "e8b1"),
];

/// A container that asks for a capability which only the exception gives, on a host where containerd has made its ids.
struct Node {
    container: Container,
}

impl Node {
    fn new(test: &str, annotations: &[(&str, &str)], cri: &str) -> Self {
        let mut bundle = Bundle::with_busybox(test);
        let dir = bundle.dir.clone();
        let root = bundle.rootfs();
        let names: serde_json::Map<String, Value> = annotations
            .iter()
            .map(|(key, value)| ((*key).to_owned(), json!(value)))
            .collect();
        bundle.config.add_capability("CAP_SYS_ADMIN");
        bundle
            .config
            .args(&["/bin/cat", "/proc/self/status"])
            .set("/root/path", json!(root))
            .set("/annotations", names.into());
        let (id, config) = (bundle.name.clone(), bundle.config.0.clone());
        let node = Self {
            container: Container::of(Runtime::gabion(), bundle).policy_text(&policy(&dir, cri)),
        };
        for made in [
            format!("run/io.containerd.runtime.v2.task/k8s.io/{id}"),
            format!("run/io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}"),
            format!("lib/io.containerd.grpc.v1.cri/containers/{id}"),
        ] {
            fs::create_dir_all(dir.join(made)).unwrap();
        }
        fs::write(node.task().join("config.json"), config.to_string()).unwrap();
        node
    }

    /// The bundle that containerd made.
    fn task(&self) -> PathBuf {
        let tasks = self
            .container
            .bundle
            .dir
            .join("run/io.containerd.runtime.v2.task/k8s.io");
        tasks.join(self.container.id())
    }

    fn call(&self, bundle: &str, more: &[&str]) -> Done {
        let words = ["run", "--bundle", bundle];
        let words = [&words[..], more, &[self.container.id()]].concat();
        self.container.op(&words)
    }

    fn by_shim(&self, namespace: &str) -> Done {
        self.call(self.task().to_str().unwrap(), &["--from-shim", namespace])
    }
}

fn policy(dir: &std::path::Path, cri: &str) -> String {
    let dir = dir.display();
    format!(
        "cri = \"{cri}\"\n[mounts]\ncontainerd_state = \"{dir}/run\"\ncontainerd_root = \"{dir}/lib\"\n\
         [audit]\nfile = \"{dir}/audit.jsonl\"\n{EXCEPTION}"
    )
}

#[track_caller]
fn excepted(done: Done) {
    let done = done.ok();
    let line = done.out.lines().find(|line| line.starts_with("CapEff:")).unwrap();
    let capabilities = u64::from_str_radix(line.trim_start_matches("CapEff:").trim(), 16).unwrap();
    assert!(capabilities & (1 << 21) != 0, "no SYS_ADMIN: {done}");
}

#[track_caller]
fn judged_as_anybody(done: Done) {
    done.fails_with(1).says(&["refused [capabilities."]);
}

#[test]
fn annotations_of_a_pod_count_where_containerd_made_its_ids() {
    let node = Node::new("pod-of-containerd", &CONTAINERD, "containerd");
    excepted(node.by_shim("k8s.io"));
    // The same bundle by any other door, and by the shim for anybody but the CRI plugin.
    let task = node.task();
    judged_as_anybody(node.call(task.to_str().unwrap(), &[]));
    judged_as_anybody(node.by_shim("moby"));
    judged_as_anybody(node.by_shim("default"));
    // The shim's word with a bundle of the caller's own: the same config, of the same id.
    fs::copy(
        task.join("config.json"),
        node.container.bundle.bundle().join("config.json"),
    )
    .unwrap();
    judged_as_anybody(node.call(&node.container.path(), &["--from-shim", "k8s.io"]));
    // Each thing that the plugin makes, missing or another's to write.
    let dir = node.container.bundle.dir.clone();
    let plugin = "io.containerd.grpc.v1.cri";
    for made in [
        dir.join(format!("run/{plugin}/sandboxes/{SANDBOX}")),
        dir.join(format!("lib/{plugin}/containers/{}", node.container.id())),
    ] {
        fs::set_permissions(&made, Permissions::from_mode(0o777)).unwrap();
        judged_as_anybody(node.by_shim("k8s.io"));
        fs::remove_dir(&made).unwrap();
        judged_as_anybody(node.by_shim("k8s.io"));
        symlink("/etc", &made).unwrap();
        judged_as_anybody(node.by_shim("k8s.io"));
        fs::remove_file(&made).unwrap();
        fs::create_dir(&made).unwrap();
    }
    fs::set_permissions(&task, Permissions::from_mode(0o777)).unwrap();
    judged_as_anybody(node.by_shim("k8s.io"));
    fs::set_permissions(&task, Permissions::from_mode(0o711)).unwrap();
    excepted(node.by_shim("k8s.io"));
}

/// A pod's author may write it: one that was taken for podman's would bind what podman's callers may.
#[test]
fn podman_s_mark_takes_no_pod_for_podman_s() {
    let mut annotations = CONTAINERD.to_vec();
    annotations.push(("io.container.manager", "libpod"));
    let node = Node::new("pod-of-libpod", &annotations, "containerd");
    excepted(node.by_shim("k8s.io"));
    judged_as_anybody(node.call(node.task().to_str().unwrap(), &[]));
}

/// Where the policy does not know containerd's directories nothing is a pod's own, and nothing of the host is let in.
#[test]
fn a_pod_that_nothing_confirms_binds_nothing() {
    let node = Node::new("pod-unconfirmed", &CONTAINERD, "containerd");
    let dir = node.container.bundle.dir.clone();
    let config = node.task().join("config.json");
    let mut spec: Value = serde_json::from_str(&fs::read_to_string(&config).unwrap()).unwrap();
    fs::create_dir(dir.join("data")).unwrap();
    let bind = json!({"destination": "/srv", "type": "bind", "source": dir.join("data"), "options": ["rbind", "rw"]});
    spec["mounts"].as_array_mut().unwrap().push(bind);
    spec["process"]["capabilities"] = json!({});
    fs::write(&config, spec.to_string()).unwrap();
    fs::remove_dir(dir.join(format!("run/io.containerd.grpc.v1.cri/sandboxes/{SANDBOX}"))).unwrap();
    node.by_shim("k8s.io")
        .fails_with(1)
        .says(&["refused [mounts.host-path]", "containerd_state"]);
    // What a caller of the bundle itself may bind.
    node.call(node.task().to_str().unwrap(), &[]).ok();
}

/// gabion runs again from a read-only clone of itself before it decides: the name must come through that.
#[test]
fn cri_o_is_known_by_the_name_that_it_calls() {
    let node = Node::new("pod-of-cri-o", &CRI_O, "cri-o");
    let path = node.container.path();
    let words = ["run", "--bundle", &path, node.container.id()];
    judged_as_anybody(node.container.op(&words));
    judged_as_anybody(node.by_shim("k8s.io"));
    let program = node.container.bundle.dir.join("gabion-crio");
    symlink(&node.container.runtime.program, &program).unwrap();
    let plain = node.container.command(&words);
    let mut command = std::process::Command::new(&program);
    command.args(plain.get_args());
    excepted(run(command, &node.container.bundle.dir));
    // Who is root in a user namespace alone calls by any name, and has any directory where containerd's are.
    let nested = |program: &std::path::Path, words: &[&str]| {
        let plain = node.container.command(words);
        let mut command = std::process::Command::new("unshare");
        command
            .args(["--user", "--map-root-user"])
            .arg(program)
            .args(plain.get_args());
        run(command, &node.container.bundle.dir)
    };
    judged_as_anybody(nested(&program, &words));
}

#[test]
fn containerd_s_directories_are_nobody_s_word_in_a_user_namespace() {
    let node = Node::new("pod-nested", &CONTAINERD, "containerd");
    let task = node.task();
    let words = [
        "run",
        "--bundle",
        task.to_str().unwrap(),
        "--from-shim",
        "k8s.io",
        node.container.id(),
    ];
    let plain = node.container.command(&words);
    let mut command = std::process::Command::new("unshare");
    command.args(["--user", "--map-root-user"]);
    command.arg(&node.container.runtime.program).args(plain.get_args());
    judged_as_anybody(run(command, &node.container.bundle.dir));
}

/// podman's `--annotation` writes whatever its caller wants.
#[test]
fn podman_names_no_pod() {
    for (cri, annotations) in [("containerd", CONTAINERD), ("cri-o", CRI_O)] {
        let Some(podman) = Podman::new(&format!("forged-{cri}"), "hardened") else {
            return;
        };
        let file = podman.bundle.dir.join("policy.toml");
        fs::write(&file, policy(&podman.bundle.dir, cri)).unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
        let podman = podman.runtime_flag(&format!("policy={}", file.display()));
        let forged: Vec<String> = annotations
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let run = |more: &[&str]| {
            let mut words = vec!["run", "--rm", "--network", "none"];
            words.extend(forged.iter().flat_map(|text| ["--annotation", text.as_str()]));
            words.extend(more);
            words.extend(["img", "cat", "/proc/self/status"]);
            podman.call(&words)
        };
        run(&[]).ok();
        for more in [&["--privileged"][..], &["--cap-add", "SYS_ADMIN"]] {
            let done = run(more);
            assert!(done.code != 0 && done.err.contains("refused ["), "{cri}: {done}");
        }
    }
}

/// What gabion does not know would be believed to hold.
#[test]
fn an_annotation_that_is_not_understood_starts_nothing_at_any_level() {
    for level in ["permissive", "hardened", "restricted"] {
        for (key, value, code) in [
            ("dev.gabion.level", "Restricted", "annotations.value"),
            ("dev.gabion.level", " restricted", "annotations.value"),
            ("dev.gabion.level", "restricted\n", "annotations.value"),
            ("dev.gabion.leve", "restricted", "annotations.unknown"),
            ("dev.gabion.holes.web", "/data", "annotations.unknown"),
            ("dev.gabion.holes", "data", "holes.annotation"),
            ("dev.gabion.landlock.tcp-bind", "http", "landlock.bad-port"),
        ] {
            let mut bundle = Bundle::new("annotation");
            bundle.config.set("/annotations", json!({key: value}));
            let container = Container::of(Runtime::gabion(), bundle).global(&["--level", level]);
            let log = container.bundle.dir.join("log");
            let container = container.global(&["--log", log.to_str().unwrap(), "--log-format", "json"]);
            for verb in ["create", "check"] {
                let path = container.path();
                let words: &[&str] = match verb {
                    "create" => &["create", "--bundle", &path, container.id()],
                    _ => &["check", "--format", "json", &path],
                };
                let done = container.op(words);
                assert!(done.code != 0, "{level} {verb} {key}={value:?}: {done}");
                let said = fs::read_to_string(&log).unwrap_or_default() + &done.out;
                assert!(said.contains(code), "{level} {verb} {key}={value:?}: {said}");
                fs::remove_file(&log).ok();
            }
        }
    }
}
