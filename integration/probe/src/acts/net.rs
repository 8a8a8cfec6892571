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
