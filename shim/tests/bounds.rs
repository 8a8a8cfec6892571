//! What clients ask for is bounded: in time, and in the shim's memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use common::bundle::config_path;
use common::client::{Client, V2};
use common::host::{patient, processes};
use common::{Node, SOON, until};
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::shim::{
    DeleteRequest, ExecProcessRequest, PidsRequest, StartRequest, StateRequest, WaitRequest,
};
use containerd_shim_protos::ttrpc::proto::{Code, MessageHeader, Request};
use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};

/// The most that a shim may hold, in KiB, whatever is asked of it: both budgets of 16 MiB, as much again for how malloc takes it, and
/// the shim itself.
const MOST: u64 = 72 * 1024;

/// What a process holds in memory, in KiB.
fn resident(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

fn exec(id: &str, exec: &str, spec: Vec<u8>) -> ExecProcessRequest {
    ExecProcessRequest {
        id: id.into(),
        exec_id: exec.into(),
        spec: MessageField::some(Any {
            type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
            value: spec,
            ..Any::default()
        }),
        ..ExecProcessRequest::default()
    }
}

fn state(id: &str) -> StateRequest {
    StateRequest {
        id: id.into(),
        ..StateRequest::default()
    }
}

fn started(name: &str) -> (Node, String, Client) {
    let node = Node::start(name);
    let id = node.sleeper("s");
    let client = Client::connect(&node.shim_socket(&id));
    (node, id, client)
}

#[test]
fn options_in_a_fifo_hang_nobody() {
    let (node, like, mut client) = started("fifo");
    let (id, fifo) = (node.id("x"), node.dir.join("options.fifo"));
    mkfifo(&fifo, Mode::S_IRWXU).unwrap();
    let bundle = node.bundle(&like, &id);
    let mut request = node.create_request(&id, &bundle, vec![]);
    request.options = MessageField::some(config_path(&fifo));
    let began = Instant::now();
    let (code, said) = client.call(V2, "Create", &request).unwrap_err();
    assert_eq!(
        (code, began.elapsed() < patient(Duration::from_secs(10))),
        (Code::INVALID_ARGUMENT, true)
    );
    assert!(said.ends_with("options.fifo: not a regular file"), "{said}");
    client.call(V2, "State", &state(&like)).unwrap();
    drop(client);
    node.remove(&like);
    node.assert_clean();
}

#[test]
fn execs_that_nobody_starts_are_bounded_in_bytes_and_in_number() {
    let (node, id, mut client) = started("pending");
    let shim = node.shims()[0];
    let spec = vec![b' '; 200_000];
    let mut add =
        |number: usize, spec: &[u8]| client.call(V2, "Exec", &exec(&id, &format!("e{number}"), spec.to_vec()));
    let large = (0..1500).take_while(|number| add(*number, &spec).is_ok()).count();
    assert!((50..100).contains(&large), "{large}");
    assert!(resident(shim) < MOST, "{} KiB", resident(shim));
    let (code, said) = add(large, &spec).unwrap_err();
    assert_eq!(code, Code::RESOURCE_EXHAUSTED, "{said}");
    // Small ones go as long as there is room for them.
    let small = (large..3000).take_while(|number| add(*number, b"{}").is_ok()).count();
    assert!(small >= 1 && large + small <= 1024, "{large} and {small}");
    // What is deleted is given back.
    for number in 0..large + small {
        let delete = DeleteRequest {
            id: id.clone(),
            exec_id: format!("e{number}"),
            ..DeleteRequest::default()
        };
        client.call(V2, "Delete", &delete).unwrap();
    }
    let mut add =
        |number: usize, spec: &[u8]| client.call(V2, "Exec", &exec(&id, &format!("e{number}"), spec.to_vec()));
    assert_eq!((0..3000).take_while(|number| add(*number, b"{}").is_ok()).count(), 1024);
    drop(client);
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn frames_that_are_half_sent_are_bounded_and_others_go_on() {
    let (node, id, mut client) = started("frames");
    let shim = node.shims()[0];
    let socket = node.shim_socket(&id);
    let mut half: Vec<u8> = MessageHeader::new_request(1, 4 << 20).into();
    half.resize(half.len() + (2 << 20), 0);
    let stuck: Vec<_> = (0..100)
        .map(|_| {
            let mut client = Client::connect(&socket);
            client.bytes(&half);
            client
        })
        .collect();
    // Answered after all of that was read: it is read in turn.
    client.call(V2, "State", &state(&id)).unwrap();
    assert!(resident(shim) < MOST, "{} KiB", resident(shim));
    // Ends that nobody waits for any longer do not count against those that come.
    drop(stuck);
    until(SOON, "a large frame is taken again", || {
        let answer = client.call(V2, "Exec", &exec(&id, "large", vec![b' '; 3 << 20]));
        answer.is_ok().then_some(())
    });
    drop(client);
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn calls_that_wait_are_bounded() {
    let (node, id, mut client) = started("waits");
    let shim = node.shims()[0];
    // What a call holds is its client's word: an unknown field of 60,000 bytes is part of the request.
    let wait = WaitRequest {
        id: id.clone(),
        ..WaitRequest::default()
    };
    let mut payload = wait.write_to_bytes().unwrap();
    payload.extend([0xfa, 0x3f, 0xe0, 0xd4, 0x03]);
    payload.resize(payload.len() + 60_000, b'x');
    let request = Request {
        service: V2.into(),
        method: "Wait".into(),
        payload,
        ..Request::default()
    };
    let body = request.write_to_bytes().unwrap();
    let mut waiting = UnixStream::connect(node.shim_socket(&id)).unwrap();
    waiting.set_write_timeout(Some(Duration::from_secs(1))).unwrap();
    let call = |number: u32| {
        let mut frame: Vec<u8> = MessageHeader::new_request(2 * number + 1, u32::try_from(body.len()).unwrap()).into();
        frame.extend(&body);
        waiting.write_all(&frame)
    };
    // 300 MB; who does not read the refusals is not read from, either.
    let sent = (0..5000).map(call).take_while(Result::is_ok).count();
    client.call(V2, "State", &state(&id)).unwrap();
    assert!(sent > 250, "{sent}");
    assert!(resident(shim) < MOST, "{} KiB", resident(shim));
    drop((waiting, client));
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn a_log_driver_that_is_never_ready_is_killed_and_holds_up_nobody() {
    let (node, id, mut client) = started("unready");
    let driver = node.dir.join("driver");
    fs::write(&driver, "#!/bin/sh\nsleep 87654\nexit 1\n").unwrap();
    fs::set_permissions(&driver, fs::Permissions::from_mode(0o755)).unwrap();
    let process = serde_json::json!({ "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0 } });
    let mut request = exec(&id, "e", process.to_string().into_bytes());
    request.stdout = format!("binary://{}", driver.display());
    client.call(V2, "Exec", &request).unwrap();
    let start = StartRequest {
        id: id.clone(),
        exec_id: "e".into(),
        ..StartRequest::default()
    };
    let stream = client.send(V2, "Start", start.write_to_bytes().unwrap());
    let runs = || processes().iter().any(|(_, words)| words.contains(&"87654".to_owned()));
    until(SOON, "the driver runs", || runs().then_some(()));
    // What takes the container's lock is answered meanwhile.
    let began = Instant::now();
    let pids = PidsRequest {
        id: id.clone(),
        ..PidsRequest::default()
    };
    Client::connect(&node.shim_socket(&id)).call(V2, "Pids", &pids).unwrap();
    assert!(
        began.elapsed() < patient(Duration::from_secs(5)),
        "{:?}",
        began.elapsed()
    );
    assert!(runs(), "the driver was given its time");
    let (code, said) = client.answer(stream).unwrap_err();
    until(
        patient(Duration::from_secs(5)),
        "what the driver started is dead, too",
        || (!runs()).then_some(()),
    );
    let driver = driver.display().to_string();
    assert!(!processes().iter().any(|(_, words)| words.contains(&driver)));
    assert_eq!(code, Code::DEADLINE_EXCEEDED, "{said}");
    assert!(said.ends_with("was not ready in time and was killed"), "{said}");
    assert!(zombies_of(node.shims()[0]).is_empty());
    drop(client);
    node.remove(&id);
    node.assert_clean();
}

/// The children of a process that ended and were not reaped.
fn zombies_of(pid: Pid) -> Vec<Pid> {
    let children = common::host::children_of(pid).into_iter();
    children
        .filter(|child| Path::new(&format!("/proc/{child}")).exists() && !common::host::alive(*child))
        .collect()
}
