//! How often a descriptor became ready, and who waits for the next time.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// The edges of one descriptor so far, and who waits for the next.
#[derive(Default)]
pub struct Edges {
    count: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Edges {
    /// Gives the number of edges so far: a task reads it before its attempt.
    pub fn count(&self) -> u64 {
        self.count.get()
    }

    /// Wakes this task by the next edge. A task that waits already is not listed twice.
    pub fn wake_by_next(&self, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
    }

    /// Counts one, and wakes.
    pub fn fire(&self) {
        self.count.set(self.count.get() + 1);
        for waker in self.wakers.take() {
            waker.wake();
        }
    }
}
