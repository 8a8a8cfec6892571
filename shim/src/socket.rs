//! The shim's socket: one a pod, by name from what the pod is called, in a directory that only root can change.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use crate::error::{Error, Result};

/// Where containerd's own shims have theirs.
pub const DIRECTORY: &str = "/run/containerd/s";

/// What `start` found or made.
pub enum Socket {
    /// Nobody served here yet; whoever gets this listener will.
    Ours(UnixListener),
    /// A shim of this group is alive.
    Served,
}

/// The path of the socket for `group` (a pod's sandbox, or a container) in `namespace` of the containerd at `containerd`.
pub fn path(containerd: &str, namespace: &str, group: &str) -> PathBuf {
    let mut hash = Sha256::new();
    // Lengths first, so that no two triples run together the same way.
    for part in ["gabion", containerd, namespace, group] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    let mut name = String::with_capacity(64);
    for byte in hash.finalize() {
        for digit in [byte >> 4, byte & 15] {
            name.push(char::from_digit(u32::from(digit), 16).unwrap_or('0'));
        }
    }
    Path::new(DIRECTORY).join(name)
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
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| Error::at("locking", directory, errno))
}

/// Binds the socket, unless a shim lives behind it.
pub fn bind_or_find(path: &Path) -> Result<Socket> {
    let _lock = lock()?;
    if UnixStream::connect(path).is_ok() {
        return Ok(Socket::Served);
    }
    remove(path)?;
    let listener = UnixListener::bind(path).map_err(|error| Error::at("binding", path, error))?;
    Ok(Socket::Ours(listener))
}

/// Removes the socket of a shim that is dead.
pub fn remove_if_dead(path: &Path) -> Result<()> {
    let _lock = lock()?;
    if path.parent() == Some(Path::new(DIRECTORY)) && UnixStream::connect(path).is_err() {
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
    use super::path;

    #[test]
    fn names_differ_and_fit() {
        let one = path("/run/c.sock", "ns", "pod");
        assert_ne!(one, path("/run/c.sock", "n", "spod"));
        assert_eq!(one, path("/run/c.sock", "ns", "pod"));
        assert!(one.as_os_str().len() < 108);
    }
}
