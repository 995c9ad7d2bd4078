//! The facade over atomics, fences, cells and threads: `std` in a normal build, `loom` under `--cfg pelton_loom`.
//!
//! # Why a facade
//! An algorithm that shares memory between threads without a lock is written against this file, so that loom can run
//! the same code through the interleavings that the C++ memory model allows. x86 hides a missing acquire or release;
//! loom does not. Atomics of `std` remain where one word is the whole message and nothing is read through it: the
//! table of routes, flags of the control plane, and what lies outside the engine.
//!
//! # The asymmetric pair of fences
//! [`fence_light`] and [`fence_heavy`] are the two halves of one store-load barrier: if thread A does `store x;
//! fence_light; load y` and thread B does `store y; fence_heavy; load x`, at least one of them sees the other's
//! store. The light half is a compiler fence; the heavy half asks the kernel (`membarrier`, private expedited) to run
//! a full barrier on every running thread of the process. Where the kernel has no such call, [`asymmetric_fences`]
//! returns false, and the thread that uses the light half must add an ordinary `SeqCst` fence. Where the kernel
//! refuses the call later (a filter of system calls that was installed meanwhile), [`fence_heavy`] returns false:
//! there was no barrier, and its caller must not rely on one. Source: the kernel's `membarrier(2)`, and "asymmetric
//! Dekker synchronization" as used in folly's `AsymmetricThreadFence`.
//!
//! loom has no process-wide barrier. Its models choose what stands for it (`barrier`): two symmetric fences, a light
//! half that is nothing while publishers pay for a fence of their own, or an interrupt that runs a fence at any point
//! of the publisher. That the kernel's call is as good as the last stays an assumption.
#![allow(unsafe_code, reason = "the cells that models watch")]

#[cfg(not(pelton_loom))]
mod imp {
    pub use std::sync::Mutex;
    pub use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    pub use std::thread::yield_now;

    /// Tells the CPU that this is a spin loop.
    #[inline(always)]
    pub fn spin_loop() {
        std::hint::spin_loop();
    }

    /// Loads a value that the calling thread alone stores.
    #[inline(always)]
    pub(super) fn own_load(value: &AtomicU64) -> u64 {
        value.load(Ordering::Relaxed)
    }

    /// A cell whose accesses loom would check; here it is nothing but an `UnsafeCell`.
    #[repr(transparent)]
    pub struct Tracked<T>(std::cell::UnsafeCell<T>);

    impl<T> Tracked<T> {
        /// Wraps a value.
        pub fn new(value: T) -> Self {
            Tracked(std::cell::UnsafeCell::new(value))
        }
        /// The place of the value; the caller answers for exclusive use.
        #[inline(always)]
        pub fn get(&self) -> *mut T {
            self.0.get()
        }
        /// Under loom: fails the model if an access here is not ordered after every earlier access.
        #[inline(always)]
        pub fn check(&self) {}
    }
}

#[cfg(pelton_loom)]
mod imp {
    pub use loom::sync::Mutex;
    pub use loom::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering, fence};
    pub use loom::thread::yield_now;

    /// Under loom a spin loop must let another thread run.
    pub fn spin_loop() {
        loom::thread::yield_now();
    }

    /// Loads a value that the calling thread alone stores: fails the model if another thread's store is not ordered
    /// before it.
    pub(super) fn own_load(value: &AtomicU64) -> u64 {
        // SAFETY: loom performs the access, and reports one that is not exclusive.
        unsafe { value.unsync_load() }
    }

    /// A cell with a loom cell beside it, which checks that accesses are ordered.
    pub struct Tracked<T> {
        value: std::cell::UnsafeCell<T>,
        track: loom::cell::UnsafeCell<()>,
    }

    impl<T> Tracked<T> {
        /// Wraps a value.
        pub fn new(value: T) -> Self {
            Tracked { value: std::cell::UnsafeCell::new(value), track: loom::cell::UnsafeCell::new(()) }
        }
        /// The place of the value; the caller answers for exclusive use.
        pub fn get(&self) -> *mut T {
            self.value.get()
        }
        /// Fails the model if an access here is not ordered after every earlier access.
        pub fn check(&self) {
            self.track.with_mut(|_| ());
        }
    }
}

pub use imp::*;
// loom's own `Arc` adds nothing here: the counts of `std`'s are trusted, and it can hold what is not sized.
pub use std::sync::Arc;

// SAFETY: `Tracked` is an `UnsafeCell` that gives out only a raw pointer. Sharing it is sound for `T: Send` as long
// as code that dereferences that pointer has exclusive use, which the rings' sequence protocol gives; the loom models
// of `ring` fail where it does not.
unsafe impl<T: Send> Sync for Tracked<T> {}

/// A counter with exactly one writing thread and any number of readers.
///
/// Adding is a load and a store, never a read-modify-write: with one writer nothing can come between. The store is
/// a Release and reading an Acquire, so that a reader which sees a count also sees what was counted before it.
/// SYNC: count
///
/// ```
/// let counter = pelton::ledger::Counter::default();
/// counter.add(2);
/// assert_eq!(counter.get(), 2);
/// ```
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`; only the counter's one writer may call it.
    #[inline(always)]
    pub fn add(&self, n: u64) {
        let value = own_load(&self.0);
        // SYNC: count (Release); pairs with `get`.
        self.0.store(value.wrapping_add(n), Ordering::Release);
    }

    /// Counts anew from `value`; only the counter's one writer may call it.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        // SYNC: count (Release); pairs with `get`.
        self.0.store(value, Ordering::Release);
    }

    /// The count so far.
    #[inline]
    pub fn get(&self) -> u64 {
        // SYNC: count (Acquire); pairs with `add`.
        self.0.load(Ordering::Acquire)
    }
}

/// A cell for one user at a time. A thread that finds it in use does not wait: it gets `None`.
pub struct TryCell<T> {
    taken: AtomicBool,
    value: Tracked<T>,
}

impl<T> TryCell<T> {
    /// Wraps a value.
    pub fn new(value: T) -> Self {
        TryCell { taken: AtomicBool::new(false), value: Tracked::new(value) }
    }

    /// Gives `look` the value; `None`, without calling it, while another thread uses the cell.
    pub fn try_with<R>(&self, look: impl FnOnce(&mut T) -> R) -> Option<R> {
        struct GiveBack<'a>(&'a AtomicBool);
        impl Drop for GiveBack<'_> {
            fn drop(&mut self) {
                // SYNC: cell (Release); pairs with the Acquire below.
                self.0.store(false, Ordering::Release);
            }
        }
        // SYNC: cell (Acquire); pairs with the Release above.
        if self.taken.swap(true, Ordering::Acquire) {
            return None;
        }
        let _back = GiveBack(&self.taken);
        self.value.check();
        // SAFETY: one alone finds `taken` unset, and sets it back after its last use. Model:
        // `a_waiting_task_is_released_by_room`.
        Some(look(unsafe { &mut *self.value.get() }))
    }
}

/// Drops what a panic left. It may be a value of any type, whose drop may panic in its turn, and so may what that panic
/// leaves: after the eighth in a row the rest is leaked.
pub fn discard(mut panic: Box<dyn std::any::Any + Send>) {
    for _ in 0..8 {
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(panic))) {
            Ok(()) => return,
            Err(next) => panic = next,
        }
    }
    std::mem::forget(panic);
}

/// The cheap half of the asymmetric barrier (see the opening comment): enough where [`asymmetric_fences`] is true.
#[inline(always)]
pub fn fence_light() {
    #[cfg(pelton_loom)]
    barrier::light();
    #[cfg(not(pelton_loom))]
    std::sync::atomic::compiler_fence(Ordering::SeqCst);
}

/// The expensive half of the asymmetric barrier: some microseconds, and an interrupt for every running thread of the
/// process. Returns false if the kernel refused it, so that there was no barrier.
#[must_use]
pub fn fence_heavy() -> bool {
    #[cfg(pelton_loom)]
    return barrier::heavy();
    #[cfg(all(not(pelton_loom), feature = "park", target_os = "linux"))]
    return crate::membarrier::barrier();
    #[cfg(all(not(pelton_loom), not(all(feature = "park", target_os = "linux"))))]
    {
        fence(Ordering::SeqCst);
        true
    }
}

/// Whether the kernel has refused the barrier after it had agreed to it at first.
pub fn barrier_is_refused() -> bool {
    #[cfg(all(not(pelton_loom), feature = "park", target_os = "linux"))]
    return crate::membarrier::is_refused();
    #[cfg(not(all(not(pelton_loom), feature = "park", target_os = "linux")))]
    false
}

/// Whether the heavy fence is the kernel's process-wide barrier, so that publishers pay nothing for it.
///
/// Registers the process with the kernel when first called; engines call it before their first event.
pub fn asymmetric_fences() -> bool {
    #[cfg(all(not(pelton_loom), feature = "park", target_os = "linux"))]
    return crate::membarrier::register();
    #[cfg(pelton_loom)]
    return barrier::is_asymmetric();
    // Where there is no futex, no thread sleeps for long enough to be worth a fence at every publish; and no shard
    // stops looking at a set without one (`may_stop_looking`).
    #[cfg(all(not(pelton_loom), not(all(feature = "park", target_os = "linux"))))]
    true
}

/// Whether the two fences together are a barrier, so that a shard may stop looking at sets that will ring for it.
///
/// False where the kernel has none and publishers pay for none: without the feature `park`, and on other systems than
/// Linux.
pub const fn may_stop_looking() -> bool {
    cfg!(any(pelton_loom, all(feature = "park", target_os = "linux")))
}

/// Which process holds the turn to use the heavy fence; see `park::shard_waker`.
#[cfg(not(pelton_loom))]
pub static BARRIER_TURN: AtomicU32 = AtomicU32::new(0);
#[cfg(pelton_loom)]
loom::lazy_static! {
    pub static ref BARRIER_TURN: AtomicU32 = AtomicU32::new(0);
}

/// What stands for the process-wide barrier in a model; chosen at its beginning.
#[cfg(pelton_loom)]
pub mod barrier {
    use super::{AtomicBool, AtomicU32, Ordering, fence, yield_now};
    use std::sync::atomic::AtomicU32 as Setting;

    /// Both halves are whole fences. The choice of a model that makes none.
    const SYMMETRIC: u32 = 0;
    /// The light half is nothing, and publishers are to pay for a fence of their own.
    pub const FENCED: u32 = 1;
    /// The light half is nothing. The heavy half interrupts the publisher, which then runs a whole fence, at any of
    /// its [`point`]s or when it has [`ended`].
    pub const INTERRUPTS: u32 = 2;
    /// As `SYMMETRIC`, where several shards take turns.
    pub const TURNS: u32 = 3;

    struct State {
        /// Not a part of the model: set before its first thread starts.
        kind: Setting,
        wanted: AtomicU32,
        done: AtomicU32,
        ended: AtomicBool,
    }

    loom::lazy_static! {
        static ref STATE: State = State {
            kind: Setting::new(SYMMETRIC),
            wanted: AtomicU32::new(0),
            done: AtomicU32::new(0),
            ended: AtomicBool::new(false),
        };
    }

    fn kind() -> u32 {
        STATE.kind.load(Ordering::Relaxed)
    }

    pub fn choose(kind: u32) {
        STATE.kind.store(kind, Ordering::Relaxed);
    }

    pub fn is_asymmetric() -> bool {
        kind() != FENCED
    }

    pub fn takes_turns() -> bool {
        kind() == TURNS
    }

    pub fn light() {
        match kind() {
            FENCED => {}
            INTERRUPTS => point(),
            _ => fence(Ordering::SeqCst),
        }
    }

    pub fn heavy() -> bool {
        fence(Ordering::SeqCst);
        if kind() == INTERRUPTS {
            let turn = STATE.wanted.load(Ordering::Relaxed) + 1;
            STATE.wanted.store(turn, Ordering::Relaxed);
            while STATE.done.load(Ordering::Relaxed) != turn && !STATE.ended.load(Ordering::Relaxed) {
                yield_now();
            }
            fence(Ordering::SeqCst);
        }
        true
    }

    /// The publisher, which is one: an interrupt may come here.
    pub fn point() {
        let wanted = STATE.wanted.load(Ordering::Relaxed);
        if wanted != STATE.done.load(Ordering::Relaxed) {
            fence(Ordering::SeqCst);
            STATE.done.store(wanted, Ordering::Relaxed);
        }
    }

    /// The publisher runs no more: the switch to another thread was a whole fence.
    pub fn ended() {
        fence(Ordering::SeqCst);
        STATE.ended.store(true, Ordering::Relaxed);
    }
}

/// A number that no other running thread of this process has. A thread that has ended may have had it before.
///
/// The address of a thread-local: an addition, where asking for the thread's id would be a call.
#[inline(always)]
pub fn thread_token() -> u64 {
    thread_local!(static HERE: u8 = const { 0 });
    HERE.with(|here| std::ptr::from_ref(here) as u64)
}

/// Which process this is, counted in forks: 0, and one more in each child. A relaxed load, where asking for the
/// process's number would be a system call.
///
/// The count goes by `fork` of the C library (`pthread_atfork`); a bare `clone` is not seen.
pub mod forks {
    use std::sync::atomic::{AtomicU32, Ordering};

    static FORKS: AtomicU32 = AtomicU32::new(0);

    #[cfg(unix)]
    extern "C" fn in_child() {
        // The child has one thread, and this is it.
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    /// The count. The first call registers the hook that counts.
    pub fn count() -> u32 {
        #[cfg(unix)]
        {
            static WATCH: std::sync::Once = std::sync::Once::new();
            // SAFETY: the hook touches one atomic, which is allowed in the child of a process with many threads. If
            // there is no memory to register it, forks go unseen, as they would without it.
            WATCH.call_once(|| unsafe {
                libc::pthread_atfork(None, None, Some(in_child));
            });
        }
        FORKS.load(Ordering::Relaxed)
    }
}

/// Asks for ownership of the cache line at `address`, so that a store to it later does not wait.
///
/// A hint: any address is fine, nothing is read or written, and on CPUs without such an instruction it does nothing.
#[inline(always)]
pub fn prefetch_write(address: *const u8) {
    #[cfg(all(target_arch = "x86_64", not(miri), not(pelton_loom)))]
    // SAFETY: PREFETCHW never faults and touches no architectural state; CPUs without it decode it as a no-op.
    unsafe {
        std::arch::asm!("prefetchw [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(all(target_arch = "aarch64", not(miri), not(pelton_loom)))]
    // SAFETY: PRFM is a hint that never faults.
    unsafe {
        std::arch::asm!("prfm pstl1keep, [{0}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    #[cfg(any(not(any(target_arch = "x86_64", target_arch = "aarch64")), miri, pelton_loom))]
    let _ = address;
}

/// Sleeping on a 32-bit word until another thread wakes it: the kernel's futex, with its one guarantee that comparing
/// and falling asleep are a single step.
pub mod futex {
    use super::AtomicU32;
    use std::time::Duration;

    /// Sleeps while `word` holds `expected`, for `limit` at most; may wake for no reason.
    #[cfg(all(not(pelton_loom), feature = "park", target_os = "linux"))]
    pub fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
        use rustix::thread::futex;
        let limit = futex::Timespec {
            tv_sec: limit.as_secs().min(1 << 30) as _,
            tv_nsec: limit.subsec_nanos().into(),
        };
        // Interrupted, timed out or changed: the caller looks again in any case.
        let _ = futex::wait(word, futex::Flags::PRIVATE, expected, Some(&limit));
    }

    /// Wakes the threads that sleep on `word`.
    #[cfg(all(not(pelton_loom), feature = "park", target_os = "linux"))]
    pub fn wake(word: &AtomicU32) {
        use rustix::thread::futex;
        let _ = futex::wake(word, futex::Flags::PRIVATE, i32::MAX as u32);
    }

    /// Without a futex: a short sleep, after which the caller looks again.
    #[cfg(all(not(pelton_loom), not(all(feature = "park", target_os = "linux"))))]
    pub fn wait(word: &AtomicU32, expected: u32, limit: Duration) {
        if word.load(super::Ordering::Acquire) == expected {
            std::thread::sleep(limit.min(Duration::from_micros(100)));
        }
    }

    /// Without a futex no thread sleeps for long.
    #[cfg(all(not(pelton_loom), not(all(feature = "park", target_os = "linux"))))]
    pub fn wake(_word: &AtomicU32) {}

    // The kernel's queue for the models: one lock makes compare-and-sleep a single step, as the kernel does. It
    // has no time limit, so a lost wake-up shows as a deadlock.
    #[cfg(pelton_loom)]
    loom::lazy_static! {
        static ref QUEUE: (loom::sync::Mutex<()>, loom::sync::Condvar) =
            (loom::sync::Mutex::new(()), loom::sync::Condvar::new());
    }

    /// Sleeps while `word` holds `expected`.
    #[cfg(pelton_loom)]
    pub fn wait(word: &AtomicU32, expected: u32, _limit: Duration) {
        let guard = QUEUE.0.lock().unwrap();
        if word.load(super::Ordering::Relaxed) == expected {
            drop(QUEUE.1.wait(guard).unwrap());
        }
    }

    /// Wakes all threads that sleep.
    #[cfg(pelton_loom)]
    pub fn wake(_word: &AtomicU32) {
        drop(QUEUE.0.lock().unwrap());
        QUEUE.1.notify_all();
    }
}
