//! The binary's allocator: dlmalloc behind a spin lock.
//!
//! The lock makes it sound for any number of threads, and the tests, which have several, use it so. gabion itself has one thread (`clone`
//! looks, in debug builds), so nobody ever waits for the lock: it costs one exchange, where dlmalloc's own `global` feature takes a mutex
//! of libc's for each piece, a fifteenth of what gabion's own code costs. In a program with many threads a spin lock would be the wrong one,
//! and a fork there could copy it taken: do not use this elsewhere.

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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::alloc::{GlobalAlloc, Layout};

    use super::Heap;

    static HEAP: Heap = Heap::new();

    /// Writes `size` bytes of `mark`.
    fn fill(piece: *mut u8, size: usize, mark: u8) {
        assert!(!piece.is_null());
        // SAFETY: the piece was made with at least this size and is this thread's.
        unsafe { piece.write_bytes(mark, size) };
    }

    fn holds(piece: *const u8, size: usize, mark: u8) -> bool {
        // SAFETY: as above; `fill` wrote all of it.
        let bytes = unsafe { std::slice::from_raw_parts(piece, size) };
        bytes.iter().all(|byte| *byte == mark)
    }

    /// Pieces of several threads do not overlap, keep what is in them when they grow, and have the alignment that was asked for. Without
    /// the lock dlmalloc's lists break.
    #[test]
    fn pieces_stay_their_owners() {
        let work = |mark: u8| {
            for round in 0..2000_usize {
                let layouts =
                    [16, 100, 5000, 70_000].map(|size| Layout::from_size_align(size + round % 7, 64).unwrap());
                let pieces = layouts.map(|layout| {
                    // SAFETY: the size is not null.
                    let piece = unsafe { HEAP.alloc(layout) };
                    assert_eq!(piece.addr() % 64, 0);
                    fill(piece, layout.size(), mark);
                    piece
                });
                for (piece, layout) in pieces.into_iter().zip(layouts) {
                    let larger = layout.size() * 2;
                    // SAFETY: made above with this layout, and not freed.
                    let grown = unsafe { HEAP.realloc(piece, layout, larger) };
                    assert!(holds(grown, layout.size(), mark));
                    let layout = Layout::from_size_align(larger, 64).unwrap();
                    // SAFETY: it has this layout since it grew; nobody uses it from here on.
                    unsafe { HEAP.dealloc(grown, layout) };
                }
            }
        };
        std::thread::scope(|scope| {
            for mark in 1..=4 {
                scope.spawn(move || work(mark));
            }
        });
    }
}
