//! What tasks on one thread wait for: a value that is set once, and a lock held across waits.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Poll, Waker};

/// A value set once and awaited by any number of tasks. Clones share it.
#[derive(Clone)]
pub struct Once<T>(Rc<OnceInner<T>>);

struct OnceInner<T> {
    value: RefCell<Option<T>>,
    wakers: RefCell<Vec<Waker>>,
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Rc::new(OnceInner {
            value: RefCell::new(None),
            wakers: RefCell::new(Vec::new()),
        }))
    }
}

impl<T: Clone> Once<T> {
    /// Sets the value and wakes all who wait; the first value stays.
    pub fn set(&self, value: T) {
        self.0.value.borrow_mut().get_or_insert(value);
        for waker in self.0.wakers.take() {
            waker.wake();
        }
    }

    /// The value, if it is set.
    pub fn get(&self) -> Option<T> {
        self.0.value.borrow().clone()
    }

    /// Waits for the value.
    pub async fn wait(&self) -> T {
        std::future::poll_fn(|cx| {
            if let Some(value) = self.get() {
                return Poll::Ready(value);
            }
            let mut wakers = self.0.wakers.borrow_mut();
            if !wakers.iter().any(|known| known.will_wake(cx.waker())) {
                wakers.push(cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }
}

/// A lock that may be held while its holder waits.
#[derive(Default)]
pub struct Lock {
    held: Cell<bool>,
    wakers: RefCell<Vec<Waker>>,
}

/// Holds the lock until dropped.
pub struct Guard<'a>(&'a Lock);

impl Lock {
    /// Waits for the lock.
    pub async fn lock(&self) -> Guard<'_> {
        std::future::poll_fn(|cx| {
            if !self.held.replace(true) {
                return Poll::Ready(());
            }
            self.wakers.borrow_mut().push(cx.waker().clone());
            Poll::Pending
        })
        .await;
        Guard(self)
    }
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        self.0.held.set(false);
        // All are woken, in the order they came: one that was cancelled meanwhile cannot swallow the turn.
        for waker in self.0.wakers.take() {
            waker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{run, sleep, spawn};
    use std::time::Duration;

    #[test]
    fn the_lock_excludes_and_keeps_the_order() {
        let seen = run(async {
            let lock = Rc::new(Lock::default());
            let seen = Rc::new(RefCell::new(Vec::new()));
            let handles: Vec<_> = (0..4)
                .map(|number| {
                    let (lock, seen) = (Rc::clone(&lock), Rc::clone(&seen));
                    spawn(async move {
                        let _guard = lock.lock().await;
                        seen.borrow_mut().push(number);
                        sleep(Duration::from_millis(2)).await;
                        seen.borrow_mut().push(number);
                    })
                })
                .collect();
            for handle in handles {
                handle.join().await;
            }
            seen.take()
        })
        .unwrap();
        assert_eq!(seen, [0, 0, 1, 1, 2, 2, 3, 3]);
    }
}
