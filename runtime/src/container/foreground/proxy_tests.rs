#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use nix::pty::openpty;

use super::*;

/// Whether something waits in it for us.
struct Nothing(OwnedFd);

impl AsFd for Nothing {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn nothing() -> (Nothing, OwnedFd) {
    let (read, write) = nix::unistd::pipe().unwrap();
    (Nothing(read), write)
}

fn not_waiting(fd: &OwnedFd) {
    fcntl(fd.as_raw_fd(), FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
}

fn raw_pty() -> (OwnedFd, OwnedFd) {
    let pty = openpty(None, None).unwrap();
    let mut settings = termios::tcgetattr(&pty.slave).unwrap();
    termios::cfmakeraw(&mut settings);
    termios::tcsetattr(&pty.slave, SetArg::TCSANOW, &settings).unwrap();
    (pty.master, pty.slave)
}

/// A program that does not read its terminal: what is pasted stays with us, in bounds, and a signal is heard at once.
#[test]
fn a_full_terminal_keeps_nobody_from_signals() {
    let (master, _slave) = raw_pty();
    let (stdin, paste) = nix::unistd::pipe().unwrap();
    let (_, stdout) = nix::unistd::pipe().unwrap();
    let (signals, send) = nothing();
    let mut proxy = Proxy::between(master, stdin, stdout).unwrap();
    not_waiting(&paste);
    let started = Instant::now();
    let mut pasted = 0;
    // Until nothing goes on any more, with a signal as the only thing that ends the wait.
    loop {
        while let Ok(n) = nix::unistd::write(&paste, &[b'x'; 4096]) {
            pasted += n;
        }
        let fds = proxy
            .poll(
                &signals,
                proxy.stdin.as_ref().filter(|_| proxy.typed.len() < KEPT),
                true,
                PollTimeout::from(200_u8),
            )
            .unwrap();
        if !fds.any() {
            break;
        }
        assert_eq!(proxy.carry(fds), Flow::GoesOn);
        assert!(started.elapsed() < Duration::from_secs(20));
    }
    assert!(pasted > 36 << 10 && proxy.typed.len() <= KEPT, "{pasted}");
    nix::unistd::write(&send, b"!").unwrap();
    assert!(proxy.poll_all(&signals).unwrap().signal);
}

/// EAGAIN on stdout is «later», not «gone»: every byte arrives.
#[test]
fn output_waits_for_a_stdout_that_does_not() {
    let (master, slave) = raw_pty();
    let (stdin, _typist) = nix::unistd::pipe().unwrap();
    let (reader, stdout) = nix::unistd::pipe().unwrap();
    not_waiting(&stdout);
    not_waiting(&reader);
    not_waiting(&slave);
    let (signals, _send) = nothing();
    let mut proxy = Proxy::between(master, stdin, stdout).unwrap();
    let text: Vec<u8> = (0..=255).cycle().take(203_000).collect();
    let (mut sent, mut got) = (0, Vec::new());
    let started = Instant::now();
    while got.len() < text.len() {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "{} of {}",
            got.len(),
            text.len()
        );
        if let Ok(n) = nix::unistd::write(&slave, text.get(sent..).unwrap()) {
            sent += n;
        }
        let ready = proxy.poll_output(&signals, PollTimeout::from(5_u8)).unwrap();
        assert_eq!(proxy.carry(ready), Flow::GoesOn);
        // Our reader comes late: only when nothing moves any more.
        let mut buffer = [0; 8192];
        while !ready.any() && got.len() < text.len() {
            match nix::unistd::read(reader.as_raw_fd(), &mut buffer) {
                Ok(n) => got.extend_from_slice(&buffer[..n]),
                Err(_) => break,
            }
        }
    }
    assert!(got == text);
}

/// The terminal's other end is closed: what was written before is still read, then it is over.
#[test]
fn what_was_written_last_arrives() {
    let (master, slave) = raw_pty();
    let (stdin, _typist) = nix::unistd::pipe().unwrap();
    let (reader, stdout) = nix::unistd::pipe().unwrap();
    let (signals, _send) = nothing();
    let mut proxy = Proxy::between(master, stdin, stdout).unwrap();
    nix::unistd::write(&slave, b"last words").unwrap();
    drop(slave);
    loop {
        let ready = proxy.poll_output(&signals, PollTimeout::from(100_u8)).unwrap();
        if proxy.carry(ready) == Flow::Ended {
            break;
        }
    }
    let mut buffer = [0; 64];
    let n = nix::unistd::read(reader.as_raw_fd(), &mut buffer).unwrap();
    assert_eq!(&buffer[..n], b"last words");
}
