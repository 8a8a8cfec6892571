//! Calls of the container runtime interface: JSON in, JSON out, gRPC over HTTP/2 between. The messages are made from
//! runtime.proto as the test runs, so no compiler of protocols has to be there.

use std::io::Cursor;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use h2::client::SendRequest;
use protobuf_json_mapping::{
    ParseOptions, PrintOptions, parse_dyn_from_str_with_options, print_to_string_with_options,
};
use serde_json::Value;

use super::common::host::patient;
use containerd_shim_protos::protobuf::reflect::{FileDescriptor, MessageDescriptor};

/// The longest that containerd may take over one call on a busy machine.
const LIMIT: Duration = Duration::from_mins(3);

static FILE: LazyLock<FileDescriptor> = LazyLock::new(|| {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cri/runtime.proto");
    let parsed = protobuf_parse::Parser::new()
        .pure()
        .include(file.parent().unwrap())
        .input(&file)
        .parse_and_typecheck()
        .unwrap();
    let proto = parsed.file_descriptors.into_iter().next().unwrap();
    FileDescriptor::new_dynamic(proto, &[]).unwrap()
});

/// What containerd says instead of an answer.
#[derive(Debug)]
pub struct Status {
    #[expect(dead_code, reason = "shown where a test fails")]
    pub code: u32,
    pub message: String,
}

fn message(name: &str) -> Option<MessageDescriptor> {
    FILE.messages().find(|message| message.name() == name)
}

/// Calls `method` of the runtime service (or of the image service).
pub fn call(socket: &Path, method: &str, request: &Value) -> Result<Value, Status> {
    let service = if method.starts_with("Image") {
        "ImageService"
    } else {
        "RuntimeService"
    };
    let body = encode(&format!("{method}Request"), request);
    let path = format!("http://localhost/runtime.v1.{service}/{method}");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let answer = runtime.block_on(async {
        tokio::time::timeout(patient(LIMIT), exchange(socket, &path, body))
            .await
            .unwrap_or_else(|_| panic!("{method} took too long"))
    })?;
    Ok(decode(&format!("{method}Response"), &answer))
}

fn encode(name: &str, request: &Value) -> Vec<u8> {
    let descriptor = message(name).unwrap_or_else(|| panic!("runtime.proto has no {name}"));
    // An unknown field in a test is a mistake, not something to send without.
    let options = ParseOptions::default();
    let message = parse_dyn_from_str_with_options(&descriptor, &request.to_string(), &options)
        .unwrap_or_else(|error| panic!("{name}: {error}: {request}"));
    let body = message.write_to_bytes_dyn().unwrap();
    // gRPC's frame: not compressed, and how long.
    let mut frame = vec![0];
    frame.extend(u32::try_from(body.len()).unwrap().to_be_bytes());
    frame.extend(body);
    frame
}

fn decode(name: &str, frame: &[u8]) -> Value {
    let descriptor = message(name).or_else(|| message("Empty")).unwrap();
    let body = frame.get(5..).expect("an answer in a frame");
    let message = descriptor.parse_from_bytes(body).unwrap();
    let options = PrintOptions {
        proto_field_name: true,
        always_output_default_values: true,
        ..PrintOptions::default()
    };
    serde_json::from_str(&print_to_string_with_options(&*message, &options).unwrap()).unwrap()
}

/// One connection for one call: there are few of them, and containerd may have been restarted in between.
async fn exchange(socket: &Path, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let (client, connection) = h2::client::Builder::new().handshake(stream).await.unwrap();
    // It ends with the runtime; where it fails, so does the call.
    tokio::spawn(connection);
    converse(client, path, body).await
}

async fn converse(client: SendRequest<Cursor<Vec<u8>>>, path: &str, body: Vec<u8>) -> Result<Vec<u8>, Status> {
    let request = http::Request::post(path)
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())
        .unwrap();
    let mut client = client.ready().await.unwrap();
    let (response, mut send) = client.send_request(request, false).unwrap();
    send.send_data(Cursor::new(body), true).unwrap();
    let (head, mut stream) = response.await.unwrap().into_parts();
    let mut answer = Vec::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.unwrap();
        stream.flow_control().release_capacity(chunk.len()).unwrap();
        answer.extend_from_slice(&chunk);
    }
    // Where there is no body, the status comes with the head.
    let trailers = stream.trailers().await.unwrap().unwrap_or(head.headers);
    let text = |key: &str| {
        trailers
            .get(key)
            .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
    };
    match text("grpc-status").expect("a status").parse().unwrap() {
        0 => Ok(answer),
        code => Err(Status {
            code,
            message: unescape(&text("grpc-message").unwrap_or_default()),
        }),
    }
}

/// Undoes the `%` of gRPC's messages.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits: Vec<u8> = rest.by_ref().take(2).collect();
        let digits = std::str::from_utf8(&digits).unwrap();
        bytes.push(u8::from_str_radix(digits, 16).unwrap());
    }
    String::from_utf8(bytes).unwrap()
}
