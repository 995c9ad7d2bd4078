//! The answer of a shard: given without waiting, taken by the side that asked.

#[cfg(feature = "async")]
use crate::sync::discard;
use crate::sync::{Arc, AtomicU32, Ordering, TryCell, futex};
#[cfg(feature = "async")]
use std::panic::{AssertUnwindSafe, catch_unwind};
#[cfg(feature = "async")]
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often a caller that waits checks that the shard still runs.
const CHECK_EVERY: Duration = Duration::from_millis(20);

/// The answer is not there yet.
const AWAITED: u32 = 0;
/// The answer is there, or has been taken.
const GIVEN: u32 = 1;
/// The question was dropped unread: there will be no answer.
const GONE: u32 = 2;
/// A task has left its waker.
#[cfg(feature = "async")]
const TASK: u32 = 4;

/// One answer, as the side that asked sees it.
pub(super) struct Response<T>(Arc<Given<T>>);

/// One answer, as the shard sees it. Dropped without an answer, it says so.
pub(super) struct Reply<T>(Arc<Given<T>>);

struct Given<T> {
    word: AtomicU32,
    value: TryCell<Option<T>>,
    #[cfg(feature = "async")]
    waker: TryCell<Option<Waker>>,
}

impl<T> Reply<T> {
    /// Gives the answer. Waits for nothing: the cell is free, since nothing looks into it before the word says so.
    pub fn give(self, value: T) {
        let given = self.0.value.try_with(|place| *place = Some(value));
        debug_assert!(given.is_some(), "the answer is taken before it was given");
        self.end(GIVEN);
    }

    fn end(&self, how: u32) {
        // SYNC: answer (Release); pairs with `Response::take`. A read-modify-write, as is the announcement of a task: either
        // this sees `TASK`, and with it the waker, or the task sees how this ended.
        let word = self.0.word.fetch_or(how, Ordering::AcqRel);
        futex::wake(&self.0.word);
        #[cfg(feature = "async")]
        if word & TASK != 0
            && let Some(waker) = self.0.waker.try_with(Option::take).flatten()
        {
            // Code of an executor, on the shard's thread: its panic costs its own task.
            let _ = catch_unwind(AssertUnwindSafe(|| waker.wake())).map_err(discard);
        }
        let _ = word;
    }
}

impl<T> Drop for Reply<T> {
    fn drop(&mut self) {
        // Relaxed: this is the one that gives.
        if self.0.word.load(Ordering::Relaxed) & GIVEN == 0 {
            self.end(GONE);
        }
    }
}

impl<T> Response<T> {
    /// An answer that is still to be given, and what gives it.
    pub fn new() -> (Self, Reply<T>) {
        let given = Arc::new(Given {
            word: AtomicU32::new(AWAITED),
            value: TryCell::new(None),
            #[cfg(feature = "async")]
            waker: TryCell::new(None),
        });
        (Response(given.clone()), Reply(given))
    }

    /// Another handle of the same answer.
    #[cfg(feature = "latency")]
    pub fn share(&self) -> Self {
        Response(self.0.clone())
    }

    /// Whether the answer has been given, or never will be.
    pub fn has_ended(&self) -> bool {
        // SYNC: answer (Acquire); pairs with `Reply::end`.
        self.0.word.load(Ordering::Acquire) & (GIVEN | GONE) != 0
    }

    /// Takes the answer, if it has been given and not taken yet.
    pub fn take(&self) -> Option<T> {
        // SYNC: answer (Acquire); pairs with `Reply::end`.
        if self.0.word.load(Ordering::Acquire) & GIVEN == 0 {
            return None;
        }
        self.0.value.try_with(Option::take).flatten()
    }

    /// Waits until the answer has been given or never will be, for `limit` at most, and as long as `alive` finds the shard
    /// running; returns whether it has been given.
    pub fn wait(&self, limit: Duration, alive: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        while !self.has_ended() && begun.elapsed() < limit && alive() {
            futex::wait(&self.0.word, AWAITED, CHECK_EVERY);
        }
        self.0.word.load(Ordering::Relaxed) & GIVEN != 0
    }

    /// Ready once the answer has been given or never will be. Until then `context`'s task is woken for either.
    #[cfg(feature = "async")]
    pub fn poll_end(&self, context: &mut Context<'_>) -> Poll<()> {
        if self.has_ended() {
            return Poll::Ready(());
        }
        // In use only while an older waker is taken out, after the end of the answer, which shows below.
        self.0.waker.try_with(|waker| *waker = Some(context.waker().clone()));
        // SYNC: answer (AcqRel); pairs with `Reply::end`.
        match self.0.word.fetch_or(TASK, Ordering::AcqRel) & (GIVEN | GONE) {
            0 => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }
}
