//! The clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Gives the time since 1970. A clock before that is a broken clock: it shows as 1970.
pub fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
