//! A client of a shim, as containerd is one: ttrpc over its socket.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::{Code, MessageHeader, Request, Response};

use super::host::{SOON, patient};

pub const V2: &str = "containerd.task.v2.Task";
pub const V3: &str = "containerd.task.v3.Task";

/// A connection, and the number of its next stream.
pub struct Client(UnixStream, u32);

impl Client {
    pub fn connect(socket: &std::path::Path) -> Self {
        let stream = UnixStream::connect(socket).unwrap();
        stream.set_read_timeout(Some(patient(SOON))).unwrap();
        Self(stream, 1)
    }

    pub fn raw(&mut self, service: &str, method: &str, payload: Vec<u8>) -> Result<Vec<u8>, (Code, String)> {
        let stream = self.send(service, method, payload);
        self.answer(stream)
    }

    /// A call whose answer is taken later.
    pub fn send(&mut self, service: &str, method: &str, payload: Vec<u8>) -> u32 {
        let request = Request {
            service: service.into(),
            method: method.into(),
            payload,
            ..Request::default()
        };
        self.frame(&request.write_to_bytes().unwrap())
    }

    /// Sends what is no frame.
    pub fn bytes(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    /// Sends bytes as a request; gives its stream's number.
    pub fn frame(&mut self, body: &[u8]) -> u32 {
        let stream = self.1;
        self.1 += 2;
        let mut bytes: Vec<u8> = MessageHeader::new_request(stream, body.len().try_into().unwrap()).into();
        bytes.extend(body);
        self.0.write_all(&bytes).unwrap();
        stream
    }

    pub fn answer(&mut self, stream: u32) -> Result<Vec<u8>, (Code, String)> {
        let mut header = [0; 10];
        self.0.read_exact(&mut header).unwrap();
        let header = MessageHeader::from(header);
        assert_eq!(header.stream_id, stream);
        let mut body = vec![0; header.length.try_into().unwrap()];
        self.0.read_exact(&mut body).unwrap();
        let response = Response::parse_from_bytes(&body).unwrap();
        match response.status.as_ref() {
            Some(status) if status.code() != Code::OK => Err((status.code(), status.message.clone())),
            _ => Ok(response.payload),
        }
    }

    pub fn call(&mut self, service: &str, method: &str, request: &impl Message) -> Result<Vec<u8>, (Code, String)> {
        self.raw(service, method, request.write_to_bytes().unwrap())
    }

    pub fn code(&mut self, method: &str, request: &impl Message) -> Code {
        self.call(V2, method, request).unwrap_err().0
    }
}
