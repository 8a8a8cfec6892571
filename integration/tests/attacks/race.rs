//! Two names whose files are exchanged for one another, over and over, while a container is made.

use nix::fcntl::{RenameFlags, renameat2};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::JoinHandle;

#[derive(Debug)]
pub(crate) struct Race {
    stop: Arc<AtomicBool>,
    turns: Arc<AtomicU32>,
    thread: Option<JoinHandle<()>>,
}

impl Race {
    pub(crate) fn between(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let turns = Arc::new(AtomicU32::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&turns));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                exchange(&one, &other);
                counted.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self {
            stop,
            turns,
            thread: Some(thread),
        }
    }

    /// Ends it, and fails the test if it never ran.
    pub(crate) fn end(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("the racer").join().expect("it exchanges");
        assert!(self.turns.load(Ordering::Relaxed) > 100, "there was no race");
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Atomic: both names always exist.
pub(crate) fn exchange(one: &Path, other: &Path) {
    renameat2(None, one, None, other, RenameFlags::RENAME_EXCHANGE).expect("exchange");
}
