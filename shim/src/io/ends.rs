//! Opening the far ends of stdio: FIFOs of clients, and files.

use std::cell::RefCell;
use std::fs::{Metadata, OpenOptions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::rc::Rc;
use std::time::Duration;

use nix::libc;

use super::{Keeper, Sink};
use crate::error::{Error, Result};
use crate::files;
use crate::reactor::{sleep, within};
use crate::watched::Watched;

/// How long a client may take to open the FIFOs that it made.
const FIRST_READER: Duration = Duration::from_secs(2);

/// Watches a descriptor.
pub(super) fn watch(fd: OwnedFd) -> Result<Watched> {
    Watched::new(fd).map_err(|error| Error::system("watching a descriptor", error))
}

/// Opens one end of a FIFO without waiting for the other. What was opened is looked at, not what the path was before.
fn open(path: &Path, options: &mut OpenOptions) -> Result<OwnedFd> {
    let failed = |error| Error::at("opening", path, error);
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW | libc::O_NOCTTY;
    let file = options.custom_flags(flags).open(path).map_err(failed)?;
    check_fifo(path, &file.metadata().map_err(failed)?)?;
    Ok(OwnedFd::from(file))
}

fn check_fifo(path: &Path, meta: &Metadata) -> Result<()> {
    if meta.file_type().is_fifo() {
        return Ok(());
    }
    Err(Error::BadPath {
        path: path.to_owned(),
        why: "not a FIFO",
    })
}

/// Refuses what is no FIFO before it is opened: opening a device can do things by itself.
fn check_place(path: &Path) -> Result<()> {
    let meta = path.symlink_metadata();
    check_fifo(path, &meta.map_err(|error| Error::at("opening", path, error))?)
}

/// A FIFO to write to. The client is given a moment to open it first: output that is written and closed before anyone reads is
/// lost. Then a read end is held here, so that the FIFO keeps a reader.
pub(super) async fn open_fifo(path: &Path) -> Result<Sink> {
    check_place(path)?;
    let with_reader = async {
        loop {
            // Opening for writing only fails (ENXIO) while there is no reader. Once open it stays so: a client that sees the only
            // writer leave takes that for the end.
            match open(path, OpenOptions::new().write(true)) {
                Err(Error::System { source, .. }) if source.raw_os_error() == Some(libc::ENXIO) => {
                    sleep(Duration::from_millis(2)).await;
                }
                opened => return opened,
            }
        }
    };
    let early = within(FIRST_READER, with_reader).await;
    let read = open(path, OpenOptions::new().read(true))?;
    let write = if let Some(write) = early {
        write?
    } else {
        crate::log::warning!("{}: nobody reads it yet", path.display());
        open(path, OpenOptions::new().write(true))?
    };
    let write = watch(write)?;
    Ok(Sink {
        write,
        keeper: Rc::new(RefCell::new(Some(read))),
    })
}

pub(super) fn open_stdin(path: &Path) -> Result<(Watched, OwnedFd)> {
    check_place(path)?;
    let read = watch(open(path, OpenOptions::new().read(true))?)?;
    Ok((read, open(path, OpenOptions::new().write(true))?))
}

pub(super) fn open_file(path: &Path) -> Result<Sink> {
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(|error| Error::at("making", parent, error))?;
    }
    Ok(Sink {
        write: watch(files::append(path)?.into())?,
        keeper: Keeper::default(),
    })
}
