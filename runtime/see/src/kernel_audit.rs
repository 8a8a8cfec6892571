//! Asks the kernel's audit whether it is on, (netlink(7), audit(8)).

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// AUDIT_GET.
const GET: u16 = 1000;
/// NLM_F_REQUEST.
pub const REQUEST: u16 = 1;
/// NLMSG_ERROR.
pub const ERROR: u16 = 2;
/// struct nlmsghdr.
pub const HEADER: usize = 16;

/// Gives the number at a place of an answer.
///
/// # Errors
/// The answer is shorter.
pub fn word(bytes: &[u8], at: usize) -> Result<u32, Errno> {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map(u32::from_ne_bytes).ok_or(Errno::EBADMSG)
}

/// Tells whether the kernel writes audit records.
///
/// # Errors
/// The kernel has no audit (EPROTONOSUPPORT), or does not answer us: CAP_AUDIT_CONTROL is needed, in the host's own user and pid namespaces.
pub fn is_on() -> Result<bool, Errno> {
    let (kind, answer) = ask(GET, REQUEST, &[])?;
    match kind {
        // struct audit_status: mask, enabled, … Locked (2) is on, too.
        GET => Ok(word(&answer, HEADER + 4)? != 0),
        ERROR => Err(Errno::from_raw(-word(&answer, HEADER)?.cast_signed())),
        _ => Err(Errno::EBADMSG),
    }
}

/// Sends one message, and gives the answer's type and bytes.
///
/// # Errors
/// The kernel has no audit (EPROTONOSUPPORT), or no answer.
pub fn ask(kind: u16, flags: u16, body: &[u8]) -> Result<(u16, Vec<u8>), Errno> {
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkAudit,
    )?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
    let length = u32::try_from(HEADER + body.len()).map_err(|_| Errno::EMSGSIZE)?;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(flags.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    message.extend(body);
    sendto(kernel.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = vec![0_u8; 16 << 10];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    answer.truncate(length);
    let kind = answer
        .get(4..6)
        .and_then(|two| two.try_into().ok())
        .map(u16::from_ne_bytes);
    Ok((kind.ok_or(Errno::EBADMSG)?, answer))
}
