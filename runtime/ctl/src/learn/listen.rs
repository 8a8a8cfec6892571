//! The socket to which the runtime sends a filter's listener, and the listeners themselves.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gabion_see::error::{Error, Result};
use gabion_sys::Call;

/// How long a sender that has connected may take: it is the runtime's helper, which has its message ready.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Listener {
    socket: UnixListener,
    path: PathBuf,
    /// One for the container's first process, one for each that joins it.
    pub(super) filters: Vec<Filter>,
}

/// A filter that tells of calls.
#[derive(Debug)]
pub(super) struct Filter {
    pub(super) fd: OwnedFd,
    /// Its first execve(2) has come. What was told of before is the runtime's own work, under the filter already.
    pub(super) runs: bool,
}

impl Listener {
    pub(super) fn new(path: &Path) -> Result<Self> {
        let socket = UnixListener::bind(path).map_err(Error::file("listen at", path))?;
        socket.set_nonblocking(true).map_err(Error::file("listen at", path))?;
        Ok(Self {
            socket,
            path: path.to_owned(),
            filters: Vec::new(),
        })
    }

    /// Takes what has come. One that sends no descriptor is no filter's.
    pub(super) fn accept(&mut self) {
        while let Ok((stream, _)) = self.socket.accept() {
            let bounded = stream
                .set_nonblocking(false)
                .and_then(|()| stream.set_read_timeout(Some(PATIENCE)));
            let mut message = vec![0; 64 << 10];
            match bounded.map(|()| gabion_sys::receive(stream.as_fd(), &mut message)) {
                Ok(Ok((_, fds))) => {
                    for fd in &fds {
                        if let Err(error) = gabion_sys::calls_at_once(fd.as_fd()) {
                            tracing::debug!(%error, "before Linux 6.6 each call that is told of takes longer");
                        }
                    }
                    self.filters
                        .extend(fds.into_iter().map(|fd| Filter { fd, runs: false }));
                }
                Ok(Err(error)) => tracing::warn!(%error, "a listener's descriptor did not come"),
                Err(error) => tracing::warn!(%error, "a listener's descriptor did not come"),
            }
        }
    }

    /// Gives one call of a filter that is ready; forgets a filter that nobody is under any more.
    pub(super) fn call(&mut self, at: usize) -> Option<Call> {
        let filter = self.filters.get(at)?;
        match gabion_sys::call_received(filter.fd.as_fd()) {
            Ok(call) => call,
            Err(error) => {
                tracing::debug!(%error, "a listener is over");
                self.filters.swap_remove(at);
                None
            }
        }
    }

    pub(super) fn go_on(&self, at: usize, call: &Call) {
        if let Some(filter) = self.filters.get(at)
            && let Err(error) = gabion_sys::call_goes_on(filter.fd.as_fd(), call)
        {
            tracing::warn!(%error, "a call that was told of does not go on");
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, "the socket is gone already");
        }
    }
}
