//! Limits of our caller (getrlimit(2)), which are not ours once we have raised our own.

use std::sync::{Mutex, PoisonError};

use nix::sys::resource::{Resource, getrlimit};

/// A resource with its soft and its hard limit.
pub type Limit = (Resource, u64, u64);

/// What our caller's were, of those that are raised now.
static RAISED: Mutex<Vec<Limit>> = Mutex::new(Vec::new());

/// Gives the soft and the hard limit that our caller started us with.
///
/// # Errors
/// The call's own.
pub fn limit(resource: Resource) -> nix::Result<(u64, u64)> {
    let known = raised().into_iter().find(|(known, _, _)| *known == resource);
    known.map_or_else(|| getrlimit(resource), |(_, soft, hard)| Ok((soft, hard)))
}

/// Gives those of our caller that we have raised.
pub fn raised() -> Vec<Limit> {
    RAISED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Keeps what our caller's were, for `limit`; an empty list when ours are the caller's again.
pub fn keep(limits: Vec<Limit>) {
    *RAISED.lock().unwrap_or_else(PoisonError::into_inner) = limits;
}
