//! The head's file as a writer has it: open before the records are written, written after them.

use std::fs::{DirBuilder, File};
use std::os::unix::fs::{DirBuilderExt, FileExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;

use gabion_see::audit::chain::{Tail, kept, numbers};
use gabion_see::audit::head::{self, Follows};
use gabion_see::audit::place::{self, Trouble, trouble};
use gabion_see::audit::record::Event;
use gabion_see::audit::verify::Head;
use gabion_see::vetted::Fault;

use super::chain::Log;

/// The head that is kept, open. The log's lock is held as long as it is.
pub(super) struct Kept {
    file: File,
    path: PathBuf,
    was: head::Kept,
}

impl Kept {
    /// Opens it where it may be; one that is missing is made, for its owner alone.
    pub(super) fn open(log: Log<'_>) -> Result<Self, Trouble> {
        let mut places = log.keeping.heads(log.path).into_iter().peekable();
        while let Some(path) = places.next() {
            match open_or_make(&path) {
                Ok(file) => {
                    let was = head::read(&file, &path, log.path)?;
                    return Ok(Self { file, path, was });
                }
                Err(Fault::Open(Errno::EACCES | Errno::EPERM | Errno::EROFS)) if places.peek().is_some() => {}
                Err(fault) => return Err(head::distrust(&path, fault)),
            }
        }
        Err(trouble("find a place for the head of", log.path)(Errno::ENOENT))
    }

    /// Gives the record that tells of it, where the log does not have the record that it ended with.
    pub(super) fn lost(
        &self,
        tail: &Tail,
        file: &File,
        size: u64,
        log: Log<'_>,
        boot: &str,
    ) -> Result<Option<Event>, Trouble> {
        let (head, booted) = match &self.was {
            head::Kept::Nothing => return Ok(None),
            head::Kept::Damaged => {
                let none = Head {
                    seq: 0,
                    hash: String::new(),
                };
                return Ok(Some(event(&none, tail, false)));
            }
            head::Kept::Head { head, boot: before } => (head, before != boot),
        };
        let mut follows = head::follows(head, tail, file, size).map_err(trouble("read", log.path))?;
        // Put aside since, before the head was written.
        for number in numbers(log.path).map_err(trouble("look beside", log.path))? {
            if follows != Follows::Elsewhere {
                break;
            }
            let aside = log.path.with_file_name(kept(place::name(log.path)?, number));
            let opened = File::open(&aside).map_err(trouble("open", &aside))?;
            follows = head::search(head, &opened).map_err(trouble("read", &aside))?;
        }
        // In none of them: it is older than the oldest that is kept.
        Ok((follows == Follows::No).then(|| event(head, tail, booted)))
    }

    /// Writes the new head over the old one, by one write of as many bytes.
    pub(super) fn write(&self, head: &Head, log: Log<'_>, boot: &str) -> Result<(), Trouble> {
        let text = head::render(head, log.path, boot);
        self.file
            .write_all_at(text.as_bytes(), 0)
            .map_err(trouble("write", &self.path))?;
        if matches!(self.was, head::Kept::Damaged) {
            self.file
                .set_len(text.len() as u64)
                .map_err(trouble("write", &self.path))?;
        }
        Ok(())
    }
}

fn open_or_make(path: &Path) -> Result<File, Fault> {
    let flags = OFlag::O_RDWR | OFlag::O_CREAT;
    if let Some(file) = head::open(path, flags)? {
        return Ok(file);
    }
    let made = DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(place::parent(path));
    made.map_err(|e| Fault::Open(Errno::from_raw(e.raw_os_error().unwrap_or(libc::EIO))))?;
    head::open(path, flags)?.ok_or(Fault::Missing)
}

fn event(head: &Head, tail: &Tail, booted: bool) -> Event {
    Event::Lost {
        expected: head.seq,
        sha256: head.hash.clone(),
        found: tail.seq,
        booted,
    }
}
