//! The shim's socket: one a pod, by name from what the pod is called, in a directory that only root can change.

use std::fs::{DirBuilder, File};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr};
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Where containerd's own shims have theirs.
pub const DIRECTORY: &str = "/run/containerd/s";

/// How long another `start` or `delete` may hold the directory. It takes well below a millisecond.
const TURN: Duration = Duration::from_secs(30);

/// What `start` found or made.
pub enum Socket {
    /// Nobody served here yet; whoever gets this listener will.
    Ours(UnixListener),
    /// A shim of this group is alive.
    Served,
}

/// The path of the socket for `group` (a pod's sandbox, or a container) in `namespace` of the containerd at `containerd`.
pub fn path(containerd: &str, namespace: &str, group: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name_of(&["gabion", containerd, namespace, group]))
}

/// A name of 64 digits that no other `parts` have.
pub fn name_of(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    // Lengths first, so that no two lists run together the same way.
    for part in parts {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let mut name = String::with_capacity(64);
    for byte in hash.finalize() {
        for digit in [byte >> 4, byte & 15] {
            name.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    name
}

/// As containerd is told of it.
pub fn address(path: &Path) -> String {
    format!("unix://{}", path.display())
}

/// Holds off every other `start` and `delete` on this machine while a socket is looked at and changed.
fn lock() -> Result<Flock<File>> {
    let directory = Path::new(DIRECTORY);
    let failed = |error| Error::at("using", directory, error);
    DirBuilder::new()
        .recursive(true)
        .mode(0o711)
        .create(directory)
        .map_err(failed)?;
    let file = File::open(directory).map_err(failed)?;
    let meta = file.metadata().map_err(failed)?;
    if meta.uid() != geteuid().as_raw() || meta.mode() & 0o022 != 0 {
        return Err(Error::BadPath {
            path: directory.to_owned(),
            why: "others could put their own socket here",
        });
    }
    let end = Instant::now() + TURN;
    let mut file = file;
    loop {
        // Not waited for in the kernel: whoever holds it may have been stopped.
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            Err((back, Errno::EAGAIN)) if Instant::now() < end => file = back,
            Err((_, errno)) => return Err(Error::at("locking", directory, errno)),
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Connects without ever waiting: a peer that accepts no more (EAGAIN) must not hold up whoever asks.
pub fn connect(path: &Path) -> nix::Result<OwnedFd> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket = nix::sys::socket::socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    nix::sys::socket::connect(socket.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(socket)
}

/// Whether somebody listens there. One whose queue is full does.
fn is_served(path: &Path) -> bool {
    matches!(connect(path), Ok(_) | Err(Errno::EAGAIN))
}

/// Binds the socket, unless a shim lives behind it.
pub fn bind_or_find(path: &Path) -> Result<Socket> {
    let _lock = lock()?;
    if is_served(path) {
        return Ok(Socket::Served);
    }
    remove(path)?;
    let listener = UnixListener::bind(path).map_err(|error| Error::at("binding", path, error))?;
    Ok(Socket::Ours(listener))
}

/// Removes the socket of a shim that is dead.
pub fn remove_if_dead(path: &Path) -> Result<()> {
    let _lock = lock()?;
    if path.parent() == Some(Path::new(DIRECTORY)) && !is_served(path) {
        remove(path)?;
    }
    Ok(())
}

/// Removes the socket's file, if it is there.
pub fn remove(path: &Path) -> Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::at("removing", path, error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{Backlog, listen};

    #[test]
    fn names_differ_and_fit() {
        let one = path("/run/c.sock", "ns", "pod");
        assert_ne!(one, path("/run/c.sock", "n", "spod"));
        assert_eq!(one, path("/run/c.sock", "ns", "pod"));
        assert!(one.as_os_str().len() < 108);
    }

    #[test]
    fn a_full_queue_is_served_and_a_dead_socket_is_not() {
        let path = std::env::temp_dir().join(format!("gabion-shim-socket-{}", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        listen(&listener, Backlog::new(0).unwrap()).unwrap();
        let queued: Vec<_> = std::iter::from_fn(|| connect(&path).ok()).collect();
        assert!(!queued.is_empty());
        assert!(matches!(connect(&path), Err(Errno::EAGAIN)));
        assert!(is_served(&path));
        drop(listener);
        // A child that another test is just spawning may hold it until its exec.
        while is_served(&path) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        std::fs::remove_file(&path).unwrap();
        assert!(!is_served(&path));
    }
}
