//! A global allocator that knows how many bytes are alive.
#![allow(unsafe_code, reason = "a global allocator")]

use pelton::{Context, Event, ShardId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::time::Duration;

/// The most measurements that `agreed` takes.
const TRIES_MAX: usize = 32;

/// Bytes that were asked for and not given back, on all threads.
static ALIVE: AtomicI64 = AtomicI64::new(0);

thread_local! {
    /// The part of this thread. A constant without a destructor: reading it allocates nothing.
    static MINE: Cell<i64> = const { Cell::new(0) };
}

fn count(bytes: i64) {
    ALIVE.fetch_add(bytes, Relaxed);
    let _ = MINE.try_with(|mine| mine.set(mine.get() + bytes));
}

/// The system's allocator, which counts.
pub struct Measuring;

// SAFETY: Every call goes to the system's allocator with the arguments that came in; the counters are an atomic and a plain
// cell of the thread.
unsafe impl GlobalAlloc for Measuring {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

/// Bytes that were asked for and not given back, on all threads.
pub fn alive() -> i64 {
    ALIVE.load(Relaxed)
}

/// The same of this thread alone.
pub fn alive_here() -> i64 {
    MINE.get()
}

/// Measures until a value comes a second time: what a thread gives back when it gets a CPU may come late on a busy machine,
/// and the standard library's table of threads grows by a node or not, by where their stacks lie.
pub fn agreed<T>(mut measure: impl FnMut() -> (i64, T)) -> (i64, T) {
    let mut seen = BTreeSet::new();
    for _ in 0..TRIES_MAX {
        let (grown, with) = measure();
        if !seen.insert(grown) {
            return (grown, with);
        }
    }
    panic!("no two of {TRIES_MAX} starts took the same: {seen:?}");
}

/// Waits until what is alive rests.
pub fn settle<E: Send + 'static>(engine: &pelton::Engine<E>) {
    for shard in 0..engine.placements().len() {
        let asked = engine.ask(ShardId(shard as u16), |_: &mut NoHandler| ());
        assert!(asked.is_err(), "no handler is of that type");
    }
    let mut last = i64::MIN;
    while last != alive() {
        last = alive();
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A handler that nobody has.
struct NoHandler;

impl<E> pelton::Handler<E> for NoHandler {
    type Output = ();
    fn on_event(&mut self, _: &mut Event<'_, E>, _: &mut Context<'_, E>) -> pelton::Verdict {
        pelton::Verdict::Done
    }
    fn on_stop(self, _: &mut Context<'_, E>) {}
}
