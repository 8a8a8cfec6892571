//! Asks the kernel's audit whether it is on (netlink(7), audit(8)).

use std::os::fd::AsRawFd;

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

/// AUDIT_GET.
const GET: u16 = 1000;
const REQUEST: u16 = 1;
const ERROR: u16 = 2;
/// struct nlmsghdr.
const HEADER: usize = 16;

fn word(bytes: &[u8], at: usize) -> Result<u32, Errno> {
    let four = bytes.get(at..at + 4).and_then(|four| four.try_into().ok());
    four.map(u32::from_ne_bytes).ok_or(Errno::EBADMSG)
}

/// Tells whether the kernel writes audit records.
///
/// # Errors
/// The kernel has no audit (EPROTONOSUPPORT), or does not answer us: CAP_AUDIT_CONTROL is needed, in the host's own user and pid namespaces.
pub fn is_on() -> Result<bool, Errno> {
    let kernel = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkAudit,
    )?;
    setsockopt(&kernel, sockopt::ReceiveTimeout, &TimeVal::seconds(2))?;
    let mut message = Vec::with_capacity(HEADER);
    message.extend(u32::try_from(HEADER).map_err(|_| Errno::EMSGSIZE)?.to_ne_bytes());
    message.extend(GET.to_ne_bytes());
    message.extend(REQUEST.to_ne_bytes());
    message.extend(1_u32.to_ne_bytes());
    message.extend(0_u32.to_ne_bytes());
    sendto(kernel.as_raw_fd(), &message, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
    let mut answer = [0_u8; 1024];
    let length = recv(kernel.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = &answer[..length];
    let kind = answer
        .get(4..6)
        .and_then(|two| two.try_into().ok())
        .map(u16::from_ne_bytes);
    match kind {
        // struct audit_status: mask, enabled, … Locked (2) is on, too.
        Some(GET) => Ok(word(answer, HEADER + 4)? != 0),
        Some(ERROR) => {
            let errno = word(answer, HEADER)?.cast_signed();
            Err(Errno::from_raw(-errno))
        }
        _ => Err(Errno::EBADMSG),
    }
}
