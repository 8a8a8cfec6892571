//! Calls of the task service that containerd's own clients seldom make, or not in this order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::fs;
use std::io::Read;
use std::time::SystemTime;

use common::client::{Client, V2};
use common::{Node, SOON, until};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::shim::{
    CloseIORequest, DeleteRequest, DeleteResponse, ExecProcessRequest, KillRequest, ResizePtyRequest, StartRequest,
    StateRequest, StateResponse, WaitRequest, WaitResponse,
};
use containerd_shim_protos::ttrpc::proto::Code;
use containerd_shim_protos::types::task::Status;

/// The exec that has a terminal.
const TERMINAL: &str = "t";

fn exec_request(id: &str, exec: &str, program: &[&str]) -> ExecProcessRequest {
    let process = serde_json::json!({ "args": program, "terminal": exec == TERMINAL, "cwd": "/",
        "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"] });
    let spec = Any {
        type_url: "types.containerd.io/opencontainers/runtime-spec/1/Process".into(),
        value: process.to_string().into_bytes(),
        ..Any::default()
    };
    ExecProcessRequest {
        id: id.into(),
        exec_id: exec.into(),
        spec: Some(spec).into(),
        ..ExecProcessRequest::default()
    }
}

/// What an exec is named by, in each kind of request.
macro_rules! of {
    ($request:ident, $id:expr, $exec:expr) => {
        $request {
            id: $id.to_string(),
            exec_id: $exec.to_string(),
            ..$request::default()
        }
    };
}

#[test]
fn an_exec_that_cannot_start_is_waited_for_by_nobody() {
    let node = Node::start("noexec");
    let id = node.sleeper("s");
    let mut client = Client::connect(&node.shim_socket(&id));
    let mut kill = of!(KillRequest, id, "fails");
    kill.signal = 9;
    client
        .call(V2, "Exec", &exec_request(&id, "fails", &["/nonexistent"]))
        .unwrap();
    // Before it is started there is nothing to kill, and «not found» would mean that its end is to be waited for.
    assert_eq!(client.code("Kill", &kill), Code::FAILED_PRECONDITION);
    let (_, said) = client.call(V2, "Start", &of!(StartRequest, id, "fails")).unwrap_err();
    assert!(said.contains("/nonexistent"), "{said}");
    assert_eq!(client.code("Kill", &kill), Code::FAILED_PRECONDITION);
    assert_eq!(
        client.code("Start", &of!(StartRequest, id, "fails")),
        Code::FAILED_PRECONDITION
    );
    let answer = client.call(V2, "Wait", &of!(WaitRequest, id, "fails")).unwrap();
    assert_eq!(WaitResponse::parse_from_bytes(&answer).unwrap().exit_status, 255);
    client.call(V2, "Delete", &of!(DeleteRequest, id, "fails")).unwrap();
    // One that nobody started and somebody waits for ends with its deletion.
    client.call(V2, "Exec", &exec_request(&id, "never", &["true"])).unwrap();
    let mut waiting = Client::connect(&node.shim_socket(&id));
    let wait = of!(WaitRequest, id, "never").write_to_bytes().unwrap();
    let stream = waiting.send(V2, "Wait", wait);
    // Calls of one connection are taken in their order: it waits by the time that this one is answered.
    waiting.call(V2, "State", &of!(StateRequest, id, "never")).unwrap();
    client.call(V2, "Delete", &of!(DeleteRequest, id, "never")).unwrap();
    waiting.answer(stream).unwrap();
    assert_eq!(client.code("State", &of!(StateRequest, id, "never")), Code::NOT_FOUND);
    drop((client, waiting));
    node.remove(&id);
    node.assert_clean();
}

/// containerd tells its client what the runtime said. The container's own output does not have it a second time.
#[test]
fn an_error_is_told_once() {
    let node = Node::start("once");
    let id = node.sleeper("s");
    let mut client = Client::connect(&node.shim_socket(&id));
    let errors = node.dir.join("errors");
    let stderr = format!("file://{}", errors.display());
    let written = || fs::read_to_string(&errors).unwrap_or_default();

    let mut exec = exec_request(&id, "fails", &["/nonexistent"]);
    exec.stderr.clone_from(&stderr);
    client.call(V2, "Exec", &exec).unwrap();
    let (_, said) = client.call(V2, "Start", &of!(StartRequest, id, "fails")).unwrap_err();
    assert!(said.contains("/nonexistent"), "{said}");
    client.call(V2, "Delete", &of!(DeleteRequest, id, "fails")).unwrap();
    assert_eq!(written(), "");

    // A container that cannot be made.
    let other = node.id("refused");
    let bundle = node.bundle(&id, &other);
    let config = fs::read_to_string(bundle.join("config.json")).unwrap();
    let mut config: serde_json::Value = serde_json::from_str(&config).unwrap();
    config["process"]["args"] = serde_json::json!(["/nonexistent"]);
    fs::write(bundle.join("config.json"), config.to_string()).unwrap();
    let mut create = node.create_request(&other, &bundle, Vec::new());
    create.stderr.clone_from(&stderr);
    let (_, said) = client.call(V2, "Create", &create).unwrap_err();
    assert!(
        said.contains("OCI runtime create failed") || said.contains("/nonexistent"),
        "{said}"
    );
    assert_eq!(written(), "");

    // A runtime that has no log to say it in.
    let silent = node.wrap_runtime("silent", "case $* in *create*) echo 'no library' >&2; exit 3;; esac");
    node.write_options_for("silent.toml", &silent, "");
    create.options = Some(common::bundle::config_path(&node.dir.join("silent.toml"))).into();
    client.call(V2, "Create", &create).unwrap_err();
    assert_eq!(written(), "no library\n");

    // What a process itself writes is its output.
    let mut exec = exec_request(&id, "works", &["sh", "-c", "echo own >&2"]);
    exec.stderr = stderr;
    client.call(V2, "Exec", &exec).unwrap();
    client.call(V2, "Start", &of!(StartRequest, id, "works")).unwrap();
    client.call(V2, "Wait", &of!(WaitRequest, id, "works")).unwrap();
    client.call(V2, "Delete", &of!(DeleteRequest, id, "works")).unwrap();
    assert_eq!(written(), "no library\nown\n");
    drop(client);
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn an_end_is_kept_for_who_asks_late() {
    let node = Node::start("late");
    let id = node.sleeper("s");
    let mut client = Client::connect(&node.shim_socket(&id));
    client
        .call(V2, "Exec", &exec_request(&id, "e", &["sh", "-c", "exit 9"]))
        .unwrap();
    let before = SystemTime::now();
    client.call(V2, "Start", &of!(StartRequest, id, "e")).unwrap();
    until(SOON, "it has ended", || {
        let answer = client.call(V2, "State", &of!(StateRequest, id, "e")).unwrap();
        let state = StateResponse::parse_from_bytes(&answer).unwrap();
        (state.status.enum_value() == Ok(Status::STOPPED)).then_some(())
    });
    let after = SystemTime::now();
    for _ in 0..2 {
        let answer = client.call(V2, "Wait", &of!(WaitRequest, id, "e")).unwrap();
        let end = WaitResponse::parse_from_bytes(&answer).unwrap();
        assert_eq!(end.exit_status, 9);
        let at: SystemTime = end.exited_at.unwrap().into();
        assert!(before <= at && at <= after);
    }
    let answer = client.call(V2, "Delete", &of!(DeleteRequest, id, "e")).unwrap();
    assert_eq!(DeleteResponse::parse_from_bytes(&answer).unwrap().exit_status, 9);
    drop(client);
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn a_terminal_has_the_size_that_it_is_given() {
    let node = Node::start("size");
    let id = node.sleeper("s");
    let mut client = Client::connect(&node.shim_socket(&id));
    let log = node.dir.join("terminal.log");
    let program = ["sh", "-c", "while :; do stty size; sleep 0.1; done"];
    let mut request = exec_request(&id, TERMINAL, &program);
    request.terminal = true;
    request.stdout = format!("file://{}", log.display());
    client.call(V2, "Exec", &request).unwrap();
    client.call(V2, "Start", &of!(StartRequest, id, TERMINAL)).unwrap();
    for (width, height) in [(101, 37), (80, 25)] {
        let mut resize = of!(ResizePtyRequest, id, TERMINAL);
        (resize.width, resize.height) = (width, height);
        client.call(V2, "ResizePty", &resize).unwrap();
        let wanted = format!("{height} {width}\r\n");
        until(SOON, "the terminal has that size", || {
            fs::read_to_string(&log)
                .is_ok_and(|text| text.contains(&wanted))
                .then_some(())
        });
    }
    let mut resize = of!(ResizePtyRequest, id, TERMINAL);
    resize.width = 70_000;
    assert_eq!(client.code("ResizePty", &resize), Code::INVALID_ARGUMENT);
    drop(client);
    node.remove(&id);
    node.assert_clean();
}

#[test]
fn a_slow_reader_gets_everything() {
    let node = Node::start("slow");
    let id = node.sleeper("s");
    let fifo = node.dir.join("stdout");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).unwrap();
    // More than the pipe and the FIFO hold together: the process has to wait for its reader, too.
    let reader = std::thread::spawn({
        let fifo = fifo.clone();
        move || {
            let (mut file, mut text, mut some) = (fs::File::open(fifo).unwrap(), Vec::new(), [0; 4096]);
            loop {
                match file.read(&mut some).unwrap() {
                    0 => return String::from_utf8(text).unwrap(),
                    length => text.extend(&some[..length]),
                }
                std::thread::sleep(std::time::Duration::from_millis(2));
            }
        }
    });
    let mut client = Client::connect(&node.shim_socket(&id));
    let mut request = exec_request(&id, "e", &["seq", "1", "50000"]);
    request.stdout = fifo.display().to_string();
    client.call(V2, "Exec", &request).unwrap();
    client.call(V2, "Start", &of!(StartRequest, id, "e")).unwrap();
    let text = reader.join().unwrap();
    assert_eq!((text.lines().count(), text.lines().last()), (50_000, Some("50000")));
    let answer = client.call(V2, "Wait", &of!(WaitRequest, id, "e")).unwrap();
    assert_eq!(WaitResponse::parse_from_bytes(&answer).unwrap().exit_status, 0);
    client.call(V2, "Delete", &of!(DeleteRequest, id, "e")).unwrap();
    drop(client);
    node.remove(&id);
    node.assert_clean();
}

/// A client whose input is short closes it while its process is still being started.
#[test]
fn stdin_that_was_closed_before_the_start_ends() {
    let node = Node::start("closed");
    let id = node.sleeper("s");
    let mut client = Client::connect(&node.shim_socket(&id));
    let stdin = node.dir.join("stdin");
    nix::unistd::mkfifo(&stdin, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut request = exec_request(&id, "e", &["cat"]);
    request.stdin = stdin.to_str().unwrap().into();
    client.call(V2, "Exec", &request).unwrap();
    let mut close = of!(CloseIORequest, id, "e");
    close.stdin = true;
    client.call(V2, "CloseIO", &close).unwrap();
    client.call(V2, "Start", &of!(StartRequest, id, "e")).unwrap();
    let answer = client.call(V2, "Wait", &of!(WaitRequest, id, "e")).unwrap();
    assert_eq!(WaitResponse::parse_from_bytes(&answer).unwrap().exit_status, 0);
    client.call(V2, "Delete", &of!(DeleteRequest, id, "e")).unwrap();
    node.remove(&id);
    node.assert_clean();
}
