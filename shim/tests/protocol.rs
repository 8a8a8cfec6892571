//! What the shim says to requests and at its command line: to each containerd in its own way, and to nonsense.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use common::client::{Client, V2, V3};
use common::{Node, SHIM, SOON, until};
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::shim::shim::{
    CheckpointTaskRequest, ConnectRequest, ConnectResponse, CreateTaskRequest, ExecProcessRequest, KillRequest,
    ShutdownRequest, StateRequest, StateResponse,
};
use containerd_shim_protos::ttrpc::proto::Code;
use containerd_shim_protos::types::introspection::RuntimeInfo;

#[test]
fn invalid_requests_are_errors_and_nothing_more() {
    let node = Node::start("invalid");
    let id = node.sleeper("s");
    let mut client = Client::connect(&node.shim_socket(&id));
    let state = StateRequest {
        id: id.clone(),
        ..StateRequest::default()
    };
    for service in [V2, V3] {
        let answer = StateResponse::parse_from_bytes(&client.call(service, "State", &state).unwrap()).unwrap();
        assert_eq!(answer.pid.cast_signed(), node.pid(&id).as_raw());
    }
    assert_eq!(client.raw("x.Y", "State", vec![]).unwrap_err().0, Code::UNIMPLEMENTED);
    assert_eq!(client.raw(V2, "Fly", vec![]).unwrap_err().0, Code::UNIMPLEMENTED);
    assert_eq!(
        client.raw(V2, "State", vec![0xff; 9]).unwrap_err().0,
        Code::INVALID_ARGUMENT
    );
    assert_eq!(client.code("State", &StateRequest::default()), Code::NOT_FOUND);
    let create = |id: &str, bundle: &str| CreateTaskRequest {
        id: id.into(),
        bundle: bundle.into(),
        ..CreateTaskRequest::default()
    };
    assert_eq!(client.code("Create", &create("../x", "/tmp")), Code::INVALID_ARGUMENT);
    assert_eq!(client.code("Create", &create("--help", "/tmp")), Code::INVALID_ARGUMENT);
    assert_eq!(
        client.code("Create", &create("x", "/nonexistent")),
        Code::INVALID_ARGUMENT
    );
    assert_eq!(client.code("Create", &create("x", "relative")), Code::INVALID_ARGUMENT);
    let own = node.bundles().join(&id);
    assert_eq!(
        client.code("Create", &create(&id, own.to_str().unwrap())),
        Code::ALREADY_EXISTS
    );
    assert_eq!(
        client.code(
            "Checkpoint",
            &CheckpointTaskRequest {
                id: id.clone(),
                ..Default::default()
            }
        ),
        Code::UNIMPLEMENTED
    );
    let kill = KillRequest {
        id: id.clone(),
        exec_id: "none".into(),
        signal: 9,
        ..KillRequest::default()
    };
    assert_eq!(client.code("Kill", &kill), Code::NOT_FOUND);
    let exec = |exec: &str, spec: Option<Any>| ExecProcessRequest {
        id: id.clone(),
        exec_id: exec.into(),
        spec: spec.into(),
        ..ExecProcessRequest::default()
    };
    assert_eq!(
        client.code("Exec", &exec("../../x", Some(Any::new()))),
        Code::INVALID_ARGUMENT
    );
    assert_eq!(client.code("Exec", &exec("x", None)), Code::INVALID_ARGUMENT);
    client.call(V2, "Exec", &exec("x", Some(Any::new()))).unwrap();
    assert_eq!(client.code("Exec", &exec("x", Some(Any::new()))), Code::ALREADY_EXISTS);
    let stream = client.frame(&[0xff; 30]);
    assert_eq!(client.answer(stream).unwrap_err().0, Code::UNIMPLEMENTED);
    let stream = client.frame(&vec![0; 5 << 20]);
    assert_eq!(client.answer(stream).unwrap_err().0, Code::INVALID_ARGUMENT);
    // Half a frame, then silence, then gone.
    Client::connect(&node.shim_socket(&id)).bytes(&[0, 0, 1]);
    // A shutdown with a container left is none.
    client
        .call(
            V2,
            "Shutdown",
            &ShutdownRequest {
                id: id.clone(),
                now: true,
                ..Default::default()
            },
        )
        .unwrap();
    client.call(V3, "State", &state).unwrap();
    drop(client);
    node.remove(&id);
    node.assert_clean();
}

/// The `start` action as containerd calls it; its answer, once the shim serves: before that it may still be on its way
/// through execve, where a process has no arguments to be found by and no handler for its signals.
fn start(node: &Node, id: &str, sandbox: Option<&str>, input: &[u8]) -> Vec<u8> {
    let bundle = node.dir.join("bundles").join(id);
    fs::create_dir_all(&bundle).unwrap();
    let annotations = sandbox.map(|id| serde_json::json!({ "io.kubernetes.cri.sandbox-id": id }));
    fs::write(
        bundle.join("config.json"),
        serde_json::json!({ "annotations": annotations }).to_string(),
    )
    .unwrap();
    let mut command = Command::new(SHIM);
    command
        .args(["-namespace", "default", "-address"])
        .arg(node.socket())
        .args(["-publish-binary", "", "-id", id, "start"]);
    command
        .env("TTRPC_ADDRESS", format!("{}.ttrpc", node.socket().display()))
        .current_dir(&bundle);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    let address = fs::read_to_string(bundle.join("address")).unwrap();
    Client::connect(Path::new(address.strip_prefix("unix://").unwrap()))
        .call(V3, "Connect", &ConnectRequest::new())
        .unwrap();
    output.stdout
}

#[test]
fn start_answers_each_containerd_in_its_own_way_and_a_pod_has_one_shim() {
    let node = Node::start("start");
    let params = BootstrapParams {
        instance_id: "pod".into(),
        namespace: "default".into(),
        containerd_ttrpc_address: format!("unix://{}.ttrpc", node.socket().display()),
        ..BootstrapParams::default()
    };
    let answer = start(&node, "pod", Some("pod"), &params.write_to_bytes().unwrap());
    let result = BootstrapResult::parse_from_bytes(&answer).unwrap();
    assert_eq!((result.version, result.protocol.as_str()), (3, "ttrpc"));
    let runc = Options {
        binary_name: "runc".into(),
        ..Options::default()
    };
    let options = Any {
        type_url: "containerd.runc.v1.Options".into(),
        value: runc.write_to_bytes().unwrap(),
        ..Any::default()
    };
    for input in [vec![], options.write_to_bytes().unwrap()] {
        assert_eq!(start(&node, "app", Some("pod"), &input), result.address.as_bytes());
    }
    assert_eq!(node.shims().len(), 1);
    assert_ne!(start(&node, "other", None, &[]), result.address.as_bytes());
    assert_eq!(node.shims().len(), 2);
    for id in ["pod", "other"] {
        let address = fs::read_to_string(node.dir.join("bundles").join(id).join("address")).unwrap();
        let mut client = Client::connect(Path::new(address.strip_prefix("unix://").unwrap()));
        let answer = client
            .call(
                V3,
                "Connect",
                &ConnectRequest {
                    id: id.into(),
                    ..Default::default()
                },
            )
            .unwrap();
        let connected = ConnectResponse::parse_from_bytes(&answer).unwrap();
        assert!(
            node.shims()
                .iter()
                .any(|pid| pid.as_raw() == connected.shim_pid.cast_signed())
        );
        client.call(V3, "Shutdown", &ShutdownRequest::new()).unwrap();
    }
    node.assert_clean();
}

/// Who may write there could answer in the shim's name.
#[test]
fn a_directory_of_sockets_that_others_may_write_to_is_refused() {
    let node = Node::start("sockets");
    let bundle = node.dir.join("bundles/x");
    fs::create_dir_all(&bundle).unwrap();
    fs::write(bundle.join("config.json"), "{}").unwrap();
    // In a mount namespace of its own: the machine's directory stays as it is.
    let script = "mount -t tmpfs -o mode=755 none /run/containerd && mkdir -m $MODE /run/containerd/s &&
        chown $OWNER /run/containerd/s && exec \"$@\"";
    for (mode, owner, starts) in [("777", "0", false), ("711", "65534", false), ("711", "0", true)] {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            SHIM,
            "-namespace",
            "default",
            "-address",
        ]);
        command
            .arg(node.socket())
            .args(["-publish-binary", "", "-id", "x", "start"]);
        command.env("MODE", mode).env("OWNER", owner).current_dir(&bundle);
        command.env("TTRPC_ADDRESS", format!("{}.ttrpc", node.socket().display()));
        let output = command.stdin(Stdio::null()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.success(), starts, "{mode} {owner}: {output:?}");
        assert!(
            starts || said.contains("others could put their own socket here"),
            "{said}"
        );
        // Between execve and its first instruction a process has no words to be known by.
        until(SOON, "as many shims as were started", || {
            (node.shims().len() == usize::from(starts)).then_some(())
        });
    }
}

#[test]
fn info_is_the_runtimes_features() {
    let runc = Options {
        binary_name: "/usr/sbin/runc".into(),
        ..Options::default()
    };
    let options = Any {
        type_url: "containerd.runc.v1.Options".into(),
        value: runc.write_to_bytes().unwrap(),
        ..Any::default()
    };
    let mut child = Command::new(SHIM)
        .arg("-info")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&options.write_to_bytes().unwrap())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let info = RuntimeInfo::parse_from_bytes(&output.stdout).unwrap();
    assert_eq!(info.name, "io.containerd.gabion.v2");
    assert_eq!(info.options, MessageField::some(options));
    assert!(serde_json::from_slice::<serde_json::Value>(&info.features.value).unwrap()["mountOptions"].is_array());
}

#[test]
fn an_idle_shim_ends_at_a_signal() {
    let node = Node::start("idle");
    let address = start(&node, "idle", None, &[]);
    let address = String::from_utf8(address).unwrap();
    let socket = Path::new(address.strip_prefix("unix://").unwrap());
    assert!(socket.exists());
    let shims = node.shims();
    assert_eq!(shims.len(), 1);
    nix::sys::signal::kill(shims[0], nix::sys::signal::Signal::SIGTERM).unwrap();
    until(SOON, "it ends", || node.shims().is_empty().then_some(()));
    assert!(!socket.exists(), "its socket goes with it");
    node.assert_clean();
}

#[test]
fn the_version_is_told_without_a_containerd() {
    let output = Command::new(SHIM).arg("-v").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && output.stderr.is_empty());
    assert!(text.starts_with("io.containerd.gabion.v2:\n"), "{text}");
    assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
}
