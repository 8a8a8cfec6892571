//! What tasks on one thread wait for: a value that is set once, a lock held across waits, two things at a time.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::pin;
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
        let mut place = Waiting {
            wakers: &self.0.wakers,
            waker: None,
        };
        std::future::poll_fn(|cx| {
            let value = self.get();
            if value.is_none() {
                place.keep(cx.waker());
            }
            value.map_or(Poll::Pending, Poll::Ready)
        })
        .await
    }
}

/// A waiting task's place among the wakers. It leaves with the wait, also where the wait is given up: else all who ever waited for
/// what never comes would be kept.
struct Waiting<'a> {
    wakers: &'a RefCell<Vec<Waker>>,
    waker: Option<Waker>,
}

impl Waiting<'_> {
    fn keep(&mut self, waker: &Waker) {
        let mut wakers = self.wakers.borrow_mut();
        if !wakers.iter().any(|known| known.will_wake(waker)) {
            wakers.push(waker.clone());
        }
        self.waker.get_or_insert_with(|| waker.clone());
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(waker) = &self.waker {
            self.wakers.borrow_mut().retain(|known| !known.will_wake(waker));
        }
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

/// Which of two futures came first.
pub enum Either<A, B> {
    /// The first one.
    Left(A),
    /// The second one.
    Right(B),
}

/// Waits for the first of two; the other is dropped.
pub async fn race<A, B>(left: impl Future<Output = A>, right: impl Future<Output = B>) -> Either<A, B> {
    let mut left = pin!(left);
    let mut right = pin!(right);
    std::future::poll_fn(|cx| {
        if let Poll::Ready(value) = left.as_mut().poll(cx) {
            return Poll::Ready(Either::Left(value));
        }
        right.as_mut().poll(cx).map(Either::Right)
    })
    .await
}

/// Waits for both.
pub async fn both<A, B>(left: impl Future<Output = A>, right: impl Future<Output = B>) -> (A, B) {
    let mut left = pin!(left);
    let mut right = pin!(right);
    let (mut first, mut second) = (None, None);
    std::future::poll_fn(|cx| {
        if first.is_none()
            && let Poll::Ready(value) = left.as_mut().poll(cx)
        {
            first = Some(value);
        }
        if second.is_none()
            && let Poll::Ready(value) = right.as_mut().poll(cx)
        {
            second = Some(value);
        }
        match (first.take(), second.take()) {
            (Some(a), Some(b)) => Poll::Ready((a, b)),
            (a, b) => {
                (first, second) = (a, b);
                Poll::Pending
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reactor::{run, sleep, spawn};
    use std::time::Duration;

    #[test]
    fn who_gives_up_waiting_is_forgotten() {
        run(async {
            let once = Once::<()>::default();
            for _ in 0..3 {
                assert!(
                    crate::reactor::within(Duration::from_millis(1), once.wait())
                        .await
                        .is_none()
                );
            }
            assert!(once.0.wakers.borrow().is_empty());
        })
        .unwrap();
    }

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
