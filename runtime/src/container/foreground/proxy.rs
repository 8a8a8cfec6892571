//! Copies between our stdio and the container's terminal.
//!
//! Nothing here waits but `poll`: a program that does not read its terminal, or a reader that does not take our output, must not keep signals
//! from the workload. What one side does not take yet is kept, in bounds, and the other side is not read meanwhile.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{self, OutputFlags, SetArg, Termios};

use gabion_see::error::{Result, Step};

/// Bytes that are kept of each direction at most.
const KEPT: usize = 8192;
/// Bytes that go to stdout at a time: what a pipe takes without waiting once poll(2) says that it takes anything (PIPE_BUF).
const AT_ONCE: usize = 4096;

/// Whether there may be more to copy.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    GoesOn,
    /// Every end of the terminal in the container is closed, or nobody takes our output.
    Ended,
}

/// What poll(2) found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "five descriptors, each ready or not")]
pub(super) struct Ready {
    pub(super) signal: bool,
    stdin: bool,
    from_terminal: bool,
    to_terminal: bool,
    stdout: bool,
}

impl Ready {
    /// Nothing but a signal.
    pub(super) fn signal() -> Self {
        Self {
            signal: true,
            ..Self::default()
        }
    }

    pub(super) fn any(self) -> bool {
        self != Self::default()
    }
}

pub(super) struct Proxy {
    master: OwnedFd,
    /// Our terminal as it was.
    before: Option<Termios>,
    stdin: Option<OwnedFd>,
    stdout: OwnedFd,
    /// Read from stdin, for the terminal.
    typed: Vec<u8>,
    /// Read from the terminal, for stdout.
    written: Vec<u8>,
}

impl Proxy {
    /// Makes our terminal, where stdin is one, a mere wire.
    pub(super) fn start(master: OwnedFd) -> Result<Self> {
        let stdin = std::io::stdin();
        let copy =
            |fd: BorrowedFd<'_>| gabion_sys::duplicate_above(fd, 3).map_err(Step::Console.failing("duplicate stdio"));
        let (input, output) = (copy(stdin.as_fd())?, copy(std::io::stdout().as_fd())?);
        let mut proxy = Self::between(master, input, output)?;
        if nix::unistd::isatty(0).unwrap_or(false) {
            let old = termios::tcgetattr(&stdin).map_err(Step::Console.failing("read our terminal's settings"))?;
            let mut raw = old.clone();
            termios::cfmakeraw(&mut raw);
            // The container's terminal leaves newlines as they are, so ours still has to do with them what it did.
            raw.output_flags |= old.output_flags & (OutputFlags::OPOST | OutputFlags::ONLCR);
            termios::tcsetattr(&stdin, SetArg::TCSANOW, &raw)
                .map_err(Step::Console.failing("make our terminal raw"))?;
            proxy.before = Some(old);
        }
        proxy.resize();
        Ok(proxy)
    }

    fn between(master: OwnedFd, stdin: OwnedFd, stdout: OwnedFd) -> Result<Self> {
        // Nobody else has this end: the container's process sent it to us and closed its own.
        let raw = master.as_raw_fd();
        let flags = fcntl(raw, FcntlArg::F_GETFL).map_err(Step::Console.failing("look at the terminal"))?;
        let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
        fcntl(raw, FcntlArg::F_SETFL(flags)).map_err(Step::Console.failing("make the terminal not wait"))?;
        Ok(Self {
            master,
            before: None,
            stdin: Some(stdin),
            stdout,
            typed: Vec::with_capacity(KEPT),
            written: Vec::with_capacity(KEPT),
        })
    }

    /// Our size is the container's. Without a terminal of ours there is no size to give.
    pub(super) fn resize(&self) {
        if let Ok((rows, columns)) = gabion_sys::window_size(std::io::stdin().as_fd())
            && let Err(error) = gabion_sys::set_window_size(self.master.as_fd(), rows, columns)
        {
            tracing::debug!(%error, "resizing the container's terminal");
        }
    }

    /// Whether something is read of the terminal that stdout has not taken yet.
    pub(super) fn owes_output(&self) -> bool {
        !self.written.is_empty()
    }

    /// Waits for signals and for all that can go on in either direction.
    pub(super) fn poll_all(&self, signals: &impl AsFd) -> nix::Result<Ready> {
        let stdin = self.stdin.as_ref().filter(|_| self.typed.len() < KEPT);
        self.poll(signals, stdin, !self.typed.is_empty(), PollTimeout::NONE)
    }

    /// Waits for signals and for output alone.
    pub(super) fn poll_output(&self, signals: &impl AsFd, patience: PollTimeout) -> nix::Result<Ready> {
        self.poll(signals, None, false, patience)
    }

    /// Asks of each descriptor only what would be used: a terminal without its other end, say, is always ready.
    fn poll(
        &self,
        signals: &impl AsFd,
        stdin: Option<&OwnedFd>,
        to_terminal: bool,
        patience: PollTimeout,
    ) -> nix::Result<Ready> {
        let mut terminal = PollFlags::empty();
        terminal.set(PollFlags::POLLIN, self.written.is_empty());
        terminal.set(PollFlags::POLLOUT, to_terminal);
        let wanted = [
            Some((signals.as_fd(), PollFlags::POLLIN)),
            stdin.map(|fd| (fd.as_fd(), PollFlags::POLLIN)),
            (!terminal.is_empty()).then_some((self.master.as_fd(), terminal)),
            (!self.written.is_empty()).then_some((self.stdout.as_fd(), PollFlags::POLLOUT)),
        ];
        let mut fds: Vec<_> = wanted
            .iter()
            .flatten()
            .map(|(fd, flags)| PollFd::new(*fd, *flags))
            .collect();
        match poll(&mut fds, patience) {
            Ok(_) => {}
            // A signal that cannot be held back stopped us: whoever waits looks again.
            Err(Errno::EINTR) => {
                return Ok(Ready::signal());
            }
            Err(e) => return Err(e),
        }
        let mut found = fds.iter().map(|fd| fd.revents().unwrap_or(PollFlags::empty()));
        let [signal, stdin, terminal, stdout] =
            wanted.map(|one| one.and_then(|_| found.next()).unwrap_or(PollFlags::empty()));
        let fault = PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL;
        Ok(Ready {
            signal: !signal.is_empty(),
            stdin: !stdin.is_empty(),
            from_terminal: self.written.is_empty() && terminal.intersects(PollFlags::POLLIN | fault),
            to_terminal: to_terminal && terminal.intersects(PollFlags::POLLOUT | fault),
            stdout: !stdout.is_empty(),
        })
    }

    /// Copies what is ready.
    pub(super) fn carry(&mut self, ready: Ready) -> Flow {
        if ready.stdin {
            self.take_input();
        }
        if ready.to_terminal {
            self.give_input();
        }
        if ready.from_terminal && self.take_output() == Flow::Ended {
            return Flow::Ended;
        }
        if ready.stdout { self.give_output() } else { Flow::GoesOn }
    }

    fn take_input(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        let mut buffer = [0_u8; KEPT];
        let room = KEPT.saturating_sub(self.typed.len());
        match nix::unistd::read(stdin.as_raw_fd(), &mut buffer[..room]) {
            Ok(n) if n > 0 => self.typed.extend_from_slice(&buffer[..n]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            _ => self.stdin = None,
        }
    }

    fn give_input(&mut self) {
        match nix::unistd::write(&self.master, &self.typed) {
            Ok(n) => drop(self.typed.drain(..n)),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // Every other end is closed: nobody will read it. Output that is still there is read on.
            Err(_) => {
                self.typed.clear();
                self.stdin = None;
            }
        }
    }

    fn take_output(&mut self) -> Flow {
        let mut buffer = [0_u8; KEPT];
        match nix::unistd::read(self.master.as_raw_fd(), &mut buffer) {
            Ok(n) if n > 0 => self.written.extend_from_slice(&buffer[..n]),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            // EIO: every end of the terminal in the container is closed.
            _ => return Flow::Ended,
        }
        Flow::GoesOn
    }

    fn give_output(&mut self) -> Flow {
        let next = self.written.get(..AT_ONCE).unwrap_or(&self.written);
        match nix::unistd::write(&self.stdout, next) {
            Ok(n) => drop(self.written.drain(..n)),
            // A stdout that does not wait (it is our caller's, who may have it so) is full for now.
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(error) => {
                tracing::debug!(%error, "nobody takes the workload's output");
                return Flow::Ended;
            }
        }
        Flow::GoesOn
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

#[cfg(test)]
#[path = "proxy_tests.rs"]
mod tests;
