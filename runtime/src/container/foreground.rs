//! Waiting in the foreground: signals passed on, the terminal copied, the exit code handed back.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use nix::unistd::Pid;
use oci_spec::runtime::Process;

use crate::container::create::{console_socket, create_on};
use crate::container::delete::{Deleted, HookDir, delete_from};
use crate::container::options::{CreateOptions, Detach, Force, Keep, Settings};
use crate::container::start::start_in;
use crate::contract::setup::{Console, Newline};
use crate::state::StateDir;
use gabion_core::hardened::Hardened;
use gabion_see::error::{Error, Result, Step};
use gabion_see::state::StateView;
use gabion_see::survey::Handles;
use gabion_sys::{Came, Signals};

mod proxy;

use proxy::{Flow, Proxy, Ready};

/// How `run` ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ended {
    /// The workload's exit code; 0 when detached.
    pub(crate) code: u8,
    /// How many execs were counted and have no record.
    pub(crate) repeats: u64,
}

/// `run`: create, start, and unless detached wait and delete.
///
/// # Errors
/// create's and start's; nothing of the container is left then.
pub(crate) fn run(
    settings: &Settings,
    options: &CreateOptions,
    hardened: Hardened,
    handles: Handles,
    detach: Detach,
    keep: Keep,
) -> Result<Ended> {
    let process = hardened.spec().process().clone();
    let process = process.ok_or_else(|| Error::failed(Step::Clone, "the spec has no process"))?;
    if detach == Detach::Detached {
        let console = console_socket(options.console_socket.as_deref(), &process)?.map(Console::of_callers);
        let (_, dir) = create_on(settings, options, hardened, &handles, console)?;
        return started(settings, options, &dir).map(|()| Ended { code: 0, repeats: 0 });
    }
    let terminal = Terminal::prepare(&process, options.console_socket.as_deref(), detach)?;
    hold_signals()?;
    let (pid, dir) = create_on(settings, options, hardened, &handles, terminal.for_child()?)?;
    drop(handles);
    started(settings, options, &dir)?;
    drop(dir);
    let code = wait(Pid::from_raw(pid), terminal);
    let repeats = match StateView::open(&settings.root, &options.id) {
        Ok(dir) => options.audit.repeats(&dir),
        // Somebody has deleted it meanwhile, and that has a record of its own.
        Err(_) => 0,
    };
    if keep == Keep::Remove {
        match delete_from(settings, &options.id, Force::Kill, HookDir::Bundle)? {
            Deleted::Whole => {}
            Deleted::Unread { damage, .. } => return Err(damage),
        }
    }
    code.map(|code| Ended { code, repeats })
}

/// Starts what was just created; a container that cannot start is not left behind.
fn started(settings: &Settings, options: &CreateOptions, dir: &StateDir) -> Result<()> {
    start_in(dir, &options.id).inspect_err(|_| {
        if let Err(error) = delete_from(settings, &options.id, Force::Kill, HookDir::Bundle) {
            tracing::error!(%error, "cleaning up after a failed start");
        }
    })
}

/// The caller's side of the container's terminal.
#[derive(Debug)]
pub(crate) enum Terminal {
    /// The process has none: stdio is inherited.
    None,
    /// Its master goes to a socket of the caller's.
    Socket(OwnedFd),
    /// Its master comes to us.
    Ours { ours: OwnedFd, theirs: OwnedFd },
}

impl Terminal {
    pub(crate) fn prepare(process: &Process, socket: Option<&Path>, detach: Detach) -> Result<Self> {
        let wanted = process.terminal().unwrap_or(false);
        if wanted && socket.is_none() && detach == Detach::Foreground {
            let (ours, theirs) = socketpair(AddressFamily::Unix, SockType::Stream, None, SockFlag::SOCK_CLOEXEC)
                .map_err(Step::Console.failing("make a socket pair"))?;
            return Ok(Self::Ours { ours, theirs });
        }
        Ok(console_socket(socket, process)?.map_or(Self::None, Self::Socket))
    }

    /// The end that the container's process sends its master to.
    pub(crate) fn for_child(&self) -> Result<Option<Console>> {
        let (fd, newline) = match self {
            Self::None => return Ok(None),
            Self::Socket(fd) => (fd, Newline::Unchanged),
            Self::Ours { theirs, .. } => (theirs, Newline::Plain),
        };
        let socket = fd
            .try_clone()
            .map_err(|e| Error::failed(Step::Console, e.to_string()))?;
        Ok(Some(Console { socket, newline }))
    }

    fn master(self) -> Result<Option<Proxy>> {
        match self {
            Self::Ours { ours, theirs } => {
                drop(theirs);
                Proxy::start(receive(&ours)?).map(Some)
            }
            _ => Ok(None),
        }
    }
}

fn receive(socket: &OwnedFd) -> Result<OwnedFd> {
    let (_, fds) =
        gabion_sys::receive(socket.as_fd(), &mut [0_u8; 256]).map_err(Step::Console.failing("receive the terminal"))?;
    let terminal = fds.into_iter().next();
    terminal.ok_or_else(|| Error::failed(Step::Console, "no terminal came"))
}

/// From before the workload runs: what comes then is kept for it until `wait` passes it on. The first process of a container
/// unblocks its own.
pub(crate) fn hold_signals() -> Result<()> {
    gabion_sys::hold_all_signals().map_err(Step::Console.failing("block signals"))
}

/// Waits for the process, passing on signals and terminal; its exit code, 128+n for a signal.
pub(crate) fn wait(pid: Pid, terminal: Terminal) -> Result<u8> {
    hold_signals()?;
    let incoming = Signals::all().map_err(Step::Console.failing("listen for signals"))?;
    // By descriptor, which takes every number and never means another process. One that has ended already has nothing to be told.
    let process = match gabion_sys::pidfd_open(pid) {
        Ok(process) => Some(process),
        Err(Errno::ESRCH) => None,
        Err(e) => return Err(Step::Console.failing("open the workload's process")(e)),
    };
    let mut proxy = terminal.master()?;
    // It may have ended before we listened.
    let mut code = ended(pid)?;
    while code.is_none() {
        let ready = wait_for_any(&incoming, proxy.as_ref())?;
        if proxy.as_mut().is_some_and(|live| live.carry(ready) == Flow::Ended) {
            proxy = None;
        }
        if ready.signal {
            code = take_signals(&incoming, pid, process.as_ref(), proxy.as_ref())?;
        }
    }
    if let Some(proxy) = proxy {
        drain(proxy, &incoming)?;
    }
    code.ok_or_else(|| Error::failed(Step::Start, "the workload ended without a code"))
}

/// How long the terminal is listened to after the workload's end, each time that it has said something, in milliseconds.
const SILENCE: u8 = 50;

/// Passes on what the workload wrote last, which is still in the terminal. All of it, however slow our reader is, as runc does; a signal that
/// asks us to end ends that.
fn drain(mut proxy: Proxy, incoming: &Signals) -> Result<()> {
    loop {
        while let Some(came) = incoming.next().map_err(Step::Console.failing("read a signal"))? {
            if matches!(came.number, libc::SIGTERM | libc::SIGINT | libc::SIGHUP | libc::SIGQUIT) {
                return Ok(());
            }
        }
        let patience = if proxy.owes_output() {
            PollTimeout::NONE
        } else {
            PollTimeout::from(SILENCE)
        };
        let ready = proxy
            .poll_output(incoming, patience)
            .map_err(Step::Console.failing("empty the terminal"))?;
        if !ready.any() || proxy.carry(ready) == Flow::Ended {
            return Ok(());
        }
    }
}

/// Which of signals, terminal and our stdio is there.
fn wait_for_any(signals: &Signals, proxy: Option<&Proxy>) -> Result<Ready> {
    let failed = Step::Console.failing("wait for the workload");
    if let Some(proxy) = proxy {
        return proxy.poll_all(signals).map_err(failed);
    }
    let mut fds = [PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(Ready::signal()),
        Err(e) => Err(failed(e)),
    }
}

fn take_signals(incoming: &Signals, pid: Pid, process: Option<&OwnedFd>, proxy: Option<&Proxy>) -> Result<Option<u8>> {
    while let Some(came) = incoming.next().map_err(Step::Console.failing("read a signal"))? {
        match (came.number, proxy) {
            (libc::SIGCHLD, _) => {
                if let Some(code) = ended(pid)? {
                    return Ok(Some(code));
                }
            }
            (libc::SIGWINCH, Some(proxy)) => proxy.resize(),
            _ if is_about_us(came) => {}
            (number, _) => {
                let Some(process) = process else { continue };
                match gabion_sys::pidfd_send_signal(process.as_fd(), number) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(e) => return Err(Step::Console.failing("pass a signal on")(e)),
                }
            }
        }
    }
    Ok(None)
}

/// Tells the kernel's word about our own terminal or writes, which is not meant for the workload (runc ignores SIGURG, too).
fn is_about_us(came: Came) -> bool {
    match came.number {
        libc::SIGURG => true,
        // Of a terminal that we do not have at present; somebody else's are meant for the workload.
        libc::SIGTTOU | libc::SIGTTIN => came.sender == 0,
        // A write of ours that nobody reads: the kernel names ourselves as the sender.
        libc::SIGPIPE => came.sender == std::process::id() || came.sender == 0,
        _ => false,
    }
}

/// The exit code, if the process has ended. Other children of ours are reaped on the way.
fn ended(pid: Pid) -> Result<Option<u8>> {
    loop {
        match gabion_sys::reap_any() {
            Ok(Some(child)) if child.pid == pid => return Ok(Some(child.code)),
            Ok(Some(_)) | Err(Errno::EINTR) => {}
            Ok(None) => return Ok(None),
            Err(e) => return Err(Step::Console.failing("wait for the workload")(e)),
        }
    }
}
