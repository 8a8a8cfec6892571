//! What Exec and Attach give a URL for: a WebSocket on which each message begins with the number of its stream.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;

use serde_json::Value;

use super::common::host::{SOON, patient};

/// The number of the stream that ends with how the process ended.
const STATUS: u8 = 3;

/// An open exec or attach.
pub struct Stream {
    reader: BufReader<TcpStream>,
    /// What has come so far on each stream.
    seen: BTreeMap<u8, Vec<u8>>,
    open: bool,
}

impl Stream {
    pub fn open(url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("an address on this machine");
        let (host, path) = rest.split_once('/').unwrap();
        let mut socket = TcpStream::connect(host).unwrap();
        socket.set_read_timeout(Some(patient(SOON))).unwrap();
        write!(
            socket,
            "GET /{path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: Z2FiaW9uLWdhYmlvbi1nYQ==\r\nOrigin: http://{host}\r\n\
             Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n"
        )
        .unwrap();
        let mut reader = BufReader::new(socket);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(reader.read_line(&mut head).unwrap(), 0, "{head}");
        }
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        Self {
            reader,
            seen: BTreeMap::new(),
            open: true,
        }
    }

    /// Sends to the process's stdin.
    pub fn write(&mut self, text: &str) {
        let mut frame = vec![0x82];
        let length = u8::try_from(text.len() + 1).unwrap();
        assert!(length < 126, "one short frame");
        // Masked, as a client must, by a mask that changes nothing.
        frame.extend([0x80 | length, 0, 0, 0, 0, 0]);
        frame.extend(text.as_bytes());
        self.reader.get_mut().write_all(&frame).unwrap();
    }

    /// What a stream has given so far.
    pub fn text(&self, stream: u8) -> String {
        String::from_utf8_lossy(self.seen.get(&stream).map_or(&[], Vec::as_slice)).into_owned()
    }

    /// Reads until stdout has `text`.
    pub fn until(&mut self, text: &str) {
        while !self.text(1).contains(text) {
            assert!(self.open, "the end came before {text:?}: {:?}", self.seen);
            self.frame();
        }
    }

    /// Reads to the end; gives how the process ended.
    pub fn status(&mut self) -> Value {
        while self.open && !self.seen.contains_key(&STATUS) {
            self.frame();
        }
        serde_json::from_str(&self.text(STATUS)).unwrap_or_else(|error| panic!("{error}: {:?}", self.seen))
    }

    fn frame(&mut self) {
        let mut head = [0; 2];
        self.reader.read_exact(&mut head).unwrap();
        let length = match head[1] & 0x7f {
            126 => {
                let mut long = [0; 2];
                self.reader.read_exact(&mut long).unwrap();
                u64::from(u16::from_be_bytes(long))
            }
            127 => {
                let mut long = [0; 8];
                self.reader.read_exact(&mut long).unwrap();
                u64::from_be_bytes(long)
            }
            short => u64::from(short),
        };
        let mut body = vec![0; usize::try_from(length).unwrap()];
        self.reader.read_exact(&mut body).unwrap();
        match head[0] & 0x0f {
            8 => self.open = false,
            1 | 2 if !body.is_empty() => self.seen.entry(body[0]).or_default().extend(&body[1..]),
            _ => {}
        }
    }
}
