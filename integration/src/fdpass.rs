//! The other end of a console or seccomp listener socket: takes one message with one descriptor.

use crate::command::{limit, until};
use nix::cmsg_space;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use std::io::IoSliceMut;
use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

#[derive(Debug)]
pub struct Listener(UnixListener);

/// The descriptor is closed with it; the connection is kept until then.
#[derive(Debug)]
pub struct Received {
    pub fd: RawFd,
    pub text: String,
    _stream: UnixStream,
}

impl Listener {
    pub fn bind(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        listener.set_nonblocking(true).expect("nonblocking");
        Self(listener)
    }

    /// The next connection's message, within the usual time.
    #[track_caller]
    pub fn receive(&self) -> Received {
        let mut stream = None;
        until(limit(10), || {
            stream = self.0.accept().ok().map(|(stream, _)| stream);
            stream.is_some()
        });
        let stream = stream.expect("nobody connected");
        stream.set_nonblocking(false).expect("blocking");
        stream.set_read_timeout(Some(limit(10))).expect("timeout");
        let mut bytes = vec![0u8; 1 << 16];
        let mut space = cmsg_space!([RawFd; 1]);
        let mut slices = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<()>(
            stream.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )
        .expect("a message");
        let fd = message.cmsgs().expect("control data").find_map(|part| match part {
            ControlMessageOwned::ScmRights(fds) => fds.first().copied(),
            _ => None,
        });
        let (fd, length) = (fd.expect("a descriptor"), message.bytes);
        Received {
            fd,
            text: String::from_utf8_lossy(&bytes[..length]).into_owned(),
            _stream: stream,
        }
    }
}

impl Received {
    /// Reads until `wanted` has come, the other side has hung up, or the time is over.
    pub fn read_until(&self, wanted: &str) -> String {
        let mut text = String::new();
        let flags = nix::fcntl::FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK);
        nix::fcntl::fcntl(self.fd, flags).expect("nonblocking");
        until(limit(10), || {
            let mut bytes = [0u8; 4096];
            match nix::unistd::read(self.fd, &mut bytes) {
                Ok(0) => return true,
                Ok(count) => text.push_str(&String::from_utf8_lossy(&bytes[..count])),
                Err(_) => {}
            }
            text.contains(wanted)
        });
        text
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        nix::unistd::close(self.fd).ok();
    }
}
