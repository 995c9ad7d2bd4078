//! Scratch: memory that a handler may use for the length of a batch.
//!
//! One bumpalo arena per shard, of a fixed size, touched at start and emptied after each batch. It never grows: what
//! does not fit is refused and counted, so a handler that outgrows its scratch shows in the report and not in the
//! allocator.
#![forbid(unsafe_code)]

use bumpalo::Bump;

/// The scratch arena of a shard.
pub struct Scratch {
    arena: Bump,
    bytes: usize,
    refused: u64,
    /// Somebody has asked for it since it was last emptied.
    lent: bool,
}

/// The scratch arena has no room left in this batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("scratch has no room for {asked} more bytes in this batch (size: {limit})")]
pub struct ScratchFull {
    /// Bytes asked for.
    pub asked: usize,
    /// The arena's size in bytes.
    pub limit: usize,
}

impl Scratch {
    /// Lays out and touches an arena of `bytes`; 0 makes one that refuses everything.
    pub(crate) fn new(bytes: usize) -> Self {
        let mut arena = Bump::with_capacity(bytes);
        arena.set_allocation_limit(Some(arena.allocated_bytes()));
        if bytes > 0 {
            let _ = arena.try_alloc_slice_fill_copy(bytes, 0u8);
            arena.reset();
        }
        Scratch { arena, bytes, refused: 0, lent: false }
    }

    /// A slice of `len` copies of `value`, valid until the end of the batch.
    ///
    /// # Errors
    /// [`ScratchFull`] when it does not fit.
    pub fn slice<T: Copy>(&mut self, len: usize, value: T) -> Result<&mut [T], ScratchFull> {
        let full = ScratchFull { asked: len.saturating_mul(size_of::<T>()), limit: self.bytes };
        if full.asked > self.bytes {
            self.refused += 1;
            return Err(full);
        }
        self.arena.try_alloc_slice_fill_copy(len, value).map_err(|_| {
            self.refused += 1;
            full
        })
    }

    /// A copy of `bytes`, valid until the end of the batch.
    ///
    /// # Errors
    /// [`ScratchFull`] when it does not fit.
    pub fn copy(&mut self, bytes: &[u8]) -> Result<&mut [u8], ScratchFull> {
        let full = ScratchFull { asked: bytes.len(), limit: self.bytes };
        self.arena.try_alloc_slice_copy(bytes).map_err(|_| {
            self.refused += 1;
            full
        })
    }

    /// The arena itself, for collections that live in one. Use its `try_` methods: past the arena's size the others
    /// panic.
    pub fn arena(&self) -> &Bump {
        &self.arena
    }

    /// How often something did not fit.
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whoever gets it may use it.
    #[inline(always)]
    pub(crate) fn lend(&mut self) -> &mut Self {
        self.lent = true;
        self
    }

    /// Empties it, if it was lent.
    #[inline(always)]
    pub(crate) fn reset(&mut self) {
        if std::mem::take(&mut self.lent) {
            self.arena.reset();
        }
    }
}

#[cfg(all(test, not(loom)))]
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
