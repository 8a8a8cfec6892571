//! The shim's life: from the listener that `start` left it to the last container's end.

use std::fs::File;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Duration;

use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::unistd::{chdir, dup2, setsid};

use crate::bootstrap::TTRPC_ADDRESS;
use crate::budget::Budget;
use crate::cli::Arguments;
use crate::container::{Context, EXECS_HOLD};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::exits::Exits;
use crate::reactor::{self, spawn};
use crate::service::Service;
use crate::sync::{Either, race};
use crate::watched::Watched;
use crate::{log, rpc, socket, sys};

/// How long containerd may take over the last events.
const FAREWELL: Duration = Duration::from_secs(2);

/// Serves until containerd says `Shutdown` and no container is left.
pub fn serve(arguments: &Arguments) -> Result<()> {
    // First of all: later the numbers would be something else's.
    let held = hold_logger_fds()?;
    let listener = detach()?;
    log::open(&arguments.bundle, arguments.debug);
    let path = listener
        .local_addr()
        .ok()
        .and_then(|address| address.as_pathname().map(ToOwned::to_owned));
    // containerd always says it; the fallback is what its address is by default.
    let ttrpc = std::env::var(TTRPC_ADDRESS).unwrap_or_else(|_| format!("{}.ttrpc", arguments.address));
    let context = Rc::new(Context {
        namespace: arguments.namespace.clone(),
        address: arguments.address.clone(),
        execs: Budget::new(EXECS_HOLD),
        exits: Rc::new(Exits::default()),
        events: Events::new(&arguments.namespace, &ttrpc),
    });
    let result = reactor::run(live(listener, context))
        .map_err(|error| Error::system("polling", error))
        .flatten();
    if let Err(error) = &result {
        log::error!("the shim ends: {error}");
    }
    if let Some(path) = path {
        socket::remove(&path)?;
    }
    drop(held);
    result
}

/// Leaves the caller's session and directory, becomes the reaper of what containers leave, and takes the listener from stdin.
fn detach() -> Result<UnixListener> {
    let failed = |error| Error::system("detaching", error);
    let errno = |errno: nix::Error| Error::system("detaching", errno);
    let listener = std::io::stdin().as_fd().try_clone_to_owned().map_err(failed)?;
    let null = File::open("/dev/null").map_err(failed)?;
    dup2(null.as_raw_fd(), 0).map_err(errno)?;
    setsid().map_err(errno)?;
    chdir("/").map_err(errno)?;
    prctl::set_child_subreaper(true).map_err(errno)?;
    prctl::set_name(c"containerd-shim").map_err(errno)?;
    let listener = UnixListener::from(listener);
    listener.set_nonblocking(true).map_err(failed)?;
    Ok(listener)
}

/// Opens /dev/null until the numbers that a log driver gets are taken. As long as they are, no pipe of `Command` is one of them.
fn hold_logger_fds() -> Result<Vec<File>> {
    let mut held = Vec::new();
    loop {
        let null = File::open("/dev/null").map_err(|error| Error::system("opening /dev/null", error))?;
        if sys::LOGGER_FDS.iter().all(|fd| null.as_raw_fd() > *fd) {
            return Ok(held);
        }
        held.push(null);
    }
}

async fn live(listener: UnixListener, context: Rc<Context>) -> Result<()> {
    let service = Rc::new(Service::new(Rc::clone(&context)));
    let signals = Signals::new()?;
    let (exits, idle) = (Rc::clone(&context.exits), Rc::clone(&service));
    spawn(async move { signals.handle(&exits, &idle).await });
    let events = Rc::clone(&context);
    spawn(async move { events.events.send().await });
    let server = rpc::serve(listener, Rc::clone(&service));
    match race(service.stopped.wait(), server).await {
        Either::Left(()) => context.events.drain(FAREWELL).await,
        Either::Right(result) => return result,
    }
    Ok(())
}

/// SIGCHLD, and what asks the shim to end.
struct Signals {
    fd: SignalFd,
    watched: Watched,
}

impl Signals {
    fn new() -> Result<Self> {
        let failed = |errno: nix::Error| Error::system("watching signals", errno);
        let mut set = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
            set.add(signal);
        }
        set.thread_block().map_err(failed)?;
        let fd = SignalFd::with_flags(&set, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).map_err(failed)?;
        let duplicate = fd
            .as_fd()
            .try_clone_to_owned()
            .map_err(|error| Error::system("watching signals", error))?;
        let watched = Watched::new(duplicate).map_err(|error| Error::system("watching signals", error))?;
        Ok(Self { fd, watched })
    }

    async fn handle(&self, exits: &Exits, service: &Service) {
        loop {
            let seen = self.watched.edges();
            while let Ok(Some(info)) = self.fd.read_signal() {
                let child = i32::try_from(info.ssi_signo) == Ok(Signal::SIGCHLD as i32);
                if child {
                    continue;
                }
                // Ending now would make containerd kill the containers: it cannot tell a shim that left from one that died.
                if service.is_idle() {
                    service.stopped.set(());
                } else {
                    log::info!("signal {} ignored: there are containers", info.ssi_signo);
                }
            }
            exits.reap();
            self.watched.edge_after(seen).await;
        }
    }
}
