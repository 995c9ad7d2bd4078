//! Scratch: memory that a handler may use for the length of a batch.
//!
//! One bumpalo arena per shard, of a fixed size, touched at start and emptied after each batch. Scratch itself never
//! makes it grow: a request that does not fit is refused and counted, so a handler that outgrows its scratch shows in
//! the report and not in the allocator.
//!
//! Requests take `&self`, so several slices can be held at once. They are all gone when the arena is emptied, which
//! takes `&mut self`.

use bumpalo::Bump;
use std::cell::Cell;
use std::error::Error;
use std::fmt;

/// The scratch arena of a shard.
pub struct Scratch {
    arena: Bump,
    bytes: usize,
    refused: Cell<u64>,
    /// The handler has asked for it since it was last emptied.
    lent: Cell<bool>,
}

impl std::fmt::Debug for Scratch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scratch")
            .field("bytes", &self.bytes)
            .field("refused", &self.refused.get())
            .finish_non_exhaustive()
    }
}

/// The scratch arena has no room left in this batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScratchFull {
    /// Bytes asked for.
    pub asked: usize,
    /// The arena's size in bytes.
    pub limit: usize,
}

impl fmt::Display for ScratchFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ScratchFull { asked, limit } = self;
        write!(f, "scratch has no room for {asked} more bytes in this batch (size: {limit})")
    }
}

impl Error for ScratchFull {}

impl Scratch {
    /// Lays out and touches an arena of `bytes`; 0 makes one that refuses everything.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut arena = Bump::with_capacity(bytes);
        arena.set_allocation_limit(Some(arena.allocated_bytes()));
        if bytes > 0 {
            let _ = arena.try_alloc_slice_fill_copy(bytes, 0u8);
            arena.reset();
        }
        Scratch { arena, bytes, refused: Cell::new(0), lent: Cell::new(false) }
    }

    /// A slice of `len` copies of `value`, valid until the end of the batch.
    ///
    /// # Errors
    /// [`ScratchFull`] when it does not fit.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Context, Event};
    /// fn on_event(event: &mut Event<'_, u64>, context: &mut Context<'_, u64>) {
    ///     let Ok(prices) = context.scratch().slice(16, 0u64) else { return };
    ///     prices[0] = **event;
    ///     let error = context.scratch().slice(usize::MAX, 0u8).unwrap_err();
    ///     assert_eq!(error.asked, usize::MAX);
    /// }
    /// # use pelton::{Class, Plan, Profile};
    /// # let mut plan = Plan::new(Profile::Dev).with_announce(false);
    /// # let class = plan.class(Class::strict("only"));
    /// # let engine = plan.start(|| 0u64, |_| on_event)?;
    /// # engine.attach()?.publish(class, 7, |event| *event = 42)?;
    /// # let report = engine.stop(std::time::Duration::from_secs(10))?;
    /// # assert_eq!((report.ledger.total().handled, report.shards[0].scratch_refused), (1, 1));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn slice<T: Copy>(&self, len: usize, value: T) -> Result<&mut [T], ScratchFull> {
        let asked = len.saturating_mul(size_of::<T>());
        if asked > self.bytes {
            return Err(self.refuse(asked));
        }
        self.arena.try_alloc_slice_fill_copy(len, value).map_err(|_| self.refuse(asked))
    }

    /// A copy of `bytes`, valid until the end of the batch.
    ///
    /// # Errors
    /// [`ScratchFull`] when it does not fit.
    ///
    /// # Examples
    /// ```
    /// # use pelton::{Context, Event};
    /// fn on_event(event: &mut Event<'_, u64>, context: &mut Context<'_, u64>) {
    ///     let Ok(text) = context.scratch().copy(event.payload()) else { return };
    ///     text.make_ascii_uppercase();        // the event's own payload stays as it is
    /// }
    /// ```
    pub fn copy(&self, bytes: &[u8]) -> Result<&mut [u8], ScratchFull> {
        self.arena.try_alloc_slice_copy(bytes).map_err(|_| self.refuse(bytes.len()))
    }

    #[cold]
    fn refuse(&self, asked: usize) -> ScratchFull {
        self.refused.set(self.refused.get() + 1);
        ScratchFull { asked, limit: self.bytes }
    }

    /// The arena itself, for collections that live in one. Use its `try_` methods: past the arena's size the others
    /// panic. Its allocation limit is what keeps it from growing; leave that as it is.
    ///
    /// ```
    /// # use pelton::{Context, Event};
    /// fn on_event(event: &mut Event<'_, u64>, context: &mut Context<'_, u64>) {
    ///     let arena = context.scratch().arena();
    ///     let Ok(copy) = arena.try_alloc(**event) else { return };
    ///     *copy += 1;
    /// }
    /// ```
    pub fn arena(&self) -> &Bump {
        &self.arena
    }

    /// How often something did not fit.
    ///
    /// ```
    /// # use pelton::Context;
    /// fn is_too_small<E>(context: &Context<'_, E>) -> bool {
    ///     context.scratch().refused() > 0
    /// }
    /// ```
    pub fn refused(&self) -> u64 {
        self.refused.get()
    }

    /// Gives it to the handler, so that it is emptied at the next reset.
    #[inline(always)]
    pub(crate) fn lend(&self) -> &Self {
        self.lent.set(true);
        self
    }

    /// Empties it, if it was lent.
    #[inline(always)]
    pub(crate) fn reset(&mut self) {
        if self.lent.take() {
            self.arena.reset();
        }
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;

    #[test]
    fn scratch_refuses_what_does_not_fit_and_is_whole_again_after_a_reset() {
        let mut scratch = Scratch::new(4_096);
        assert_eq!(scratch.lend().slice(1_024, 7u16).unwrap()[1_023], 7);
        assert!(scratch.slice(1 << 20, 0u8).is_err());
        assert_eq!(scratch.refused(), 1);
        for _ in 0..100 {
            scratch.reset();
            assert!(scratch.lend().slice(4_000, 1u8).is_ok());
        }
        assert!(Scratch::new(0).slice(usize::MAX, 1u64).is_err());
    }
}
