//! Asks a program for its version, with a deadline.

use std::io::Read;
use std::os::fd::AsFd;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use gabion_core::doctor::node::{Program, Seen};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// How long a program may take: engines answer in a tenth of a second.
const PATIENCE: Duration = Duration::from_secs(10);

/// How much of an answer is read.
const LARGEST: usize = 4096;

/// Gives what `PROGRAM --version` prints. A program that others than root can exchange is not run.
pub(super) fn ask(program: &Program) -> Seen<String> {
    let shown = program.path.display();
    if program.owned.uid != 0 || program.owned.mode & 0o022 != 0 {
        return Seen::Unknown(format!("{shown} can be exchanged by others than root, and is not run"));
    }
    let started = Command::new(&program.path)
        .arg("--version")
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut child = match started {
        Ok(child) => child,
        Err(error) => return Seen::Unknown(format!("{shown} cannot be run: {error}")),
    };
    let answer = read(&mut child, Instant::now() + PATIENCE);
    // It has answered, or had its time: what is left of it is ended.
    let ended = child.kill().and_then(|()| child.wait());
    match (answer, ended) {
        (Ok(text), Ok(_)) if !text.trim().is_empty() => Seen::Is(text),
        (Ok(_), Ok(_)) => Seen::Unknown(format!("{shown} --version says nothing")),
        (Err(error), _) | (_, Err(error)) => Seen::Unknown(format!("{shown} --version: {error}")),
    }
}

/// Reads to the end of the answer, or of what is read of one.
fn read(child: &mut Child, deadline: Instant) -> std::io::Result<String> {
    let Some(mut out) = child.stdout.take() else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    while bytes.len() < LARGEST {
        let left = deadline.saturating_duration_since(Instant::now());
        let milliseconds = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut waiting = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, milliseconds)? == 0 {
            return Err(std::io::ErrorKind::TimedOut.into());
        }
        let mut part = [0; 512];
        match out.read(&mut part)? {
            0 => break,
            length => bytes.extend(&part[..length]),
        }
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use gabion_core::doctor::node::Owned;

    fn program(path: &str, mode: u32) -> Program {
        Program {
            path: path.into(),
            owned: Owned { uid: 0, mode },
        }
    }

    #[test]
    fn a_program_answers_or_the_reason_is_said() {
        let Seen::Is(said) = ask(&program("/bin/echo", 0o755)) else {
            panic!("/bin/echo says what it was given")
        };
        assert!(!said.trim().is_empty());
        let why = |program: &Program| match ask(program) {
            Seen::Unknown(why) => why,
            other => panic!("{other:?}"),
        };
        assert!(why(&program("/bin/echo", 0o775)).contains("not run"));
        assert!(why(&program("/nowhere/program", 0o755)).contains("cannot be run"));
        assert!(why(&program("/bin/true-that-says-nothing", 0o755)).contains("cannot be run"));
    }

    #[test]
    fn a_program_that_does_not_answer_is_not_waited_for() {
        let mut child = Command::new("/bin/sleep")
            .arg("60")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answer = read(&mut child, Instant::now() + Duration::from_millis(20));
        assert_eq!(answer.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        child.kill().unwrap();
        child.wait().unwrap();
    }
}
