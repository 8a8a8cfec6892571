//! Which tasks are to be polled next.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Wake;

/// The tasks to be polled, each at most once.
#[derive(Default)]
pub(super) struct ReadyQueue(Mutex<Vec<Arc<TaskWaker>>>);

impl ReadyQueue {
    /// Puts a task at the end, unless it is in the queue.
    pub(super) fn push(&self, task: &Arc<TaskWaker>) {
        // The task itself knows whether it is in the queue: no search, however long the queue is.
        if !task.queued.swap(true, Ordering::AcqRel) {
            let mut queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            queue.push(Arc::clone(task));
        }
    }

    /// Takes all of them.
    pub(super) fn take(&self) -> Vec<Arc<TaskWaker>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Puts its task into the queue.
pub(super) struct TaskWaker {
    /// The task.
    pub(super) id: u64,
    queued: AtomicBool,
    ready: Arc<ReadyQueue>,
}

impl TaskWaker {
    /// The waker of the task `id`, which is not in the queue.
    pub(super) fn new(id: u64, ready: &Arc<ReadyQueue>) -> Arc<Self> {
        Arc::new(Self {
            id,
            queued: AtomicBool::new(false),
            ready: Arc::clone(ready),
        })
    }

    /// Says that the task is out of the queue and about to run: what wakes it from here on is a reason to run again.
    pub(super) fn left_queue(&self) {
        self.queued.store(false, Ordering::Release);
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ready.push(self);
    }
}
