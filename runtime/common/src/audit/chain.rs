//! Appending: one lock, a look at the last record, one write. Many runtimes at once keep one chain.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag, renameat};
use nix::sys::stat::fstatat;
use nix::unistd::{UnlinkatFlags, linkat, unlinkat};

use gabion_core::digest::sha256_hex;
use gabion_core::time::rfc3339_nanos;
use gabion_see::audit::bounded;
use gabion_see::audit::chain::{Ended, KEPT, Lines, Tail, kept, tail};
use gabion_see::audit::place::{self, Trouble, trouble};
use gabion_see::audit::record::{Event, Line, Subject, VERSION};

/// Above this the file is put aside.
pub(super) const MAX_FILE: u64 = 64 << 20;

/// How long another writer may hold the lock. It is held for one write: a longer wait is a fault, not a queue.
const PATIENCE: Duration = Duration::from_secs(3);

/// Opens the directory of the log; one that is missing is made, for its owner alone.
fn directory(path: &Path) -> Result<File, Trouble> {
    if let Some(dir) = place::open_dir(path)? {
        return Ok(dir);
    }
    let parent = place::parent(path);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(trouble("make", parent))?;
    place::open_dir(path)?.ok_or_else(|| trouble("make", parent)("it is gone again".to_owned()))
}

/// Writes records of one container, all or none.
pub(super) fn append(path: &Path, subject: &Subject, events: &[Event]) -> Result<(), Trouble> {
    let dir = directory(path)?;
    append_in(&dir, path, subject, events, MAX_FILE)
}

/// The same with a bound of its own, for tests.
pub(super) fn append_in(dir: &File, path: &Path, subject: &Subject, events: &[Event], max: u64) -> Result<(), Trouble> {
    let file = lock(dir, path)?;
    let size = file.metadata().map_err(trouble("look at", path))?.len();
    let tail = tail(&file, size).map_err(trouble("read", path))?;
    let text = render(&tail, subject, events).map_err(trouble("write", path))?;
    if size > 0 && size + text.len() as u64 > max {
        return rotate(dir, path, &file, &text);
    }
    let mut writer: &File = &file;
    if let Err(error) = writer.write_all(&text) {
        // Half a record is worse than none; we hold the lock, so what is cut off is ours.
        file.set_len(size).map_err(trouble("cut back", path))?;
        return Err(trouble("write", path)(error));
    }
    Ok(())
}

/// The log, locked, and certainly still the one at this path.
fn lock(dir: &File, path: &Path) -> Result<Flock<File>, Trouble> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let file = place::open(dir, path, OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT)?;
        let file = wait(file, deadline).map_err(trouble("lock", path))?;
        let there = fstatat(Some(dir.as_raw_fd()), place::name(path)?, AtFlags::AT_SYMLINK_NOFOLLOW);
        let ours = file.metadata().map_err(trouble("look at", path))?;
        // Another one may have been put in its place while we waited.
        if there.is_ok_and(|there| (there.st_dev, there.st_ino) == (ours.dev(), ours.ino())) {
            return Ok(file);
        }
        if Instant::now() > deadline {
            return Err(trouble("lock", path)("it is replaced all the time".to_owned()));
        }
    }
}

fn wait(mut file: File, deadline: Instant) -> Result<Flock<File>, Errno> {
    let mut pause = Duration::from_micros(50);
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(locked) => return Ok(locked),
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => file = back,
            Err((_, errno)) => return Err(errno),
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
}

/// The lines to write. What was found behind the last record is bound into the chain first.
fn render(tail: &Tail, subject: &Subject, events: &[Event]) -> Result<Vec<u8>, String> {
    let boot = gabion_see::small::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let time = rfc3339_nanos(gabion_see::clock::now());
    let uid = nix::unistd::getuid().as_raw();
    let (mut text, mut seq, mut prev) = (Vec::with_capacity(4096), tail.seq, tail.hash.clone());
    let found = tail.rest.as_ref().map(|rest| {
        let (bytes, sha256) = (rest.bytes, rest.sha256.clone());
        match (rest.ended, rest.lines) {
            (Ended::No, Lines::One) => Event::Torn { bytes, sha256 },
            _ => Event::Damaged { bytes, sha256 },
        }
    });
    if tail.rest.as_ref().is_some_and(|rest| rest.ended == Ended::No) {
        text.push(b'\n');
    }
    let own = found.iter().map(|event| (event, None));
    for (event, subject) in own.chain(events.iter().map(|event| (event, Some(subject)))) {
        seq += 1;
        let line = Line {
            v: VERSION,
            seq,
            time: &time,
            boot: boot.trim_end(),
            prev: &prev,
            uid,
            event,
            subject,
        };
        let bytes = bounded::bytes(&line).map_err(|e| e.to_string())?;
        prev = sha256_hex(&bytes);
        text.extend_from_slice(&bytes);
        text.push(b'\n');
    }
    Ok(text)
}

/// Puts the full file aside and begins a new one with these records. The path always leads to a file, so that nobody who
/// opens it meanwhile begins a chain of their own: the new file takes the place in one rename, locked and written.
fn rotate(dir: &File, path: &Path, old: &File, text: &[u8]) -> Result<(), Trouble> {
    let (at, name) = (Some(dir.as_raw_fd()), place::name(path)?);
    let fresh_name = format!(".{name}.new");
    let fresh_path = path.with_file_name(&fresh_name);
    let gone = |result: Result<(), Errno>| match result {
        Err(Errno::ENOENT) => Ok(()),
        other => other,
    };
    // Left by a writer that died: we hold the lock, so nobody is at it now.
    gone(unlinkat(at, fresh_name.as_str(), UnlinkatFlags::NoRemoveDir)).map_err(trouble("remove", &fresh_path))?;
    let fresh = place::open(
        dir,
        &fresh_path,
        OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT | OFlag::O_EXCL,
    )?;
    let fresh = wait(fresh, Instant::now() + PATIENCE).map_err(trouble("lock", &fresh_path))?;
    let mut writer: &File = &fresh;
    // A torn line's end belongs to the file that it is in.
    let text = text.strip_prefix(b"\n").unwrap_or(text);
    writer.write_all(text).map_err(trouble("write", &fresh_path))?;
    let first = fstatat(at, kept(name, 1).as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
    let own = old.metadata().map_err(trouble("look at", path))?;
    // Already there where a writer died between the two steps.
    if !first.is_ok_and(|first| (first.st_dev, first.st_ino) == (own.dev(), own.ino())) {
        for number in (1..KEPT).rev() {
            let (from, to) = (kept(name, number), kept(name, number + 1));
            gone(renameat(at, from.as_str(), at, to.as_str())).map_err(trouble("put aside", path))?;
        }
        linkat(at, name, at, kept(name, 1).as_str(), AtFlags::empty()).map_err(trouble("put aside", path))?;
    }
    renameat(at, fresh_name.as_str(), at, name).map_err(trouble("replace", path))
}
