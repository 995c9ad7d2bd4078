//! The payload ring: variable-size bytes beside the slots.
//!
//! # Mechanism
//! A ring of bytes, a power of two long. Positions only grow; the byte of position `p` is `p mod length`. A claim of
//! `n` bytes gets them in one piece: where they would cross the end of the ring, the claim starts at its beginning,
//! and the bytes between are skipped. A slot's descriptor ([`Span`]) holds the start and the length of its payload.
//!
//! # Why no allocator
//! A lane is first in, first out: payloads die in the order in which they were born. The consumer walks over the
//! descriptors as it walks over the slots and knows from each where the next payload must start, skips included, so
//! "how far are the bytes free" is one position, which it stores beside its released cursor.
//!
//! # Invariants
//! - Claimed and not released: less than or equal to the length, so no byte is owned by both sides.
//! - One payload is at most half of the ring. With an empty ring a skip plus the payload then always fits, so a
//!   refusal means that releases will help.

use crate::memory::region::Part;
use crate::sync::prefetch_write;
use std::alloc::Layout;
use std::ptr::NonNull;

/// Where a payload is: its first byte's offset in the payload ring, and its length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Span {
    pub offset: u32,
    pub len: u32,
}

const LINE_BYTES: u64 = 64;
/// How far ahead of a payload the producer asks for ownership.
const PREFETCH_BYTES: u64 = 512;
/// The most lines that it asks for at once.
const PREFETCH_LINES_MAX: u64 = 4;

/// The bytes of one ring.
pub(crate) struct Bytes {
    base: NonNull<u8>,
    len: u32,
    /// Bytes of the largest payload, at most half of them all.
    max: u32,
    _part: Part,
    // loom cannot see raw bytes: one tracked cell stands for each.
    #[cfg(pelton_loom)]
    track: Vec<crate::sync::Tracked<()>>,
}

// SAFETY: The bytes are reached through claims and items alone, and a byte is one side's at a time (first invariant).
// The loom model `payload_wraps_without_overlap` breaks where it is not.
unsafe impl Sync for Bytes {}
// SAFETY: plain memory, bound to no thread.
unsafe impl Send for Bytes {}

impl Bytes {
    pub fn layout(len: u32) -> Layout {
        Layout::from_size_align(len as usize, 64).expect("a payload ring is at most 2^30 bytes")
    }

    pub fn new(mut part: Part, len: u32, max: u32) -> Self {
        debug_assert!(max <= len / 2);
        assert!(part.bytes() >= len as usize, "the part is smaller than its plan");
        // Initialises the bytes, since they are handed out as `&mut [u8]`, and makes their pages resident.
        part.fill_zero();
        Bytes {
            base: part.start(),
            len,
            max,
            _part: part,
            #[cfg(pelton_loom)]
            track: (0..len).map(|_| crate::sync::Tracked::new(())).collect(),
        }
    }

    #[inline(always)]
    pub fn len(&self) -> u64 {
        u64::from(self.len)
    }

    /// The largest payload.
    #[inline(always)]
    pub fn payload_max(&self) -> usize {
        self.max as usize
    }

    /// The position at which a payload of `n` bytes starts when the ring is written up to `position`.
    #[inline(always)]
    pub fn place(&self, position: u64, n: u64) -> u64 {
        let mask = self.len().wrapping_sub(1);
        let left = self.len() - (position & mask);
        if n > left { position.wrapping_add(left) } else { position }
    }

    /// Asks for ownership of lines that will be written soon: as many bytes as the payload at `position` has, some
    /// way behind it, as for slots. Of long payloads only the beginning: the CPU's own prefetch goes on from there.
    #[inline(always)]
    pub fn prefetch_write(&self, position: u64, n: u64) {
        let mask = self.len().wrapping_sub(1);
        for line in 0..n.div_ceil(LINE_BYTES).min(PREFETCH_LINES_MAX) {
            let ahead = position.wrapping_add(PREFETCH_BYTES + line * LINE_BYTES);
            prefetch_write(self.base.as_ptr().wrapping_add((ahead & mask) as usize));
        }
    }

    /// The position at which the payload of `span` starts when everything before it ended at `position`.
    #[inline(always)]
    pub fn position_of(&self, span: Span, position: u64) -> u64 {
        let mask = self.len().wrapping_sub(1);
        position.wrapping_add(u64::from(span.offset).wrapping_sub(position) & mask)
    }

    #[inline(always)]
    pub fn span(&self, position: u64, len: usize) -> Span {
        Span { offset: (position & (self.len() - 1)) as u32, len: len as u32 }
    }

    /// Where the bytes of a span are. The span came from [`Self::place`] and [`Self::span`] of this ring.
    #[inline(always)]
    pub fn slice(&self, span: Span) -> *mut [u8] {
        // `place` lets no span cross the end, so the pointer stays within the part.
        debug_assert!(u64::from(span.offset) + u64::from(span.len) <= self.len());
        #[cfg(pelton_loom)]
        for byte in &self.track[span.offset as usize..(span.offset + span.len) as usize] {
            byte.check();
        }
        let start = self.base.as_ptr().wrapping_add(span.offset as usize);
        std::ptr::slice_from_raw_parts_mut(start, span.len as usize)
    }
}
