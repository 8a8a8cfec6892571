//! Appending: one lock, a look at the last record, one write. Many runtimes at once keep one chain.

use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, Flock, FlockArg, OFlag};
use nix::sys::stat::fstatat;

use gabion_core::digest::sha256_hex;
use gabion_core::time::rfc3339_nanos;
use gabion_see::audit::bounded;
use gabion_see::audit::chain::{Ended, Lines, Tail, tail};
use gabion_see::audit::keeping::Keeping;
use gabion_see::audit::place::{self, Trouble, trouble};
use gabion_see::audit::record::{Event, Line, Subject, VERSION};
use gabion_see::audit::verify::Head;

use super::{anchors, files, head};

/// How long another writer may hold the lock. It is held for one write: a longer wait is a fault, not a queue.
pub(super) const PATIENCE: Duration = Duration::from_secs(3);

/// One log, and how it is kept.
#[derive(Clone, Copy)]
pub(super) struct Log<'a> {
    pub(super) path: &'a Path,
    pub(super) keeping: &'a Keeping,
    pub(super) owners: Ownership,
}

/// Whether owner and mode of a file that is there are made what the policy says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ownership {
    /// At create: the policy may be newer than the file.
    Mend,
    /// Only of files that are made.
    Leave,
}

/// Opens the directory of the log; one that is missing is made, for its owner alone, and for the group that may read the log.
fn directory(log: Log<'_>) -> Result<File, Trouble> {
    let path = log.path;
    if let Some(dir) = place::open_dir(path)? {
        return Ok(dir);
    }
    let parent = place::parent(path);
    let made = DirBuilder::new().recursive(true).mode(0o700).create(parent);
    made.map_err(trouble("make", parent))?;
    let dir = place::open_dir(path)?.ok_or_else(|| trouble("make", parent)("it is gone again".to_owned()))?;
    if log.keeping.mode.is_some_and(|mode| mode & 0o040 != 0) {
        files::own(&dir, parent, log.keeping.group.as_ref(), Some(0o750))?;
    }
    Ok(dir)
}

/// Writes records of one container, all or none, and tells where the head is kept besides.
pub(super) fn append(log: Log<'_>, subject: &Subject, events: &[Event]) -> Result<(), Trouble> {
    let dir = directory(log)?;
    let head = append_in(&dir, log, subject, events)?;
    anchors::tell(&log.keeping.anchors, log.path, &head)
}

/// The same without anchors, in a directory that is open.
pub(super) fn append_in(dir: &File, log: Log<'_>, subject: &Subject, events: &[Event]) -> Result<Head, Trouble> {
    let (path, keeping) = (log.path, log.keeping);
    let file = lock(dir, path)?;
    let size = file.metadata().map_err(trouble("look at", path))?.len();
    if size == 0 || log.owners == Ownership::Mend {
        files::own(&file, path, keeping.group.as_ref(), keeping.mode)?;
    }
    let tail = tail(&file, size).map_err(trouble("read", path))?;
    let boot = boot();
    let kept = head::Kept::open(log)?;
    let lost = kept.lost(&tail, &file, size, log, &boot)?;
    let (text, head) = render(&tail, lost, subject, events, &boot).map_err(trouble("write", path))?;
    if size > 0 && (size + text.len() as u64 > keeping.max_size || files::is_old(&file, keeping.rotate_days)) {
        files::rotate(dir, log, &file, &text)?;
        return kept.write(&head, log, &boot).map(|()| head);
    }
    let mut writer: &File = &file;
    if let Err(error) = writer.write_all(&text) {
        // Half a record is worse than none; we hold the lock, so what is cut off is ours.
        file.set_len(size).map_err(trouble("cut back", path))?;
        return Err(trouble("write", path)(error));
    }
    // The log first: who dies between the two leaves a head that is older, and that is no alarm.
    kept.write(&head, log, &boot)?;
    Ok(head)
}

fn boot() -> String {
    let boot = gabion_see::small::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    boot.trim_end().to_owned()
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

pub(super) fn wait(mut file: File, deadline: Instant) -> Result<Flock<File>, Errno> {
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

/// The lines to write, and the head that they make. What was found behind the last record is bound into the chain first, and what is missing before
/// it is told.
fn render(
    tail: &Tail,
    lost: Option<Event>,
    subject: &Subject,
    events: &[Event],
    boot: &str,
) -> Result<(Vec<u8>, Head), String> {
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
    let own = found.iter().chain(lost.iter()).map(|event| (event, None));
    for (event, subject) in own.chain(events.iter().map(|event| (event, Some(subject)))) {
        seq += 1;
        let line = Line {
            v: VERSION,
            seq,
            time: &time,
            boot,
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
    Ok((text, Head { seq, hash: prev }))
}
