//! Limits of our own: raised for what we do, and given back to what we start.
//!
//! A caller's soft limits are for its programs. Ours would end with «too many open files» at a spec of three hundred mounts, where a hard
//! limit allows them. runc does the same, as every Go program does with its files.

use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use gabion_see::caller::limits::{keep, limit, raised};

/// Files that we ever have open.
const MOST_FILES: u64 = 1 << 16;

/// What a small limit of would stop us in the middle.
const OURS: [Resource; 5] = [
    Resource::RLIMIT_NOFILE,
    Resource::RLIMIT_FSIZE,
    Resource::RLIMIT_AS,
    Resource::RLIMIT_DATA,
    Resource::RLIMIT_CPU,
];

/// Raises our soft limits as far as the hard ones let. What cannot be raised stays, and whatever then is too much says so.
pub fn raise() {
    let mut before = Vec::new();
    for resource in OURS {
        let Ok((soft, hard)) = limit(resource) else { continue };
        let wanted = match resource {
            Resource::RLIMIT_NOFILE => hard.min(MOST_FILES),
            _ => hard,
        };
        if soft < wanted && setrlimit(resource, wanted, hard).is_ok() {
            before.push((resource, soft, hard));
        }
    }
    keep(before);
}

/// Gives our caller's limits back, for good: to the workload, in the process that becomes it.
///
/// # Errors
/// The call's own.
pub fn give_back() -> nix::Result<()> {
    for (resource, soft, _) in raised() {
        // It may have been lowered since.
        let (_, hard) = getrlimit(resource)?;
        setrlimit(resource, soft.min(hard), hard)?;
    }
    keep(Vec::new());
    Ok(())
}

/// Starts another program under our caller's limits.
///
/// # Errors
/// As `start` has them. Where it has no room for its own descriptors below the caller's limit, it is started with ours.
pub fn for_another<T>(mut start: impl FnMut() -> std::io::Result<T>) -> std::io::Result<T> {
    let before = raised();
    if before.is_empty() {
        return start();
    }
    give_back()?;
    let started = start();
    raise();
    match started {
        Err(error) if error.raw_os_error() == Some(Errno::EMFILE as i32) => start(),
        started => started,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// One test: limits are the whole process's.
    #[test]
    fn what_is_raised_is_given_back() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let (soft, wanted) = (hard.min(99), hard.min(MOST_FILES));
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
        raise();
        let now = || getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        assert_eq!(
            (now(), limit(Resource::RLIMIT_NOFILE)),
            ((wanted, hard), Ok((soft, hard)))
        );
        assert_eq!(for_another(|| Ok(now())).unwrap(), (soft, hard));
        assert_eq!(now(), (wanted, hard));
        give_back().unwrap();
        assert_eq!((now(), raised()), ((soft, hard), Vec::new()));
        // Where nothing is raised, nothing is given back.
        assert_eq!(for_another(|| Ok(now())).unwrap(), (soft, hard));
    }
}
