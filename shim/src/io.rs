//! A process's stdio: FIFOs of containerd, log drivers, files, terminals; and the tasks that copy between them and the process.
//!
//! The process gets pipes of its own, never containerd's FIFOs: what it may do to a descriptor then touches nobody else, a
//! restart of containerd is no broken pipe, and the pipe's label is the runtime's. Copying is `splice`, which needs no memory here.

mod ends;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;

use crate::copy::{copy, drain};
use crate::error::{Error, Result};
use crate::exits::Exits;
use crate::logger;
use crate::pipe::pipe;
use crate::reactor::{Handle, spawn, within};
use crate::runtime::ChildStdio;
use crate::watched::Watched;
use ends::{open_fifo, open_file, open_stdin, watch};

/// Where a process's stdio goes, as containerd said it.
#[derive(Clone, Debug, Default)]
pub struct Stdio {
    /// FIFO or empty.
    pub stdin: String,
    /// FIFO, `file://`, `binary://` or empty.
    pub stdout: String,
    /// As stdout; unused with a terminal.
    pub stderr: String,
    /// Whether the process gets a terminal.
    pub terminal: bool,
}

/// The most that a client may say about stdio: a path is at most 4 KiB, a log driver's arguments come in the same string.
const WORDS: usize = 64 * 1024;

impl Stdio {
    /// How much the three strings hold.
    pub fn size(&self) -> usize {
        self.stdin.len() + self.stdout.len() + self.stderr.len()
    }

    /// Refuses strings longer than any sane ones: they are kept as long as the process is.
    pub fn check(self) -> Result<Self> {
        if self.size() > WORDS {
            return Err(Error::BadRequest("stdio is named by more than 64 KiB"));
        }
        Ok(self)
    }
}

/// One end of stdio, understood.
#[derive(Debug, PartialEq, Eq)]
enum Target {
    Null,
    Fifo(PathBuf),
    File(PathBuf),
    Binary(logger::Driver),
}

fn target(text: &str) -> Result<Target> {
    let absolute = |path: &str| {
        let path = PathBuf::from(path);
        if path.is_absolute() {
            Ok(path)
        } else {
            Err(Error::BadPath {
                path,
                why: "stdio is an absolute path",
            })
        }
    };
    match text.split_once("://") {
        None if text.is_empty() => Ok(Target::Null),
        None => absolute(text).map(Target::Fifo),
        Some(("fifo", path)) => absolute(path).map(Target::Fifo),
        Some(("file", path)) => absolute(path).map(Target::File),
        Some(("binary", uri)) => logger::Driver::parse(uri).map(Target::Binary),
        Some(_) => Err(Error::BadRequest("stdio is a FIFO, file:// or binary://")),
    }
}

/// The copying for one process. Dropping it ends the copying and closes everything.
#[derive(Default)]
pub struct Copying {
    /// What flows once the runtime has done its part.
    waiting: Vec<(Sink, Watched)>,
    outputs: Vec<Handle>,
    input: Option<Handle>,
    /// Keeps stdin open while clients come and go, until `CloseIO`.
    stdin_keeper: RefCell<Option<OwnedFd>>,
    /// Only with a terminal: the end of stdin that was prepared, and where the terminal's text goes.
    terminal: RefCell<Option<(Option<Watched>, Option<Sink>)>>,
    console: RefCell<Option<Rc<Watched>>>,
    late: RefCell<Vec<Handle>>,
    keepers: RefCell<Vec<Keeper>>,
}

/// A FIFO's read end, held so that it has a reader while containerd restarts; let go of when its process is deleted.
type Keeper = Rc<RefCell<Option<OwnedFd>>>;

/// Where output goes.
struct Sink {
    write: Watched,
    keeper: Keeper,
}

impl Sink {
    /// Copies to it until the source ends; only then is any of it closed.
    async fn fill(self, from: Watched) {
        copy(&from, &self.write).await;
    }
}

impl Copying {
    /// Opens what `stdio` names and starts the copying; also gives the descriptors for the runtime to start with.
    pub async fn prepare(stdio: &Stdio, owner: &logger::Owner<'_>, exits: &Exits) -> Result<(Self, ChildStdio)> {
        let mut copying = Self::default();
        let client = match target(&stdio.stdin)? {
            Target::Null => None,
            Target::Fifo(path) => {
                let (read, keeper) = open_stdin(&path)?;
                copying.stdin_keeper.replace(Some(keeper));
                Some(read)
            }
            _ => return Err(Error::BadRequest("stdin is a FIFO")),
        };
        if stdio.terminal {
            let sink = copying.terminal_sink(target(&stdio.stdout)?, owner, exits).await?;
            copying.terminal.replace(Some((client, sink)));
            return Ok((copying, [None, None, None]));
        }
        let child_stdin = match client {
            Some(fifo) => {
                let (read, write) = pipe()?;
                let write = watch(write)?;
                copying.input = Some(spawn(async move { copy(&fifo, &write).await }));
                Some(read)
            }
            None => None,
        };
        let (stdout, stderr) = match (target(&stdio.stdout)?, target(&stdio.stderr)?) {
            (Target::Binary(driver), _) => {
                let ((out_read, out_write), (err_read, err_write)) = (pipe()?, pipe()?);
                driver.start(owner, out_read, err_read, exits).await?;
                (Some(out_write), Some(err_write))
            }
            (out, err) => (copying.output(out).await?, copying.output(err).await?),
        };
        Ok((copying, [child_stdin, stdout, stderr]))
    }

    /// Prepares the copying to a FIFO or a file; gives the end that the process writes to.
    async fn output(&mut self, target: Target) -> Result<Option<OwnedFd>> {
        let sink = match target {
            Target::Null => return Ok(None),
            Target::Fifo(path) => open_fifo(&path).await?,
            Target::File(path) => open_file(&path)?,
            Target::Binary(_) => return Err(Error::BadRequest("a log driver takes stdout and stderr together")),
        };
        let (read, write) = pipe()?;
        let read = watch(read)?;
        self.keepers.get_mut().push(Rc::clone(&sink.keeper));
        self.waiting.push((sink, read));
        Ok(Some(write))
    }

    /// Lets output flow. Until then it waits in its pipe: the runtime starts with the process's stderr, and what it says there when it fails is said
    /// to containerd by its log. (A process that fills its pipe meanwhile waits: of an exec that is until the runtime has ended, soon after.)
    pub fn begin(&mut self) {
        let waiting = std::mem::take(&mut self.waiting).into_iter();
        self.outputs.extend(waiting.map(|(sink, read)| spawn(sink.fill(read))));
    }

    async fn terminal_sink(&self, target: Target, owner: &logger::Owner<'_>, exits: &Exits) -> Result<Option<Sink>> {
        Ok(match target {
            Target::Null => None,
            Target::Fifo(path) => Some(open_fifo(&path).await?),
            Target::File(path) => Some(open_file(&path)?),
            Target::Binary(driver) => {
                let ((out_read, out_write), (err_read, _)) = (pipe()?, pipe()?);
                driver.start(owner, out_read, err_read, exits).await?;
                Some(Sink {
                    write: watch(out_write)?,
                    keeper: Keeper::default(),
                })
            }
        })
    }

    /// Takes the terminal that the runtime sent and starts the copying to and from it.
    pub fn attach(&self, console: OwnedFd) -> Result<()> {
        let console = Rc::new(watch(console)?);
        self.console.replace(Some(Rc::clone(&console)));
        let Some((stdin, sink)) = self.terminal.take() else {
            return Ok(());
        };
        let mut late = self.late.borrow_mut();
        if let Some(stdin) = stdin {
            let console = Rc::clone(&console);
            late.push(spawn(async move { copy(&stdin, &console).await }));
        }
        self.keepers
            .borrow_mut()
            .extend(sink.as_ref().map(|sink| Rc::clone(&sink.keeper)));
        // Read also when nobody listens: else a full terminal would block the process.
        late.push(spawn(async move {
            match sink {
                Some(sink) => copy(&console, &sink.write).await,
                None => drain(&console).await,
            }
        }));
        Ok(())
    }

    /// Sets the terminal's size; false without a terminal.
    pub fn resize(&self, width: u16, height: u16) -> Result<bool> {
        let Some(console) = self.console.borrow().clone() else {
            return Ok(false);
        };
        crate::sys::set_window_size(console.as_fd(), width, height)
            .map_err(|error| Error::system("setting the terminal's size", error))?;
        Ok(true)
    }

    /// The process reads the end of its stdin once every client has closed it too.
    pub fn close_stdin(&self) {
        drop(self.stdin_keeper.take());
    }

    /// Waits, at most `limit`, until all that the process wrote has been passed on. A client that has left is not waited for.
    pub async fn drained(&self, limit: Duration) {
        for keeper in self.keepers.borrow().iter() {
            drop(keeper.take());
        }
        let late = self.late.borrow().last().cloned();
        let all = async {
            for handle in self.outputs.iter().chain(&late) {
                handle.join().await;
            }
        };
        if within(limit, all).await.is_none() {
            crate::log::warning!("output was not read in time: the rest of it is dropped");
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        for handle in self.outputs.iter().chain(&self.input).chain(self.late.get_mut().iter()) {
            handle.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::copy::read_some;
    use std::io;

    #[test]
    fn targets() {
        assert_eq!(target("").unwrap(), Target::Null);
        assert_eq!(target("/run/x").unwrap(), Target::Fifo("/run/x".into()));
        assert_eq!(target("file:///log").unwrap(), Target::File("/log".into()));
        assert!(matches!(target("binary:///bin/x?a=b").unwrap(), Target::Binary(_)));
        for bad in ["x", "file://x", "http:///x", "binary://x"] {
            assert!(target(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn copies_past_a_full_pipe() {
        let text = vec![b'x'; 300_000];
        let expected = text.len();
        let length = crate::reactor::run(async move {
            let ((in_read, in_write), (out_read, out_write)) = (pipe().unwrap(), pipe().unwrap());
            let feeder =
                std::thread::spawn(move || io::Write::write_all(&mut std::fs::File::from(in_write), &text).unwrap());
            let (from, to) = (watch(in_read).unwrap(), watch(out_write).unwrap());
            spawn(async move { copy(&from, &to).await });
            let out = watch(out_read).unwrap();
            let mut length = 0;
            while let Some(some) = read_some(&out).await {
                length += some.len();
            }
            feeder.join().unwrap();
            length
        })
        .unwrap();
        assert_eq!(length, expected);
    }

    #[test]
    fn a_file_is_appended_to() {
        let path = std::env::temp_dir().join(format!("gabion-shim-append-{}", std::process::id()));
        let file = path.clone();
        std::fs::write(&path, "old ").unwrap();
        crate::reactor::run(async move {
            let (read, write) = pipe().unwrap();
            let sink = open_file(&file).unwrap();
            nix::unistd::write(&write, b"new").unwrap();
            drop(write);
            copy(&watch(read).unwrap(), &sink.write).await;
        })
        .unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old new");
        std::fs::remove_file(&path).unwrap();
    }
}
