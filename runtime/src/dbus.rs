//! As much of D-Bus as asking systemd for a unit takes: one call after another, each with its answer
//! (dbus.freedesktop.org/doc/dbus-specification.html).

mod answer;

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

pub(crate) use answer::Fault;
use answer::{Answer, Reader, SIGNATURE, malformed};

/// Who is called: the same object whether a bus lies between or not.
pub(crate) struct Object {
    pub(crate) destination: &'static str,
    pub(crate) path: &'static str,
    pub(crate) interface: &'static str,
}

const THE_BUS: Object = Object {
    destination: "org.freedesktop.DBus",
    path: "/org/freedesktop/DBus",
    interface: "org.freedesktop.DBus",
};

/// A value whose type is told with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bool(bool),
    Number(u64),
    Text(String),
    /// Short numbers, as process ids are.
    Numbers(Vec<u32>),
    /// A set of small numbers, as CPUs are: a bit for each.
    Bytes(Vec<u8>),
}

impl Value {
    const fn signature(&self) -> &'static str {
        match self {
            Self::Bool(_) => "b",
            Self::Number(_) => "t",
            Self::Text(_) => "s",
            Self::Numbers(_) => "au",
            Self::Bytes(_) => "ay",
        }
    }
}

/// Arguments, or a message's header, as they are sent: little-endian, each aligned to its size.
#[derive(Default)]
pub(crate) struct Body {
    signature: String,
    bytes: Vec<u8>,
}

impl Body {
    #[must_use]
    pub(crate) fn text(mut self, text: &str) -> Self {
        self.signature.push('s');
        self.put_text(text);
        self
    }

    #[must_use]
    pub(crate) fn bool(mut self, value: bool) -> Self {
        self.signature.push('b');
        self.put_u32(value.into());
        self
    }

    /// Short numbers, as process ids are.
    #[must_use]
    pub(crate) fn numbers(mut self, all: &[u32]) -> Self {
        self.signature.push_str("au");
        self.put_numbers(all);
        self
    }

    /// A list of names, each with its value.
    #[must_use]
    pub(crate) fn properties(mut self, all: &[(&str, Value)]) -> Self {
        self.signature.push_str("a(sv)");
        self.put_array(8, |body| {
            for (name, value) in all {
                body.align(8);
                body.put_text(name);
                body.put_variant(value);
            }
        });
        self
    }

    /// An empty list of units that are made beside the one asked for.
    #[must_use]
    pub(crate) fn no_others(mut self) -> Self {
        self.signature.push_str("a(sa(sv))");
        self.put_array(8, |_| {});
        self
    }

    fn align(&mut self, to: usize) {
        self.bytes.resize(self.bytes.len().next_multiple_of(to), 0);
    }

    fn put_u32(&mut self, value: u32) {
        self.align(4);
        self.bytes.extend(value.to_le_bytes());
    }

    fn put_text(&mut self, text: &str) {
        self.put_u32(length(text.len()));
        self.bytes.extend(text.as_bytes());
        self.bytes.push(0);
    }

    fn put_signature(&mut self, signature: &str) {
        self.bytes.push(u8::try_from(signature.len()).unwrap_or(u8::MAX));
        self.bytes.extend(signature.as_bytes());
        self.bytes.push(0);
    }

    fn put_variant(&mut self, value: &Value) {
        self.put_signature(value.signature());
        match value {
            Value::Bool(value) => self.put_u32((*value).into()),
            Value::Number(value) => {
                self.align(8);
                self.bytes.extend(value.to_le_bytes());
            }
            Value::Text(text) => self.put_text(text),
            Value::Numbers(all) => self.put_numbers(all),
            Value::Bytes(all) => self.put_array(1, |body| body.bytes.extend(all)),
        }
    }

    fn put_numbers(&mut self, all: &[u32]) {
        self.put_array(4, |body| all.iter().for_each(|n| body.put_u32(*n)));
    }

    /// The length counts neither itself nor what aligns the first element.
    fn put_array(&mut self, align: usize, elements: impl FnOnce(&mut Self)) {
        self.put_u32(0);
        let at = self.bytes.len();
        self.align(align);
        let first = self.bytes.len();
        elements(self);
        let size = length(self.bytes.len() - first).to_le_bytes();
        self.bytes[at - 4..at].copy_from_slice(&size);
    }
}

/// What is sent here is short.
fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

const CALL: u8 = 1;

/// Fields of a header.
const PATH: u8 = 1;
const INTERFACE: u8 = 2;
const MEMBER: u8 = 3;
const DESTINATION: u8 = 6;

/// Answers are short, too; the specification would let them be 128 MiB.
const LARGEST: usize = 1 << 20;

/// A connection, to a bus or to systemd itself.
pub(crate) struct Connection {
    stream: UnixStream,
    serial: u32,
}

impl Connection {
    /// To a bus.
    ///
    /// # Errors
    /// Nobody listens there, or does not want us.
    pub(crate) fn to_bus(socket: &Path, patience: Duration) -> io::Result<Self> {
        let mut connection = Self::direct(socket, patience)?;
        // It takes no call from who has not said this.
        let welcome = connection.call(&THE_BUS, "Hello", &Body::default())?;
        welcome.map_err(|fault| io::Error::other(fault.text))?;
        Ok(connection)
    }

    /// To a program without a bus in between.
    ///
    /// # Errors
    /// The same.
    pub(crate) fn direct(socket: &Path, patience: Duration) -> io::Result<Self> {
        let mut stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        // Who we are is what the kernel says of the socket: nothing is claimed («EXTERNAL», with no identity).
        stream.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n")?;
        if line(&mut stream)? != "DATA" || !line(&mut stream)?.starts_with("OK ") {
            return Err(io::Error::from(io::ErrorKind::PermissionDenied));
        }
        Ok(Self { stream, serial: 0 })
    }

    /// Calls, and waits for the answer.
    ///
    /// # Errors
    /// The connection's. A fault is an answer.
    pub(crate) fn call(&mut self, object: &Object, member: &str, body: &Body) -> io::Result<Result<(), Fault>> {
        self.serial += 1;
        self.stream.write_all(&message(self.serial, object, member, body))?;
        loop {
            let answer = self.receive()?;
            if answer.to == Some(self.serial) {
                return Ok(answer.result);
            }
            // A signal, which nobody asked for.
        }
    }

    fn receive(&mut self) -> io::Result<Answer> {
        let mut fixed = [0; 16];
        self.stream.read_exact(&mut fixed)?;
        let mut read = Reader { bytes: &fixed, at: 4 };
        let (body, _, fields) = (read.size()?, read.size()?, read.size()?);
        let header = fields.next_multiple_of(8);
        if fixed[0] != b'l' || header.saturating_add(body) > LARGEST {
            return Err(malformed());
        }
        let mut rest = vec![0; header + body];
        self.stream.read_exact(&mut rest)?;
        let (fields, body) = (&rest[..fields], &rest[header..]);
        Answer::parse(fixed[1], fields, body)
    }
}

/// One line of the greeting.
fn line(stream: &mut UnixStream) -> io::Result<String> {
    let mut text = Vec::new();
    // Not buffered: what comes after it is another's to read.
    while !text.ends_with(b"\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        text.push(byte[0]);
        if text.len() > 512 {
            return Err(malformed());
        }
    }
    text.truncate(text.len() - 2);
    String::from_utf8(text).map_err(|_| malformed())
}

fn message(serial: u32, object: &Object, member: &str, body: &Body) -> Vec<u8> {
    let mut out = Body::default();
    out.bytes.extend([b'l', CALL, 0, 1]);
    out.put_u32(length(body.bytes.len()));
    out.put_u32(serial);
    out.put_array(8, |header| {
        let mut field = |code: u8, signature: &str, value: &str| {
            header.align(8);
            header.bytes.push(code);
            header.put_signature(signature);
            if signature == "g" {
                header.put_signature(value);
            } else {
                header.put_text(value);
            }
        };
        field(PATH, "o", object.path);
        field(INTERFACE, "s", object.interface);
        field(MEMBER, "s", member);
        field(DESTINATION, "s", object.destination);
        if !body.signature.is_empty() {
            field(SIGNATURE, "g", &body.signature);
        }
    });
    out.align(8);
    out.bytes.extend(&body.bytes);
    out.bytes
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::answer::*;
    use super::*;

    /// By the specification's rules, byte by byte.
    #[test]
    fn values_are_laid_out_as_specified() {
        let body = Body::default().text("ab").bool(true);
        assert_eq!(body.signature, "sb");
        assert_eq!(body.bytes, b"\x02\0\0\0ab\0\0\x01\0\0\0");

        let body = Body::default().text("/").numbers(&[5, 6]);
        assert_eq!(body.signature, "sau");
        assert_eq!(body.bytes, b"\x01\0\0\0/\0\0\0\x08\0\0\0\x05\0\0\0\x06\0\0\0");

        let body = Body::default().properties(&[("A", Value::Number(7)), ("B", Value::Numbers(vec![5]))]);
        assert_eq!(body.signature, "a(sv)");
        let expected = [
            // Length without the four bytes that align the first element.
            &b"\x2c\0\0\0\0\0\0\0"[..],
            b"\x01\0\0\0A\0\x01t\0\0\0\0\0\0\0\0\x07\0\0\0\0\0\0\0",
            b"\x01\0\0\0B\0\x02au\0\0\0\x04\0\0\0\x05\0\0\0",
        ];
        assert_eq!(body.bytes, expected.concat());
        assert_eq!(Body::default().no_others().bytes, [0; 8]);

        let body = Body::default().properties(&[("C", Value::Bytes(vec![5]))]);
        assert_eq!(body.bytes, b"\x11\0\0\0\0\0\0\0\x01\0\0\0C\0\x02ay\0\0\0\x01\0\0\0\x05");
    }

    /// A field of a header.
    fn field(code: u8, signature: &str, value: &[u8]) -> Vec<u8> {
        let mut bytes = vec![code, 1];
        bytes.extend(signature.as_bytes());
        bytes.push(0);
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    #[test]
    fn a_fault_is_told_by_its_name() {
        let fields = [
            field(REPLY_SERIAL, "u", &9_u32.to_le_bytes()),
            field(ERROR_NAME, "s", b"\x03\0\0\0a.b\0"),
            field(SIGNATURE, "g", b"\x01s\0"),
        ];
        let answer = Answer::parse(ERROR, &fields.concat(), b"\x02\0\0\0no\0").unwrap();
        assert_eq!(answer.to, Some(9));
        let fault = answer.result.unwrap_err();
        assert_eq!((fault.name.as_str(), fault.text.as_str()), ("a.b", "no"));
        // A signal answers nobody, whatever it carries.
        assert_eq!(Answer::parse(4, &fields[0], b"").unwrap().to, None);
        assert!(Answer::parse(RETURN, &fields[0], b"").unwrap().result.is_ok());
    }

    #[test]
    fn what_is_shorter_than_it_says_is_an_error() {
        let whole = field(ERROR_NAME, "s", b"\x03\0\0\0a.b\0");
        for end in 1..12 {
            assert!(Answer::parse(ERROR, &whole[..end], b"").is_err(), "{end}");
        }
        let lies = field(ERROR_NAME, "s", b"\xff\xff\xff\xffa\0");
        assert!(Answer::parse(ERROR, &lies, b"").is_err());
        assert!(Answer::parse(ERROR, &field(9, "x", &[0; 8]), b"").is_err());
    }

    /// Somebody who speaks as a bus does.
    #[test]
    fn a_call_waits_for_its_own_answer() {
        let dir = std::env::temp_dir().join(format!("gabion-dbus-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let socket = dir.join("bus");
        let listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        let bus = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut greeting = [0; 29];
            stream.read_exact(&mut greeting).unwrap();
            stream.write_all(b"DATA\r\nOK 0123\r\n").unwrap();
            let mut seen = Vec::new();
            for serial in 1_u32..=2 {
                let mut fixed = [0; 16];
                stream.read_exact(&mut fixed).unwrap();
                let number = |at: usize| u32::from_le_bytes(fixed[at..at + 4].try_into().unwrap()) as usize;
                let mut rest = vec![0; number(12).next_multiple_of(8) + number(4)];
                stream.read_exact(&mut rest).unwrap();
                seen.push(String::from_utf8_lossy(&rest).into_owned());
                let signal = field(MEMBER, "s", b"\x01\0\0\0x\0");
                let reply = field(REPLY_SERIAL, "u", &serial.to_le_bytes());
                for (kind, fields) in [(4, signal), (RETURN, reply)] {
                    let mut out = vec![b'l', kind, 0, 1, 0, 0, 0, 0, 7, 0, 0, 0];
                    out.extend(length(fields.len()).to_le_bytes());
                    out.extend(fields);
                    stream.write_all(&out).unwrap();
                }
            }
            seen
        });
        let mut connection = Connection::to_bus(&socket, Duration::from_secs(20)).unwrap();
        let body = Body::default().text("the-unit");
        let answer = connection.call(&THE_BUS, "Ask", &body).unwrap();
        assert_eq!(answer, Ok(()));
        let seen = bus.join().unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        assert!(seen[0].contains("Hello"));
        assert!(seen[1].contains("Ask") && seen[1].contains("the-unit"));
    }
}
