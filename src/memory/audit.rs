//! A global allocator that counts, per thread.
//!
//! Install it around another allocator, and every allocation of a thread adds one to that thread's own counter: a
//! plain thread-local cell with a constant initialiser and no destructor, so counting allocates nothing, locks
//! nothing and works in a thread that is ending.
//!
//! ```
//! use pelton::memory::audit::{Counting, thread_allocations};
//! #[global_allocator]
//! static ALLOCATOR: Counting<std::alloc::System> = Counting::new(std::alloc::System);
//!
//! let before = thread_allocations();
//! let boxed = Box::new(1);
//! assert_eq!(thread_allocations() - before, 1);
//! # drop(boxed);
//! ```

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Allocations and reallocations of the calling thread so far. Stays 0 where [`Counting`] is not the global
/// allocator: see [`is_installed`].
pub fn thread_allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Whether the global allocator of this program is a [`Counting`]: makes an allocation and looks.
pub fn is_installed() -> bool {
    let before = thread_allocations();
    drop(std::hint::black_box(Box::new(0u64)));
    thread_allocations() != before
}

/// An allocator that counts for each thread how often it is asked for memory.
pub struct Counting<A> {
    inner: A,
}

impl<A> Counting<A> {
    /// Wraps an allocator.
    pub const fn new(inner: A) -> Self {
        Counting { inner }
    }
}

fn count() {
    // A thread whose locals are gone is past anything that is measured.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: Every call goes to the inner allocator with the arguments that came in; counting touches a thread-local
// cell alone and never allocates. The test `counts_allocations_of_this_thread_alone` uses it as the global allocator.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.realloc(ptr, layout, new_size) }
    }
}
