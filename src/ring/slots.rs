//! The slots: their layout, their filling, their end.
//!
//! A slot is a header and an event: sequence word, key, stamp (where the ring is stamped), payload descriptor (where
//! it has payloads), then `E`, rounded up to whole cache lines. Which fields there are is decided when the ring is
//! made, so a field that a class does not use takes no room; the offsets are a few numbers that both halves keep.
//!
//! This file holds the raw pointers, and the only code that reaches the fields of a slot.

use super::payload::Span;
use crate::memory::region::Part;
use crate::sync::{AtomicU64, Ordering, Tracked, discard, prefetch_write};
use std::alloc::Layout;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr::NonNull;

/// A slot is aligned to, and a multiple of, one cache line.
pub(crate) const SLOT_ALIGN: usize = 64;

/// Where the key is, in every slot: right behind the sequence word.
const KEY_AT: usize = size_of::<AtomicU64>().next_multiple_of(align_of::<u64>());

/// Where the other fields of a slot are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotLayout {
    /// Bytes from one slot to the next.
    pub stride: usize,
    align: usize,
    stamp_at: u32,
    span_at: u32,
    event_at: u32,
}

/// The layout of an event as it lies in a slot.
///
/// ```
/// use pelton::ring::event_layout;
/// assert_eq!((event_layout::<[u64; 5]>().size(), event_layout::<[u64; 5]>().align()), (40, 8));
/// ```
pub const fn event_layout<E>() -> Layout {
    Layout::new::<Tracked<E>>()
}

impl SlotLayout {
    /// `event` is the layout of what travels in the slots.
    pub fn of(event: Layout, stamped: bool, payload: bool) -> Self {
        let mut layout = Layout::new::<AtomicU64>();
        let mut place = |field: Layout| {
            let (next, at) = layout.extend(field).expect("an event is far smaller than the address space");
            layout = next;
            at as u32
        };
        let key_at = place(Layout::new::<u64>());
        debug_assert_eq!(key_at as usize, KEY_AT);
        let stamp_at = if stamped { place(Layout::new::<u64>()) } else { 0 };
        let span_at = if payload { place(Layout::new::<Span>()) } else { 0 };
        let event_at = place(event);
        let layout = layout.align_to(SLOT_ALIGN).expect("the alignment is a power of two").pad_to_align();
        SlotLayout { stride: layout.size(), align: layout.align(), stamp_at, span_at, event_at }
    }

    /// The layout of `capacity` slots; of the largest size there is where they would not fit the address space.
    pub fn array(&self, capacity: u32) -> Layout {
        let bytes = self.stride.saturating_mul(capacity as usize);
        Layout::from_size_align(bytes, self.align)
            .or_else(|_| Layout::from_size_align(isize::MAX as usize & !(self.align - 1), self.align))
            .expect("the largest size is a multiple of the alignment")
    }
}

// The figures of the design: a slot of 64 bytes has room for an event of 48, 40 or 32 bytes.
#[cfg(not(pelton_loom))]
const _: () =
    assert!(size_of::<AtomicU64>() == 8 && size_of::<Span>() == 8 && size_of::<Tracked<[u8; 48]>>() == 48);

/// The slots of one ring, and the memory in which they live.
pub(crate) struct Slots<E> {
    base: NonNull<u8>,
    mask: u64,
    layout: SlotLayout,
    _part: Part,
    // The cells that it holds, not the events: what can be written through a shared pointer is invariant in `E`, or
    // one end could be given a shorter lifetime than the other.
    _owns: PhantomData<Tracked<E>>,
}

// SAFETY: The slots are shared by the two halves, each of which reaches a slot only while it is its own (invariant 1
// of the ring). The events move between the threads, so `E: Send` is needed, and nothing is ever shared by both, so
// `E: Sync` is not. The loom models break where a slot is reached from both sides.
unsafe impl<E: Send> Sync for Slots<E> {}
// SAFETY: as above; the memory is not bound to a thread.
unsafe impl<E: Send> Send for Slots<E> {}

/// What a slot's address is made of. Each half of a ring keeps a copy beside its cursors; it is valid as long as the
/// half holds the ring.
pub(crate) struct View<E> {
    base: NonNull<u8>,
    mask: u64,
    layout: SlotLayout,
    _slots: PhantomData<*const Slots<E>>,
}

// SAFETY: a view is an address and numbers; what may be done with a slot's pointers is said where they are used.
unsafe impl<E: Send> Send for View<E> {}

/// One slot. Which fields it has, its [`View`] knows.
pub(crate) struct Slot<E> {
    at: NonNull<u8>,
    _event: PhantomData<*mut E>,
}

// SAFETY: a slot is the address of one. What may be done with it is said where it is used: the guards that hold one
// (`Claim`, `Item`) borrow the half of the ring that the slot belongs to, and go to another thread only with that
// borrow. An event then moves between threads, hence `E: Send`.
unsafe impl<E: Send> Send for Slot<E> {}

// Not derived: a slot is a pointer, whatever the event is.
impl<E> Clone for Slot<E> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for Slot<E> {}

impl<E> Slots<E> {
    /// Fills the slots of a part; touches every page of them.
    pub fn fill(
        part: Part,
        layout: SlotLayout,
        capacity: u32,
        first_sequence: u64,
        mut make: impl FnMut() -> E,
    ) -> Self {
        assert!(part.bytes() >= layout.array(capacity).size(), "the part is smaller than its plan");
        let base = part.start();
        // Grows slot by slot, so that a factory that panics leaves exactly the filled ones to be dropped.
        let mut filling = Filling { base, layout, filled: 0, _owns: PhantomData::<E> };
        for i in 0..u64::from(capacity) {
            let event = make();
            // The word that the slot's first sequence finds: its own number, which is one less than "published".
            let sequence =
                first_sequence.wrapping_add(i.wrapping_sub(first_sequence) & u64::from(capacity - 1));
            // SAFETY: slot `i` lies within the part (asserted above), is aligned for each field (the part for the
            // slot, the layout for its fields), is not initialised yet and reached by no other thread.
            unsafe {
                let at = base.as_ptr().add(i as usize * layout.stride);
                at.cast::<AtomicU64>().write(AtomicU64::new(sequence));
                at.add(KEY_AT).cast::<u64>().write(0);
                if layout.stamp_at != 0 {
                    at.add(layout.stamp_at as usize).cast::<u64>().write(0);
                }
                if layout.span_at != 0 {
                    at.add(layout.span_at as usize).cast::<Span>().write(Span::default());
                }
                at.add(layout.event_at as usize).cast::<Tracked<E>>().write(Tracked::new(event));
            }
            filling.filled += 1;
        }
        std::mem::forget(filling);
        Slots { base, mask: u64::from(capacity) - 1, layout, _part: part, _owns: PhantomData }
    }

    pub fn view(&self) -> View<E> {
        View { base: self.base, mask: self.mask, layout: self.layout, _slots: PhantomData }
    }

    pub fn capacity(&self) -> u64 {
        self.mask + 1
    }
}

impl<E> View<E> {
    #[inline(always)]
    pub fn capacity(&self) -> u64 {
        self.mask + 1
    }

    #[inline(always)]
    pub fn at(&self, sequence: u64) -> Slot<E> {
        let offset = (sequence & self.mask) as usize * self.layout.stride;
        // SAFETY: the index is below the capacity, so the slot lies within the part.
        let at = unsafe { self.base.add(offset) };
        Slot { at, _event: PhantomData }
    }

    /// Where the stamp of a slot is, in a ring that is stamped. (Offset 0 is the sequence word: no stamp.)
    #[inline(always)]
    pub fn stamp(&self, slot: Slot<E>) -> Option<*mut u64> {
        let at = self.layout.stamp_at as usize;
        (at != 0).then(|| slot.field(at))
    }

    /// Where the payload descriptor of a slot is, in a ring that has payloads.
    #[inline(always)]
    pub fn span(&self, slot: Slot<E>) -> Option<*mut Span> {
        let at = self.layout.span_at as usize;
        (at != 0).then(|| slot.field(at))
    }

    /// Where the event of a slot is.
    #[inline(always)]
    pub fn event(&self, slot: Slot<E>) -> *mut E {
        // SAFETY: the field is there in every layout and always initialised; a shared reference to the cell is fine
        // whichever end owns its contents.
        let cell = unsafe { &*slot.field::<Tracked<E>>(self.layout.event_at as usize) };
        cell.check();
        cell.get()
    }
}

impl<E> Slot<E> {
    #[inline(always)]
    fn word(&self) -> &AtomicU64 {
        // SAFETY: every slot starts with its initialised word (`Slots::fill`), which is only ever used as an atomic,
        // and the owner of a slot holds its ring.
        unsafe { self.at.cast::<AtomicU64>().as_ref() }
    }

    /// Publishes the slot as that of `sequence`.
    #[inline(always)]
    pub fn publish(self, sequence: u64) {
        // SYNC: publish (Release); pairs with `Slot::is_published`.
        self.word().store(sequence.wrapping_add(1), Ordering::Release);
    }

    /// Whether the event of this sequence is published (and its slot not taken by a later one).
    #[inline(always)]
    pub fn is_published(self, sequence: u64) -> bool {
        // SYNC: publish (Acquire); pairs with `Slot::publish`.
        self.word().load(Ordering::Acquire) == sequence.wrapping_add(1)
    }

    #[inline(always)]
    fn field<T>(self, at: usize) -> *mut T {
        // The offset is at most the stride: that of an event of size 0 may be the slot's end.
        self.at.as_ptr().wrapping_add(at).cast()
    }

    /// Where the key is.
    #[inline(always)]
    pub fn key(self) -> *mut u64 {
        self.field(KEY_AT)
    }

    /// Asks for ownership of the slot's line, to be written soon.
    #[inline(always)]
    pub fn prefetch_write(self) {
        prefetch_write(self.at.as_ptr());
    }
}

/// Drops what was filled when a factory panics.
struct Filling<E> {
    base: NonNull<u8>,
    layout: SlotLayout,
    filled: usize,
    _owns: PhantomData<E>,
}

impl<E> Drop for Filling<E> {
    fn drop(&mut self) {
        // SAFETY: exactly the first `filled` slots are initialised, and no other thread reaches them.
        unsafe { drop_slots::<E>(self.base, self.layout, self.filled) }
    }
}

impl<E> Drop for Slots<E> {
    fn drop(&mut self) {
        // SAFETY: both halves are gone, all slots are initialised, and they are dropped once, here.
        unsafe { drop_slots::<E>(self.base, self.layout, self.capacity() as usize) }
    }
}

/// Drops each event once, also where dropping one panics: the others are dropped before the panic goes on.
///
/// # Safety
/// The first `count` slots from `base` are initialised, and nothing else uses them, now or later.
unsafe fn drop_slots<E>(base: NonNull<u8>, layout: SlotLayout, count: usize) {
    if cfg!(not(pelton_loom)) && !std::mem::needs_drop::<E>() {
        return;
    }
    let mut panic = None;
    for i in 0..count {
        // SAFETY: the caller's promise; each slot is visited once. (The words need no drop outside loom.)
        let dropped = catch_unwind(AssertUnwindSafe(|| unsafe {
            let at = base.as_ptr().add(i * layout.stride);
            at.add(layout.event_at as usize).cast::<Tracked<E>>().drop_in_place();
        }));
        // The first panic goes on; those after it are dropped here, which may panic in turn.
        match dropped {
            Err(payload) if panic.is_some() => discard(payload),
            Err(payload) => panic = Some(payload),
            Ok(()) => {}
        }
    }
    match panic {
        Some(payload) if std::thread::panicking() => discard(payload),
        Some(payload) => resume_unwind(payload),
        None => {}
    }
}
