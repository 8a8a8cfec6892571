//! Waiting in the foreground: signals passed on, the terminal copied, the exit code handed back.

use std::fs::File;
use std::io::{IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::Path;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg, socketpair};
use nix::sys::termios::{self, SetArg, Termios};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::Process;

use crate::container::create::{console_socket, create_on};
use crate::container::options::{CreateOptions, Detach, Force, Keep, Settings};
use crate::container::start::start_in;
use crate::container::{Deleted, delete};
use crate::state::StateDir;
use gabion_core::hardened::Hardened;
use gabion_see::error::{Error, Result, Step};
use gabion_see::survey::Handles;

fn failed(doing: &'static str) -> impl Fn(Errno) -> Error {
    move |e| Error::step(Step::Console, doing, e)
}

/// `run`: create, start, and unless detached wait and delete. Gives the workload's exit code.
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
) -> Result<u8> {
    let process = hardened.spec().process().clone();
    let process = process.ok_or_else(|| Error::failed(Step::Clone, "the spec has no process"))?;
    if detach == Detach::Detached {
        let console = console_socket(options.console_socket.as_deref(), &process)?;
        let (_, dir) = create_on(settings, options, hardened, &handles, console)?;
        return started(settings, options, &dir).map(|()| 0);
    }
    let terminal = Terminal::prepare(&process, options.console_socket.as_deref(), detach)?;
    hold_signals()?;
    let (pid, dir) = create_on(settings, options, hardened, &handles, terminal.socket_for_child()?)?;
    drop(handles);
    started(settings, options, &dir)?;
    drop(dir);
    let code = wait(Pid::from_raw(pid), terminal);
    if keep == Keep::Remove {
        match delete(settings, &options.id, Force::Kill)? {
            Deleted::Whole => {}
            Deleted::Unread { damage, .. } => return Err(damage),
        }
    }
    code
}

/// Starts what was just created; a container that cannot start is not left behind.
fn started(settings: &Settings, options: &CreateOptions, dir: &StateDir) -> Result<()> {
    start_in(dir, &options.id).inspect_err(|_| {
        if let Err(error) = delete(settings, &options.id, Force::Kill) {
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
                .map_err(failed("make a socket pair"))?;
            return Ok(Self::Ours { ours, theirs });
        }
        Ok(console_socket(socket, process)?.map_or(Self::None, Self::Socket))
    }

    /// The end that the container's process sends its master to.
    pub(crate) fn socket_for_child(&self) -> Result<Option<OwnedFd>> {
        let fd = match self {
            Self::None => return Ok(None),
            Self::Socket(fd) | Self::Ours { theirs: fd, .. } => fd,
        };
        fd.try_clone()
            .map(Some)
            .map_err(|e| Error::failed(Step::Console, e.to_string()))
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
    let mut buffer = [0_u8; 256];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )
    .map_err(failed("receive the terminal"))?;
    for control in message.cmsgs().map_err(failed("receive the terminal"))? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            return gabion_sys::adopt(*fd).map_err(failed("receive the terminal"));
        }
    }
    Err(Error::failed(Step::Console, "no terminal came"))
}

/// Copies between our stdio and the container's terminal.
struct Proxy {
    master: File,
    /// Our terminal as it was.
    before: Option<Termios>,
    stdin_open: bool,
}

impl Proxy {
    fn start(master: OwnedFd) -> Result<Self> {
        let stdin = std::io::stdin();
        let mut before = None;
        if nix::unistd::isatty(0).unwrap_or(false) {
            let old = termios::tcgetattr(&stdin).map_err(failed("read our terminal's settings"))?;
            let mut raw = old.clone();
            termios::cfmakeraw(&mut raw);
            termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw).map_err(failed("make our terminal raw"))?;
            before = Some(old);
        }
        let proxy = Self {
            master: File::from(master),
            before,
            stdin_open: true,
        };
        proxy.resize();
        Ok(proxy)
    }

    /// Our size is the container's. Without a terminal of ours there is no size to give.
    fn resize(&self) {
        if let Ok((rows, columns)) = gabion_sys::window_size(std::io::stdin().as_fd())
            && let Err(error) = gabion_sys::set_window_size(self.master.as_fd(), rows, columns)
        {
            tracing::debug!(%error, "resizing the container's terminal");
        }
    }

    /// What the container wrote. False when there will be no more.
    fn output(&mut self) -> bool {
        let mut buffer = [0_u8; 8192];
        match self.master.read(&mut buffer) {
            Ok(0) => false,
            Ok(n) => {
                let mut out = std::io::stdout();
                out.write_all(&buffer[..n]).and_then(|()| out.flush()).is_ok()
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => true,
            // EIO: every end of the terminal in the container is closed.
            Err(_) => false,
        }
    }

    fn input(&mut self) {
        let mut buffer = [0_u8; 8192];
        match nix::unistd::read(0, &mut buffer) {
            Ok(n) if n > 0 => self.stdin_open = self.master.write_all(&buffer[..n]).is_ok(),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            _ => self.stdin_open = false,
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(error) = termios::tcsetattr(std::io::stdin(), SetArg::TCSANOW, before)
        {
            tracing::debug!(%error, "restoring our terminal");
        }
    }
}

/// From before the workload runs: what comes then is kept for it until `wait` passes it on. The first process of a container
/// unblocks its own.
pub(crate) fn hold_signals() -> Result<()> {
    SigSet::all().thread_block().map_err(failed("block signals"))
}

/// Waits for the process, passing on signals and terminal; its exit code, 128+n for a signal.
pub(crate) fn wait(pid: Pid, terminal: Terminal) -> Result<u8> {
    hold_signals()?;
    let incoming = SignalFd::with_flags(&SigSet::all(), SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(failed("listen for signals"))?;
    let mut proxy = terminal.master()?;
    // It may have ended before we listened.
    let mut code = ended(pid)?;
    while code.is_none() {
        let (signal, output, input) = wait_for_any(incoming.as_fd(), proxy.as_ref())?;
        if let Some(live) = &mut proxy {
            if input {
                live.input();
            }
            if output && !live.output() {
                proxy = None;
            }
        }
        if signal {
            code = take_signals(&incoming, pid, proxy.as_ref())?;
        }
    }
    drain(proxy);
    code.ok_or_else(|| Error::failed(Step::Start, "the workload ended without a code"))
}

/// What the workload wrote last is still in the terminal.
fn drain(proxy: Option<Proxy>) {
    let Some(mut proxy) = proxy else { return };
    loop {
        let mut fds = [PollFd::new(proxy.master.as_fd(), PollFlags::POLLIN)];
        if !poll(&mut fds, PollTimeout::from(50_u8)).is_ok_and(|n| n > 0) || !proxy.output() {
            return;
        }
    }
}

/// Which of signals, terminal output and our input is there.
fn wait_for_any(signals: BorrowedFd<'_>, proxy: Option<&Proxy>) -> Result<(bool, bool, bool)> {
    let stdin = std::io::stdin();
    let mut fds = vec![PollFd::new(signals, PollFlags::POLLIN)];
    if let Some(proxy) = proxy {
        fds.push(PollFd::new(proxy.master.as_fd(), PollFlags::POLLIN));
        if proxy.stdin_open {
            fds.push(PollFd::new(stdin.as_fd(), PollFlags::POLLIN));
        }
    }
    match poll(&mut fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => {}
        Err(e) => return Err(failed("wait for the workload")(e)),
    }
    let ready = |i: usize| fds.get(i).is_some_and(|fd| fd.any().unwrap_or(false));
    Ok((ready(0), ready(1), ready(2)))
}

fn take_signals(incoming: &SignalFd, pid: Pid, proxy: Option<&Proxy>) -> Result<Option<u8>> {
    while let Some(info) = incoming.read_signal().map_err(failed("read a signal"))? {
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        match Signal::try_from(number) {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = ended(pid)? {
                    return Ok(Some(code));
                }
            }
            Ok(Signal::SIGWINCH) => {
                if let Some(proxy) = proxy {
                    proxy.resize();
                }
            }
            // The kernel's word about our own terminal or writes, not meant for the workload (runc ignores SIGURG, too).
            Ok(Signal::SIGPIPE | Signal::SIGURG | Signal::SIGTTOU | Signal::SIGTTIN) => {}
            Ok(signal) => match nix::sys::signal::kill(pid, signal) {
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(e) => return Err(failed("pass a signal on")(e)),
            },
            Err(_) => {}
        }
    }
    Ok(None)
}

/// The exit code, if the process has ended. Other children of ours are reaped on the way.
fn ended(pid: Pid) -> Result<Option<u8>> {
    loop {
        match waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(who, code)) if who == pid => {
                return Ok(Some(u8::try_from(code & 0xff).unwrap_or(255)));
            }
            Ok(WaitStatus::Signaled(who, signal, _)) if who == pid => {
                return Ok(Some(u8::try_from(128 + signal as i32).unwrap_or(255)));
            }
            Ok(WaitStatus::StillAlive) => return Ok(None),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(e) => return Err(failed("wait for the workload")(e)),
        }
    }
}
