//! Gives memory back when nothing happens.
//!
//! A shim works for milliseconds and then sleeps for days. What it ran through meanwhile stays mapped, most of it only because the
//! kernel maps 64 KiB around every fault. After a moment of rest the pages of its own program are unmapped: they stay in the page
//! cache, and the next call brings back what it needs in some 30 minor faults.

use std::time::Duration;

use crate::sys::{self, Unchanging};

/// How long nothing must have happened. Giving back and fetching again takes some 0.1 ms of CPU together.
pub const REST: Duration = Duration::from_millis(200);

/// Knows what need not be in memory while the shim sleeps.
pub struct Idle(Vec<Unchanging>);

impl Default for Idle {
    fn default() -> Self {
        Self(Unchanging::of_this_program())
    }
}

impl Idle {
    /// Gives back what is not needed to sleep.
    pub fn rest(&self) {
        sys::trim_heap();
        for part in &self.0 {
            if let Err(error) = part.give_back() {
                crate::log::debug!("pages were not given back: {error}");
            }
        }
    }
}
