//! One thread, one epoll: an executor for the handlers, the copying of stdio and the timers.
//!
//! A thread pool would cost a stack and an arena a thread; this costs one table. How descriptors are waited for is in `watched`.

mod ready;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::edges::Edges;
use crate::idle::{Idle, REST};
use crate::sync::{Either, Once, race};
use ready::{ReadyQueue, TaskWaker};

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    /// One waker for the task's whole life, so that who holds one already can tell.
    waker: Waker,
}

thread_local! {
    static REACTOR: Reactor = Reactor::default();
}

#[derive(Default)]
struct Reactor {
    epoll: RefCell<Option<Rc<Epoll>>>,
    tasks: RefCell<BTreeMap<u64, Task>>,
    fds: RefCell<BTreeMap<u64, Rc<Edges>>>,
    timers: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next: Cell<u64>,
    /// Whether anything was done since memory was last given back.
    worked: Cell<bool>,
    /// The task that is being polled, and whether it was cancelled meanwhile: it is not in the table then.
    running: Cell<Option<u64>>,
    cancelled: Cell<bool>,
    ready: Arc<ReadyQueue>,
}

impl Reactor {
    fn id(&self) -> u64 {
        let id = self.next.get();
        self.next.set(id + 1);
        id
    }

    /// Polls every task that was woken, until none is.
    fn turn(&self) {
        loop {
            let woken = self.ready.take();
            if woken.is_empty() {
                return;
            }
            for task in woken {
                task.left_queue();
                self.poll_task(task.id);
            }
        }
    }

    fn poll_task(&self, id: u64) {
        // Taken out while it runs: the task may spawn, cancel or wake others.
        let Some(mut task) = self.tasks.borrow_mut().remove(&id) else {
            return;
        };
        let Task { future, waker } = &mut task;
        self.running.set(Some(id));
        let pending = future.as_mut().poll(&mut Context::from_waker(waker)).is_pending();
        self.running.set(None);
        let cancelled = self.cancelled.take();
        if pending && !cancelled {
            self.tasks.borrow_mut().insert(id, task);
        }
    }

    /// Takes a task out of the table, or sees to it that it does not come back there.
    fn cancel(&self, id: u64) -> Option<Task> {
        if self.running.get() == Some(id) {
            self.cancelled.set(true);
        }
        self.tasks.borrow_mut().remove(&id)
    }

    fn fire_timers(&self) {
        let now = Instant::now();
        loop {
            let mut timers = self.timers.borrow_mut();
            let Some(first) = timers.first_entry() else { return };
            if first.key().0 > now {
                return;
            }
            let waker = first.remove();
            drop(timers);
            waker.wake();
        }
    }

    /// Until the next timer. While there is memory to give back, at most until it is time to.
    fn timeout(&self) -> EpollTimeout {
        let timers = self.timers.borrow();
        let timer = timers
            .first_key_value()
            .map(|((at, _), _)| at.saturating_duration_since(Instant::now()));
        let rest = self.worked.get().then_some(REST);
        let Some(wait) = timer.into_iter().chain(rest).min() else {
            return EpollTimeout::NONE;
        };
        // Rounded up, so that a timer is never polled for in a spin of its last millisecond.
        let wait = wait.as_micros().div_ceil(1000);
        EpollTimeout::try_from(i32::try_from(wait).unwrap_or(i32::MAX)).unwrap_or(EpollTimeout::MAX)
    }

    fn wait(&self, epoll: &Epoll, idle: &Idle) -> io::Result<()> {
        let began = Instant::now();
        let mut events = [EpollEvent::empty(); 32];
        let mut count = poll(epoll, &mut events, self.timeout())?;
        // Nothing came, and no timer: the time to rest has passed.
        if self.worked.replace(true) && count == 0 && began.elapsed() >= REST {
            self.worked.set(false);
            let timeout = self.timeout();
            // Then sleep at once: whatever ran in between would be mapped again.
            idle.rest();
            count = poll(epoll, &mut events, timeout)?;
            self.worked.set(true);
        }
        for event in events.iter().take(count) {
            let edges = self.fds.borrow().get(&event.data()).cloned();
            if let Some(edges) = edges {
                edges.fire();
            }
        }
        Ok(())
    }
}

fn poll(epoll: &Epoll, events: &mut [EpollEvent], timeout: EpollTimeout) -> io::Result<usize> {
    match epoll.wait(events, timeout) {
        Ok(count) => Ok(count),
        Err(Errno::EINTR) => Ok(0),
        Err(errno) => Err(errno.into()),
    }
}

/// Runs `main` and everything it spawns on this thread; returns when `main` ends, whatever else still runs.
pub fn run<T: 'static>(main: impl Future<Output = T> + 'static) -> io::Result<T> {
    REACTOR.with(|reactor| {
        let epoll = Rc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        *reactor.epoll.borrow_mut() = Some(Rc::clone(&epoll));
        let result = Rc::new(RefCell::new(None));
        let idle = Idle::default();
        let slot = Rc::clone(&result);
        spawn(async move {
            let value = main.await;
            *slot.borrow_mut() = Some(value);
        });
        loop {
            reactor.turn();
            if let Some(value) = result.borrow_mut().take() {
                // What is left owns descriptors and timers, whose ends need the reactor: they go before it does.
                let rest = reactor.tasks.take();
                drop(rest);
                return Ok(value);
            }
            reactor.wait(&epoll, &idle)?;
            reactor.fire_timers();
        }
    })
}

/// A running task. Dropping the handle leaves it running.
#[derive(Clone)]
pub struct Handle {
    id: u64,
    done: Once<()>,
}

impl Handle {
    /// Ends the task where it stands; all that it owns is dropped. A task that cancels itself ends where it next waits.
    pub fn cancel(&self) {
        // The future is dropped outside the borrow: its destructors use the reactor.
        let task = REACTOR.with(|reactor| reactor.cancel(self.id));
        drop(task);
        self.done.set(());
    }

    /// Waits until the task ended or was cancelled.
    pub async fn join(&self) {
        self.done.wait().await;
    }
}

/// Starts a task; it first runs when the current one waits.
pub fn spawn(future: impl Future<Output = ()> + 'static) -> Handle {
    let done = Once::default();
    let signal = done.clone();
    REACTOR.with(|reactor| {
        let id = reactor.id();
        let future = Box::pin(async move {
            future.await;
            signal.set(());
        });
        let woken = TaskWaker::new(id, &reactor.ready);
        let waker = Waker::from(Arc::clone(&woken));
        reactor.tasks.borrow_mut().insert(id, Task { future, waker });
        reactor.ready.push(&woken);
        Handle { id, done }
    })
}

/// Waits for `time`, to the millisecond.
pub async fn sleep(time: Duration) {
    let at = Instant::now() + time;
    let entry = Timer(at, REACTOR.with(Reactor::id));
    std::future::poll_fn(|cx| {
        if Instant::now() >= at {
            return Poll::Ready(());
        }
        REACTOR.with(|reactor| {
            reactor
                .timers
                .borrow_mut()
                .insert((entry.0, entry.1), cx.waker().clone())
        });
        Poll::Pending
    })
    .await;
}

struct Timer(Instant, u64);

impl Drop for Timer {
    fn drop(&mut self) {
        let waker = REACTOR.with(|reactor| reactor.timers.borrow_mut().remove(&(self.0, self.1)));
        drop(waker);
    }
}

/// Watches a descriptor for edges. Gives the token to end it with.
pub fn register(fd: BorrowedFd<'_>) -> io::Result<(u64, Rc<Edges>)> {
    REACTOR.with(|reactor| {
        let epoll = reactor.epoll.borrow().clone().ok_or(io::ErrorKind::NotConnected)?;
        let token = reactor.id();
        let interest = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLRDHUP | EpollFlags::EPOLLET;
        match epoll.add(fd, EpollEvent::new(interest, token)) {
            // A regular file cannot be watched, and need not be.
            Ok(()) | Err(Errno::EPERM) => {}
            Err(errno) => return Err(errno.into()),
        }
        let edges = Rc::new(Edges::default());
        reactor.fds.borrow_mut().insert(token, Rc::clone(&edges));
        Ok((token, edges))
    })
}

/// Ends the watching.
pub fn unregister(token: u64, fd: BorrowedFd<'_>) {
    REACTOR.with(|reactor| {
        let edges = reactor.fds.borrow_mut().remove(&token);
        drop(edges);
        // A child that is between fork and exec may hold the same description: closing alone would leave it in the set.
        if let Some(epoll) = reactor.epoll.borrow().as_ref() {
            match epoll.delete(fd) {
                Ok(()) | Err(_) => {}
            }
        }
    });
}

/// Waits for `future` at most `limit`; `None` when the time ran out.
pub async fn within<T>(limit: Duration, future: impl Future<Output = T>) -> Option<T> {
    match race(future, sleep(limit)).await {
        Either::Left(value) => Some(value),
        Either::Right(()) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watched::Watched;
    use nix::fcntl::OFlag;

    #[test]
    fn timers_come_in_order_and_a_race_drops_the_loser() {
        let order = Rc::new(RefCell::new(Vec::new()));
        let log = Rc::clone(&order);
        run(async move {
            let slow = Rc::clone(&log);
            let handle = spawn(async move {
                sleep(Duration::from_millis(30)).await;
                slow.borrow_mut().push("slow");
            });
            assert!(
                within(Duration::from_millis(5), std::future::pending::<()>())
                    .await
                    .is_none()
            );
            log.borrow_mut().push("fast");
            handle.join().await;
        })
        .unwrap();
        assert_eq!(*order.borrow(), ["fast", "slow"]);
        REACTOR.with(|reactor| assert!(reactor.timers.borrow().is_empty()));
    }

    #[test]
    fn a_pipe_wakes_its_reader_and_a_cancelled_task_is_dropped() {
        let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
        let text = run(async move {
            let reader = Watched::new(read).unwrap();
            spawn(async move {
                sleep(Duration::from_millis(5)).await;
                nix::unistd::write(&write, b"hello").unwrap();
            });
            let held = Rc::new(());
            let inner = Rc::clone(&held);
            let stuck = spawn(async move {
                std::future::pending::<()>().await;
                drop(inner);
            });
            sleep(Duration::from_millis(1)).await;
            assert_eq!(Rc::strong_count(&held), 2);
            stuck.cancel();
            assert_eq!(Rc::strong_count(&held), 1);
            let mut buffer = [0; 8];
            let count = reader
                .ready(|fd| Ok(nix::unistd::read(std::os::fd::AsRawFd::as_raw_fd(&fd), &mut buffer)?))
                .await
                .unwrap();
            buffer[..count].to_vec()
        })
        .unwrap();
        assert_eq!(text, b"hello");
    }

    #[test]
    fn a_task_that_cancels_itself_never_runs_again() {
        let (polls, dropped) = run(async {
            let polls = Rc::new(Cell::new(0));
            let held = Rc::new(());
            let own = Rc::new(RefCell::new(None::<Handle>));
            let (inner, count, owned, late) = (Rc::clone(&own), Rc::clone(&polls), Rc::clone(&held), Rc::clone(&own));
            let handle = spawn(async move {
                std::future::poll_fn(|cx| {
                    count.set(count.get() + 1);
                    if let Some(own) = inner.take() {
                        own.cancel();
                    }
                    // Without the cancelling it would run again at once, and a few times more.
                    if count.get() < 5 {
                        cx.waker().wake_by_ref();
                    }
                    Poll::<()>::Pending
                })
                .await;
                drop(owned);
            });
            own.replace(Some(handle.clone()));
            handle.join().await;
            sleep(Duration::from_millis(5)).await;
            // One that cancels itself and ends without waiting: whoever runs next is not taken for it.
            let handle = spawn(async move {
                if let Some(own) = late.take() {
                    own.cancel();
                }
            });
            own.replace(Some(handle.clone()));
            handle.join().await;
            spawn(sleep(Duration::from_millis(1))).join().await;
            (polls.get(), Rc::strong_count(&held) == 1)
        })
        .unwrap();
        assert_eq!((polls, dropped), (1, true));
    }

    #[test]
    fn waking_costs_the_same_however_many_are_awake() {
        const TASKS: u64 = 200_000;
        let began = Instant::now();
        let ran = run(async {
            let ran = Rc::new(Cell::new(0));
            for _ in 0..TASKS {
                let ran = Rc::clone(&ran);
                spawn(async move { ran.set(ran.get() + 1) });
            }
            sleep(Duration::from_millis(1)).await;
            ran.get()
        })
        .unwrap();
        assert_eq!(ran, TASKS);
        // It is some 0.2 s. With a search through the queue it is 20,000,000,000 comparisons: minutes.
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
}
