//! What a shim holds must not grow with what it has done.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;

use common::Node;
use common::client::{Client, V2};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::shim::{DeleteRequest, ExecProcessRequest, StartRequest, WaitRequest, WaitResponse};
use nix::unistd::Pid;

/// Between 100 and 1,000 execs its heap may grow by less than this many KiB: the smallest piece that malloc gives, lost once an exec,
/// makes 28. Without a leak it was 0 to 12, by how the pieces lie on the pages.
const GROWTH: u64 = 24;

/// What a process has written to of its heap, in KiB, when it rests: the least of some looks, since it takes a while until all is
/// published and the heap's free pages are given back.
fn at_rest(pid: Pid) -> u64 {
    let look = |_| {
        std::thread::sleep(std::time::Duration::from_millis(500));
        heap(&fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap())
    };
    (0..8).map(look).min().unwrap()
}

/// Of malloc's mappings, which are of no file, the pages that were written to.
fn heap(smaps: &str) -> u64 {
    let (mut ours, mut sum) = (false, 0);
    for line in smaps.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        match words[..] {
            [_, _, _, _, "0"] | [_, _, _, _, "0", "[heap]"] => ours = true,
            [range, ..] if !range.ends_with(':') => ours = false,
            ["Private_Dirty:", number, "kB"] if ours => sum += number.parse::<u64>().unwrap(),
            _ => {}
        }
    }
    sum
}

/// One exec's whole life, with a name and output of its own.
fn exec(client: &mut Client, id: &str, number: u32) {
    let (id, exec_id) = (id.to_owned(), format!("e{number}"));
    let process =
        serde_json::json!({ "args": ["true"], "cwd": "/", "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"] });
    let spec = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
        value: process.to_string().into_bytes(),
        ..Any::default()
    };
    let request = ExecProcessRequest {
        id: id.clone(),
        exec_id: exec_id.clone(),
        spec: Some(spec).into(),
        ..ExecProcessRequest::default()
    };
    client.call(V2, "Exec", &request).unwrap();
    let (start, wait, delete) = (
        StartRequest {
            id: id.clone(),
            exec_id: exec_id.clone(),
            ..StartRequest::default()
        },
        WaitRequest {
            id: id.clone(),
            exec_id: exec_id.clone(),
            ..WaitRequest::default()
        },
        DeleteRequest {
            id,
            exec_id,
            ..DeleteRequest::default()
        },
    );
    client.call(V2, "Start", &start).unwrap();
    let answer = client.call(V2, "Wait", &wait).unwrap();
    assert_eq!(WaitResponse::parse_from_bytes(&answer).unwrap().exit_status, 0);
    client.call(V2, "Delete", &delete).unwrap();
}

#[test]
fn a_thousand_execs_leave_it_as_it_was() {
    let node = Node::start("memory");
    let id = node.sleeper("s");
    let shims = node.shims();
    let mut client = Client::connect(&node.shim_socket(&id));
    let (first, rest) = (0..100, 100..1000);
    first.for_each(|number| exec(&mut client, &id, number));
    let before = at_rest(shims[0]);
    rest.for_each(|number| exec(&mut client, &id, number));
    let after = at_rest(shims[0]);
    assert!(
        after < before + GROWTH,
        "{before} KiB after 100 execs, {after} after 1,000"
    );
    assert_eq!(node.shims(), shims);
    drop(client);
    node.remove(&id);
    node.assert_clean();
}
