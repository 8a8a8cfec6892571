//! Asks a program of the system a question, with a deadline, and reads no more of its answer than was asked for.

use std::io::{self, Read};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Gives what a program prints. It gets no environment of ours, and is ended when it has answered, or had its time.
///
/// # Errors
/// It cannot be run, or does not answer in time.
pub(crate) fn ask(program: &Path, arguments: &[&str], patience: Duration, largest: usize) -> io::Result<String> {
    let mut child = Command::new(program)
        .args(arguments)
        .env_clear()
        .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
        .env("HOME", "/")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let answer = read(&mut child, Instant::now() + patience, largest);
    child.kill().and_then(|()| child.wait())?;
    answer
}

/// Reads to the end of the answer, or of what is read of one.
fn read(child: &mut Child, deadline: Instant, largest: usize) -> io::Result<String> {
    let Some(mut out) = child.stdout.take() else {
        return Ok(String::new());
    };
    let mut bytes = Vec::new();
    let mut part = vec![0; 16 << 10];
    while bytes.len() < largest {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let mut waiting = [PollFd::new(out.as_fd(), PollFlags::POLLIN)];
        if poll(&mut waiting, left)? == 0 {
            return Err(io::ErrorKind::TimedOut.into());
        }
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

    #[test]
    fn an_answer_is_bounded_in_time_and_in_size() {
        let sh = |script: &str, patience: u64, largest: usize| {
            ask(
                Path::new("/bin/sh"),
                &["-c", script],
                Duration::from_millis(patience),
                largest,
            )
        };
        assert_eq!(sh("echo word; env | grep -c HOME", 10_000, 1000).unwrap(), "word\n1\n");
        assert_eq!(sh("sleep 60", 20, 1000).unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert!(sh("while :; do echo word; done", 10_000, 100_000).unwrap().len() < 200_000);
        assert!(ask(Path::new("/nowhere/program"), &[], Duration::from_secs(1), 1).is_err());
    }
}
