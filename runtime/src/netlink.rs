//! As much of rtnetlink(7) as moving a network device takes: messages out, answers in.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, socket};

pub(crate) const GETLINK: u16 = 18;
pub(crate) const SETLINK: u16 = 19;
pub(crate) const NEWADDR: u16 = 20;
pub(crate) const GETADDR: u16 = 22;

pub(crate) const IFLA_IFNAME: u16 = 3;
pub(crate) const IFLA_NET_NS_FD: u16 = 28;

/// Every address or link there is, not one.
pub(crate) const DUMP: u16 = 0x300;
/// A new one, which must not be there.
pub(crate) const CREATE: u16 = 0x600;

const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const ERROR: u16 = 2;
const DONE: u16 = 3;
/// Length, type, flags, sequence, port (struct nlmsghdr).
const HEADER: usize = 16;

/// The fixed part of a message about a link (struct ifinfomsg): which one, by number, and flags to set.
pub(crate) fn link(index: i32, flags: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    bytes.extend(index.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes
}

/// Appends an attribute, aligned.
pub(crate) fn attribute(body: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(value.len() + 4).unwrap_or(u16::MAX);
    body.extend(length.to_ne_bytes());
    body.extend(kind.to_ne_bytes());
    body.extend(value);
    body.resize(body.len().next_multiple_of(4), 0);
}

/// The attributes after the fixed part of a message.
pub(crate) fn attributes(mut rest: &[u8]) -> Vec<(u16, &[u8])> {
    let mut found = Vec::new();
    while let (Some(length), Some(kind)) = (number(rest, 0), number(rest, 2)) {
        let length = usize::from(length);
        let Some(value) = rest.get(4..length) else { break };
        found.push((kind, value));
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    found
}

fn number(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// A socket into the network namespace in which it was made.
pub(crate) struct Netlink(OwnedFd);

impl Netlink {
    pub(crate) fn new() -> nix::Result<Self> {
        let protocol = SockProtocol::NetlinkRoute;
        socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map(Self)
    }

    /// Asks, and gives the bodies of the answers.
    ///
    /// # Errors
    /// The kernel's own; EBADMSG for an answer that is none.
    pub(crate) fn ask(&self, kind: u16, flags: u16, body: &[u8]) -> nix::Result<Vec<Vec<u8>>> {
        let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EMSGSIZE)?;
        let mut message = length.to_ne_bytes().to_vec();
        message.extend(kind.to_ne_bytes());
        message.extend((REQUEST | ACK | flags).to_ne_bytes());
        message.extend([0; 8]);
        message.extend(body);
        let fd = self.0.as_raw_fd();
        sendto(fd, &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let mut answers = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = recv(fd, &mut buffer, MsgFlags::empty())?;
            let mut rest = buffer.get(..count).ok_or(Errno::EBADMSG)?;
            while !rest.is_empty() {
                let length = word(rest, 0)
                    .and_then(|n| usize::try_from(n).ok())
                    .ok_or(Errno::EBADMSG)?;
                let body = rest.get(HEADER..length).ok_or(Errno::EBADMSG)?;
                match number(rest, 4).ok_or(Errno::EBADMSG)? {
                    ERROR => {
                        let code = word(body, 0).ok_or(Errno::EBADMSG)?.cast_signed();
                        return if code == 0 {
                            Ok(answers)
                        } else {
                            Err(Errno::from_raw(-code))
                        };
                    }
                    DONE => return Ok(answers),
                    _ => answers.push(body.to_vec()),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_read_as_they_are_written() {
        let mut body = Vec::new();
        attribute(&mut body, IFLA_IFNAME, b"eth0\0");
        attribute(&mut body, 7, &[1, 2, 3, 4]);
        assert_eq!(attributes(&body), [(IFLA_IFNAME, &b"eth0\0"[..]), (7, &[1, 2, 3, 4])]);
        // A length beyond the end, or below its own header, is not followed.
        assert!(attributes(&[200, 0, 1, 0, 9]).is_empty());
        assert!(attributes(&[0, 0, 1, 0]).is_empty());
    }

    #[test]
    fn the_kernel_answers() {
        let netlink = Netlink::new().unwrap();
        let mut body = link(0, 0);
        attribute(&mut body, IFLA_IFNAME, b"lo\0");
        let answers = netlink.ask(GETLINK, 0, &body).unwrap();
        assert!(
            answers
                .iter()
                .any(|a| attributes(a.get(16..).unwrap()).contains(&(IFLA_IFNAME, b"lo\0")))
        );
        assert!(netlink.ask(GETADDR, DUMP, &[0; 8]).is_ok());
        let mut body = link(0, 0);
        attribute(&mut body, IFLA_IFNAME, b"no-such-device\0");
        assert_eq!(netlink.ask(GETLINK, 0, &body).unwrap_err(), Errno::ENODEV);
    }
}
