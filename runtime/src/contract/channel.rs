//! What the runtime and the container's first process say to each other while the container is made.
//!
//! One SEQPACKET pair: a message is a tag byte and its content. The end of the stream is a message too: the other side died.

use std::io::IoSlice;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair};
use serde::{Deserialize, Serialize};

use crate::wait;
use gabion_see::error::{Error, Result, Step};

/// The longest message, bytes: an error's line.
const MAX: usize = 16 << 10;

/// A message, in either direction.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message {
    /// To the child: cgroup and id mappings stand.
    Go,
    /// To the parent: namespaces and mounts stand, run the hooks of the runtime's namespaces.
    RunHooks,
    /// To the child.
    HooksRan,
    /// To the parent, from an intermediate process: the first process has this pid.
    Pid(i32),
    /// To the parent, from an intermediate process: the cgroup that it is in takes no further process.
    Full,
    /// To the parent: what had to be verified before `create` returns is.
    Ready,
    /// To the parent.
    Failed(Report),
}

impl Message {
    /// Gives what is sent, for a process that does nothing but send it.
    pub(crate) fn bytes(&self) -> Result<Vec<u8>> {
        encode(self)
    }
}

/// An error on its way out of the container's first process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl From<&Error> for Report {
    fn from(error: &Error) -> Self {
        let mut message = error.to_string();
        if message.len() > MAX / 4 {
            let cut = (0..=MAX / 4).rev().find(|i| message.is_char_boundary(*i)).unwrap_or(0);
            message.truncate(cut);
        }
        Self {
            code: error.code(),
            message,
        }
    }
}

impl From<Report> for Error {
    fn from(report: Report) -> Self {
        Self::Child {
            code: report.code,
            message: report.message,
        }
    }
}

/// One end.
#[derive(Debug)]
pub(crate) struct Channel {
    socket: OwnedFd,
}

impl Channel {
    /// Both ends, close-on-exec.
    pub(crate) fn pair() -> Result<(Self, Self)> {
        let (a, b) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)
            .map_err(Step::Channel.failing("make a socket pair"))?;
        Ok((Self { socket: a }, Self { socket: b }))
    }

    pub(crate) fn send(&self, message: &Message) -> Result<()> {
        self.send_fds(message, &[])
    }

    /// Sends a message with descriptors (SCM_RIGHTS).
    pub(crate) fn send_fds(&self, message: &Message, fds: &[BorrowedFd<'_>]) -> Result<()> {
        let bytes = encode(message)?;
        let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&raw)];
        let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
        // MSG_NOSIGNAL: a dead peer is an error here, not a signal.
        sendmsg::<()>(
            self.socket.as_raw_fd(),
            &[IoSlice::new(&bytes)],
            control,
            MsgFlags::MSG_NOSIGNAL,
            None,
        )
        .map_err(Step::Channel.failing("send to the other side"))?;
        Ok(())
    }

    /// Sends a message by write(2): under a profile of the workload's any other call may be forbidden, or somebody else's to answer. A dead peer
    /// ends us (SIGPIPE), as it should where nobody else will.
    pub(crate) fn write(&self, message: &Message) -> Result<()> {
        nix::unistd::write(&self.socket, &encode(message)?)
            .map(drop)
            .map_err(Step::Channel.failing("send to the other side"))
    }

    /// The next message, or None when the other side is gone.
    pub(crate) fn receive(&self) -> Result<Option<(Message, Vec<OwnedFd>)>> {
        let mut buffer = vec![0_u8; MAX];
        let (length, fds) = match gabion_sys::receive(self.socket.as_fd(), &mut buffer) {
            // The other side died with a message of ours unread.
            Err(Errno::ECONNRESET) => return Ok(None),
            other => other.map_err(Step::Channel.failing("hear from the other side"))?,
        };
        if length == 0 {
            return Ok(None);
        }
        decode(&buffer[..length]).map(|m| Some((m, fds)))
    }

    /// The same in the runtime, whose caller waits for it: within so long (None: a hook has its own bound, or its owner wants none),
    /// and not if the runtime is told to end.
    pub(crate) fn hear(&self, patience: Option<Duration>) -> Result<Option<(Message, Vec<OwnedFd>)>> {
        wait::readable(self.as_fd(), patience)?;
        self.receive()
    }

    /// The next message must be this one.
    pub(crate) fn expect(&self, wanted: &Message) -> Result<()> {
        must_be(wanted, self.receive()?)
    }

    /// The same in the runtime.
    pub(crate) fn expect_within(&self, wanted: &Message, patience: Option<Duration>) -> Result<()> {
        must_be(wanted, self.hear(patience)?)
    }
}

impl AsFd for Channel {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn must_be(wanted: &Message, got: Option<(Message, Vec<OwnedFd>)>) -> Result<()> {
    match got {
        Some((message, _)) if message == *wanted => Ok(()),
        Some((Message::Failed(report), _)) => Err(report.into()),
        Some((other, _)) => Err(Error::failed(
            Step::Channel,
            format!("expected {wanted:?}, got {other:?}"),
        )),
        None => Err(Error::failed(Step::Channel, "the other side ended without a word")),
    }
}

fn encode(message: &Message) -> Result<Vec<u8>> {
    let mut bytes = vec![match message {
        Message::Go => b'G',
        Message::RunHooks => b'H',
        Message::HooksRan => b'D',
        Message::Pid(_) => b'P',
        Message::Full => b'F',
        Message::Ready => b'R',
        Message::Failed(_) => b'E',
    }];
    match message {
        Message::Pid(pid) => bytes.extend_from_slice(&pid.to_ne_bytes()),
        Message::Failed(report) => serde_json::to_writer(&mut bytes, report)
            .map_err(|e| Error::failed(Step::Channel, format!("cannot encode a report: {e}")))?,
        _ => {}
    }
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Message> {
    let bad = || Error::failed(Step::Channel, "a message that is none of ours");
    let (tag, content) = bytes.split_first().ok_or_else(bad)?;
    match tag {
        b'G' => Ok(Message::Go),
        b'H' => Ok(Message::RunHooks),
        b'D' => Ok(Message::HooksRan),
        b'R' => Ok(Message::Ready),
        b'F' => Ok(Message::Full),
        b'P' => content
            .try_into()
            .map(|b| Message::Pid(i32::from_ne_bytes(b)))
            .map_err(|_| bad()),
        b'E' => serde_json::from_slice(content).map(Message::Failed).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_as_sent() {
        let (a, b) = Channel::pair().unwrap();
        let report = Report {
            code: "step.mounts".to_owned(),
            message: "no".to_owned(),
        };
        for message in [
            Message::Go,
            Message::RunHooks,
            Message::HooksRan,
            Message::Pid(7),
            Message::Full,
            Message::Ready,
            Message::Failed(report),
        ] {
            a.send(&message).unwrap();
            assert_eq!(b.receive().unwrap().unwrap().0, message);
        }
        drop(a);
        assert!(b.receive().unwrap().is_none());
    }

    #[test]
    fn a_failure_in_place_of_what_was_expected_is_that_failure() {
        let (a, b) = Channel::pair().unwrap();
        a.send(&Message::Failed(Report {
            code: "seccomp.x".into(),
            message: "why".into(),
        }))
        .unwrap();
        let error = b.expect(&Message::Ready).unwrap_err();
        assert_eq!(
            (error.code().as_str(), error.to_string().as_str()),
            ("seccomp.x", "why")
        );
    }
}
