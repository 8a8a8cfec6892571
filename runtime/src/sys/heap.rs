//! The binary's allocator: dlmalloc behind a lock that nobody waits for.
//!
//! gabion has one thread. A mutex of libc's, taken and given back for each piece, is a fifteenth of what gabion's own code costs.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use dlmalloc::Dlmalloc;

/// For `#[global_allocator]`.
pub struct Heap {
    taken: AtomicBool,
    heap: UnsafeCell<Dlmalloc>,
}

// SAFETY: the heap is reached through `with` alone, which lets one thread in at a time.
unsafe impl Sync for Heap {}

impl fmt::Debug for Heap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Heap")
    }
}

impl Heap {
    /// An empty one.
    #[allow(clippy::new_without_default, reason = "a static is made by a const fn")]
    pub const fn new() -> Self {
        Self {
            taken: AtomicBool::new(false),
            heap: UnsafeCell::new(Dlmalloc::new()),
        }
    }

    /// `act` is one call of dlmalloc's, which comes back: it neither allocates by us nor unwinds (panic = abort where it is shipped).
    fn with<T>(&self, act: impl FnOnce(&mut Dlmalloc) -> T) -> T {
        while self
            .taken
            .compare_exchange_weak(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_err()
        {
            // Another thread, of a test's: it holds this for some nanoseconds.
            std::hint::spin_loop();
        }
        // SAFETY: `taken` was false and is ours now: no other reference to the heap lives until it is given back below.
        let heap = unsafe { &mut *self.heap.get() };
        let done = act(heap);
        self.taken.store(false, Ordering::Release);
        done
    }
}

// SAFETY: every call goes to dlmalloc as it came, with the layout that the piece was made with; its pieces are disjoint, aligned as
// asked for, and stay where they are until they are freed.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's size is not null and its alignment a power of two (GlobalAlloc).
        self.with(|heap| unsafe { heap.malloc(layout.size(), layout.align()) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as for `alloc`.
        self.with(|heap| unsafe { heap.calloc(layout.size(), layout.align()) })
    }

    unsafe fn dealloc(&self, piece: *mut u8, layout: Layout) {
        // SAFETY: the caller gives back what it got from here, with the same layout, once.
        self.with(|heap| unsafe { heap.free(piece, layout.size(), layout.align()) });
    }

    unsafe fn realloc(&self, piece: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as for `dealloc`; the new size is not null.
        self.with(|heap| unsafe { heap.realloc(piece, layout.size(), layout.align(), size) })
    }
}
