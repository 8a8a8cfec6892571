//! The socket by which the runtime hands over a terminal's master.

use std::cell::Cell;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::socket::DIRECTORY;
use crate::sys::receive_fd;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// A socket in wait for one terminal. Its file goes when this is dropped.
pub struct Console {
    listener: UnixListener,
    path: PathBuf,
}

impl Console {
    /// Binds a socket that only this user can connect to. Not in the bundle: a bundle's path may be longer than a socket's.
    pub fn bind() -> Result<Self> {
        COUNT.set(COUNT.get() + 1);
        let path = Path::new(DIRECTORY).join(format!("tty-{}-{}", std::process::id(), COUNT.get()));
        // Left by a shim of the same number that was killed.
        if path.exists() {
            std::fs::remove_file(&path).map_err(|error| Error::at("removing", &path, error))?;
        }
        let failed = |error| Error::at("making the console socket", &path, error);
        let listener = UnixListener::bind(&path).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok(Self {
            listener,
            path: path.clone(),
        })
    }

    /// Where the runtime connects.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Takes the terminal. The runtime has ended by now, so whatever it sent is here.
    pub fn receive(&self) -> Result<OwnedFd> {
        let failed = |error| Error::at("receiving the terminal by", &self.path, error);
        let (stream, _) = self.listener.accept().map_err(failed)?;
        let fd = receive_fd(&stream).map_err(failed)?;
        let is_terminal = fd.as_ref().is_some_and(std::io::IsTerminal::is_terminal);
        fd.filter(|_| is_terminal).ok_or(Error::Content {
            path: self.path.clone(),
            expected: "a terminal",
        })
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            crate::log::warning!("{}: {error}", self.path.display());
        }
    }
}
