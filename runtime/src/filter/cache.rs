//! Compiled profiles by content, in a directory that only their owner can write.
//!
//! What is read here becomes a container's filter, so nothing is believed: directory and file are judged by their descriptors, the
//! content carries its own hash and key and is checked as a program. A directory that others can reach is an error, since somebody
//! prepared it; a file that does not pass is compiled anew and replaced, never used.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

use gabion_common::whole;
use gabion_see::vetted::{self, Fault, Kind, Links, Owner, Rules};
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, mkdir, unlinkat};
use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompFilterFlag, LinuxSyscall};
use serde::Serialize;
use sha2::{Digest, Sha256};

use gabion_see::seccomp::{CacheFault, Compiled, Flags, Program, SeccompError, bpf, compile, validate};

/// Of a file's form and of what `compile` makes of a profile: to be raised when either changes.
const VERSION: &[u8; 8] = b"gabscmp3";
/// The permission bits of group and others.
const OTHERS: u32 = 0o077;
/// The cache is nobody's but its owner's: what is read there becomes a container's filter.
const DIRECTORY: Rules = Rules {
    kind: Kind::Directory,
    owner: Owner::Caller,
    forbidden: OTHERS,
    largest: 0,
    links: Links::Refuse,
};
const FILES: Rules = Rules {
    kind: Kind::File,
    largest: MAX_FILE as u64,
    links: Links::OneName,
    ..DIRECTORY
};
const HASH: usize = 32;
/// Program, skipped names and head; larger is not ours.
const MAX_FILE: usize = 2 * bpf::MAX_INSNS * bpf::INSN_SIZE;
/// Entries kept; a node has a handful of profiles.
const MAX_ENTRIES: usize = 128;

/// The program for `profile`: from `dir` where it is there and sound, else compiled and put there.
///
/// `dir` is made (0700) if absent, its parent is not. A program that cannot be written down is still returned.
///
/// # Errors
/// [`SeccompError::UnsafeCache`] for a directory of another owner, open to group or others, or behind a symlink;
/// [`SeccompError::Io`] where it cannot be opened or made; else those of [`compile`].
pub(crate) fn load_or_compile(dir: &Path, profile: &LinuxSeccomp) -> Result<Compiled, SeccompError> {
    validate(profile)?;
    let cache = open_dir(dir)?;
    let key = key(profile)?;
    let name = file_name(&key);
    if let Some(found) = read(&cache, &name).and_then(|bytes| decode(&bytes, &key)) {
        return Ok(found);
    }
    let started = Instant::now();
    let compiled = compile(profile)?;
    tracing::debug!(elapsed = ?started.elapsed(), "seccomp profile compiled");
    if let Err(errno) = store(&cache, &name, &encode(&compiled, &key)) {
        tracing::warn!(dir = %dir.display(), %errno, "seccomp program not cached");
    }
    Ok(compiled)
}

fn open_dir(path: &Path) -> Result<OwnedFd, SeccompError> {
    let unsafe_cache = |fault| SeccompError::UnsafeCache {
        path: path.to_owned(),
        fault,
    };
    let io = |step| {
        move |errno| SeccompError::Io {
            path: path.to_owned(),
            step,
            errno,
        }
    };
    let open = || vetted::open(path, &DIRECTORY);
    let opened = match open() {
        // Another gabion may make it first: whoever did, it is judged.
        Err(Fault::Missing) => match mkdir(path, Mode::S_IRWXU) {
            Ok(()) | Err(Errno::EEXIST) => open(),
            Err(errno) => return Err(io("make")(errno)),
        },
        other => other,
    };
    opened.map(OwnedFd::from).map_err(|fault| match fault {
        Fault::NotADirectory if path.is_symlink() => unsafe_cache(CacheFault::Symlink),
        Fault::Symlink => unsafe_cache(CacheFault::Symlink),
        Fault::Owner(uid) => unsafe_cache(CacheFault::Owner(uid)),
        Fault::Mode(mode) => unsafe_cache(CacheFault::Mode(mode)),
        Fault::Missing => io("open")(Errno::ENOENT),
        Fault::Open(errno) => io("open")(errno),
        Fault::NotADirectory | Fault::NotAFile | Fault::NotAPipe | Fault::Names | Fault::Larger(_) => {
            unsafe_cache(CacheFault::NotADirectory)
        }
    })
}

/// All of a profile that the program depends on: not where its listener is.
#[derive(Serialize)]
struct Content<'a> {
    default: LinuxSeccompAction,
    errno: Option<u32>,
    architectures: &'a Option<Vec<Arch>>,
    flags: &'a Option<Vec<LinuxSeccompFilterFlag>>,
    syscalls: &'a Option<Vec<LinuxSyscall>>,
}

type Key = [u8; HASH];

fn key(profile: &LinuxSeccomp) -> Result<Key, SeccompError> {
    let content = Content {
        default: profile.default_action(),
        errno: profile.default_errno_ret(),
        architectures: profile.architectures(),
        flags: profile.flags(),
        syscalls: profile.syscalls(),
    };
    let library = |errno| SeccompError::Library {
        step: "version".to_owned(),
        errno,
    };
    let version = gabion_see::seccomp::library_version().ok_or_else(|| library(None))?;
    let json = serde_json::to_vec(&content).map_err(|_| library(None))?;
    let head = format!("{} {}.{}.{} ", std::env::consts::ARCH, version.0, version.1, version.2);
    let hash = Sha256::new()
        .chain_update(VERSION)
        .chain_update(env!("CARGO_PKG_VERSION"))
        .chain_update(head);
    Ok(hash.chain_update(json).finalize().into())
}

fn file_name(key: &Key) -> String {
    let mut name = String::with_capacity(HASH * 2);
    for byte in key {
        for digit in [byte >> 4, byte & 15] {
            name.extend(char::from_digit(digit.into(), 16));
        }
    }
    name
}

/// Reads a file that is the owner's alone. Any doubt is `None`: it is compiled anew.
fn read(cache: &OwnedFd, name: &str) -> Option<Vec<u8>> {
    vetted::read_at(cache, name, &FILES).ok()
}

/// version (8), hash of all that follows (32), key (32), flags (4), listener (4), length of the program (4), program, names.
fn encode(compiled: &Compiled, key: &Key) -> Vec<u8> {
    let program = compiled.program.as_bytes();
    let mut body = key.to_vec();
    let length = u32::try_from(program.len()).unwrap_or(u32::MAX);
    for word in [compiled.flags.bits(), u32::from(compiled.listener), length] {
        body.extend_from_slice(&word.to_le_bytes());
    }
    body.extend_from_slice(program);
    body.extend_from_slice(compiled.skipped.join("\n").as_bytes());
    let hash: Key = Sha256::digest(&body).into();
    [VERSION.as_slice(), &hash, &body].concat()
}

fn decode(bytes: &[u8], key: &Key) -> Option<Compiled> {
    let (hash, body) = bytes.strip_prefix(VERSION)?.split_first_chunk::<HASH>()?;
    if Key::from(Sha256::digest(body)) != *hash {
        return None;
    }
    let rest = body.strip_prefix(key)?;
    let (flags, rest) = rest.split_first_chunk()?;
    let (listener, rest) = rest.split_first_chunk()?;
    let (length, rest) = rest.split_first_chunk()?;
    let (program, names) = rest.split_at_checked(usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    let names = std::str::from_utf8(names).ok()?;
    let flags = Flags::from_bits(u32::from_le_bytes(*flags))?;
    let listener = u32::from_le_bytes(*listener) == 1;
    let skipped = names
        .split('\n')
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    let agrees = listener == flags.has(Flags::NEW_LISTENER);
    let program = Program::from_bytes(program.to_vec()).ok().filter(|_| agrees)?;
    Some(Compiled {
        program,
        listener,
        flags,
        skipped,
    })
}

/// Keeps a program, whole or not at all.
fn store(cache: &OwnedFd, name: &str, bytes: &[u8]) -> Result<(), Errno> {
    make_room(cache)?;
    whole::write_at(cache.as_fd(), Path::new(name), Mode::S_IRUSR | Mode::S_IWUSR, bytes)
}

/// A full directory is emptied: what is in use comes back with its next container.
fn make_room(cache: &OwnedFd) -> Result<(), Errno> {
    // A descriptor of its own: reading moves the offset.
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut dir = nix::dir::Dir::openat(Some(cache.as_raw_fd()), ".", flags, Mode::empty())?;
    let entries = dir.iter().collect::<Result<Vec<_>, _>>()?;
    let names: Vec<_> = entries
        .iter()
        .map(nix::dir::Entry::file_name)
        .filter(|name| !matches!(name.to_bytes(), b"." | b".."))
        .collect();
    if names.len() < MAX_ENTRIES {
        return Ok(());
    }
    for name in names {
        match unlinkat(Some(cache.as_raw_fd()), name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
