//! A global allocator that counts, per thread, and names the places where a *sealed* thread allocates.
//!
//! Install it around another allocator, and every allocation of a thread adds one to that thread's own counter: a
//! plain thread-local cell with a constant initialiser and no destructor, so counting allocates nothing, locks
//! nothing and works in a thread that is ending.
//!
//! ```
//! use pelton::memory::audit::{Counting, assert_no_allocations, seal_thread, thread_allocations};
//! use pelton::memory::seal::Seal;
//! #[global_allocator]
//! static ALLOCATOR: Counting<std::alloc::System> = Counting::new(std::alloc::System);
//!
//! let before = thread_allocations();
//! let boxed = Box::new(1);
//! assert_eq!(thread_allocations() - before, 1);
//!
//! // In a test of one's own: panics with the places where it is not so.
//! let sum = assert_no_allocations(|| *boxed + 1);
//! assert_eq!(sum, 2);
//!
//! // Or over a longer time, as for a producer's thread.
//! let seal = seal_thread(Seal::Count)?;
//! let text = String::from("this allocates");
//! let sealed = seal.finish();
//! assert_eq!(sealed.allocations, 1);
//! println!("{sealed}");
//! # drop(text);
//! # Ok::<(), pelton::memory::seal::NotCounted>(())
//! ```
//!
//! # Sealing: mechanism
//! The first seal of a thread lays out a record, and puts its address into a thread-local cell; the last one that
//! ends takes it away. While it is there each allocation walks the stack, compares the raw return addresses with
//! those of the places that are known, and adds one to the place it finds or to a new one. No names are looked up then.
//! A record takes 13 KiB of the heap, outside every footprint, from the first seal on.
//!
//! # Invariants
//! - The allocator's part neither allocates nor locks. What the unwinder may do is kept out by a flag: an allocation
//!   within the noting of another is not noted. (On Linux it does neither, once it has run: sealing runs it once.)
//! - Only the sealed thread touches its record.
//!
//! # What it does not see
//! Memory that is taken past the global allocator: by C libraries, by `mmap`, or by the system for pages that are
//! touched for the first time.

use super::seal::{FRAMES_MAX, NotCounted, PLACES_MAX, Place, Seal, Sealed};
use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::fmt::Write;
use std::marker::PhantomData;
use std::process::abort;
use std::sync::mpsc::channel;
use std::time::Duration;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
    /// What is noted of this thread; null while it is not sealed.
    static RECORD: Cell<*const Record> = const { Cell::new(std::ptr::null()) };
}

/// How long a process that is to abort looks for the names of the place.
const NAMING_LIMIT: Duration = Duration::from_secs(10);

/// Allocations and reallocations of the calling thread so far. Stays 0 where [`Counting`] is not the global
/// allocator: see [`is_installed`].
pub fn thread_allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

/// Whether the global allocator of this program is a [`Counting`]: makes an allocation, which is not counted, and looks.
pub fn is_installed() -> bool {
    let before = thread_allocations();
    uncounted(|| {
        drop(std::hint::black_box(Box::new(0u64)));
        thread_allocations() != before
    })
}

/// Seals the calling thread until the guard is dropped or [finished](ThreadSeal::finish). Seals may nest and overlap:
/// each has its own count, and the thread aborts while any of them says so.
///
/// # Errors
/// [`NotCounted`] where [`Counting`] is not the global allocator.
pub fn seal_thread(mode: Seal) -> Result<ThreadSeal, NotCounted> {
    Ok(ThreadSeal { mark: Mark::begin(mode)?, _not_send: PhantomData })
}

/// Runs `work` and gives what it gives.
///
/// # Panics
/// If `work` allocates on this thread; the message names the places. Also where [`Counting`] is not the global
/// allocator, since nobody could say then.
pub fn assert_no_allocations<T>(work: impl FnOnce() -> T) -> T {
    let seal = seal_thread(Seal::Count).unwrap_or_else(|error| panic!("{error}"));
    let result = work();
    let sealed = seal.finish();
    assert!(sealed.allocations == 0, "expected no allocations, found {}", Chains(&sealed));
    result
}

/// A report with the calls that led to each place.
struct Chains<'a>(&'a Sealed);

impl std::fmt::Display for Chains<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        self.0.places.iter().try_for_each(|place| write!(f, "\n{place:#}"))
    }
}

/// Keeps its thread sealed. Dropping it ends that.
#[must_use = "the thread is sealed for as long as this lives"]
pub struct ThreadSeal {
    mark: Mark,
    // It ends on the thread that it seals.
    _not_send: PhantomData<*const ()>,
}

impl std::fmt::Debug for ThreadSeal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ThreadSeal").field("mode", &self.mark.mode).finish_non_exhaustive()
    }
}

impl ThreadSeal {
    /// Ends the seal; says what the thread did meanwhile.
    pub fn finish(self) -> Sealed {
        self.mark.finish().unwrap_or_default()
    }
}

/// What is noted of a sealed thread.
struct Record {
    /// Seals that have not ended, and how many of them abort.
    holders: Cell<u32>,
    aborting: Cell<u32>,
    /// Something is being noted, or its result read.
    busy: Cell<bool>,
    allocations: Cell<u64>,
    frees: Cell<u64>,
    others: Cell<u64>,
    used: Cell<usize>,
    places: [Noted; PLACES_MAX],
}

struct Noted {
    count: Cell<u64>,
    len: Cell<usize>,
    addresses: [Cell<usize>; FRAMES_MAX],
}

/// The return addresses of a call, from the inside out.
struct Trace {
    addresses: [usize; FRAMES_MAX],
    len: usize,
}

impl Trace {
    #[inline(never)]
    fn take() -> Self {
        let mut trace = Trace { addresses: [0; FRAMES_MAX], len: 0 };
        let add = |frame: &backtrace::Frame| {
            trace.addresses[trace.len] = frame.ip() as usize;
            trace.len += 1;
            trace.len < FRAMES_MAX
        };
        // SAFETY: The unwinder of every system but Windows may be called by any thread at any time; there it is the
        // reader of debug information that must not be called twice at a time.
        #[cfg(not(windows))]
        unsafe {
            backtrace::trace_unsynchronized(add)
        };
        #[cfg(windows)]
        backtrace::trace(add);
        trace
    }

    fn addresses(&self) -> &[usize] {
        &self.addresses[..self.len]
    }
}

impl Noted {
    fn is(&self, trace: &Trace) -> bool {
        self.len.get() == trace.len && self.addresses().eq(trace.addresses().iter().copied())
    }

    fn addresses(&self) -> impl Iterator<Item = usize> {
        self.addresses[..self.len.get()].iter().map(Cell::get)
    }
}

impl Record {
    fn new() -> Self {
        let noted = || Noted {
            count: Cell::default(),
            len: Cell::default(),
            addresses: [const { Cell::new(0) }; FRAMES_MAX],
        };
        Record {
            holders: Cell::default(),
            aborting: Cell::default(),
            busy: Cell::default(),
            allocations: Cell::default(),
            frees: Cell::default(),
            others: Cell::default(),
            used: Cell::default(),
            places: std::array::from_fn(|_| noted()),
        }
    }

    /// Notes an allocation with its place.
    fn note(&self, bytes: usize) {
        if self.busy.replace(true) {
            return;
        }
        let trace = Trace::take();
        if self.aborting.get() > 0 {
            abort_at(bytes, &trace);
        }
        self.allocations.set(self.allocations.get() + 1);
        let used = self.used.get();
        let known = self.places[..used].iter().find(|place| place.is(&trace));
        match known.or(self.places.get(used)) {
            None => self.others.set(self.others.get() + 1),
            Some(place) => {
                if known.is_none() {
                    place.len.set(trace.len);
                    place.addresses.iter().zip(trace.addresses).for_each(|(to, from)| to.set(from));
                    self.used.set(used + 1);
                }
                place.count.set(place.count.get() + 1);
            }
        }
        self.busy.set(false);
    }
}

/// The record of this thread, if it is sealed.
#[inline(always)]
fn with_record<T>(look: impl FnOnce(&Record) -> T) -> Option<T> {
    let record = RECORD.try_with(Cell::get).ok()?;
    // SAFETY: The address is that of a box which lives until this very thread has set the cell to null again
    // (`Mark::drop`), and which no other thread touches. `look` does not get to that: the callers below end no seal.
    (!record.is_null()).then(|| look(unsafe { &*record }))
}

/// Runs `work`, which is of the counting itself, without counting what it allocates or frees on this thread.
fn uncounted<T>(work: impl FnOnce() -> T) -> T {
    let counted = thread_allocations();
    let busy = with_record(|record| record.busy.replace(true));
    let result = work();
    if let Some(busy) = busy {
        with_record(|record| record.busy.set(busy));
    }
    ALLOCATIONS.with(|n| n.set(counted));
    result
}

/// One seal: what the thread's record said when it began. Ends when it is dropped.
///
/// May be sent to another thread, with the shard that holds it; there it has nothing to say, and its thread stays
/// sealed until that ends.
pub(crate) struct Mark {
    /// Whose record it is; compared, never followed.
    record: usize,
    mode: Seal,
    allocations: u64,
    frees: u64,
    others: u64,
    counts: [u64; PLACES_MAX],
}

impl Mark {
    /// Seals the calling thread.
    pub fn begin(mode: Seal) -> Result<Self, NotCounted> {
        if !is_installed() {
            return Err(NotCounted::NotInstalled);
        }
        if with_record(|_| ()).is_none() {
            let record = uncounted(|| {
                // The unwinder may set itself up at its first run.
                std::hint::black_box(Trace::take());
                Box::into_raw(Box::new(Record::new()))
            });
            RECORD.with(|cell| cell.set(record));
        }
        let mark = with_record(|record| {
            record.holders.set(record.holders.get() + 1);
            record.aborting.set(record.aborting.get() + u32::from(mode == Seal::Abort));
            Mark {
                record: std::ptr::from_ref(record) as usize,
                mode,
                allocations: record.allocations.get(),
                frees: record.frees.get(),
                others: record.others.get(),
                counts: std::array::from_fn(|at| record.places[at].count.get()),
            }
        });
        // A thread whose locals are gone is past anything that is measured.
        mark.ok_or(NotCounted::NotInstalled)
    }

    /// Ends the seal; `None` if it is of another thread.
    pub fn finish(self) -> Option<Sealed> {
        let is_own = || with_record(|record| std::ptr::from_ref(record) as usize == self.record);
        let sealed = || {
            with_record(|record| Sealed {
                allocations: record.allocations.get() - self.allocations,
                others: record.others.get() - self.others,
                frees: record.frees.get() - self.frees,
                places: self.places(record),
            })
        };
        if is_own() == Some(true) { uncounted(sealed) } else { None }
    }

    /// What was added to each place since the seal began.
    fn places(&self, record: &Record) -> Vec<Place> {
        let places = record.places[..record.used.get()].iter().zip(self.counts);
        let since = places.map(|(place, before)| (place, place.count.get() - before));
        let place = |(place, count): (&Noted, u64)| Place { count, addresses: place.addresses().collect() };
        since.filter(|(_, count)| *count > 0).map(place).collect()
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        let last = with_record(|record| {
            if std::ptr::from_ref(record) as usize != self.record {
                return false;
            }
            record.aborting.set(record.aborting.get() - u32::from(self.mode == Seal::Abort));
            record.holders.set(record.holders.get() - 1);
            record.holders.get() == 0
        });
        if last == Some(true) {
            let record = RECORD.with(|cell| cell.replace(std::ptr::null()));
            // SAFETY: It was boxed by `begin` on this thread; nobody holds it any more, and the cell, the only way to
            // it, is null.
            drop(unsafe { Box::from_raw(record.cast_mut()) });
        }
    }
}

/// An allocator that counts for each thread how often it is asked for memory.
#[derive(Debug)]
pub struct Counting<A> {
    inner: A,
}

impl<A> Counting<A> {
    /// Wraps an allocator.
    pub const fn new(inner: A) -> Self {
        Counting { inner }
    }
}

#[inline(always)]
fn count(bytes: usize) {
    // A thread whose locals are gone is past anything that is measured.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
    with_record(|record| note_slow(record, bytes));
}

#[cold]
#[inline(never)]
fn note_slow(record: &Record, bytes: usize) {
    record.note(bytes);
}

#[inline(always)]
fn count_free() {
    with_record(|record| {
        if !record.busy.get() {
            record.frees.set(record.frees.get() + 1);
        }
    });
}

/// Says where a sealed thread allocated, and ends the process.
#[cold]
fn abort_at(bytes: usize, trace: &Trace) -> ! {
    // At once, and without any lock: what follows may be what this thread is in the middle of.
    let mut line = Line { text: [0; 256], len: 0 };
    let _ = writeln!(line, "pelton: a sealed thread allocates {bytes} bytes; the process aborts. Its place:");
    to_stderr(&line.text[..line.len]);
    // The names are found on another thread, as reading the debug information takes a lock which this one may hold.
    let (done, is_done) = channel();
    let place = Place { count: 1, addresses: trace.addresses().to_vec() };
    let name = move || {
        to_stderr(format!("  {place:#}\n").as_bytes());
        let _ = done.send(());
    };
    if std::thread::Builder::new().name("pelton-naming".into()).spawn(name).is_ok() {
        let _ = is_done.recv_timeout(NAMING_LIMIT);
    }
    abort()
}

/// A line that is written without the heap; what does not fit is left out.
struct Line {
    text: [u8; 256],
    len: usize,
}

impl std::fmt::Write for Line {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let free = &mut self.text[self.len..];
        let len = text.len().min(free.len());
        free[..len].copy_from_slice(&text.as_bytes()[..len]);
        self.len += len;
        Ok(())
    }
}

/// Writes past the standard library's stream, whose lock this thread may hold.
fn to_stderr(mut text: &[u8]) {
    #[cfg(unix)]
    while !text.is_empty() {
        // SAFETY: the bytes are those of the slice, and the call only reads them.
        let written = unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
        match usize::try_from(written) {
            Ok(written) if written > 0 => text = &text[written.min(text.len())..],
            _ => return,
        }
    }
    #[cfg(not(unix))]
    let _ = std::io::Write::write_all(&mut std::io::stderr(), std::mem::take(&mut text));
}

// SAFETY: Every call goes to the inner allocator with the arguments that came in; counting touches thread-local
// cells, and the record of a sealed thread, alone, and never allocates. The tests in `tests/sealed.rs` use it as the
// global allocator.
unsafe impl<A: GlobalAlloc> GlobalAlloc for Counting<A> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count_free();
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.dealloc(ptr, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size);
        // SAFETY: the caller's promise is passed on.
        unsafe { self.inner.realloc(ptr, layout, new_size) }
    }
}
