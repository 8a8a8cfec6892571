//! Sockets.

use super::Answer;
use crate::sys::{self, Sys, call, from_io};
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;

fn socket(family: i32, kind: i32, protocol: i32) -> Answer {
    let made: Sys<usize> = call(
        "socket",
        libc::SYS_socket,
        &[family as usize, kind as usize, protocol as usize],
    );
    made.map(|_| String::new())
}

/// `make-socket=FAMILY,TYPE,PROTOCOL`
pub(super) fn make_socket(arg: &str) -> Answer {
    let [family, kind, protocol] = three(arg);
    socket(family, kind, protocol)
}

/// The same by socketpair(2). A family without pairs answers EOPNOTSUPP or ENOSYS once its sockets are made: then they were.
pub(super) fn make_pair(arg: &str) -> Answer {
    let [family, kind, protocol] = three(arg);
    let mut pair = [0i32; 2];
    let words = [
        family as usize,
        kind as usize,
        protocol as usize,
        pair.as_mut_ptr() as usize,
    ];
    match call("socketpair", libc::SYS_socketpair, &words) {
        Err(fail) if fail.errno == libc::EOPNOTSUPP => Ok("made, not paired".to_owned()),
        made => made.map(|_| String::new()),
    }
}

/// The same by the 32-bit door and its number 359.
#[cfg(target_arch = "x86_64")]
pub(super) fn make_socket_i386(arg: &str) -> Answer {
    let [family, kind, protocol] = three(arg).map(i32::cast_unsigned);
    sys::call_i386("socket", 359, [family, kind, protocol, 0]).map(|_| String::new())
}

/// The same by its multiplexer, which keeps the arguments behind a pointer.
#[cfg(target_arch = "x86_64")]
pub(super) fn make_socket_multiplexed(arg: &str) -> Answer {
    let words = sys::low_words(&three(arg).map(i32::cast_unsigned))?;
    sys::call_i386("socketcall", 102, [1, words, 0, 0]).map(|_| String::new())
}

/// The same by x32: the number of x86_64 with bit 30.
#[cfg(target_arch = "x86_64")]
pub(super) fn make_socket_x32(arg: &str) -> Answer {
    let words = three(arg).map(|word| word as usize);
    call("x32-socket", 0x4000_0000 | libc::SYS_socket, &words).map(|_| String::new())
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) fn make_socket_i386(_: &str) -> Answer {
    Err(sys::Fail {
        errno: libc::ENOSYS,
        at: "socket",
    })
}

#[cfg(not(target_arch = "x86_64"))]
pub(super) use make_socket_i386 as make_socket_multiplexed;

#[cfg(not(target_arch = "x86_64"))]
pub(super) use make_socket_i386 as make_socket_x32;

fn three(arg: &str) -> [i32; 3] {
    let mut words = arg.split(',').map(|word| word.parse().unwrap_or(-1));
    std::array::from_fn(|_| words.next().unwrap_or(0))
}

const MPTCP: i32 = 262;

fn made(protocol: i32) -> Sys<usize> {
    call(
        "socket",
        libc::SYS_socket,
        &[libc::AF_INET as usize, libc::SOCK_STREAM as usize, protocol as usize],
    )
}

/// A `struct sockaddr_in` of this host.
fn local(port: u16) -> [u8; 16] {
    let mut address = [0; 16];
    address[..2].copy_from_slice(&libc::AF_INET.to_ne_bytes()[..2]);
    address[2..4].copy_from_slice(&port.to_be_bytes());
    address[4..8].copy_from_slice(&Ipv4Addr::LOCALHOST.octets());
    address
}

/// `connect-mptcp=PORT`: as `connect-port`.
pub(super) fn connect_mptcp(arg: &str) -> Answer {
    let (socket, address) = (made(MPTCP)?, local(arg.parse().unwrap_or(80)));
    let words = [socket, address.as_ptr() as usize, address.len()];
    reached(call("connect", libc::SYS_connect, &words))
}

/// `bind-mptcp=PORT`: as `bind-port`.
pub(super) fn bind_mptcp(arg: &str) -> Answer {
    let (socket, address) = (made(MPTCP)?, local(arg.parse().unwrap_or(80)));
    let words = [socket, address.as_ptr() as usize, address.len()];
    call("bind", libc::SYS_bind, &words).map(|_| String::new())
}

/// `fast-open=CALL,PORT`: connects by the first byte that is sent; CALL is sendto, sendmsg, sendmmsg, or sendto32 by the 32-bit door.
pub(super) fn fast_open(arg: &str) -> Answer {
    const MSG_FASTOPEN: usize = 0x2000_0000;
    let (way, port) = arg.split_once(',').unwrap_or((arg, "80"));
    let (socket, mut address, mut byte) = (made(0)?, local(port.parse().unwrap_or(80)), [b'x']);
    // struct iovec; struct mmsghdr, which is a struct msghdr and a length.
    let part = [byte.as_mut_ptr() as usize, 1];
    let message = [address.as_mut_ptr() as usize, 16, part.as_ptr() as usize, 1, 0, 0, 0, 0];
    let at = message.as_ptr() as usize;
    reached(match way {
        "sendmsg" => call("sendmsg", libc::SYS_sendmsg, &[socket, at, MSG_FASTOPEN]),
        "sendmmsg" => call("sendmmsg", libc::SYS_sendmmsg, &[socket, at, 1, MSG_FASTOPEN]),
        "plain" => call(
            "sendto",
            libc::SYS_sendto,
            &[socket, part[0], 1, 0, address.as_ptr() as usize, 16],
        ),
        "sendmmsg32" => sendmmsg_i386(socket),
        _ => {
            let words = [socket, part[0], 1, MSG_FASTOPEN, address.as_ptr() as usize, 16];
            call("sendto", libc::SYS_sendto, &words)
        }
    })
}

/// With no message at all: what it is asked, and no more.
#[cfg(target_arch = "x86_64")]
fn sendmmsg_i386(socket: usize) -> Sys<usize> {
    let fast = 0x2000_0000;
    sys::call_i386("sendmmsg", 345, [socket as u32, sys::low_words(&[0; 16])?, 0, fast])
}

#[cfg(not(target_arch = "x86_64"))]
fn sendmmsg_i386(_: usize) -> Sys<usize> {
    Err(sys::Fail {
        errno: libc::ENOSYS,
        at: "sendmmsg",
    })
}

fn reached(result: Sys<usize>) -> Answer {
    match result {
        Ok(_) => Ok(String::new()),
        Err(fail) if matches!(fail.errno, libc::ECONNREFUSED | libc::ENETUNREACH) => Ok("reached".to_owned()),
        Err(fail) => Err(fail),
    }
}

/// Listens on a socket that was never bound: the kernel chooses a port.
pub(super) fn listen_unbound(_: &str) -> Answer {
    call("listen", libc::SYS_listen, &[made(0)?, 1]).map(|_| String::new())
}

/// `tcp-ulp=NAME`: another protocol on top of a TCP socket. ENOENT is what a kernel without it says, ENOTCONN one with it.
pub(super) fn tcp_ulp(arg: &str) -> Answer {
    let words = [made(0)?, 6, 31, arg.as_ptr() as usize, arg.len()];
    match call("setsockopt", libc::SYS_setsockopt, &words) {
        Err(fail) if fail.errno == libc::ENOTCONN => Ok("known".to_owned()),
        other => other.map(|_| String::new()),
    }
}

pub(super) fn raw_socket(_: &str) -> Answer {
    socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP)
}

pub(super) fn packet_socket(_: &str) -> Answer {
    socket(libc::AF_PACKET, libc::SOCK_RAW, 0)
}

pub(super) fn bind_port(arg: &str) -> Answer {
    let port: u16 = arg.parse().unwrap_or(80);
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).map_err(|e| from_io(&e, "bind"))?;
    Ok(String::new())
}

/// ECONNREFUSED means that the call was let through: nothing listens there.
pub(super) fn connect_port(arg: &str) -> Answer {
    let port: u16 = arg.parse().unwrap_or(80);
    match TcpStream::connect((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(String::new()),
        Err(error) => match from_io(&error, "connect") {
            fail if fail.errno == libc::ECONNREFUSED || fail.errno == libc::ENETUNREACH => Ok("reached".to_owned()),
            fail => Err(fail),
        },
    }
}

/// Listens, says so, and stays.
pub(super) fn listen_unix(arg: &str) -> Answer {
    let listener = UnixListener::bind(arg).map_err(|e| from_io(&e, "bind"))?;
    println!("listening");
    for client in listener.incoming() {
        let mut byte = [0u8; 1];
        let read = client.and_then(|mut stream| stream.read(&mut byte));
        read.map_err(|e| from_io(&e, "read"))?;
    }
    sys::pause_forever()
}
