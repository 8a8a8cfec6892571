//! The shim's life: from the listener that `start` left it to the last container's end.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::rc::Rc;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::sys::prctl;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::stat::Mode;
use nix::unistd::{chdir, dup2, dup3, setsid};

use crate::bootstrap::TTRPC_ADDRESS;
use crate::cli::Arguments;
use crate::container::Context;
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
    result
}

/// First of all, since it takes descriptors by number. Leaves the caller's session and directory, becomes the reaper of what containers leave, and takes the listener from stdin.
fn detach() -> Result<UnixListener> {
    let failed = |errno: nix::Error| Error::system("detaching", errno);
    let listener = std::io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| Error::system("detaching", error))?;
    let null = nix::fcntl::open("/dev/null", OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty()).map_err(failed)?;
    dup2(null, 0).map_err(failed)?;
    let listener = out_of_the_way(listener)?;
    // Held for ever, so that no pipe of `Command` is ever one of those that a log driver gets.
    for fd in sys::LOGGER_FDS {
        if fd != null {
            dup3(null, fd, OFlag::O_CLOEXEC).map_err(failed)?;
        }
    }
    setsid().map_err(failed)?;
    chdir("/").map_err(failed)?;
    prctl::set_child_subreaper(true).map_err(failed)?;
    prctl::set_name(c"containerd-shim").map_err(failed)?;
    let listener = UnixListener::from(listener);
    listener
        .set_nonblocking(true)
        .map_err(|error| Error::system("detaching", error))?;
    Ok(listener)
}

/// Duplicates `fd` to a number above those of the log drivers.
fn out_of_the_way(fd: OwnedFd) -> Result<OwnedFd> {
    let mut low = vec![fd];
    loop {
        let next = low
            .last()
            .map_or_else(|| Err(std::io::ErrorKind::NotFound.into()), OwnedFd::try_clone);
        let next = next.map_err(|error| Error::system("detaching", error))?;
        if sys::LOGGER_FDS.iter().all(|fd| next.as_raw_fd() > *fd) {
            return Ok(next);
        }
        low.push(next);
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
