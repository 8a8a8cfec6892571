//! The files of a log: whose they are, when one is put aside, and which may go.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, renameat};
use nix::sys::stat::{Mode, fchmod, fstatat};
use nix::unistd::{Gid, UnlinkatFlags, fchown, linkat, unlinkat};

use gabion_core::policy::Date;
use gabion_see::audit::chain::{kept, numbers};
use gabion_see::audit::keeping::{Keeping, Owners};
use gabion_see::audit::place::{self, Trouble, trouble};

use super::chain::{Log, PATIENCE, wait};

const DAY: Duration = Duration::from_hours(24);

/// Makes a file's group and mode what they are to be, where they are not. Only the group: a log belongs to who writes it.
pub(super) fn own(file: &File, path: &Path, group: Option<&Owners>, mode: Option<u32>) -> Result<(), Trouble> {
    let meta = file.metadata().map_err(trouble("look at", path))?;
    match group {
        Some(Owners::Unknown(name)) => {
            return Err(trouble("give to its group", path)(format!("there is no group {name}")));
        }
        Some(Owners::Number(gid)) if *gid != meta.gid() => {
            fchown(file.as_raw_fd(), None, Some(Gid::from_raw(*gid))).map_err(trouble("give to its group", path))?;
        }
        Some(Owners::Number(_)) | None => {}
    }
    match mode {
        Some(mode) if mode != meta.mode() & 0o7777 => {
            fchmod(file.as_raw_fd(), Mode::from_bits_truncate(mode)).map_err(trouble("change the mode of", path))
        }
        Some(_) | None => Ok(()),
    }
}

/// Whether the first record of a file is so many days old.
pub(super) fn is_old(file: &File, days: Option<u32>) -> bool {
    let Some(days) = days else { return false };
    let mut beginning = [0; 512];
    let length = file.read_at(&mut beginning, 0).unwrap_or(0);
    let text = String::from_utf8_lossy(&beginning[..length]);
    let day = text
        .split_once("\"time\":\"")
        .and_then(|(_, time)| time.get(..10)?.parse::<Date>().ok());
    // What has no time is no record, and is put aside with what follows it by its size.
    day.is_some_and(|day| day.after(days) <= Date::of(gabion_see::clock::now()))
}

/// Gives the numbers of files that would have to go, where a file is put aside.
fn surplus(path: &Path, keeping: &Keeping) -> Result<Vec<u32>, Trouble> {
    let numbers = numbers(path).map_err(trouble("look beside", path))?;
    let surplus: Vec<u32> = numbers.into_iter().filter(|number| *number >= keeping.files).collect();
    if keeping.keep_days == 0 {
        return Ok(surplus);
    }
    let least = DAY * keeping.keep_days;
    let name = place::name(path)?;
    for number in &surplus {
        let old = path.with_file_name(kept(name, *number));
        let written = old.metadata().map_err(trouble("look at", &old))?.mtime();
        let age = gabion_see::clock::now().saturating_sub(Duration::from_secs(u64::try_from(written).unwrap_or(0)));
        if age < least {
            let why = format!(
                "the log is full: it is younger than [audit] keep_days = {}, and no file may go; raise files or max_size",
                keeping.keep_days
            );
            return Err(trouble("remove", &old)(why));
        }
    }
    Ok(surplus)
}

/// Puts the full file aside and begins a new one with these records. The path always leads to a file, so that nobody who
/// opens it meanwhile begins a chain of their own: the new file takes the place in one rename, locked and written.
pub(super) fn rotate(dir: &File, log: Log<'_>, old: &File, text: &[u8]) -> Result<(), Trouble> {
    let (path, keeping) = (log.path, log.keeping);
    let (at, name) = (Some(dir.as_raw_fd()), place::name(path)?);
    let surplus = surplus(path, keeping)?;
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
    let before = old.metadata().map_err(trouble("look at", path))?;
    let group = keeping.group.clone().unwrap_or(Owners::Number(before.gid()));
    let mode = keeping.mode.unwrap_or(before.mode() & 0o640);
    own(&fresh, &fresh_path, Some(&group), Some(mode))?;
    let fresh = wait(fresh, Instant::now() + PATIENCE).map_err(trouble("lock", &fresh_path))?;
    let mut writer: &File = &fresh;
    // A torn line's end belongs to the file that it is in.
    let text = text.strip_prefix(b"\n").unwrap_or(text);
    writer.write_all(text).map_err(trouble("write", &fresh_path))?;
    let first = fstatat(at, kept(name, 1).as_str(), AtFlags::AT_SYMLINK_NOFOLLOW);
    // Already there where a writer died between the two steps.
    if !first.is_ok_and(|first| (first.st_dev, first.st_ino) == (before.dev(), before.ino())) {
        for number in surplus {
            gone(unlinkat(at, kept(name, number).as_str(), UnlinkatFlags::NoRemoveDir))
                .map_err(trouble("remove", path))?;
        }
        for number in (1..keeping.files).rev() {
            let (from, to) = (kept(name, number), kept(name, number + 1));
            gone(renameat(at, from.as_str(), at, to.as_str())).map_err(trouble("put aside", path))?;
        }
        linkat(at, name, at, kept(name, 1).as_str(), AtFlags::empty()).map_err(trouble("put aside", path))?;
    }
    renameat(at, fresh_name.as_str(), at, name).map_err(trouble("replace", path))
}
