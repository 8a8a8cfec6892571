//! A shim's life without containerd: `start` as containerd runs it, then the calls that containerd makes for a container.

use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::shim as calls;
use containerd_shim_protos::ttrpc::proto::{Code, MessageHeader, Request, Response};
use containerd_shim_protos::types::mount::Mount;
use integration::Bundle;
use integration::command::{limit, until};
use nix::sys::stat::Mode;
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::thread;

use crate::trace::Tracer;

const SERVICE: &str = "containerd.task.v2.Task";
const EXEC: &str = "e";

/// What is watched: `start`, the shim that it leaves behind, and how that ends.
pub(crate) fn life(tracer: &mut Tracer, shim: &Path, gabion: &Path) {
    let mut bundle = Bundle::with_busybox("layout");
    bundle
        .config
        .set("/process/args", ["/bin/sleep", "1000"].as_slice().into());
    bundle.write_config();
    let dir = bundle.dir.clone();
    // As an image's, to be mounted.
    fs::rename(bundle.rootfs(), dir.join("image")).expect("the image");
    fs::create_dir(bundle.rootfs()).expect("the root");
    let options = format!(
        "binary = \"{}\"\nroot = \"{2}/state\"\npolicy = \"{1}\"\n",
        gabion.display(),
        policy(&dir).display(),
        dir.display()
    );
    fs::write(dir.join("options.toml"), options).expect("options.toml");
    let address = dir.join("c.sock");
    let words = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
    let (program, at, home) = (text(shim), text(&address), text(&bundle.bundle()));
    let flags = [
        "-namespace",
        "default",
        "-address",
        &at,
        "-publish-binary",
        "/bin/true",
        "-id",
        &bundle.name,
    ];
    tracer.run(
        0,
        &words(&[&[&*program], &flags[..], &["-bundle", &home, "start"]].concat()),
    );
    let own = text(&std::env::current_exe().expect("our own path"));
    tracer.accompany(1, &words(&[&own, "calls", &text(&dir), &bundle.name]));
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

/// Its records stay here.
fn policy(dir: &Path) -> PathBuf {
    let path = dir.join("policy.toml");
    fs::write(&path, format!("[audit]\nfile = \"{}/audit.jsonl\"\n", dir.display())).expect("policy.toml");
    path
}

/// A call about a container, or about its exec.
macro_rules! call {
    ($shim:ident, $method:literal, $request:ident, $id:expr, $exec:expr $(, $key:ident: $value:expr)?) => {
        let request = calls::$request {
            id: $id.to_owned(),
            exec_id: $exec.to_owned(),
            $($key: $value,)?
            ..Default::default()
        };
        $shim.call($method, &request);
    };
}

/// containerd's part, in a process that is not watched.
pub(crate) fn client(dir: &Path, id: &str) {
    take_events(UnixListener::bind(dir.join("c.sock.ttrpc")).expect("the events' socket"));
    let address = fs::read_to_string(dir.join("bundle/address")).expect("the shim's address");
    let socket = PathBuf::from(address.strip_prefix("unix://").expect("unix://"));
    let mut shim = Client(UnixStream::connect(&socket).expect("the shim"), 1);
    shim.call("Create", &create(dir, id));
    call!(shim, "Start", StartRequest, id, "");
    for terminal in [false, true] {
        shim.call("Exec", &exec_request(dir, id, terminal));
        call!(shim, "Start", StartRequest, id, EXEC);
        call!(shim, "CloseIO", CloseIORequest, id, EXEC, stdin: true);
        call!(shim, "Wait", WaitRequest, id, EXEC);
        call!(shim, "Delete", DeleteRequest, id, EXEC);
    }
    call!(shim, "State", StateRequest, id, "");
    let id = id.to_owned();
    shim.call(
        "Connect",
        &calls::ConnectRequest {
            id: id.clone(),
            ..Default::default()
        },
    );
    shim.call(
        "Pids",
        &calls::PidsRequest {
            id: id.clone(),
            ..Default::default()
        },
    );
    // It rests, and works again.
    thread::sleep(std::time::Duration::from_secs(1));
    call!(shim, "Kill", KillRequest, id, "", signal: 9);
    call!(shim, "Wait", WaitRequest, id, "");
    call!(shim, "Delete", DeleteRequest, id, "");
    shim.call(
        "Shutdown",
        &calls::ShutdownRequest {
            id,
            ..Default::default()
        },
    );
    assert!(until(limit(20), || !socket.exists()), "the shim does not end");
}

fn create(dir: &Path, id: &str) -> calls::CreateTaskRequest {
    let path = text(&dir.join("options.toml"));
    // runtimeoptions.v1.Options with the path of a file alone.
    let mut value = vec![0x12, u8::try_from(path.len()).expect("a short path")];
    value.extend(path.as_bytes());
    calls::CreateTaskRequest {
        id: id.to_owned(),
        bundle: text(&dir.join("bundle")),
        rootfs: vec![Mount {
            type_: "bind".to_owned(),
            source: text(&dir.join("image")),
            options: vec!["rbind".to_owned(), "rw".to_owned()],
            ..Default::default()
        }],
        stdout: fifo(dir, "out"),
        stderr: fifo(dir, "err"),
        options: MessageField::some(any("runtimeoptions.v1.Options", value)),
        ..Default::default()
    }
}

fn exec_request(dir: &Path, id: &str, terminal: bool) -> calls::ExecProcessRequest {
    let process = serde_json::json!({ "args": ["/bin/echo", "some"], "terminal": terminal, "cwd": "/",
        "user": { "uid": 0, "gid": 0 }, "env": ["PATH=/bin"] });
    let name = |stream: &str| format!("{stream}-{terminal}");
    calls::ExecProcessRequest {
        id: id.to_owned(),
        exec_id: EXEC.to_owned(),
        terminal,
        stdin: fifo(dir, &name("exec-in")),
        stdout: fifo(dir, &name("exec-out")),
        stderr: if terminal {
            String::new()
        } else {
            fifo(dir, &name("exec-err"))
        },
        spec: MessageField::some(any(
            "types.containerd.io/opencontainers/runtime-spec/1/Process",
            process.to_string().into(),
        )),
        ..Default::default()
    }
}

fn any(name: &str, value: Vec<u8>) -> Any {
    Any {
        type_url: name.to_owned(),
        value,
        ..Default::default()
    }
}

/// A FIFO that somebody reads.
fn fifo(dir: &Path, name: &str) -> String {
    let path = dir.join(name);
    nix::unistd::mkfifo(&path, Mode::S_IRWXU).expect("a FIFO");
    // Opened for both, which never waits. The reader goes with this process.
    let mut file: File = OpenOptions::new().read(true).write(true).open(&path).expect("the FIFO");
    let input = name.contains("-in");
    thread::spawn(move || {
        if input {
            // Only kept open.
            loop {
                thread::park();
            }
        }
        while file.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {}
    });
    text(&path)
}

/// Answers whatever the shim publishes.
fn take_events(listener: UnixListener) {
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a connection");
            let mut header = [0; 10];
            while stream.read_exact(&mut header).is_ok() {
                let header = MessageHeader::from(header);
                let mut body = vec![0; header.length as usize];
                stream.read_exact(&mut body).expect("an event");
                let answer = Response::default().write_to_bytes().expect("an answer");
                let length = u32::try_from(answer.len()).expect("a short answer");
                let mut bytes: Vec<u8> = MessageHeader::new_response(header.stream_id, length).into();
                bytes.extend(answer);
                stream.write_all(&bytes).expect("the shim listens");
            }
        }
    });
}

/// A connection, and the number of its next stream.
struct Client(UnixStream, u32);

impl Client {
    fn call(&mut self, method: &str, request: &impl Message) {
        let request = Request {
            service: SERVICE.to_owned(),
            method: method.to_owned(),
            payload: request.write_to_bytes().expect("a request"),
            ..Default::default()
        };
        let body = request.write_to_bytes().expect("a request");
        let mut bytes: Vec<u8> = MessageHeader::new_request(self.1, u32::try_from(body.len()).expect("short")).into();
        bytes.extend(body);
        self.1 += 2;
        self.0.write_all(&bytes).expect("the shim listens");
        let mut header = [0; 10];
        self.0.read_exact(&mut header).expect("an answer");
        let mut body = vec![0; MessageHeader::from(header).length as usize];
        self.0.read_exact(&mut body).expect("an answer");
        let status = Response::parse_from_bytes(&body).expect("an answer").status;
        assert!(status.code() == Code::OK, "{method}: {status:?}");
    }
}
