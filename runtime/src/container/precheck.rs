//! What must hold before anything of a container is made.

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use crate::contract::setup::Preserved;
use gabion_see::error::{Error, Result, Step};

/// What is preserved, looked at: every number is open, and the caller's.
///
/// # Errors
/// One of them is not: another descriptor must not stand in for it.
pub(crate) fn preserved(asked: u32, listen: Option<u32>) -> Result<Preserved> {
    let count = asked.checked_add(listen.unwrap_or(0)).filter(|n| *n <= u32::MAX / 2);
    let count = count.ok_or_else(|| Error::Usage(format!("{asked} descriptors cannot be preserved")))?;
    for number in (3_u32..).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        if !is_callers(number)? {
            return Err(Error::Usage(format!(
                "descriptor {number} of the {count} to be preserved is not open: check --preserve-fds and LISTEN_FDS"
            )));
        }
    }
    Ok(Preserved { count, listen })
}

/// Our own descriptors are all close-on-exec; none that came through our own execve can be.
fn is_callers(number: u32) -> Result<bool> {
    let Ok(fd) = RawFd::try_from(number) else {
        return Ok(false);
    };
    match fcntl(fd, FcntlArg::F_GETFD) {
        Ok(flags) => Ok(!FdFlag::from_bits_truncate(flags).contains(FdFlag::FD_CLOEXEC)),
        Err(Errno::EBADF) => Ok(false),
        Err(e) => Err(Error::step(Step::Ids, format!("look at descriptor {number}"), e)),
    }
}

/// LISTEN_FDS, where it is meant for us: a service that was activated itself may have left it in our environment, and its
/// descriptors are not the container's (sd_listen_fds(3): LISTEN_PID must be the reader's own).
pub(crate) fn listen_fds() -> Option<u32> {
    meant_for(
        std::process::id(),
        std::env::var("LISTEN_PID").ok(),
        std::env::var("LISTEN_FDS").ok(),
    )
}

fn meant_for(pid: u32, listen_pid: Option<String>, listen_fds: Option<String>) -> Option<u32> {
    let named = listen_pid?.parse::<u32>().ok()?;
    if named == pid {
        listen_fds?.parse().ok().filter(|n| *n > 0)
    } else {
        None
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn listen_fds_of_somebody_else_is_not_ours() {
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(meant_for(7, some("7"), some("2")), Some(2));
        for (pid, fds) in [
            (some("8"), some("2")),
            (None, some("2")),
            (some("7"), None),
            (some("7"), some("x")),
        ] {
            assert_eq!(meant_for(7, pid, fds), None);
        }
        assert_eq!(meant_for(7, some("7"), some("0")), None);
    }

    #[test]
    fn what_is_preserved_is_open() {
        assert_eq!(preserved(0, None).unwrap(), Preserved::default());
        assert!(preserved(u32::MAX, Some(1)).is_err());
        assert!(preserved(1 << 20, None).is_err());
        // std's files are close-on-exec: never a caller's.
        let own = std::fs::File::open("/dev/null").unwrap();
        assert!(!is_callers(u32::try_from(own.as_raw_fd()).unwrap()).unwrap());
        assert!(is_callers(0).unwrap());
    }
}
