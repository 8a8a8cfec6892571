//! A descriptor that tasks can wait for.
//!
//! It is watched edge-triggered and keeps a count of its edges: a task reads the count, tries its system call, and on EAGAIN waits
//! for the count to move. So an edge that comes between the attempt and the wait is never lost.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::task::Poll;

use nix::fcntl::{FcntlArg, OFlag, fcntl};

use crate::edges::Edges;
use crate::reactor;

/// A descriptor made non-blocking and watched for edges. Closed on drop.
pub struct Watched {
    fd: OwnedFd,
    token: u64,
    edges: Rc<Edges>,
}

impl Watched {
    /// Watches `fd`. A regular file cannot be watched and need not be: its calls never say EAGAIN.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(fd.as_raw_fd(), FcntlArg::F_GETFL)?);
        fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let (token, edges) = reactor::register(fd.as_fd())?;
        Ok(Self { fd, token, edges })
    }

    /// The number of edges so far: read it before the attempt.
    pub fn edges(&self) -> u64 {
        self.edges.count()
    }

    /// Waits until there were more edges than `seen`.
    pub async fn edge_after(&self, seen: u64) {
        std::future::poll_fn(|cx| {
            if self.edges.count() != seen {
                return Poll::Ready(());
            }
            self.edges.wake_by_next(cx.waker());
            Poll::Pending
        })
        .await;
    }

    /// Repeats `attempt` until it says anything but «would block».
    pub async fn ready<T>(&self, mut attempt: impl FnMut(BorrowedFd<'_>) -> io::Result<T>) -> io::Result<T> {
        loop {
            let seen = self.edges();
            match attempt(self.fd.as_fd()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.edge_after(seen).await,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }
}

impl AsFd for Watched {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        reactor::unregister(self.token, self.fd.as_fd());
    }
}
