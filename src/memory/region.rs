//! One region per shard: a single allocation, cut into parts, never grown.
//!
//! # Mechanism
//! A [`Builder`] takes one chunk of exactly the planned size from bumpalo and forbids it a second one; each [`Part`]
//! is a piece of it. Parts are cut while the shard starts, on its own pinned thread, and are written there first, so
//! that the pages are near that CPU. A part keeps its region alive: the two halves of a ring may be dropped in any
//! order and on any thread.
//!
//! # Invariants
//! - Parts never overlap (bumpalo hands out each byte once).
//! - The chunk is not touched through bumpalo after its builder is gone; only the parts' owners use it.
//! - The size is known before: [`need`] of every part, plus [`region_slack`].

use super::footprint::arc_bytes;
use super::huge::{Advised, HUGE_BYTES};
use bumpalo::Bump;
use std::alloc::Layout;
use std::cell::UnsafeCell;
use std::error::Error;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;

/// Every part starts and ends on such a boundary: two cache lines, since adjacent lines are fetched in pairs.
pub(crate) const PART_ALIGN: usize = 128;

/// Bytes that an arena takes from the system for a capacity: bumpalo keeps a footer of six words behind it, and rounds
/// both up so that with what an allocator adds they come near a power of two, or to whole pages. 0 takes nothing.
pub(crate) const fn arena_bytes(capacity: usize) -> usize {
    const PAGE: usize = 4_096;
    const FOOTER: usize = 6 * size_of::<usize>();
    const OVERHEAD: usize = (FOOTER + 16).next_multiple_of(16);
    const LEAST: usize = 512 - OVERHEAD;
    if capacity == 0 {
        return 0;
    }
    let capacity = match capacity.checked_next_multiple_of(16) {
        Some(capacity) if capacity < LEAST => LEAST,
        Some(capacity) => capacity,
        None => return usize::MAX,
    };
    if capacity < PAGE {
        (capacity + OVERHEAD).next_power_of_two() - OVERHEAD + FOOTER
    } else {
        match (capacity.saturating_add(OVERHEAD)).checked_next_multiple_of(PAGE) {
            Some(whole) => whole - OVERHEAD + FOOTER,
            None => usize::MAX,
        }
    }
}

/// Bytes that a region takes besides its parts: up to its first boundary, and what the arena adds. What comes before
/// the first part and behind the last is not written, but for the footer. With huge pages the first boundary is one of
/// theirs.
pub(crate) const fn region_slack(bytes: usize, huge_pages: bool) -> usize {
    arena_bytes(capacity(bytes, huge_pages)).saturating_sub(bytes)
}

const fn capacity(bytes: usize, huge_pages: bool) -> usize {
    let boundary = if huge_pages && bytes >= HUGE_BYTES { HUGE_BYTES } else { 0 };
    bytes.saturating_add(PART_ALIGN).saturating_add(boundary)
}

/// Bytes of what keeps a region alive.
pub(crate) const REGION_BYTES: usize = arc_bytes::<Region>();

/// Bytes that a part of this layout takes of a region: its size, rounded up to its alignment, and room to get there
/// where that is above the usual.
pub(crate) const fn need(layout: Layout) -> usize {
    let align = if layout.align() > PART_ALIGN { layout.align() } else { PART_ALIGN };
    layout.size().next_multiple_of(align) + (align - PART_ALIGN)
}

/// The chunk; it does nothing but stay alive until its last part is gone.
struct Region {
    arena: UnsafeCell<Bump>,
}

// SAFETY: The arena is touched only through `Builder::cut`, which takes `&mut self` of the one builder, and by the
// drop of the last owner. A part reaches its bytes through its own pointer and never through the arena. The test
// `parts_outlive_their_builder_on_other_threads` (run under AddressSanitizer in CI) breaks where that is not so.
unsafe impl Sync for Region {}
// SAFETY: A bumpalo arena may move between threads; it is not shared, see above.
unsafe impl Send for Region {}

/// Cuts parts from a region, on the thread that will use them.
pub(crate) struct Builder {
    region: Arc<Region>,
}

/// A piece of a region.
pub(crate) struct Part {
    start: NonNull<u8>,
    bytes: usize,
    // Held, never read: the memory lives as long as this does.
    _region: Arc<Region>,
}

// SAFETY: A part is the only owner of its bytes, and those may be used from any thread.
unsafe impl Send for Part {}
// SAFETY: A shared part hands out nothing but its address and its length.
unsafe impl Sync for Part {}

/// The system refused the memory, or more was cut than planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryRefused {
    /// How many bytes were asked for.
    pub asked: usize,
}

impl fmt::Display for MemoryRefused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of memory were refused", self.asked)
    }
}

impl Error for MemoryRefused {}

impl Builder {
    /// Takes one chunk for parts whose [`need`]s sum up to `bytes`.
    pub fn new(bytes: usize) -> Result<Self, MemoryRefused> {
        let refused = MemoryRefused { asked: bytes };
        let arena = Bump::try_with_capacity(capacity(bytes, false)).map_err(|_| refused)?;
        Ok(Self::of(arena))
    }

    /// The same, with huge pages for as much of the parts as whole ones cover. The parts are cut from the end of the
    /// chunk downwards: the first of them ends where a huge page does.
    pub fn with_huge_pages(bytes: usize) -> Result<(Self, Advised), MemoryRefused> {
        let refused = MemoryRefused { asked: bytes };
        let arena = Bump::try_with_capacity(capacity(bytes, true)).map_err(|_| refused)?;
        let covered = bytes / HUGE_BYTES * HUGE_BYTES;
        if covered == 0 {
            return Ok((Self::of(arena), Advised::too_small(bytes)));
        }
        let skip = |bytes: usize| {
            let layout = Layout::from_size_align(bytes, 1).map_err(|_| refused)?;
            arena.try_alloc_layout(layout).map_err(|_| refused)
        };
        let last = skip(1)?;
        let end = skip(last.addr().get() % HUGE_BYTES)?;
        debug_assert_eq!(end.addr().get() % HUGE_BYTES, 0);
        // SAFETY: The capacity has room for the parts below `end`, which is where the arena goes on; so the `covered`
        // bytes below it are of the chunk. Nothing is in them yet, and the advice changes no content.
        let advised = unsafe { Advised::advise(end.byte_sub(covered), covered) };
        Ok((Self::of(arena), advised))
    }

    fn of(arena: Bump) -> Self {
        // What is there is all there is: a second chunk would be memory that no plan names.
        arena.set_allocation_limit(Some(arena.allocated_bytes()));
        Builder { region: Arc::new(Region { arena: UnsafeCell::new(arena) }) }
    }

    /// Cuts the next part. Its bytes are not initialised.
    pub fn cut(&mut self, layout: Layout) -> Result<Part, MemoryRefused> {
        let refused = MemoryRefused { asked: layout.size() };
        let layout = layout.align_to(PART_ALIGN).map_err(|_| refused)?.pad_to_align();
        // SAFETY: `&mut self` of the only builder is exclusive use of the arena (see `Sync for Region`).
        let arena = unsafe { &*self.region.arena.get() };
        let start = arena.try_alloc_layout(layout).map_err(|_| refused)?;
        Ok(Part { start, bytes: layout.size(), _region: self.region.clone() })
    }

    /// Bytes that the chunk took from the system, its header among them.
    #[cfg(all(test, not(pelton_loom)))]
    pub fn taken_bytes(&self) -> usize {
        // SAFETY: as in `cut`; a shared look is enough, since nothing else looks at the same time.
        unsafe { (*self.region.arena.get()).allocated_bytes_including_metadata() }
    }
}

impl Part {
    /// The first byte; aligned to [`PART_ALIGN`] at least.
    pub fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// How many bytes there are.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Writes zero to every byte, which also makes the system find a page for each.
    pub fn fill_zero(&mut self) {
        // SAFETY: the part owns `bytes` bytes from `start`, and `&mut self` makes the access exclusive.
        unsafe { self.start.as_ptr().write_bytes(0, self.bytes) }
    }
}

#[cfg(all(test, not(pelton_loom)))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn plan(layouts: &[Layout]) -> usize {
        layouts.iter().map(|layout| need(*layout)).sum()
    }

    proptest! {
        #[test]
        fn planned_parts_always_fit_and_never_overlap(
            shapes in proptest::collection::vec((1usize..5_000, 0u32..13), 1..24)
        ) {
            let layouts: Vec<Layout> =
                shapes.iter().map(|(size, align)| Layout::from_size_align(*size, 1 << align).unwrap()).collect();
            let planned = plan(&layouts);
            let mut builder = Builder::new(planned).unwrap();
            prop_assert_eq!(builder.taken_bytes(), planned + region_slack(planned, false));
            let mut parts = Vec::new();
            for layout in &layouts {
                let mut part = builder.cut(*layout).unwrap();
                prop_assert_eq!(part.start().as_ptr() as usize % layout.align().max(PART_ALIGN), 0);
                prop_assert!(part.bytes() >= layout.size());
                part.fill_zero();
                parts.push((part.start().as_ptr() as usize, part.bytes(), part));
            }
            parts.sort_by_key(|part| part.0);
            for pair in parts.windows(2) {
                prop_assert!(pair[0].0 + pair[0].1 <= pair[1].0);
            }
        }
    }

    #[test]
    fn an_arena_takes_what_is_said() {
        let around = (7..27).flat_map(|bits| (0..140).map(move |off| (1usize << bits) + off - 70));
        for capacity in around.chain(0..6_000) {
            let arena = Bump::with_capacity(capacity);
            assert_eq!(arena.allocated_bytes_including_metadata(), arena_bytes(capacity), "{capacity}");
        }
        assert_eq!(arena_bytes(usize::MAX), usize::MAX);
    }

    #[test]
    fn with_huge_pages_parts_fit_and_end_at_a_boundary() {
        for bytes in
            [PART_ALIGN, HUGE_BYTES - PART_ALIGN, HUGE_BYTES, 2 * HUGE_BYTES + PART_ALIGN, 5 * HUGE_BYTES]
        {
            let (mut builder, advised) = Builder::with_huge_pages(bytes).unwrap();
            assert_eq!(builder.taken_bytes(), bytes + region_slack(bytes, true));
            assert!(advised.bytes() <= bytes as u64);
            let layout = Layout::from_size_align(PART_ALIGN, PART_ALIGN).unwrap();
            let mut parts = Vec::new();
            for _ in 0..bytes / PART_ALIGN {
                let mut part = builder.cut(layout).unwrap();
                part.fill_zero();
                parts.push(part);
            }
            let end = parts[0].start().addr().get() + PART_ALIGN;
            assert!(bytes < HUGE_BYTES || end.is_multiple_of(HUGE_BYTES), "{end:#x}");
        }
    }

    #[test]
    fn more_than_planned_is_refused() {
        let layout = Layout::from_size_align(1 << 16, 64).unwrap();
        let mut builder = Builder::new(need(layout)).unwrap();
        assert!(builder.cut(layout).is_ok());
        assert_eq!(builder.cut(layout).err(), Some(MemoryRefused { asked: 1 << 16 }));
    }

    #[test]
    fn parts_outlive_their_builder_on_other_threads() {
        let layout = Layout::from_size_align(1 << 12, 64).unwrap();
        let mut builder = Builder::new(2 * need(layout)).unwrap();
        let mut a = builder.cut(layout).unwrap();
        let mut b = builder.cut(layout).unwrap();
        drop(builder);
        let t = std::thread::spawn(move || a.fill_zero());
        b.fill_zero();
        t.join().unwrap();
    }
}
