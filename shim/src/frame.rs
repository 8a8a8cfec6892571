//! ttrpc's framing over a watched socket: ten bytes of header, then the message.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;

use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::ttrpc::proto::{
    MESSAGE_HEADER_LENGTH, MESSAGE_LENGTH_MAX, MESSAGE_TYPE_REQUEST, MESSAGE_TYPE_RESPONSE, MessageHeader,
};

use crate::budget::{Budget, Share};
use crate::error::{Error, Result};
use crate::sync::Lock;
use crate::watched::Watched;

/// The length up to which a frame is read at once; longer ones grow as they come, so a header alone costs nothing.
const STEP: usize = 64 * 1024;

/// What a frame carries.
pub enum Frame {
    /// A call: its stream, the request's bytes, and their share of the budget.
    Request(u32, Vec<u8>, Share),
    /// An answer: its stream and the response's bytes.
    Response(u32, Vec<u8>),
    /// A call of more bytes than ttrpc allows; they have been skipped.
    TooLong(u32),
    /// A call of more bytes than the budget has left; they have been skipped.
    TooMuch(u32),
    /// A type that unary calls do not use; skipped.
    Other,
}

/// One connection; many tasks may send.
#[derive(Clone)]
pub struct Connection {
    socket: Rc<Watched>,
    sending: Rc<Lock>,
    budget: Budget,
}

/// The bytes of a frame's body, as far as they could be had.
enum Body {
    Whole(Vec<u8>, Share),
    /// The budget was used up: so many bytes are still to be read.
    Left(usize),
    /// The peer has closed.
    Closed,
}

impl Connection {
    /// A connection over `socket`. What its frames hold is taken from `budget`.
    pub fn new(socket: OwnedFd, budget: &Budget) -> Result<Self> {
        let socket = Watched::new(socket).map_err(|error| Error::system("watching a socket", error))?;
        Ok(Self {
            socket: Rc::new(socket),
            sending: Rc::default(),
            budget: budget.clone(),
        })
    }

    /// The next frame; `None` when the peer has closed.
    pub async fn read(&self) -> Result<Option<Frame>> {
        let mut header = vec![0; MESSAGE_HEADER_LENGTH];
        if !self.fill(&mut header, 0).await? {
            return Ok(None);
        }
        let header = MessageHeader::from(header);
        let length = usize::try_from(header.length).map_err(|_| Error::Frame("length"))?;
        if length > MESSAGE_LENGTH_MAX {
            self.skip(length).await?;
            return Ok(Some(Frame::TooLong(header.stream_id)));
        }
        let (body, share) = match self.body(length).await? {
            Body::Whole(body, share) => (body, share),
            Body::Left(rest) => {
                self.skip(rest).await?;
                return Ok(Some(Frame::TooMuch(header.stream_id)));
            }
            Body::Closed => return Ok(None),
        };
        Ok(Some(match header.type_ {
            MESSAGE_TYPE_REQUEST => Frame::Request(header.stream_id, body, share),
            MESSAGE_TYPE_RESPONSE => Frame::Response(header.stream_id, body),
            _ => Frame::Other,
        }))
    }

    /// Reads a body step by step, each paid for before it is read.
    async fn body(&self, length: usize) -> Result<Body> {
        let mut share = self.budget.share();
        let (mut bytes, mut filled) = (Vec::new(), 0);
        while filled < length {
            let step = length.min(filled + STEP);
            if !share.resize(step) {
                return Ok(Body::Left(length - filled));
            }
            bytes.resize(step, 0);
            if !self.fill(&mut bytes, filled).await? {
                return Ok(Body::Closed);
            }
            filled = step;
        }
        Ok(Body::Whole(bytes, share))
    }

    /// Fills `bytes` from the place `filled` on; false if the peer closes before that.
    async fn fill(&self, bytes: &mut [u8], mut filled: usize) -> Result<bool> {
        while filled < bytes.len() {
            let rest = bytes.get_mut(filled..).unwrap_or_default();
            match self.read_some(rest).await? {
                0 => return Ok(false),
                count => filled += count,
            }
        }
        Ok(true)
    }

    async fn skip(&self, mut length: usize) -> Result<()> {
        let mut waste = vec![0; 4096];
        while length > 0 {
            let part = waste.get_mut(..length.min(4096)).unwrap_or_default();
            match self.read_some(part).await? {
                0 => return Ok(()),
                count => length = length.saturating_sub(count),
            }
        }
        Ok(())
    }

    async fn read_some(&self, buffer: &mut [u8]) -> Result<usize> {
        let read = self
            .socket
            .ready(|fd| Ok(nix::unistd::read(fd.as_raw_fd(), buffer)?))
            .await;
        match read {
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(0),
            result => result.map_err(|error| Error::system("reading from containerd", error)),
        }
    }

    /// Sends an answer on `stream`.
    pub async fn respond(&self, stream: u32, message: &impl Message) -> Result<()> {
        self.send(message, |length| MessageHeader::new_response(stream, length))
            .await
    }

    /// Sends a call on `stream`.
    pub async fn request(&self, stream: u32, message: &impl Message) -> Result<()> {
        self.send(message, |length| MessageHeader::new_request(stream, length))
            .await
    }

    async fn send(&self, message: &impl Message, header: impl Fn(u32) -> MessageHeader) -> Result<()> {
        let body = message.write_to_bytes()?;
        if body.len() > MESSAGE_LENGTH_MAX {
            return Err(Error::Frame("a message of more than 4 MiB cannot be sent"));
        }
        let mut bytes: Vec<u8> = header(u32::try_from(body.len()).unwrap_or(u32::MAX)).into();
        bytes.extend(body);
        let _turn = self.sending.lock().await;
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let written = self.socket.ready(|fd| Ok(nix::unistd::write(fd, rest)?)).await;
            let count = written.map_err(|error| Error::system("writing to containerd", error))?;
            rest = rest.get(count..).unwrap_or_default();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use containerd_shim_protos::ttrpc::Request;
    use std::io::Write;
    use std::os::unix::net::UnixStream;

    #[test]
    fn frames_come_whole_and_long_ones_are_skipped() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let feeder = std::thread::spawn(move || {
            let mut header: Vec<u8> = MessageHeader::new_request(3, 5 << 20).into();
            header.extend(vec![0; 5 << 20]);
            header.extend(Vec::<u8>::from(MessageHeader::new_request(5, 2)));
            header.extend([0x0a, 0x00]);
            for piece in header.chunks(70_001) {
                ours.write_all(piece).unwrap();
            }
        });
        crate::reactor::run(async move {
            let connection = Connection::new(theirs.into(), &Budget::new(STEP)).unwrap();
            assert!(matches!(connection.read().await.unwrap(), Some(Frame::TooLong(3))));
            let Some(Frame::Request(5, bytes, _)) = connection.read().await.unwrap() else {
                panic!("request expected")
            };
            Request::parse_from_bytes(&bytes).unwrap();
            assert!(connection.read().await.unwrap().is_none());
        })
        .unwrap();
        feeder.join().unwrap();
    }

    #[test]
    fn frames_of_all_connections_share_one_budget() {
        let budget = Budget::new(2 * STEP);
        let pair = || UnixStream::pair().unwrap();
        let [(mut first, one), (mut second, two)] = [pair(), pair()];
        let frame = |stream, length: usize| {
            let mut bytes: Vec<u8> = MessageHeader::new_request(stream, u32::try_from(length).unwrap()).into();
            bytes.resize(bytes.len() + length, 0);
            bytes
        };
        let feeder = std::thread::spawn(move || {
            first.write_all(&frame(1, STEP + 1)).unwrap();
            second.write_all(&frame(1, STEP + 1)).unwrap();
            second.write_all(&frame(3, 10)).unwrap();
        });
        crate::reactor::run(async move {
            let [one, two] = [one, two].map(|socket| Connection::new(socket.into(), &budget).unwrap());
            let held = one.read().await.unwrap();
            assert!(matches!(held, Some(Frame::Request(1, _, _))));
            // The second one has room for its first step only; then it is skipped, and the connection goes on.
            assert!(matches!(two.read().await.unwrap(), Some(Frame::TooMuch(1))));
            assert!(matches!(two.read().await.unwrap(), Some(Frame::Request(3, _, _))));
            drop(held);
            assert!(budget.take(2 * STEP).is_some(), "all is given back");
        })
        .unwrap();
        feeder.join().unwrap();
    }
}
